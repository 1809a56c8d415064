"""RwLock: a lock that many read under or one writes under."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, get_args

from shmreclaim.errors import UsageError
from shmreclaim.locks.arenas import Place, find_travelled
from shmreclaim.locks.sides import NO_TIMEOUT, Repair, Side, describe, find_place, ways
from shmreclaim.machine.arena import Arena
from shmreclaim.sync.lockdep import LOCK, LockKind
from shmreclaim.sync.rwsem import downgrade_write, rwsem_init_policy
from shmreclaim.sync.rwsem_queue import READERS_MASK, WAITERS, WRITER, Policy

PolicyName = Literal["fair", "prefer_readers", "prefer_writers"]
POLICIES: dict[str, Policy] = dict(zip(get_args(PolicyName), Policy, strict=True))


class RwLock:
    """A lock that many read under or one writes under: robust, timed, downgradable, between threads and processes.

    `fair`, the default, is first come first served: once anybody waits, no reader gets in before; a writer may pass
    those who wait for 4 ms at most. With `prefer_writers` writers pass waiting readers, with `prefer_readers` readers
    pass waiting writers: then the others may wait for ever. Not recursive, and no reader becomes a writer: both
    would wait for themselves and raise.

    When a holder ends without releasing it, in whatever way, its hold is taken away at once. Whoever gets in next is
    told: `recovered` is True until that one releases it. After a writer `on_owner_died` was called before that.
    A signal that interrupts a wait runs its handler outside of the queue; who waited behind may pass meanwhile.
    """

    if not TYPE_CHECKING:  # pyright would take the methods below for variables
        __slots__ = (
            "__weakref__", "_read", "_reading", "_write", "_writing",
            "acquire_read", "acquire_write", "release_read", "release_write", "try_read", "try_write",
        )  # fmt: skip

    def __init__(
        self,
        arena: Arena | None = None,
        *,
        policy: PolicyName = "fair",
        name: str | None = None,
        on_owner_died: Repair | None = None,
    ) -> None:
        """Make a free lock for this process and those that get it from here; or one in a segment.

        `arena`: a segment of one's own (see lock_arena; only its creator may). `name`: find or make the one of that
        name. `on_owner_died`: called with an OwnerDied by whoever gets in first after a writer died, the lock held for
        write: a reader goes in alone too, and becomes a reader afterwards. If it raises, so does acquire, and the next
        one is told.

        Raises UsageError for a policy or name that is none, or another lock's, SetupError if there is no shared memory
        to be had, InternalError if the arena is full.
        """
        if policy not in POLICIES:
            raise UsageError(f"{policy!r} is no policy of a lock", remedy=f"There are: {', '.join(POLICIES)}.")
        wanted = POLICIES[policy]

        def init(address: int, at: int) -> int:
            return rwsem_init_policy(address, at, 0, wanted)

        place = find_place(arena, name, init, LockKind.RWSEM)
        found = Policy(int(place.tasks.words[place.at + LOCK.policy]))
        if found != wanted:
            raise UsageError(f"the lock named {name!r} has the policy {found.name.lower()}, not {policy}")
        self._bind(place, on_owner_died)

    def _bind(self, place: Place, repair: Repair | None) -> None:
        both = (ways()["read"], ways()["write"])
        write = self._write = Side(place, both[1], both, repair)
        read = self._read = _ReadSide(place, both, write)
        self._reading, self._writing = _Held(read), _Held(write)
        if not TYPE_CHECKING:
            self.acquire_read = read.bind(both[0].acquire, read.acquire, 0, (True,))
            self.acquire_write = write.bind(both[1].acquire, write.acquire, 0, (True,))
            self.try_read = read.bind(both[0].attempt, read.attempt, 0, (True, False))
            self.try_write = write.bind(both[1].attempt, write.attempt, 0, (True, False))
            self.release_read = read.bind(both[0].release, read.release, 0, (None,))
            self.release_write = write.bind(both[1].release, write.release, 0, (None,))

    if TYPE_CHECKING:  # slots that hold builtins: a call makes no Python frame

        def acquire_read(self, blocking: bool = True, timeout: float = NO_TIMEOUT) -> bool:
            """Take a read share; return whether."""
            ...

        def acquire_write(self, blocking: bool = True, timeout: float = NO_TIMEOUT) -> bool:
            """Take the lock for write; return whether."""
            ...

        def try_read(self) -> bool:
            """Take a read share if no writer holds the lock and nobody waits; return whether."""
            ...

        def try_write(self) -> bool:
            """Take the lock for write if nobody holds it or waits; return whether."""
            ...

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

    @property
    def recovered(self) -> bool:
        """Whether this thread holds it since a holder died with it; said to one thread for each death."""
        return self._read.was_told()

    @property
    def policy(self) -> str:
        """Who goes first."""
        return Policy(int(self._read.tasks.words[self._read.at + LOCK.policy])).name.lower()

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to another process as the name of a segment and a place in it."""
        return _attach, (*self._read.place.travel(), self._write.repair)

    def __repr__(self) -> str:
        """Say who is in, and where it is."""
        word = int(self._read.tasks.words[self._read.at + LOCK.word])
        readers = (word & READERS_MASK).bit_count()
        state = "write-locked" if word & WRITER else f"read-locked by {readers}" if readers else "unlocked"
        return f"<{state} {describe(self, self._read.place)}>"


class _ReadSide(Side):
    """The readers' side. One that comes first after a writer died has the lock for write, and reads afterwards."""

    def __init__(self, place: Place, both: tuple[Any, ...], writer: Side) -> None:
        super().__init__(place, both[0], both, None)  # what a dead reader leaves needs no repair
        self.writer = writer

    def arrive(self, slot: int) -> None:
        """Having the lock, hear whether a holder died with it; set right what a writer left."""
        if not self.writer.held(slot):
            super().arrive(slot)
            return
        self.writer.arrive(slot)
        downgrade_write(self.tasks.address, slot, self.at)

    def back_out(self, slot: int) -> None:
        """Be as if one had not come."""
        super().back_out(slot)
        self.writer.back_out(slot)


class _Held:
    """Holds a lock in one way for the time of a `with`; used again and again."""

    if not TYPE_CHECKING:
        __slots__ = ("__enter__", "__exit__")

    def __init__(self, side: Side) -> None:
        if not TYPE_CHECKING:
            self.__enter__ = side.bind(side.way.acquire, side.acquire, 0, (True,))
            self.__exit__ = side.bind(side.way.leave, side.leave, 3, (None,))

    if TYPE_CHECKING:

        def __enter__(self) -> bool: ...

        def __exit__(
            self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
        ) -> None: ...


def _attach(name: str, inode: int, at: int, repair: Repair | None) -> RwLock:
    """Find in this process the lock that another one pickled."""
    lock = RwLock.__new__(RwLock)
    lock._bind(find_travelled(name, inode, at), repair)
    return lock
