"""The Python face of `sync/`: locks for programs of any kind, between threads and between processes.

Model: threading.Lock for what calls mean; `sync/mutex.py` and `sync/rwsem.py` for how they work.

Owners are threads (machine/tasks.py). An uncontended call is one builtin (sync/fastpath.py) with one atomic
instruction. Whatever is not that simple is left to a method of _Side; where that waits it gives the GIL up,
and returns when a signal came, so that Python's handlers run, and then waits for the rest of its time.

Limits: 54 threads at a time for each arena. A thread or process that dies while it holds a lock leaves it held.
"""

from __future__ import annotations

import ctypes
import functools
import threading
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from shmreclaim.errors import InternalError
from shmreclaim.machine.arena import Arena
from shmreclaim.machine.atomics import MAX_WORD, clock_ns
from shmreclaim.machine.builtin import BuiltinFactory
from shmreclaim.machine.compile import compiled_nogil, entry_point, link
from shmreclaim.machine.cpu import CPU, MAX_CPUS
from shmreclaim.machine.futex import EINTR, ETIMEDOUT
from shmreclaim.machine.layout import HEADER, LINE
from shmreclaim.machine.tasks import SLOT_WORDS, Tasks, tasks_in, tasks_named
from shmreclaim.sync import fastpath
from shmreclaim.sync.lockdep import LOCK
from shmreclaim.sync.mutex import OWNER_MASK, mutex_init, mutex_lock_until, mutex_trylock, mutex_unlock
from shmreclaim.sync.rwsem import (
    READERS_MASK,
    WAITERS,
    WRITER,
    down_read_trylock,
    down_read_until,
    down_write_trylock,
    down_write_until,
    downgrade_write,
    rwsem_init,
    up_read,
    up_write,
)
from shmreclaim.sync.wait_queue import INTERRUPTIBLE

__all__ = ["Mutex", "RwLock", "lock_arena"]

NO_TIMEOUT = -1
Compiled = Callable[..., int]

ACQUIRE_DOC = """acquire($self, blocking=True, timeout=-1)
--

Take the lock; return whether. Seconds, errors and signals are as in threading.Lock.acquire.

A lock is not recursive. If this thread holds it already, a call that may give up says False at once; one that
would wait for ever raises RuntimeError. Both change nothing."""
TRY_DOC = """try_acquire($self)
--

Take the lock if that is possible at once and nobody waits; return whether."""
RELEASE_DOC = """release($self)
--

Give the lock up.

Raises RuntimeError, and changes nothing, if this thread does not hold it so."""
EXIT_DOC = "__exit__($self, kind, value, traceback)\n--\n\nGive the lock up."


def lock_arena(locks: int = 1) -> Arena:
    """Make a segment with room for so many locks and for 54 tasks that use them; close it when all is done."""
    return Arena.create(HEADER.SIZE + MAX_CPUS * SLOT_WORDS + locks * LOCK.SIZE + 2 * LINE)


# --- slow paths ----------------------------------------------------------------------------------------


@compiled_nogil
def _wait_for_mutex(mem: Any, slot: int, at: int, deadline: int) -> int:
    return mutex_lock_until(mem, slot, at, deadline, INTERRUPTIBLE)


@compiled_nogil
def _wait_for_read(mem: Any, slot: int, at: int, deadline: int) -> int:
    return down_read_until(mem, slot, at, deadline, INTERRUPTIBLE)


@compiled_nogil
def _wait_for_write(mem: Any, slot: int, at: int, deadline: int) -> int:
    return down_write_until(mem, slot, at, deadline, INTERRUPTIBLE)


class _Way:
    """A way to hold a lock, with what it compiles to; made when the first lock is."""

    def __init__(self, what: str, fast: tuple[Compiled, Compiled], slow: tuple[Compiled, ...]) -> None:
        """`fast`: builtins that acquire and release; `slow`: try, wait, give up, and whether one holds it so."""
        self.what = what
        self.acquire = BuiltinFactory(fast[0], "acquire", ACQUIRE_DOC)
        self.attempt = BuiltinFactory(fast[0], "try_acquire", TRY_DOC)
        self.release = BuiltinFactory(fast[1], "release", RELEASE_DOC)
        self.leave = BuiltinFactory(fast[1], "__exit__", EXIT_DOC)
        self.take, self.wait, self.give = (entry_point(f, n) for f, n in zip(slow[:3], (3, 4, 3), strict=True))
        self.held = entry_point(slow[3], 3)


