"""Locks that are wrong in one way each, and one that is right: what the bench must tell apart."""

import fcntl
import itertools
import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shmreclaim.experiments.bench.locks.candidates import Candidate, Ways
from shmreclaim.experiments.bench.locks.ground import Ground
from shmreclaim.experiments.bench.locks.python_loops import Way

FORK = multiprocessing.get_context("fork")


def nothing() -> None:
    """Neither acquires nor releases."""


def candidate(name: str, make: Callable[[Path], Callable[[], Ways]], *modes: str) -> Candidate:
    """A lock that is called from Python."""

    def make_it(_ground: Ground, folder: Path) -> Callable[[], Ways]:
        return make(folder)

    return Candidate(name, "python", modes, make_it)


def lets_everybody_in(_folder: Path) -> Callable[[], Ways]:
    """No lock at all."""
    return lambda: {"exclusive": Way(nothing, nothing)}


def lets_readers_in(_folder: Path) -> Callable[[], Ways]:
    """Writers exclude each other, readers do not care."""
    lock = FORK.Lock()
    return lambda: {"read": Way(nothing, nothing, True), "write": Way(lock.acquire, lock.release)}


def lets_writers_in(_folder: Path) -> Callable[[], Ways]:
    """Writers do not care."""
    return lambda: {"read": Way(nothing, nothing, True), "write": Way(nothing, nothing)}


def is_never_released(_folder: Path) -> Callable[[], Ways]:
    """Who comes second waits for ever."""
    lock = FORK.Lock()
    return lambda: {"exclusive": Way(lock.acquire, nothing)}


class ReadersFirst:
    """A writer gets in only after a tenth of a second in which nobody read."""

    def __init__(self) -> None:
        """Nobody is in."""
        self.readers, self.entries = FORK.Value("l", 0), FORK.Value("l", 0)

    def acquire_read(self) -> None:
        """Enter beside other readers."""
        with self.readers.get_lock():
            self.readers.value += 1
            self.entries.value += 1

    def release_read(self) -> None:
        """Leave."""
        with self.readers.get_lock():
            self.readers.value -= 1

    def acquire_write(self) -> None:
        """Look now and then whether it has been quiet; readers stay out from then on."""
        before = -1
        while True:
            self.readers.get_lock().acquire()
            if self.readers.value == 0 and self.entries.value == before:
                return
            before = self.entries.value
            self.readers.get_lock().release()
            time.sleep(0.1)

    def release_write(self) -> None:
        """Let readers in."""
        self.readers.get_lock().release()

    def ways(self) -> Ways:
        """What each process calls."""
        write = Way(self.acquire_write, self.release_write)
        return {"read": Way(self.acquire_read, self.release_read, True), "write": write}


def starves_writers(_folder: Path) -> Callable[[], Ways]:
    """Correct, and as unfair as can be."""
    return ReadersFirst().ways


def is_a_file(folder: Path) -> Callable[[], Ways]:
    """flock(2): the kernel lets go of it with its holder."""

    def ways() -> Ways:
        file: Any = (folder / "lock").open("w")
        take = {"read": fcntl.LOCK_SH, "write": fcntl.LOCK_EX}
        return {
            mode: Way(lambda how=how: fcntl.flock(file, how), lambda: fcntl.flock(file, fcntl.LOCK_UN), mode == "read")
            for mode, how in take.items()
        }

    return ways


def cannot_be_made(_folder: Path) -> Callable[[], Ways]:
    """Something is missing that it needs."""
    raise OSError("no")


def raises(_folder: Path) -> Callable[[], Ways]:
    """Acquiring fails."""

    def acquire() -> None:
        raise ValueError("not today")

    return lambda: {"exclusive": Way(acquire, nothing)}


def raises_later(_folder: Path) -> Callable[[], Ways]:
    """Acquiring fails in the long run."""
    calls = itertools.count()

    def acquire() -> None:
        if next(calls) > 10:
            raise ValueError("not any more")

    return lambda: {"exclusive": Way(acquire, nothing)}


def is_slow(folder: Path) -> Callable[[], Ways]:
    """A file, locked at leisure."""

    def ways() -> Ways:
        file: Any = (folder / "lock").open("w")

        def acquire() -> None:
            time.sleep(0.5)
            fcntl.flock(file, fcntl.LOCK_EX)

        return {"exclusive": Way(acquire, lambda: fcntl.flock(file, fcntl.LOCK_UN))}

    return ways


CANNOT_BE_MADE = candidate("cannot be made", cannot_be_made, "exclusive")
RAISES = candidate("raises", raises, "exclusive")
RAISES_LATER = candidate("raises later", raises_later, "exclusive")
IS_SLOW = candidate("is slow", is_slow, "exclusive")
LETS_EVERYBODY_IN = candidate("lets everybody in", lets_everybody_in, "exclusive")
LETS_READERS_IN = candidate("lets readers in", lets_readers_in, "read", "write")
LETS_WRITERS_IN = candidate("lets writers in", lets_writers_in, "read", "write")
IS_NEVER_RELEASED = candidate("is never released", is_never_released, "exclusive")
STARVES_WRITERS = candidate("starves writers", starves_writers, "read", "write")
IS_A_FILE = candidate("is a file", is_a_file, "read", "write")
