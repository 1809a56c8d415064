"""What stands around users' designs while they are examined: limits, what is kept, who is told."""

import dataclasses
import mmap
import resource
from pathlib import Path

import pytest

from shmreclaim.executions import admission, autopsy, tryout
from shmreclaim.executions.admission import answer_of
from shmreclaim.executions.interpreted import Limits, limited
from shmreclaim.machine.arena import available_memory
from shmreclaim.machine.compile import cache_folder
from shmreclaim.plugins import Design, choose
from shmreclaim.plugins.load import keep
from tests.executions.workloads import by_hand, register
from tests.plugins.files import EXAMPLE


@pytest.fixture
def design(compiled_once: None) -> Design:
    """The example, kept for other processes."""
    (design,) = choose([str(EXAMPLE)])
    admission.look_at([design])
    return design


def test_an_autopsy_without_the_memory_for_it_finds_nothing(design: Design) -> None:
    """As one that finds nothing in time: it is said what CPUs did, and it stays the design's fault."""
    huge = dataclasses.replace(tryout.SMALL, pages_per_node=1 << 32)
    told: list[str] = []
    assert answer_of(autopsy.repeat, (design, by_hand([register(0)]), huge), told.append) is None
    assert told == ["repeating it, interpreted, to find the line"]


def test_what_is_interpreted_may_take_what_the_machine_has_and_not_more() -> None:
    """A workload that was run fits, too."""
    with limited(Limits(uses=1, seconds=60.0)):
        mmap.mmap(-1, available_memory() // 2).close()
        with pytest.raises(OSError, match="Cannot allocate memory"):
            mmap.mmap(-1, available_memory() * 2)


def test_a_listener_that_fails_is_not_taken_for_a_process_that_cannot_be_started(design: Design) -> None:
    """Its error comes out as it is."""

    def tell(what: str) -> None:
        raise BrokenPipeError(f"nobody hears {what}")

    with pytest.raises(BrokenPipeError, match="nobody hears repeating it"):
        answer_of(autopsy.repeat, (design, by_hand([register(0)]), tryout.SMALL), tell)


def test_a_text_that_cannot_be_kept_leaves_nothing_half_written(tmp_path: Path, compiled_once: None) -> None:
    """Where the disk is full, the cache must not fill with what nobody reads."""
    path = tmp_path / "mine.py"
    path.write_bytes(EXAMPLE.read_bytes())
    (design,) = choose([str(path)])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            keep(design)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    folder = cache_folder() / "plugins" / design.module.rpartition(".")[2]
    assert list(folder.iterdir()) == []
    folder.rmdir()
