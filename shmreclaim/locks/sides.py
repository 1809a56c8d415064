"""One way to hold one lock: what the builtins of sync/fastpath.py leave to Python, and how those are made."""

from __future__ import annotations

import ctypes
import functools
import threading
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from shmreclaim.errors import InternalError, UsageError
from shmreclaim.locks.arenas import Place, anonymous_lock, named_lock, new_lock
from shmreclaim.machine.arena import Arena
from shmreclaim.machine.atomics import MAX_WORD, clock_ns
from shmreclaim.machine.builtin import BuiltinFactory
from shmreclaim.machine.compile import compiled_nogil, entry_point, link
from shmreclaim.machine.cpu import CPU
from shmreclaim.machine.futex import EINTR, ETIMEDOUT
from shmreclaim.sync import fastpath
from shmreclaim.sync.lockdep import LOCK, READ, LockKind
from shmreclaim.sync.mutex import mutex_lock_until, mutex_mark_died, mutex_trylock_robust, mutex_unlock
from shmreclaim.sync.rwsem import (
    down_read_or_write,
    down_read_trylock_robust,
    down_write_trylock_robust,
    down_write_until,
    rwsem_mark_died,
    up_read,
    up_write,
)
from shmreclaim.sync.wait_queue import INTERRUPTIBLE

NO_TIMEOUT: Final = -1
Compiled = Callable[..., int]

ACQUIRE_DOC = """acquire($self, blocking=True, timeout=-1)
--

Take the lock; return whether. Seconds, errors and signals are as in threading.Lock.acquire.

A lock is not recursive. If this thread holds it already, a call that may give up says False at once; one that
would wait for ever raises RuntimeError. Both change nothing. If a holder died, `recovered` says so afterwards."""
TRY_DOC = """try_acquire($self)
--

Take the lock if that is possible at once and nobody waits; return whether."""
RELEASE_DOC = """release($self)
--

Give the lock up.

Raises RuntimeError, and changes nothing, if this thread does not hold it so."""
EXIT_DOC = "__exit__($self, kind, value, traceback)\n--\n\nGive the lock up."


class OwnerDied(NamedTuple):
    """Who ended while it held a lock, so that what the lock guards may be half done."""

    tid: int
    """Its thread id; of a process's main thread, that is the pid."""
    mode: str
    """How it held the lock: "read" or "write". Who reads leaves nothing half done."""


Repair = Callable[[OwnerDied], object]


@compiled_nogil
def _wait_for_mutex(mem: Any, slot: int, at: int, deadline: int) -> int:
    return mutex_lock_until(mem, slot, at, deadline, INTERRUPTIBLE)


@compiled_nogil
def _wait_for_read(mem: Any, slot: int, at: int, deadline: int) -> int:
    return down_read_or_write(mem, slot, at, deadline, INTERRUPTIBLE)


@compiled_nogil
def _wait_for_write(mem: Any, slot: int, at: int, deadline: int) -> int:
    return down_write_until(mem, slot, at, deadline, INTERRUPTIBLE)


class Way:
    """A way to hold a lock, with what it compiles to; made when the first lock is."""

    def __init__(self, what: str, fast: tuple[Compiled, Compiled], slow: tuple[Compiled, ...]) -> None:
        """`fast`: builtins that acquire and release; `slow`: try, wait, give up, mark as died, does one hold it so."""
        self.what = what
        self.acquire = BuiltinFactory(fast[0], "acquire", ACQUIRE_DOC)
        self.attempt = BuiltinFactory(fast[0], "try_acquire", TRY_DOC)
        self.release = BuiltinFactory(fast[1], "release", RELEASE_DOC)
        self.leave = BuiltinFactory(fast[1], "__exit__", EXIT_DOC)
        arities = (3, 4, 3, 3, 3)
        self.take, self.wait, self.give, self.mark_died, self.held = map(entry_point, slow, arities)


@functools.cache
def ways() -> dict[str, Way]:
    """Compile, or load, all that the locks need."""
    link("shmreclaim.sync.", "shmreclaim.machine.")
    return {
        "mutex": Way(
            "mutex",
            (fastpath.acquire_mutex, fastpath.release_mutex),
            (mutex_trylock_robust, _wait_for_mutex, mutex_unlock, mutex_mark_died, fastpath.owns),
        ),
        "read": Way(
            "read lock",
            (fastpath.acquire_read, fastpath.release_read),
            (down_read_trylock_robust, _wait_for_read, up_read, rwsem_mark_died, fastpath.reads),
        ),
        "write": Way(
            "write lock",
            (fastpath.acquire_write, fastpath.release_write),
            (down_write_trylock_robust, _wait_for_write, up_write, rwsem_mark_died, fastpath.writes),
        ),
    }


def deadline_of(blocking: bool, timeout: float) -> int:
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