@functools.cache
def _ways() -> dict[str, _Way]:
    """Compile, or load, all that the locks need."""
    link("shmreclaim.sync.", "shmreclaim.machine.")
    return {
        "mutex": _Way(
            "mutex",
            (fastpath.acquire_mutex, fastpath.release_mutex),
            (mutex_trylock, _wait_for_mutex, mutex_unlock, fastpath.owns),
        ),
        "read": _Way(
            "read lock",
            (fastpath.acquire_read, fastpath.release_read),
            (down_read_trylock, _wait_for_read, up_read, fastpath.reads),
        ),
        "write": _Way(
            "write lock",
            (fastpath.acquire_write, fastpath.release_write),
            (down_write_trylock, _wait_for_write, up_write, fastpath.writes),
        ),
    }


def _deadline(blocking: bool, timeout: float) -> int:
    """When a wait of so many seconds ends, in ns on the clock; 0: never. Raises as threading.Lock.acquire does."""
    if not blocking and timeout != NO_TIMEOUT:
        raise ValueError("can't specify a timeout for a non-blocking call")
    if timeout == NO_TIMEOUT:
        return 0
    if not timeout >= 0:  # also what is not a number
        raise ValueError("timeout value must be a non-negative number")
    if timeout > threading.TIMEOUT_MAX:
        raise OverflowError("timeout value is too large")
    return min(clock_ns() + int(timeout * 1e9), MAX_WORD)


class _Side:
    """One way to hold one lock, in Python: everything that the builtins leave to it."""

    def __init__(self, tasks: Tasks, at: int, way: _Way, ways: tuple[_Way, ...]) -> None:
        """Name the lock, the way, and all ways to hold that lock."""
        self.tasks, self.at, self.way, self.ways = tasks, at, way, ways

    def acquire(self, blocking: bool = True, timeout: float = NO_TIMEOUT) -> bool:
        """Take the lock; return whether."""
        deadline = _deadline(blocking, timeout)
        slot = self.tasks.slot()
        holding = next((way for way in self.ways if way.held(self.tasks.address, slot, self.at)), None)
        if holding is None:
            return self._take(slot, blocking, deadline)
        if not blocking or timeout != NO_TIMEOUT:
            return False  # nobody else could let us in before the time is over
        raise RuntimeError(f"this thread has the {holding.what} already: it would wait for itself")

    def _take(self, slot: int, blocking: bool, deadline: int) -> bool:
        """Try, or wait until a signal comes, let its handlers run, and wait on; whatever they raise, leave it clean."""
        depth = slot + CPU.held_depth
        before, taken = int(self.tasks.words[depth]), False
        try:
            self.tasks.words[depth] = before + 1
            outcome = -EINTR if blocking else int(not self.way.take(self.tasks.address, slot, self.at))
            while outcome == -EINTR:
                outcome = self.way.wait(self.tasks.address, slot, self.at, deadline)
            taken = outcome == 0
        finally:
            if not taken:
                if self.held(slot):
                    self.way.give(self.tasks.address, slot, self.at)
                self.tasks.words[depth] = before
        if outcome < 0 and outcome != -ETIMEDOUT:
            raise InternalError(f"waiting for the {self.way.what} at word {self.at} ended with {outcome}")
        return taken

    def attempt(self) -> bool:
        """Take the lock if that is possible at once."""
        return self.acquire(False)

    def held(self, slot: int) -> bool:
        """Whether the task of a slot holds it so."""
        return bool(self.way.held(self.tasks.address, slot, self.at))

    def release(self) -> None:
        """Give the lock up; raises RuntimeError if this thread does not hold it so."""
        slot = self.tasks.slot()
        self.expect_held(slot)
        self.way.give(self.tasks.address, slot, self.at)
        self.tasks.words[slot + CPU.held_depth] -= 1

    def leave(self, *_exception: object) -> None:
        """Give the lock up at the end of a `with`."""
        self.release()

    def expect_held(self, slot: int) -> None:
        """Raise RuntimeError if the task of a slot does not hold it so."""
        if not self.held(slot):
            raise RuntimeError(f"this thread does not have the {self.way.what}")

    def bind(self, factory: BuiltinFactory, slow: Callable[..., Any], nargs: int, answers: tuple[object, ...]) -> Any:
        """Make a builtin of this side: the simple call has `nargs` arguments and ends with one of the answers."""
        where = self.tasks.address, self.at, ctypes.addressof(self.tasks.table)
        words = (*where, nargs, id(slow), *map(id, answers), 0)
        return factory.bind(words[:7], (slow, answers))


