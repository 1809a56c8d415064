"""What the tests of mm/ may ask for: both executions, and a small emulated kernel."""

from collections.abc import Iterator

import pytest

from tests.both import KINDS
from tests.emulated import Emulated


@pytest.fixture(params=KINDS)
def execution(request: pytest.FixtureRequest) -> str:
    """Run the test twice: interpreted and compiled."""
    if request.param == "compiled":
        request.getfixturevalue("compiled_once")
    return str(request.param)


@pytest.fixture
def kernel(execution: str) -> Iterator[Emulated]:
    """A kernel without maps: what these tests look at is below the designs."""
    with Emulated("no_map", execution) as kernel:
        yield kernel
