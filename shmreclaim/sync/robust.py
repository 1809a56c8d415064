"""What a lock does about tasks that died with it, or while they waited for it: what mutex and rwsem share.

Model: robust mutexes of POSIX (EOWNERDEAD). Departure: there is no state in which a lock is lost for good.

A lock's word names its holders and its queue the waiters, each by one bit or number that only they, or a grant to
them, put there. So what a dead task left behind is found by looking at who is dead, and taken back without asking
what it was about to do. Whoever goes to the queue of a lock while there are tasks that have ended (`lock_queue`)
repairs it first, under its wait_lock; repairing what is whole changes nothing.

A holder that died leaves a mark, DIED, in the word: no fast path takes a lock with it, so that the next one in is
told of it, once. What the word guards may be half done.
"""

from typing import Any

from shmreclaim.machine.atomics import cmpxchg_acquire, lowest_bit, read_once, write_once
from shmreclaim.machine.compile import compiled
from shmreclaim.machine.cpu import CPU, slot_of
from shmreclaim.machine.layout import HEADER
from shmreclaim.machine.life import is_dead
from shmreclaim.sync.lockdep import LOCK
from shmreclaim.sync.spinlock import OWNER_MASK, PARKED, spin_lock
from shmreclaim.sync.wait_queue import announce_ends


@compiled
def lock_queue(mem: Any, cpu: int, lock: int) -> int:
    """Take a lock's wait_lock; whether the lock must be repaired before anything else is done."""
    left = spin_lock(mem, cpu, lock + LOCK.wait_lock)
    return 1 if left or read_once(mem, HEADER.announced) else 0


@compiled
def take_over(mem: Any, cpu: int, lock: int) -> int:
    """Take a lock's wait_lock, which an earlier task of this CPU's slot may have died with."""
    at = lock + LOCK.wait_lock
    word = read_once(mem, at)
    while word & OWNER_MASK == read_once(mem, cpu + CPU.id):
        mine = read_once(mem, cpu + CPU.spin) | PARKED
        seen = cmpxchg_acquire(mem, at, word, mine)  # P1: pairs with all that the dead one did
        if seen == word:
            return 1
        word = seen
    return spin_lock(mem, cpu, at)


@compiled
def look_for_the_dead(mem: Any) -> int:
    """Announce all ends that nobody has noticed yet, for who will not sleep; whether tasks have ended at all."""
    announce_ends(mem)
    return 1 if read_once(mem, HEADER.announced) else 0


@compiled
def dead_tasks(mem: Any) -> int:
    """The set of tasks that ended without leaving, a bit each."""
    lives = read_once(mem, HEADER.lives)
    dead = 0
    while lives:
        if is_dead(mem, slot_of(mem, lowest_bit(lives))):
            dead |= lives & -lives
        lives &= lives - 1
    return dead


@compiled
def forget_waiters(mem: Any, lock: int, dead: int) -> int:
    """Take those that no longer wait for a lock out of its queue; give those that do. The wait_lock is held."""
    queued = read_once(mem, lock + LOCK.waiters) & ~dead
    waiters = 0
    while queued:
        if read_once(mem, slot_of(mem, lowest_bit(queued)) + CPU.wait_for) == lock:
            waiters |= queued & -queued
        queued &= queued - 1
    write_once(mem, lock + LOCK.waiters, waiters)
    return waiters


@compiled
def note_died(mem: Any, lock: int, number: int, mode: int) -> int:
    """Keep which thread died holding a lock; the wait_lock is held."""
    return write_once(mem, lock + LOCK.died, read_once(mem, slot_of(mem, number) + CPU.tid) * 2 + mode)


@compiled
def died_writing(mem: Any, lock: int) -> int:
    """Whether the holder that died last held the lock for write; the wait_lock is held."""
    return read_once(mem, lock + LOCK.died) & 1
