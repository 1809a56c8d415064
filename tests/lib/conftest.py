"""What every test of lib/ may ask for."""

import pytest

from tests.both import KINDS


@pytest.fixture(params=KINDS)
def execution(request: pytest.FixtureRequest) -> str:
    """Run the test twice: interpreted and compiled."""
    return str(request.param)
