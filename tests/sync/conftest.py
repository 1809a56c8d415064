"""What the tests of locks share: a board in both kinds, a crew of processes."""

from collections.abc import Iterator

import pytest

from tests.both import KINDS
from tests.sync.board import Board
from tests.sync.crew import Crew


@pytest.fixture(params=KINDS)
def board(request: pytest.FixtureRequest) -> Board:
    """One memory with four CPUs, once interpreted and once compiled."""
    return Board(request.param)


@pytest.fixture
def crew() -> Iterator[Crew]:
    """Six CPUs to be played by processes."""
    with Crew(6) as crew:
        yield crew
