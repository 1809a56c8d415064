"""What the litmus tests share: a few CPUs and a table between them."""

from collections.abc import Iterator

import pytest

from tests.litmus.programs import TABLE
from tests.sync.crew import Crew


@pytest.fixture
def crew() -> Iterator[Crew]:
    """Three CPUs to be played by processes: two sides, and one that disturbs."""
    with Crew(3) as crew:
        yield crew


@pytest.fixture
def table(crew: Crew) -> int:
    """The words of the test, each on a line of its own."""
    return crew.arena.allocate(TABLE.SIZE)
