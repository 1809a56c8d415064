"""The locks of a segment, chained: for who must look at all of them because a task there ended.

Locks of the emulated kernel come and go and are not chained; those that programs make are, when they are made.
"""

from typing import Any

from shmreclaim.machine.atomics import MAX_WORD, read_once, write_once
from shmreclaim.machine.compile import compiled, out_of_line
from shmreclaim.machine.cpu import CPU, READER_SHIFT
from shmreclaim.machine.layout import HEADER
from shmreclaim.sync.lockdep import LOCK, LockKind
from shmreclaim.sync.mutex import OWNER_MASK as MUTEX_OWNER
from shmreclaim.sync.mutex import mutex_disown, mutex_repair
from shmreclaim.sync.robust import dead_tasks
from shmreclaim.sync.rwsem_queue import OWNER_MASK, OWNER_SHIFT, WRITER, rwsem_disown, rwsem_repair, write_hold
from shmreclaim.sync.spinlock import OWNER_MASK as SPIN_OWNER
from shmreclaim.sync.spinlock import spin_lock, spin_unlock


@compiled
def chain_lock(mem: Any, lock: int) -> int:
    """Make a lock the first of its segment's; its creator does, before anyone else knows the lock."""
    write_once(mem, lock + LOCK.next, read_once(mem, HEADER.locks))
    return write_once(mem, HEADER.locks, lock)


@compiled
def _next_lock(mem: Any, lock: int) -> int:
    """The one after `lock`, or the first; 0 at the end, and where a damaged segment leads astray.

    Locks are made in memory that is allocated upwards and chained in front of each other, so each leads down: a chain
    has an end, whatever its words are.
    """
    following = read_once(mem, lock + LOCK.next) if lock else read_once(mem, HEADER.locks)
    above = lock if lock else read_once(mem, HEADER.nwords)
    return following if HEADER.SIZE <= following <= above - LOCK.SIZE else 0


@out_of_line
def disown_all(mem: Any, cpu: int) -> int:
    """Take back what the last task of this CPU's slot left behind in every chained lock."""
    lock = _next_lock(mem, 0)
    while lock:
        if read_once(mem, lock + LOCK.kind) == LockKind.MUTEX:
            mutex_disown(mem, cpu, lock)
        elif read_once(mem, lock + LOCK.kind) == LockKind.RWSEM:
            rwsem_disown(mem, cpu, lock)
        lock = _next_lock(mem, lock)
    return 0


@out_of_line
def repair_all(mem: Any, cpu: int) -> int:
    """Repair every chained lock, announced or not: a task that was dead before has nothing in any of them after."""
    lock = _next_lock(mem, 0)
    while lock:
        kind = read_once(mem, lock + LOCK.kind)
        if kind == LockKind.MUTEX:
            spin_lock(mem, cpu, lock + LOCK.wait_lock)
            mutex_repair(mem, lock, dead_tasks(mem))
            spin_unlock(mem, cpu, lock + LOCK.wait_lock)
        elif kind == LockKind.RWSEM:
            spin_lock(mem, cpu, lock + LOCK.wait_lock)
            rwsem_repair(mem, lock, dead_tasks(mem))
            spin_unlock(mem, cpu, lock + LOCK.wait_lock)
        lock = _next_lock(mem, lock)
    return 0


@out_of_line
def holds_any(mem: Any, cpu: int) -> int:
    """Whether this CPU holds any chained lock."""
    lock, me, bit = _next_lock(mem, 0), read_once(mem, cpu + CPU.id), read_once(mem, cpu + CPU.bit)
    while lock:
        kind, word = read_once(mem, lock + LOCK.kind), read_once(mem, lock + LOCK.word)
        if kind == LockKind.MUTEX and word & MUTEX_OWNER == me:
            return 1
        if kind == LockKind.RWSEM and (word & bit or word & (WRITER | OWNER_MASK) == write_hold(mem, cpu)):
            return 1
        lock = _next_lock(mem, lock)
    return 0


@out_of_line
def find_damage(mem: Any, cpus: int) -> int:
    """The first chained lock that names a CPU which a segment of so many has not; 0 if there is none.

    For who comes to a segment: all that looks at a lock finds slots by these numbers and bits.
    """
    lock = _next_lock(mem, 0)
    while lock:
        if _names_nobody(mem, lock, cpus):
            return lock
        lock = _next_lock(mem, lock)
    return 0


@compiled
def _names_nobody(mem: Any, lock: int, cpus: int) -> int:
    """Whether a lock names a CPU that is none."""
    kind, word = read_once(mem, lock + LOCK.kind), read_once(mem, lock + LOCK.word)
    beyond = ~((2 << cpus) - 1)
    readers = ~((1 << (cpus + READER_SHIFT)) - 1)
    if read_once(mem, lock + LOCK.waiters) & (beyond | 1) or read_once(mem, lock + LOCK.wait_lock) & SPIN_OWNER > cpus:
        return 1
    if kind == LockKind.MUTEX:
        return 1 if word & MUTEX_OWNER > cpus else 0
    if kind == LockKind.RWSEM:
        return 1 if word & MAX_WORD & readers or (word & OWNER_MASK) >> OWNER_SHIFT > cpus else 0
    return 1 if kind != LockKind.COUNT else 0
