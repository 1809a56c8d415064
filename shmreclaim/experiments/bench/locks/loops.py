"""Compiled loops over any lock, ours or glibc's: the same source for all, so that only the lock differs.

A process's record (`PLAYER`) says what it is to do. Where nanoseconds are counted, each kind has a loop of its own;
where clocks are read around every operation, one branch more does not matter and `take` and `give` choose.
"""

from enum import IntEnum
from typing import Any

from shmreclaim.experiments.bench.locks import glibc
from shmreclaim.experiments.bench.locks.ground import LOG_ROOM, PLAYER, SCENE
from shmreclaim.machine.atomics import clock_ns, fetch_add_relaxed, read_once, write_once
from shmreclaim.machine.compile import compiled, compiled_nogil
from shmreclaim.machine.futex import futex_wait
from shmreclaim.machine.histogram import histogram_add
from shmreclaim.sync.mutex import mutex_lock, mutex_unlock
from shmreclaim.sync.rwsem import down_read, down_write, up_read, up_write

BATCH = 16
"""Operations between two looks at the clock."""
ASLEEP_NS = 20_000
"""Who waits so long before a release has gone to sleep: spinning is over after a few microseconds."""


class Kind(IntEnum):
    """A lock and how it is taken; BUSTED does nothing, to show that a lock that fails is found out."""

    BUSTED = 0
    MUTEX = 1
    READ = 2
    WRITE = 3
    GLIBC_MUTEX = 4
    GLIBC_READ = 5
    GLIBC_WRITE = 6


# --- one operation -------------------------------------------------------------------------------------


@compiled
def take(mem: Any, cpu: int, lock: int, kind: int) -> int:
    """Take a lock, however long it takes."""
    if kind == Kind.MUTEX:
        mutex_lock(mem, cpu, lock)
    elif kind == Kind.READ:
        down_read(mem, cpu, lock)
    elif kind == Kind.WRITE:
        down_write(mem, cpu, lock)
    elif kind == Kind.GLIBC_MUTEX:
        if glibc.mutex_lock(mem + 8 * lock) == glibc.EOWNERDEAD:
            glibc.mutex_consistent(mem + 8 * lock)
    elif kind == Kind.GLIBC_READ:
        glibc.rwlock_rdlock(mem + 8 * lock)
    elif kind == Kind.GLIBC_WRITE:
        glibc.rwlock_wrlock(mem + 8 * lock)
    return 0


@compiled
def give(mem: Any, cpu: int, lock: int, kind: int) -> int:
    """Give a lock up."""
    if kind == Kind.MUTEX:
        mutex_unlock(mem, cpu, lock)
    elif kind == Kind.READ:
        up_read(mem, cpu, lock)
    elif kind == Kind.WRITE:
        up_write(mem, cpu, lock)
    elif kind == Kind.GLIBC_MUTEX:
        glibc.mutex_unlock(mem + 8 * lock)
    elif kind in (Kind.GLIBC_READ, Kind.GLIBC_WRITE):
        glibc.rwlock_unlock(mem + 8 * lock)
    return 0


@compiled
def only_reads(kind: int) -> int:
    """Whether others may have the lock beside one who takes it so."""
    return 1 if kind in (Kind.READ, Kind.GLIBC_READ) else 0


@compiled
def spend(ns: int) -> int:
    """Be busy for a while."""
    if ns > 0:
        until = clock_ns() + ns
        while clock_ns() < until:
            pass
    return 0


@compiled
def nap_until(mem: Any, me: int, time: int) -> int:
    """Sleep until then."""
    while clock_ns() < time:
        futex_wait(mem, me + PLAYER.nap, 0, time)
    return 0


@compiled
def use(mem: Any, scene: int, kind: int, hold: int) -> int:
    """Use what the lock protects, for so long; 1 if somebody else was found at it."""
    first, second = scene + SCENE.first, scene + SCENE.second
    before = read_once(mem, first)
    broken = 1 if read_once(mem, second) != before else 0
    if only_reads(kind):
        spend(hold)
    else:
        write_once(mem, first, before + 1)
        spend(hold)
        write_once(mem, second, read_once(mem, second) + 1)
        before += 1
    return 1 if broken or read_once(mem, first) != before or read_once(mem, second) != before else 0


# --- nobody else wants the lock: ns of so many pairs -----------------------------------------------------


@compiled_nogil
def add_twice(mem: Any, scene: int, pairs: int) -> int:
    """Add to a word and take it away again: less no lock can cost that others may see."""
    start = clock_ns()
    for _ in range(pairs):
        fetch_add_relaxed(mem, scene + SCENE.lock, 1)
        fetch_add_relaxed(mem, scene + SCENE.lock, -1)
    return clock_ns() - start