class Side:
    """One way to hold one lock, in Python: everything that the builtins leave to it."""

    def __init__(self, place: Place, way: Way, all_ways: tuple[Way, ...], repair: Repair | None) -> None:
        """Name the lock, the way, all ways to hold that lock, and what sets right what a dead holder left half done."""
        self.place = place  # keeps the words this lock's, whoever keeps a builtin alone
        self.tasks, self.at, _ = place
        self.way, self.all_ways, self.repair = way, all_ways, repair

    def acquire(self, blocking: bool = True, timeout: float = NO_TIMEOUT) -> bool:
        """Take the lock; return whether. Whatever is raised meanwhile, the lock is not held then."""
        deadline = deadline_of(blocking, timeout)
        slot = self.tasks.slot()
        holding = next((way for way in self.all_ways if way.held(self.tasks.address, slot, self.at)), None)
        if holding is not None:
            if not blocking or timeout != NO_TIMEOUT:
                return False  # nobody else could let us in before the time is over
            raise RuntimeError(f"this thread has the {holding.what} already: it would wait for itself")
        self.tasks.bury(slot)
        words, at = self.tasks.words, slot + CPU.recovered
        before, words[at] = words[at], 0  # a signal handler's or a repair's acquire is inside of another one
        try:
            taken = self.take(slot, blocking, deadline)
            if taken:
                self.arrive(slot)
            return taken
        except BaseException:
            self.back_out(slot)
            raise
        finally:
            words[at] = before

    def take(self, slot: int, blocking: bool, deadline: int) -> bool:
        """Try, or wait until a signal comes, let its handlers run, and wait on."""
        outcome = -EINTR
        if not blocking:
            outcome = 0 if self.way.take(self.tasks.address, slot, self.at) else -ETIMEDOUT
        while outcome == -EINTR:
            outcome = self.way.wait(self.tasks.address, slot, self.at, deadline)
        if outcome < 0 and outcome != -ETIMEDOUT:
            raise InternalError(f"waiting for the {self.way.what} at word {self.at} ended with {outcome}")
        return outcome >= 0

    def arrive(self, slot: int) -> None:
        """Having the lock, hear whether a holder died with it; set right what one left that did not only read."""
        if self.tasks.words[slot + CPU.recovered]:
            self.tasks.tell(threading.get_ident(), self.at)
            who = self.who_died()
            if self.repair is not None and who.mode == "write":
                self.repair(who)

    def who_died(self) -> OwnerDied:
        """Who died with the lock last."""
        died = int(self.tasks.words[self.at + LOCK.died])
        return OwnerDied(died >> 1, "read" if died & 1 == READ else "write")

    def back_out(self, slot: int) -> None:
        """Be as if one had not come: not a holder, and news that one got is for the next."""
        if self.held(slot):
            if self.tasks.words[slot + CPU.recovered]:
                self.way.mark_died(self.tasks.address, slot, self.at)
            self._give(slot)

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
        self._give(slot)

    def _give(self, slot: int) -> None:
        self.tasks.forget_told(threading.get_ident(), self.at)
        self.way.give(self.tasks.address, slot, self.at)

    def leave(self, *_exception: object) -> None:
        """Give the lock up at the end of a `with`."""
        self.release()

    def expect_held(self, slot: int) -> None:
        """Raise RuntimeError if the task of a slot does not hold it so."""
        if not self.held(slot):
            raise RuntimeError(f"this thread does not have the {self.way.what}")

    def was_told(self) -> bool:
        """Whether this thread holds the lock since it was left by a holder that died."""
        return self.at in self.tasks.told.get(threading.get_ident(), ())

    def bind(self, factory: BuiltinFactory, slow: Callable[..., Any], nargs: int, answers: tuple[object, ...]) -> Any:
        """Make a builtin of this side: the simple call has `nargs` arguments and ends with one of the answers."""
        where = self.tasks.address, self.at, ctypes.addressof(self.tasks.table)
        words = (*where, nargs, id(slow), *map(id, answers), 0)
        return factory.bind(words[:7], (slow, answers))


def find_place(arena: Arena | None, name: str | None, init: Callable[[int, int], Any], kind: LockKind) -> Place:
    """Make a lock in an arena, find or make the one of a name, or make one that is nobody's in particular."""
    ways()
    if arena is not None and name is not None:
        raise TypeError("a lock is in an arena or has a name, not both")
    if arena is not None:
        return new_lock(arena, init)
    if name is None:
        return anonymous_lock(init)
    place = named_lock(name, init)
    found = LockKind(int(place.tasks.words[place.at + LOCK.kind]))  # Tasks refuses what is no kind
    if found != kind:
        raise UsageError(f"what is named {name!r} is no {kind.name.lower()} but a {found.name.lower()}")
    return place


def describe(lock: object, place: Place) -> str:
    """Say what a lock is and where, for its repr."""
    return f"shmreclaim.{type(lock).__qualname__} object at {id(lock):#x}, word {place.at} of {place.tasks.arena.name}"
