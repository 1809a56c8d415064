"""Where the locks of programs are: in a segment of the caller's, in one of a name, or in one that this process keeps.

A lock without arena and name is in the segment that this process makes for all such locks, and makes anew when that
is full. Its words are used again once it is gone, unless another process may know it: it was pickled, or the process
forked while it was there.
"""

from __future__ import annotations

import atexit
import functools
import os
import re
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

from shmreclaim.errors import SetupError, UsageError
from shmreclaim.machine.arena import Arena
from shmreclaim.machine.compile import entry_point, link
from shmreclaim.machine.cpu import MAX_CPUS
from shmreclaim.machine.layout import HEADER, LINE
from shmreclaim.machine.tasks import SLOT_WORDS, LocksOfTasks, Tasks
from shmreclaim.sync.chain import chain_lock, disown_all, find_damage, holds_any, repair_all
from shmreclaim.sync.lockdep import LOCK

ANONYMOUS_LOCKS = 256
NAME = re.compile(r"[A-Za-z0-9_.-]{1,200}")
NAMED = "lock."
"""What the names of segments of named locks begin with, after the package's own prefix."""


class Tenancy:
    """Lives as long as anything in this process that uses the words of a lock; then they may be another lock's."""

    __slots__ = ("__weakref__", "farewell")
    farewell: weakref.finalize[Any, Any]


class Place(NamedTuple):
    """Where a lock is: the slots of its segment, its first word there, and what keeps those words its own."""

    tasks: Tasks
    at: int
    tenancy: Tenancy | None = None

    def travel(self) -> tuple[str, int, int]:
        """What another process finds it by, with find_travelled(). From here on the words are this lock's for ever."""
        if self.tenancy is not None:
            self.tenancy.farewell.detach()
        return self.tasks.arena.name, self.tasks.arena.inode, self.at


def lock_arena(locks: int = 1) -> Arena:
    """Make a segment with room for so many locks and for 53 tasks that use them; close it when all is done.

    Raises SetupError if there is no shared memory to be had.
    """
    return Arena.create(words_for(locks))


def words_for(locks: int) -> int:
    """Words of a segment for so many locks."""
    return int(HEADER.SIZE + MAX_CPUS * SLOT_WORDS + locks * LOCK.SIZE + 2 * LINE)


@functools.cache
def _locks_of_tasks() -> LocksOfTasks:
    link("shmreclaim.sync.", "shmreclaim.machine.")
    return LocksOfTasks(*(entry_point(each, 2) for each in (disown_all, repair_all, holds_any, find_damage)))


_known: weakref.WeakValueDictionary[tuple[str, int], Tasks] = weakref.WeakValueDictionary()


def tasks_in(arena: Arena) -> Tasks:
    """The slots of an arena, as this process uses them."""
    key = (arena.name, arena.inode)  # a name that was unlinked may be another segment's
    return _known.get(key) or _known.setdefault(key, Tasks(arena, _locks_of_tasks()))


def tasks_named(name: str, inode: int = 0) -> Tasks:
    """The slots of the arena of that name, or of one that this process knew by it if there is none any more.

    `inode`: only of this one; raises SetupError if it is gone, whatever has its name by now.
    """
    known = _known.get((name, inode))
    if known is not None:
        return known
    try:
        arena = Arena.attach(name)
    except SetupError:
        others = [tasks for (other, _), tasks in list(_known.items()) if other == name and not inode]
        if not others:
            raise
        return others[-1]
    if inode not in (0, arena.inode):
        arena.close()
        raise SetupError(f"there is no segment {name} any more that this lock was in", cause="It was unlinked.")
    return tasks_in(arena)


def new_lock(arena: Arena, init: Callable[[int, int], Any]) -> Place:
    """Make a lock in a segment of the caller's: `init(address, at)` fills its words in. Its creator's alone.

    Raises InternalError if the segment is full.
    """
    tasks = tasks_in(arena)
    with _anonymous.making:
        at = arena.allocate(LOCK.SIZE)
        init(tasks.address, at)
        chain_lock(tasks.address, at)
    return Place(tasks, at)


