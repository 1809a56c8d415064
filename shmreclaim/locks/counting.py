"""What counts and has no owner: Semaphore and Completion. Both are one word, and sync/completion.py.

Nobody owns what was taken from a count, so a death gives nothing back. One that dies while it waits, or half way
through a release, keeps nobody else waiting.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import TracebackType
from typing import Any

from shmreclaim.errors import InternalError
from shmreclaim.locks.arenas import find_travelled
from shmreclaim.locks.sides import NO_TIMEOUT, deadline_of, describe, find_place
from shmreclaim.machine.arena import Arena
from shmreclaim.machine.atomics import write_once
from shmreclaim.machine.compile import compiled, compiled_nogil, entry_point
from shmreclaim.machine.futex import EINTR, ETIMEDOUT
from shmreclaim.sync.completion import (
    ALL,
    complete,
    complete_all,
    try_wait_for_completion,
    wait_for_completion,
)
from shmreclaim.sync.lockdep import LOCK, LockKind
from shmreclaim.sync.wait_queue import INTERRUPTIBLE

COUNT = LOCK.word


@compiled
def _init(mem: Any, at: int, count: int) -> int:
    write_once(mem, at + LOCK.kind, LockKind.COUNT)
    return write_once(mem, at + COUNT, count)


@compiled_nogil
def _wait(mem: Any, slot: int, at: int, deadline: int) -> int:
    return wait_for_completion(mem, slot, at, deadline, INTERRUPTIBLE)


@functools.cache
def _entries() -> tuple[Callable[..., int], ...]:
    """Compile, or load: try, wait, complete, complete all."""
    return (
        entry_point(try_wait_for_completion, 2),
        entry_point(_wait, 4),
        entry_point(complete, 2),
        entry_point(complete_all, 2),
    )


class _Count:
    """A word that is raised by some and lowered by others, who wait while it is 0."""

    __slots__ = ("__weakref__", "_place")

    def __init__(self, count: int, arena: Arena | None, name: str | None) -> None:
        """Make it, in an arena, under a name, or as this process's own."""
        self._place = find_place(arena, name, lambda address, at: _init(address, at, count), LockKind.COUNT)
        _entries()

    @property
    def _count(self) -> int:
        return int(self._place.tasks.words[self._place.at + COUNT])

    def _take(self, blocking: bool, timeout: float) -> bool:
        """Lower it by one, once it is not 0; whether that could be done in time."""
        deadline = deadline_of(blocking, timeout)
        (tasks, at, _), (attempt, wait, *_others) = self._place, _entries()
        if attempt(tasks.address, at + COUNT):
            return True
        outcome = -EINTR if blocking else -ETIMEDOUT
        while outcome == -EINTR:
            outcome = wait(tasks.address, tasks.slot(), at + COUNT, deadline)
        if outcome not in (0, -ETIMEDOUT):
            raise InternalError(f"waiting for the count at word {at} ended with {outcome}")
        return outcome == 0

    def _raise(self, complete: Callable[..., int]) -> None:
        """Raise it, as a task with a life: should it end before it has woken anybody, those who wait are told."""
        tasks, at, _ = self._place
        tasks.slot()
        complete(tasks.address, at + COUNT)

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to another process as the name of a segment and a place in it."""
        return _attach, (type(self), *self._place.travel())


class Semaphore(_Count):
    """A count that `acquire` lowers by one, waiting while it is 0, and `release` raises; as threading.Semaphore."""

    __slots__ = ()

    def __init__(self, value: int = 1, arena: Arena | None = None, *, name: str | None = None) -> None:
        """Make one of `value`, which a named one that exists already keeps; see Mutex for `arena` and `name`.

        Raises ValueError for a value below 0.
        """
        if not 0 <= value < ALL:
            raise ValueError(f"semaphore initial value must be >= 0 and < 2**30, not {value}")
        super().__init__(value, arena, name)

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """Lower the count by one, waiting while it is 0; whether that could be done in time (seconds)."""
        return self._take(blocking, NO_TIMEOUT if timeout is None else timeout)

    def release(self, n: int = 1) -> None:
        """Raise the count by `n`; that many of those who wait go on. Raises ValueError for n below 1."""
        if n < 1:
            raise ValueError("n must be one or more")
        for _ in range(n):
            self._raise(_entries()[2])

    __enter__ = acquire

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Raise the count again."""
        self.release()

    def get_value(self) -> int:
        """The count just now."""
        return self._count

    def __repr__(self) -> str:
        """Say its count, and where it is."""
        return f"<{describe(self, self._place)}, value={self._count}>"


class Completion(_Count):
    """Wait until something was done: as often as `complete` was called, or for ever after `complete_all`.

    Model: the kernel's (kernel/sched/completion.c).
    """

    __slots__ = ()

    def __init__(self, arena: Arena | None = None, *, name: str | None = None) -> None:
        """Make one that nobody completed yet; see Mutex for `arena` and `name`."""
        super().__init__(0, arena, name)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for one `complete` and use it up; whether it came in time (seconds)."""
        return self._take(True, NO_TIMEOUT if timeout is None else timeout)

    def try_wait(self) -> bool:
        """Use one `complete` up if there was one; return whether."""
        return self._take(False, NO_TIMEOUT)

    def complete(self) -> None:
        """Let one waiter, present or future, go on."""
        self._raise(_entries()[2])

    def complete_all(self) -> None:
        """Let all waiters, present and future, go on."""
        self._raise(_entries()[3])

    def done(self) -> bool:
        """Whether a wait would end at once (kernel: completion_done)."""
        return self._count > 0

    def __repr__(self) -> str:
        """Say whether it is done, and where it is."""
        return f"<{'done' if self.done() else 'not done'} {describe(self, self._place)}>"


def _attach(kind: type[_Count], name: str, inode: int, at: int) -> _Count:
    """Find in this process the count that another one pickled."""
    count = kind.__new__(kind)
    count._place = find_travelled(name, inode, at)
    return count
