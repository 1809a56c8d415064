"""Mutex: a lock that one thread of one process holds at a time."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

from shmreclaim.locks.arenas import Place, find_travelled
from shmreclaim.locks.sides import NO_TIMEOUT, Repair, Side, describe, find_place, ways
from shmreclaim.machine.arena import Arena
from shmreclaim.sync.lockdep import LOCK, LockKind
from shmreclaim.sync.mutex import OWNER_MASK, mutex_init


def _init(address: int, at: int) -> int:
    return mutex_init(address, at, 0)


class Mutex:
    """A lock that one thread of one process holds at a time.

    Like threading.Lock, but between processes too, and whoever acquired it must release it. Waiters are
    served first come first; one that just arrives may pass them until the first has been woken in vain once.

    When its owner ends without releasing it, in whatever way, the next one gets it at once; `recovered` is then True
    until that one releases it, or `on_owner_died` was called before acquire returned.
    """

    if not TYPE_CHECKING:  # pyright would take the methods below for variables
        __slots__ = ("__enter__", "__exit__", "__weakref__", "_side", "acquire", "release")

    def __init__(
        self, arena: Arena | None = None, *, name: str | None = None, on_owner_died: Repair | None = None
    ) -> None:
        """Make a free mutex for this process and those that get it from here; or one in a segment.

        `arena`: a segment of one's own (see lock_arena; only its creator may). `name`: find or make the one of that
        name.
        `on_owner_died`: called with an OwnerDied by whoever gets the mutex after a dead owner, the mutex held. If it
        raises, so does acquire, and the next one is told.

        Raises UsageError for a name that is none or another kind of lock's, SetupError if there is no shared memory to
        be had, InternalError if the arena is full.
        """
        self._bind(find_place(arena, name, _init, LockKind.MUTEX), on_owner_died)

    def _bind(self, place: Place, repair: Repair | None) -> None:
        way = ways()["mutex"]
        side = self._side = Side(place, way, (way,), repair)
        if not TYPE_CHECKING:
            self.acquire = self.__enter__ = side.bind(way.acquire, side.acquire, 0, (True,))
            self.release = side.bind(way.release, side.release, 0, (None,))
            self.__exit__ = side.bind(way.leave, side.leave, 3, (None,))

    if TYPE_CHECKING:  # slots that hold builtins: a call makes no Python frame

        def acquire(self, blocking: bool = True, timeout: float = NO_TIMEOUT) -> bool:
            """Take the mutex; return whether."""
            ...

        def release(self) -> None:
            """Give the mutex up."""

        def __enter__(self) -> bool:
            """Take the mutex."""
            ...

        def __exit__(
            self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
        ) -> None:
            """Give the mutex up."""

    def locked(self) -> bool:
        """Whether anybody holds it."""
        return bool(self._side.tasks.words[self._side.at + LOCK.word] & OWNER_MASK)

    @property
    def recovered(self) -> bool:
        """Whether this thread holds it since its last owner died with it; said to one thread for each death."""
        return self._side.was_told()

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to another process as the name of a segment and a place in it."""
        return _attach, (*self._side.place.travel(), self._side.repair)

    def __repr__(self) -> str:
        """Say whether it is locked, and where it is."""
        return f"<{'locked' if self.locked() else 'unlocked'} {describe(self, self._side.place)}>"


def _attach(name: str, inode: int, at: int, repair: Repair | None) -> Mutex:
    """Find in this process the lock that another one pickled."""
    lock = Mutex.__new__(Mutex)
    lock._bind(find_travelled(name, inode, at), repair)
    return lock
