"""What the litmus tests share: two CPUs and a table between them."""

from collections.abc import Iterator

import pytest

from tests.litmus.programs import TABLE
from tests.sync.crew import Crew


@pytest.fixture
def crew() -> Iterator[Crew]:
    """Two CPUs to be played by processes."""
    with Crew(2) as crew:
        yield crew


@pytest.fixture
def table(crew: Crew) -> int:
    """The words of the test, each on a line of its own."""
    return crew.arena.allocate(TABLE.SIZE)