def find_travelled(name: str, inode: int, at: int) -> Place:
    """The place that another process gave with Place.travel().

    Raises SetupError if its segment is gone, IndexError for a place outside of it.
    """
    tasks = tasks_named(name, inode)
    tasks.arena.view(at, LOCK.SIZE)
    return Place(tasks, at)


def named_lock(name: str, init: Callable[[int, int], Any]) -> Place:
    """Find the lock of that name, or make it.

    Raises UsageError for what is no name, SetupError if there is no shared memory to be had.
    """
    if not NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is not a name for a lock", remedy="Use letters, digits, '_', '.' and '-', 200 at most."
        )
    places: list[Place] = []
    arena = Arena.named(NAMED + name, words_for(1), lambda made: places.append(new_lock(made, init)))
    if places:
        return places[0]
    at = int(arena.words[HEADER.locks])
    if not HEADER.SIZE <= at <= len(arena.words) - LOCK.SIZE:
        raise SetupError(f"segment {arena.name} has its lock at word {at}", cause="Usually it is damaged.")
    return Place(tasks_in(arena), at)


def unlink(name: str) -> None:
    """Remove the lock of that name, if there is one; who has it keeps it, and a new one of that name is another."""
    Arena.unlink(NAMED + name)


# --- locks without a name ------------------------------------------------------------------------


class _Anonymous:
    """The segments that this process makes for locks that are nobody's in particular."""

    def __init__(self) -> None:
        """Make none yet."""
        self.guard = threading.Lock()
        self.making = threading.Lock()
        """Held while a lock is put into any segment: only the threads of its creator do that."""
        self.pid = os.getpid()
        self.forks = 0
        self.free: list[Place] = []
        self.tasks: Tasks | None = None
        self.left = 0
        self.segments: list[Arena] = []

    def take(self, init: Callable[[int, int], Any]) -> Place:
        """Make a lock, where one was before if possible."""
        with self.guard:
            if self.free:
                place = self.free.pop()
                init(place.tasks.address, place.at)
                return place
            if self.tasks is None or self.left == 0:
                arena = lock_arena(ANONYMOUS_LOCKS)
                _at_exit(arena.remove)
                self.tasks, self.left = tasks_in(arena), ANONYMOUS_LOCKS
                self.segments.append(arena)
            self.left -= 1
            return new_lock(self.tasks.arena, init)

    def give(self, place: Place, forks: int) -> None:
        """Use the words of a lock again that is gone, if no other process can know it."""
        if self.pid == os.getpid() and self.forks == forks:
            self.free.append(place)  # without the guard: the garbage collector may call this inside of take()

    def forget(self) -> None:
        """In a forked child: the parent's segments are not ours to make locks in, whatever its threads were about."""
        self.guard, self.making = threading.Lock(), threading.Lock()
        self.pid, self.free, self.segments, self.tasks, self.left = os.getpid(), [], [], None, 0


_anonymous = _Anonymous()


def kept_segments() -> list[str]:
    """Names of the segments that this process keeps to its end, for locks that are nobody's in particular."""
    return [arena.name for arena in _anonymous.segments]


def _at_exit(function: Callable[[], object]) -> None:
    """Call a function when this process ends in order; children of these libraries end past atexit."""
    atexit.register(function)
    for library in ("multiprocessing.util", "multiprocess.util"):
        if library in sys.modules:
            sys.modules[library].Finalize(None, function, exitpriority=0)


def _count_fork() -> None:
    _anonymous.forks += 1


os.register_at_fork(before=_count_fork, after_in_child=_anonymous.forget)


def anonymous_lock(init: Callable[[int, int], Any]) -> Place:
    """Make a lock in a segment of this process's; its words are free again when nothing here uses the Place."""
    tasks, at, _ = _anonymous.take(init)
    tenancy = Tenancy()
    tenancy.farewell = weakref.finalize(tenancy, _anonymous.give, Place(tasks, at), _anonymous.forks)
    tenancy.farewell.atexit = False
    return Place(tasks, at, tenancy)