# --- the locks -----------------------------------------------------------------------------------------


class Mutex:
    """A lock that one thread of one process holds at a time.

    Like threading.Lock, but between processes too, and whoever acquired it must release it. Waiters are
    served first come first; one that just arrives may pass them until the first has been woken in vain once.
    """

    __slots__ = ("__enter__", "__exit__", "__weakref__", "_side", "acquire", "release")

    def __init__(self, arena: Arena | None = None) -> None:
        """Make a free mutex in `arena` (see lock_arena; only its creator may), or in a segment of its own.

        Raises SetupError if there is no shared memory to be had, InternalError if the arena is full.
        """
        self._bind(*_new(arena, mutex_init))

    def _bind(self, tasks: Tasks, at: int) -> None:
        way = _ways()["mutex"]
        side = self._side = _Side(tasks, at, way, (way,))
        if not TYPE_CHECKING:
            self.acquire = self.__enter__ = side.bind(way.acquire, side.acquire, 0, (True,))
            self.release = side.bind(way.release, side.release, 0, (None,))
            self.__exit__ = side.bind(way.leave, side.leave, 3, (None,))

    if TYPE_CHECKING:  # slots that hold builtins: a call makes no Python frame

        def acquire(self, blocking: bool = True, timeout: float = NO_TIMEOUT) -> bool:
            """Take the mutex; return whether."""

        def release(self) -> None:
            """Give the mutex up."""

        def __enter__(self) -> bool:
            """Take the mutex."""

        def __exit__(
            self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
        ) -> None:
            """Give the mutex up."""

    def locked(self) -> bool:
        """Whether anybody holds it."""
        return bool(self._side.tasks.words[self._side.at + LOCK.word] & OWNER_MASK)

    def __reduce__(self) -> tuple[object, ...]:
        """Travel to another process as the name of a segment and a place in it."""
        return _attach, (type(self), self._side.tasks.arena.name, self._side.at)

    def __repr__(self) -> str:
        """Say whether it is locked, and where it is."""
        return f"<{'locked' if self.locked() else 'unlocked'} {_place(self, self._side)}>"