@compiled
def pairs_of_ours(mem: Any, cpu: int, lock: int, kind: int, pairs: int) -> int:
    """Take and give one of our locks."""
    start = clock_ns()
    if kind == Kind.MUTEX:
        for _ in range(pairs):
            mutex_lock(mem, cpu, lock)
            mutex_unlock(mem, cpu, lock)
    elif kind == Kind.READ:
        for _ in range(pairs):
            down_read(mem, cpu, lock)
            up_read(mem, cpu, lock)
    elif kind == Kind.WRITE:
        for _ in range(pairs):
            down_write(mem, cpu, lock)
            up_write(mem, cpu, lock)
    return clock_ns() - start


@compiled
def pairs_of_glibc(mem: Any, lock: int, kind: int, pairs: int) -> int:
    """Take and give one of glibc's."""
    start = clock_ns()
    if kind == Kind.GLIBC_MUTEX:
        for _ in range(pairs):
            glibc.mutex_lock(mem + 8 * lock)
            glibc.mutex_unlock(mem + 8 * lock)
    elif kind == Kind.GLIBC_READ:
        for _ in range(pairs):
            glibc.rwlock_rdlock(mem + 8 * lock)
            glibc.rwlock_unlock(mem + 8 * lock)
    elif kind == Kind.GLIBC_WRITE:
        for _ in range(pairs):
            glibc.rwlock_wrlock(mem + 8 * lock)
            glibc.rwlock_unlock(mem + 8 * lock)
    return clock_ns() - start


@compiled_nogil
def alone(mem: Any, scene: int, me: int, pairs: int) -> int:
    """Time so many pairs of a lock that nobody else wants; ns."""
    kind, lock = read_once(mem, me + PLAYER.kind), scene + SCENE.lock
    if kind >= Kind.GLIBC_MUTEX:
        return pairs_of_glibc(mem, lock, kind, pairs)
    return pairs_of_ours(mem, read_once(mem, me + PLAYER.slot), lock, kind, pairs)


# --- everybody wants it ------------------------------------------------------------------------------------


@compiled_nogil
def compete(mem: Any, scene: int, me: int) -> int:
    """Take and give the lock as often as it goes, until the end."""
    cpu, kind = read_once(mem, me + PLAYER.slot), read_once(mem, me + PLAYER.kind)
    hold, think = read_once(mem, me + PLAYER.hold), read_once(mem, me + PLAYER.think)
    end, ops, broken = read_once(mem, me + PLAYER.end), 0, 0
    batch = BATCH if hold + think == 0 else 1
    while clock_ns() < end:
        for _ in range(batch):
            take(mem, cpu, scene + SCENE.lock, kind)
            broken += use(mem, scene, kind, hold)
            give(mem, cpu, scene + SCENE.lock, kind)
            spend(think)
        ops += batch
    write_once(mem, me + PLAYER.broken, broken)
    return write_once(mem, me + PLAYER.ops, ops)


@compiled
def serve(mem: Any, scene: int, me: int, since: int) -> int:
    """Take the lock, use it, give it up; count the wait from `since` on. When it got the lock."""
    cpu, kind = read_once(mem, me + PLAYER.slot), read_once(mem, me + PLAYER.kind)
    take(mem, cpu, scene + SCENE.lock, kind)
    waited = clock_ns() - since
    broken = use(mem, scene, kind, read_once(mem, me + PLAYER.hold))
    give(mem, cpu, scene + SCENE.lock, kind)
    histogram_add(mem, me + PLAYER.waits, waited)
    write_once(mem, me + PLAYER.broken, read_once(mem, me + PLAYER.broken) + broken)
    write_once(mem, me + PLAYER.ops, read_once(mem, me + PLAYER.ops) + 1)
    return since + waited


@compiled_nogil
def wait_closed(mem: Any, scene: int, me: int) -> int:
    """Ask again once served: each wait from asking to having the lock. Once at least, however late the start."""
    asked = serve(mem, scene, me, clock_ns())
    while asked < read_once(mem, me + PLAYER.end):
        spend(read_once(mem, me + PLAYER.think))
        asked = serve(mem, scene, me, clock_ns())
    return 0


@compiled_nogil
def wait_open(mem: Any, scene: int, me: int) -> int:
    """Ask when it was planned, or as soon after as one can: each wait from the planned time on.

    What is not served at the end counts with what it has waited by then.
    """
    start, end, plan = (
        read_once(mem, scene + SCENE.start),
        read_once(mem, me + PLAYER.end),
        read_once(mem, me + PLAYER.plan),
    )
    planned = read_once(mem, me + PLAYER.planned)
    for k in range(planned):
        due = start + read_once(mem, plan + k)
        if clock_ns() < end:
            nap_until(mem, me, due)
            serve(mem, scene, me, due)
        else:
            histogram_add(mem, me + PLAYER.waits, end - due)
            write_once(mem, me + PLAYER.unserved, read_once(mem, me + PLAYER.unserved) + 1)
    return 0


# --- in which order they get it ----------------------------------------------------------------------------


@compiled
def draw(mem: Any, counter: int) -> int:
    """Draw the next number."""
    return fetch_add_relaxed(mem, counter, 1)


