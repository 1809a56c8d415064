"""What holds for every test: nothing of ours is left in shared memory."""

import fcntl
import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SHM = Path("/dev/shm")


def segments_of(pid: int) -> list[str]:
    """Names of the segments that process `pid` made and that still exist."""
    return sorted(path.name for path in SHM.glob(f"shmreclaim.{pid}.*"))


@pytest.fixture(scope="session", autouse=True)
def _nothing_is_left_in_shared_memory(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail the session if a segment made by this process (under xdist: by this worker) outlives its tests."""
    yield
    for item in request.session.items:  # the last test's arguments are let go only after this
        (getattr(item, "funcargs", None) or {}).clear()
    gc.collect()  # a segment may hang in a cycle
    locks = sys.modules.get("shmreclaim.locks.arenas")
    kept = locks.kept_segments() if locks else []  # they go when this process does
    left = sorted({*segments_of(os.getpid())} - {*kept})
    assert not left, f"left in {SHM}: {', '.join(left)}"


@pytest.fixture(scope="session")
def compiled_once() -> None:
    """Everything that workers run is in the cache; of several sessions under xdist one compiles, the others wait."""
    from shmreclaim.executions import native
    from shmreclaim.machine.compile import cache_folder

    with (cache_folder() / "tests.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        native.prepare(lambda *_: None)


@pytest.fixture(scope="session")
def journaled_once(compiled_once: None) -> None:
    """So is what workers run that are killed."""
    from shmreclaim.executions import native
    from shmreclaim.machine.compile import cache_folder

    with (cache_folder() / "tests.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        native.prepare(lambda *_: None, journaled=True)
