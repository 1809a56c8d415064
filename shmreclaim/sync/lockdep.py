"""What every sleeping lock shares: its record, its order, its statistics, who holds it.

Lock order, outermost first (a CPU that holds one may block only on those below it; a trylock may be
tried anywhere):

| class | what | order argument |
|---|---|---|
| cgroup_mutex | the memcg tree's shape | taken by online and offline, which take all below |
| s_umount | one superblock's life | mount and unmount hold it for write; reclaim only tries it |
| list_lrus_mutex | the list of all list_lrus | offline drains them, mount adds one |
| bitmap_rwsem | ids and capacity (tkhai_v1) | held while maps grow |
| shrinker_rwsem | the shrinkers | reclaim only tries it |
| map_mutex | growth of maps (davydov, v4_19) | innermost of these: held while maps are allocated |
| shrinker_mutex | what changes the shrinkers (v6_4_srcu, v6_7) | reclaim never takes it |
| srcu_gp_mutex | SRCU's grace period (v6_4_srcu) | held while it runs, with no other of these inside |

Spinlocks (wait_lock, node locks, slab locks) nest inside all of these and never in each other, but for
a node's lock, inside which memory is given back.

A lock with a class is *watched*: each CPU notes in its own slot what it holds and since when, checks the
order before it blocks, and keeps lock_stat's figures (Documentation/locking/lockstat.rst). A lock without
a class pays one predicted branch for that. Nothing rests on the notes but reports: who holds a lock is
always in its word.
"""

from enum import IntEnum
from typing import Any

from shmreclaim.machine.atomics import clock_ns, read_once, write_once
from shmreclaim.machine.compile import compiled, out_of_line
from shmreclaim.machine.cpu import CPU, LOCKSTAT_WORDS, MAX_HELD, PF_MEMALLOC, Violation, violation
from shmreclaim.machine.layout import Field, record

LOCK = record(
    "LOCK",
    Field("word", "atomic: the state, by mutex.py's or rwsem.py's truth table"),
    Field("klass", "read-only after init; a LockClass, 0 for a lock that is not watched"),
    Field("kind", "read-only after init; a LockKind"),
    Field("policy", "read-only after init; who goes first: an rwsem's Policy"),
    Field("next", "read-only after init; the next lock of its segment that is chained, 0 for none"),
    Field("died", "under wait_lock; the holder that died last: its thread id * 2 + mode"),
    Field("wait_lock", "a spinlock", line=True),
    Field("waiters", "under wait_lock; the CPUs in the queue, a bit each"),
    Field("tickets", "under wait_lock; the ticket given last"),
)


class LockKind(IntEnum):
    """What a lock of a segment is."""

    MUTEX = 1
    RWSEM = 2
    COUNT = 3


class LockClass(IntEnum):
    """Locks that have statistics and a place in the lock order; the value is the place."""

    NONE = 0
    CGROUP_MUTEX = 1
    S_UMOUNT = 2
    LIST_LRUS_MUTEX = 3
    BITMAP_RWSEM = 4
    SHRINKER_RWSEM = 5
    MAP_MUTEX = 6
    SHRINKER_MUTEX = 7
    SRCU_GP_MUTEX = 8


READ, WRITE = 0, 1
"""The modes of a lock; a mutex is always held in WRITE mode."""

LOCKSTAT = record(
    "LOCKSTAT",
    Field("acquisitions", "one CPU"),
    Field("contentions", "one CPU; acquisitions that had to wait"),
    Field("trylock_failed", "one CPU"),
    Field("waittime_min", "one CPU; ns"),
    Field("waittime_max", "one CPU; ns"),
    Field("waittime_total", "one CPU; ns"),
    Field("holdtime_min", "one CPU; ns"),
    Field("holdtime_max", "one CPU; ns"),
    Field("holdtime_total", "one CPU; ns"),
    aligned=False,
)
assert LOCKSTAT.SIZE == LOCKSTAT_WORDS


@out_of_line
def _lock_acquire(mem: Any, cpu: int, lock: int) -> int:
    """Check, before blocking for `lock`, that all that this CPU holds is outside of it in the lock order.

    All, not only the last: a trylock may have taken an outer lock inside an inner one. A task in reclaim may
    not block for any of them: who holds one may be waiting for the memory that it is to free.
    """
    inner = read_once(mem, lock + LOCK.klass)
    if read_once(mem, cpu + CPU.flags) & PF_MEMALLOC:
        return violation(mem, cpu, Violation.RECLAIM_BLOCKED, lock, inner, 0)
    for k in range(read_once(mem, cpu + CPU.held_depth)):
        outer = read_once(mem, (read_once(mem, cpu + CPU.held + 2 * k) >> 1) + LOCK.klass)
        if outer >= inner:
            return violation(mem, cpu, Violation.LOCK_ORDER, outer, inner, lock)
    return 0