@compiled_nogil
def take_in_turn(mem: Any, scene: int, me: int) -> int:
    """Hold the lock asleep, so that others go to sleep in the queue; log who is served before whom."""
    cpu, kind = read_once(mem, me + PLAYER.slot), read_once(mem, me + PLAYER.kind)
    lock, reads = scene + SCENE.lock, only_reads(kind)
    asked = clock_ns()
    while asked < read_once(mem, me + PLAYER.end):
        ticket = draw(mem, scene + SCENE.tickets)
        if ticket >= LOG_ROOM:
            return 0
        take(mem, cpu, lock, kind)
        got = clock_ns()
        write_once(mem, scene + SCENE.log + draw(mem, scene + SCENE.grants), ticket * 2 + reads)
        released, by = read_once(mem, scene + SCENE.released_at), read_once(mem, scene + SCENE.released_by)
        if released > asked + ASLEEP_NS and by >> 1 != me and by & reads == 0:  # no reader waits for a reader
            histogram_add(mem, me + PLAYER.handoffs, got - released)
        nap_until(mem, me, got + read_once(mem, me + PLAYER.hold))
        write_once(mem, scene + SCENE.released_by, me * 2 + reads)
        write_once(mem, scene + SCENE.released_at, clock_ns())
        give(mem, cpu, lock, kind)
        asked = clock_ns()
    return 0


@compiled
def count_bypasses(mem: Any, scene: int, grants: int, reads: int) -> int:
    """How many, at most, that asked after somebody of a class got the lock before: by the log of so many grants.

    The tree (Fenwick's) counts grants so far by ticket; those with a later ticket went past.
    """
    longest, tree = 0, scene + SCENE.tree
    for k in range(LOG_ROOM + 1):
        write_once(mem, tree + k, 0)
    for k in range(grants):
        entry = read_once(mem, scene + SCENE.log + k)
        earlier, at = 0, entry >> 1
        while at > 0:
            earlier += read_once(mem, tree + at)
            at -= at & -at
        if entry & 1 == reads:
            longest = max(longest, k - earlier)
        at = (entry >> 1) + 1
        while at <= LOG_ROOM:
            write_once(mem, tree + at, read_once(mem, tree + at) + 1)
            at += at & -at
    return longest


# --- a writer beside readers without end ---------------------------------------------------------------------


@compiled_nogil
def read_without_end(mem: Any, scene: int, me: int) -> int:
    """Hold the lock asleep and take it again at once, until told to stop."""
    cpu, kind = read_once(mem, me + PLAYER.slot), read_once(mem, me + PLAYER.kind)
    nap_until(mem, me, read_once(mem, scene + SCENE.start) + read_once(mem, me + PLAYER.think))
    while not read_once(mem, scene + SCENE.stop):
        take(mem, cpu, scene + SCENE.lock, kind)
        nap_until(mem, me, clock_ns() + read_once(mem, me + PLAYER.hold))
        give(mem, cpu, scene + SCENE.lock, kind)
    return 0


@compiled_nogil
def write_among_readers(mem: Any, scene: int, me: int) -> int:
    """Ask for the lock now and then; say since when it waits."""
    nap_until(mem, me, clock_ns() + read_once(mem, me + PLAYER.think))
    while clock_ns() < read_once(mem, me + PLAYER.end):
        asked = clock_ns()
        write_once(mem, me + PLAYER.asked, asked)
        serve(mem, scene, me, asked)
        write_once(mem, me + PLAYER.asked, 0)
        nap_until(mem, me, clock_ns() + read_once(mem, me + PLAYER.think))
    return 0


# --- a holder that is killed ---------------------------------------------------------------------------------


@compiled_nogil
def hold_for_ever(mem: Any, scene: int, me: int) -> int:
    """Take the lock, say so, and keep it."""
    take(mem, read_once(mem, me + PLAYER.slot), scene + SCENE.lock, read_once(mem, me + PLAYER.kind))
    write_once(mem, me + PLAYER.ops, 1)
    return nap_until(mem, me, clock_ns() + 3600 * 1_000_000_000)


@compiled_nogil
def try_after(mem: Any, scene: int, me: int) -> int:
    """Take the lock of the dead, and say how long that took."""
    asked = clock_ns()
    write_once(mem, me + PLAYER.asked, asked)
    take(mem, read_once(mem, me + PLAYER.slot), scene + SCENE.lock, read_once(mem, me + PLAYER.kind))
    write_once(mem, me + PLAYER.ns, clock_ns() - asked)
    write_once(mem, me + PLAYER.ops, 1)
    return give(mem, read_once(mem, me + PLAYER.slot), scene + SCENE.lock, read_once(mem, me + PLAYER.kind))


CALLED = {
    "add_twice": 3,
    "alone": 4,
    "compete": 3,
    "wait_closed": 3,
    "wait_open": 3,
    "draw": 2,
    "take_in_turn": 3,
    "count_bypasses": 4,
    "read_without_end": 3,
    "write_among_readers": 3,
    "hold_for_ever": 3,
    "try_after": 3,
}
"""What the players and their parent call, with the number of arguments."""
