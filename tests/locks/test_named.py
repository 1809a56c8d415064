"""Locks that unrelated processes find by name."""

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shmreclaim import Completion, Mutex, RwLock, Semaphore, lock_arena
from shmreclaim.errors import SetupError, UsageError
from shmreclaim.locks import unlink
from shmreclaim.machine.layout import HEADER
from tests.sync.crew import PATIENCE

SHM = Path("/dev/shm")


@pytest.fixture
def name() -> Iterator[str]:
    """A name that no other test has; its lock is removed."""
    name = f"test.{os.getpid()}"
    yield name
    unlink(name)


def segment(name: str) -> Path:
    """Where the segment of a named lock is."""
    return SHM / f"shmreclaim.lock.{name}"


PROGRAM = """
import sys
from shmreclaim import Mutex
mutex = Mutex(name=sys.argv[1])
print(mutex.acquire(False), mutex.recovered, flush=True)
"""


def elsewhere(name: str) -> str:
    """What another process finds: whether it gets the mutex of that name, and whether a holder had died."""
    run = [sys.executable, "-c", PROGRAM, name]
    return subprocess.run(run, check=True, capture_output=True, text=True, timeout=10 * PATIENCE).stdout.strip()


def test_processes_that_know_a_name_have_the_same_lock(name: str) -> None:
    """Whoever comes first makes it; it outlives them all, and what they held."""
    mutex = Mutex(name=name)
    mutex.acquire()
    assert elsewhere(name) == "False False"
    mutex.release()
    assert elsewhere(name) == "True False"
    assert mutex.acquire(False) is True
    assert mutex.recovered is True
    mutex.release()
    assert segment(name).stat().st_mode & 0o777 == 0o600


def test_in_one_process_a_name_is_one_lock(name: str) -> None:
    """Two handles exclude each other's threads as one would."""
    first, second = RwLock(name=name), RwLock(name=name)
    with first.write():
        assert second.try_read() is False


def test_an_unlinked_name_is_free_for_another_lock(name: str) -> None:
    """Who has the old one keeps it; twice is harmless."""
    old = Mutex(name=name)
    old.acquire()
    unlink(name)
    unlink(name)
    new = Mutex(name=name)
    with new:
        assert elsewhere(name) == "False False"
    assert old.locked()
    old.release()


TRAVELLED = """
import pickle, sys
pickle.loads(bytes.fromhex(sys.argv[1]))
"""


def test_a_pickle_of_a_lock_that_was_unlinked_is_not_another_of_its_name(name: str) -> None:
    """Here it is still the old one; elsewhere it is refused."""
    old = Mutex(name=name)
    data = pickle.dumps(old)
    unlink(name)
    new = Mutex(name=name)
    with old:
        again = pickle.loads(data)
        assert again.locked()
        assert not new.locked()
    run = [sys.executable, "-c", TRAVELLED, data.hex()]
    told = subprocess.run(run, check=False, capture_output=True, text=True, timeout=10 * PATIENCE).stderr
    assert "any more that this lock was in" in told


def test_a_segment_with_a_wrong_magic_is_refused_and_not_made_anew(name: str) -> None:
    """Somebody may use it: what is left of it stays as it is."""
    mutex = Mutex(name=name)
    data = bytearray(segment(name).read_bytes())
    data[0] ^= 1
    segment(name).write_bytes(data)
    with pytest.raises(SetupError, match="has magic"):
        Mutex(name=name)
    mutex.acquire()
    mutex.release()


@pytest.mark.parametrize("kind", [RwLock, Semaphore, Completion])
def test_a_name_of_another_kind_of_lock_is_refused(name: str, kind: Any) -> None:
    """The message says what it is."""
    Mutex(name=name)
    with pytest.raises(UsageError, match="but a mutex"):
        kind(name=name)


def test_a_name_of_a_lock_with_another_policy_is_refused(name: str) -> None:
    """The one that is there does not change."""
    RwLock(name=name, policy="prefer_writers")
    with pytest.raises(UsageError, match="has the policy prefer_writers, not fair"):
        RwLock(name=name)


@pytest.mark.parametrize("bad", ["", "a/b", "../x", "a b", "x" * 201, "ä"])
def test_what_is_no_name_is_refused(bad: str) -> None:
    """Nothing outside of its own names is touched."""
    with pytest.raises(UsageError, match="is not a name for a lock"):
        Mutex(name=bad)


def test_a_lock_has_a_name_or_an_arena() -> None:
    """Not both."""
    with lock_arena() as arena, pytest.raises(TypeError, match="not both"):
        Mutex(arena, name="x")


def test_a_segment_that_its_maker_did_not_finish_is_made_anew(name: str) -> None:
    """It died half way: the size is there, the magic is not."""
    segment(name).write_bytes(b"\0" * 4096)
    segment(name).chmod(0o600)
    with Mutex(name=name) as taken:
        assert taken is True


def test_a_segment_of_another_version_is_refused(name: str) -> None:
    """With what to do about it."""
    Mutex(name=name)
    data = bytearray(segment(name).read_bytes())
    data[8 * HEADER.layout_hash] ^= 1
    unlink(name)
    segment(name).write_bytes(data)
    segment(name).chmod(0o600)
    assert "has layout_hash" in failure(name)
    assert f"rm {segment(name)}" in failure(name)


def failure(name: str) -> str:
    """What another process is told that wants the lock."""
    run = [sys.executable, "-c", PROGRAM, name]
    return subprocess.run(run, check=False, capture_output=True, text=True, timeout=10 * PATIENCE).stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes another user's segment")
def test_another_users_lock_is_refused(name: str) -> None:
    """Even to root: it may be a trap."""
    segment(name).write_bytes(b"")
    os.chown(segment(name), 12345, 12345)
    with pytest.raises(SetupError, match="belongs to user 12345"):
        Mutex(name=name)