class RwLock:
    """A lock that many read under or one writes under: fair, timed, downgradable, between threads and processes.

    First come first served: once anybody waits, no reader gets in before; a writer may pass those who wait for
    4 ms at most. Not recursive, and no reader becomes a writer: both would wait for themselves and raise.
    """

    __slots__ = (
        "__weakref__", "_read", "_reading", "_write", "_writing",
        "acquire_read", "acquire_write", "release_read", "release_write", "try_read", "try_write",
    )  # fmt: skip

    def __init__(self, arena: Arena | None = None) -> None:
        """Make a free lock in `arena` (see lock_arena; only its creator may), or in a segment of its own.

        Raises SetupError if there is no shared memory to be had, InternalError if the arena is full.
        """
        self._bind(*_new(arena, rwsem_init))

    def _bind(self, tasks: Tasks, at: int) -> None:
        ways = (_ways()["read"], _ways()["write"])
        read, write = (_Side(tasks, at, way, ways) for way in ways)
        self._read, self._write = read, write
        self._reading, self._writing = _Held(read), _Held(write)
        if not TYPE_CHECKING:
            self.acquire_read = read.bind(ways[0].acquire, read.acquire, 0, (True,))
            self.acquire_write = write.bind(ways[1].acquire, write.acquire, 0, (True,))
            self.try_read = read.bind(ways[0].attempt, read.attempt, 0, (True, False))
            self.try_write = write.bind(ways[1].attempt, write.attempt, 0, (True, False))
            self.release_read = read.bind(ways[0].release, read.release, 0, (None,))
            self.release_write = write.bind(ways[1].release, write.release, 0, (None,))

    if TYPE_CHECKING:  # slots that hold builtins: a call makes no Python frame

        def acquire_read(self, blocking: bool = True, timeout: float = NO_TIMEOUT) -> bool:
            """Take a read share; return whether."""

        def acquire_write(self, blocking: bool = True, timeout: float = NO_TIMEOUT) -> bool:
            """Take the lock for write; return whether."""

        def try_read(self) -> bool:
            """Take a read share if no writer holds the lock and nobody waits; return whether."""

        def try_write(self) -> bool:
            """Take the lock for write if nobody holds it or waits; return whether."""

        def release_read(self) -> None:
            """Give a read share up."""

        def release_write(self) -> None:
            """Give a write hold up."""

    def read(self) -> _Held:
        """Give what holds a read share for the time of a `with`."""
        return self._reading

    def write(self) -> _Held:
        """Give what holds the lock for write for the time of a `with`."""
        return self._writing

    def downgrade(self) -> None:
        """Turn this thread's write hold into a read share; nobody writes in between, waiting readers may join.

        Raises RuntimeError if this thread does not write. Inside `with lock.write()` it must not be used:
        that gives a write hold up at its end.
        """
        side = self._write
        slot = side.tasks.slot()
        side.expect_held(slot)
        downgrade_write(side.tasks.address, slot, side.at)

    def is_contended(self) -> bool:
        """Whether anybody waits: a reader with much left to do may want to let it in."""
        return bool(self._read.tasks.words[self._read.at + LOCK.word] & WAITERS)

    def __reduce__(self) -> tuple[object, ...]:
        """Travel to another process as the name of a segment and a place in it."""
        return _attach, (type(self), self._read.tasks.arena.name, self._read.at)

    def __repr__(self) -> str:
        """Say who is in, and where it is."""
        word = int(self._read.tasks.words[self._read.at + LOCK.word])
        readers = (word & READERS_MASK).bit_count()
        state = "write-locked" if word & WRITER else f"read-locked by {readers}" if readers else "unlocked"
        return f"<{state} {_place(self, self._read)}>"


class _Held:
    """Holds a lock in one way for the time of a `with`; used again and again."""

    __slots__ = ("__enter__", "__exit__")

    def __init__(self, side: _Side) -> None:
        if not TYPE_CHECKING:
            self.__enter__ = side.bind(side.way.acquire, side.acquire, 0, (True,))
            self.__exit__ = side.bind(side.way.leave, side.leave, 3, (None,))

    if TYPE_CHECKING:

        def __enter__(self) -> bool: ...

        def __exit__(
            self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
        ) -> None: ...


def _new(arena: Arena | None, init: Compiled) -> tuple[Tasks, int]:
    """Make a free lock; give the slots of its arena and its place."""
    _ways()
    tasks = tasks_in(arena or lock_arena())
    if arena is None:
        weakref.finalize(tasks, tasks.arena.remove)
    at = tasks.arena.allocate(LOCK.SIZE)
    init(tasks.address, at, 0)
    return tasks, at


def _attach(kind: type[Mutex] | type[RwLock], name: str, at: int) -> Mutex | RwLock:
    """Find in this process the lock that another one pickled."""
    tasks = tasks_named(name)
    tasks.arena.view(at, LOCK.SIZE)  # raises IndexError outside the segment
    lock = kind.__new__(kind)
    lock._bind(tasks, at)
    return lock


def _place(lock: object, side: _Side) -> str:
    kind = type(lock)
    return f"{kind.__module__}.{kind.__qualname__} object at {id(lock):#x}, word {side.at} of {side.tasks.arena.name}"
