"""One contract for every design, in both executions: a design that is added to NAMES inherits all of this."""

from collections.abc import Iterator

import pytest

from shmreclaim.designs import NAMES
from tests.both import KINDS
from tests.designs.expected import WITH_RWSEM, WITHOUT_LOCK
from tests.emulated import Emulated


@pytest.fixture(params=KINDS)
def execution(request: pytest.FixtureRequest) -> str:
    """Run the test twice: interpreted and compiled."""
    if request.param == "compiled":
        request.getfixturevalue("compiled_once")
    return str(request.param)


@pytest.fixture(params=NAMES)
def design(request: pytest.FixtureRequest) -> str:
    """Run the test for every design."""
    return str(request.param)


@pytest.fixture(params=WITH_RWSEM)
def design_with_rwsem(request: pytest.FixtureRequest) -> str:
    """Run the test for every design whose walks take a lock."""
    return str(request.param)


@pytest.fixture(params=WITHOUT_LOCK)
def design_without_lock(request: pytest.FixtureRequest) -> str:
    """Run the test for every design whose walks take none."""
    return str(request.param)


@pytest.fixture
def kernel(design: str, execution: str) -> Iterator[Emulated]:
    """A kernel with the design in it."""
    with Emulated(design, execution) as kernel:
        yield kernel