@out_of_line
def _lock_acquired(mem: Any, cpu: int, lock: int, mode: int, waited_since: int) -> int:
    """Note and count an acquisition; `waited_since` is when the wait began, 0 if there was none."""
    depth = read_once(mem, cpu + CPU.held_depth)
    if depth >= MAX_HELD:
        return violation(mem, cpu, Violation.HELD_OVERFLOW, lock, depth, 0)
    now = clock_ns()
    write_once(mem, cpu + CPU.held + 2 * depth, lock * 2 + mode)
    write_once(mem, cpu + CPU.held + 2 * depth + 1, now)
    write_once(mem, cpu + CPU.held_depth, depth + 1)
    stat = _stat(cpu, read_once(mem, lock + LOCK.klass), mode)
    acquisitions = stat + LOCKSTAT.acquisitions
    write_once(mem, acquisitions, read_once(mem, acquisitions) + 1)
    if waited_since:
        contentions = stat + LOCKSTAT.contentions
        write_once(mem, contentions, read_once(mem, contentions) + 1)
        _add_time(mem, stat + LOCKSTAT.waittime_min, now - waited_since)
    return 0


@out_of_line
def _lock_failed(mem: Any, cpu: int, lock: int, mode: int) -> int:
    """Count a trylock that failed, or a wait that was given up."""
    at = _stat(cpu, read_once(mem, lock + LOCK.klass), mode) + LOCKSTAT.trylock_failed
    return write_once(mem, at, read_once(mem, at) + 1)


@out_of_line
def _lock_release(mem: Any, cpu: int, lock: int, mode: int) -> int:
    """Forget a lock just given up; count how long it was held."""
    depth = read_once(mem, cpu + CPU.held_depth)
    k = depth - 1
    while k >= 0 and read_once(mem, cpu + CPU.held + 2 * k) != lock * 2 + mode:
        k -= 1
    if k < 0:
        return violation(mem, cpu, Violation.NOT_HELD, lock, mode, depth)
    held = clock_ns() - read_once(mem, cpu + CPU.held + 2 * k + 1)
    _add_time(mem, _stat(cpu, read_once(mem, lock + LOCK.klass), mode) + LOCKSTAT.holdtime_min, held)
    while k < depth - 1:  # rare: released out of order
        write_once(mem, cpu + CPU.held + 2 * k, read_once(mem, cpu + CPU.held + 2 * k + 2))
        write_once(mem, cpu + CPU.held + 2 * k + 1, read_once(mem, cpu + CPU.held + 2 * k + 3))
        k += 1
    return write_once(mem, cpu + CPU.held_depth, depth - 1)


@out_of_line
def _lock_downgraded(mem: Any, cpu: int, lock: int) -> int:
    """Turn the note of a write hold into one of a read hold; the hold time counts as a writer's."""
    _lock_release(mem, cpu, lock, WRITE)
    return _lock_acquired(mem, cpu, lock, READ, 0)


@compiled
def lock_is_held(mem: Any, cpu: int, lock: int, mode: int) -> int:
    """Whether this CPU holds a watched lock in that mode, by its own notes (kernel: lockdep_is_held)."""
    for k in range(read_once(mem, cpu + CPU.held_depth)):
        if read_once(mem, cpu + CPU.held + 2 * k) == lock * 2 + mode:
            return 1
    return 0


@compiled
def class_is_held(mem: Any, cpu: int, klass: int, mode: int) -> int:
    """Whether this CPU holds any lock of a class in that mode, by its own notes."""
    for k in range(read_once(mem, cpu + CPU.held_depth)):
        entry = read_once(mem, cpu + CPU.held + 2 * k)
        if entry & 1 == mode and read_once(mem, (entry >> 1) + LOCK.klass) == klass:
            return 1
    return 0


@compiled
def _stat(cpu: int, klass: int, mode: int) -> int:
    return cpu + CPU.lockstats + (klass * 2 + mode) * LOCKSTAT_WORDS


@compiled
def _add_time(mem: Any, at: int, ns: int) -> int:
    """Add one duration to a (min, max, total) triple; a min of 0 means none yet."""
    ns = max(ns, 1)
    low = read_once(mem, at)
    if low == 0 or ns < low:
        write_once(mem, at, ns)
    if ns > read_once(mem, at + 1):
        write_once(mem, at + 1, ns)
    return write_once(mem, at + 2, read_once(mem, at + 2) + ns)


# --- what the locks call: one predicted branch for a lock that is not watched ---------------------


@compiled
def lock_acquire(mem: Any, cpu: int, lock: int) -> int:
    """About to take `lock`, and perhaps to block for it."""
    return _lock_acquire(mem, cpu, lock) if read_once(mem, lock + LOCK.klass) else 0


@compiled
def lock_acquired(mem: Any, cpu: int, lock: int, mode: int, waited_since: int) -> int:
    """Got it; `waited_since` is when the wait began, 0 if there was none."""
    return _lock_acquired(mem, cpu, lock, mode, waited_since) if read_once(mem, lock + LOCK.klass) else 0


@compiled
def lock_failed(mem: Any, cpu: int, lock: int, mode: int) -> int:
    """Did not get it: a trylock, or a wait given up."""
    return _lock_failed(mem, cpu, lock, mode) if read_once(mem, lock + LOCK.klass) else 0


@compiled
def lock_release(mem: Any, cpu: int, lock: int, mode: int) -> int:
    """Gave it up."""
    return _lock_release(mem, cpu, lock, mode) if read_once(mem, lock + LOCK.klass) else 0


@compiled
def lock_downgraded(mem: Any, cpu: int, lock: int) -> int:
    """Turned a write hold into a read share."""
    return _lock_downgraded(mem, cpu, lock) if read_once(mem, lock + LOCK.klass) else 0
