"""The queue of an rwsem: who goes in next, how it gets in, and what is taken back from those that died.

The word, its truth table and its barriers are described in rwsem.py. Everything here runs under the sem's wait_lock,
so WAITERS and HANDOFF stand still; CPU bits and WRITER do not.
"""

from enum import IntEnum
from typing import Any

from shmreclaim.machine.atomics import (
    clock_ns,
    cmpxchg_acquire,
    fetch_add_acquire,
    fetch_add_relaxed,
    fetch_and_relaxed,
    fetch_and_release,
    fetch_or_relaxed,
    lowest_bit,
    read_once,
)
from shmreclaim.machine.compile import compiled, out_of_line
from shmreclaim.machine.cpu import CPU, MAX_CPUS, READER_SHIFT, slot_of
from shmreclaim.sync.lockdep import LOCK, READ, WRITE
from shmreclaim.sync.robust import dead_tasks, died_writing, forget_waiters, lock_queue, note_died, take_over
from shmreclaim.sync.spinlock import spin_unlock
from shmreclaim.sync.wait_queue import first_of, grant, leave_queue, mask_of, wake_cpus

WRITER = 1 << 0
WAITERS = 1 << 1
HANDOFF = 1 << 2
DIED = 1 << 3
OWNER_SHIFT = 4

OWNER_MASK = ((1 << READER_SHIFT) - 1) & ~((1 << OWNER_SHIFT) - 1)
READERS_MASK = ((1 << MAX_CPUS) - 1) << READER_SHIFT
TAKEN = WRITER | READERS_MASK
READ_FAILED = WRITER | WAITERS | HANDOFF | DIED

HANDOFF_AFTER = 4_000_000
"""ns after which the first waiter may no longer be overtaken (kernel: RWSEM_WAIT_TIMEOUT, 4 ms)."""


class Policy(IntEnum):
    """Who goes first where readers and writers wait; `LOCK.policy`."""

    FAIR = 0
    PREFER_READERS = 1
    PREFER_WRITERS = 2


@compiled
def write_hold(mem: Any, cpu: int) -> int:
    """What a write hold of this CPU looks like in the word."""
    return WRITER | read_once(mem, cpu + CPU.id) << OWNER_SHIFT


@compiled
def take_as_first(mem: Any, cpu: int, sem: int) -> int:
    """Take the sem if we are next and it is free; if we waited long, ask for a handoff.

    The wait_lock is held, so WAITERS and HANDOFF stand still; CPU bits and WRITER do not.
    """
    if next_in_line(mem, sem) != cpu:
        return 0
    last = read_once(mem, sem + LOCK.waiters) == mask_of(mem, cpu)
    mine = write_hold(mem, cpu)
    word = read_once(mem, sem + LOCK.word)
    while True:
        if word & TAKEN == 0:
            wanted = (word & ~(HANDOFF | (WAITERS if last else 0))) | mine
            seen = cmpxchg_acquire(mem, sem + LOCK.word, word, wanted)  # P4: pairs with up_read(), up_write()
            if seen == word:
                leave_queue(mem, cpu, sem)
                return 1
            word = seen
        elif word & HANDOFF == 0 and waited_long(mem, sem, cpu):
            # Who leaves from here on wakes us; who left just before this did not: look once more.
            word = fetch_or_relaxed(mem, sem + LOCK.word, HANDOFF) | HANDOFF
        else:
            return 0


@compiled
def next_in_line(mem: Any, sem: int) -> int:
    """The waiter that goes in next, 0 if there is none; the wait_lock is held."""
    waiters, policy = read_once(mem, sem + LOCK.waiters), read_once(mem, sem + LOCK.policy)
    if policy != Policy.FAIR:
        preferred = of_mode(mem, waiters, READ if policy == Policy.PREFER_READERS else WRITE)
        waiters = preferred if preferred else waiters
    return first_of(mem, waiters)


@compiled
def of_mode(mem: Any, waiters: int, mode: int) -> int:
    """Those of a set of waiters that wait for one mode."""
    found = 0
    while waiters:
        if read_once(mem, slot_of(mem, lowest_bit(waiters)) + CPU.wait_mode) == mode:
            found |= waiters & -waiters
        waiters &= waiters - 1
    return found


@compiled
def is_broken(mem: Any, sem: int) -> int:
    """Whether a writer died with the sem and nobody was told yet: what it guards may be half done. wait_lock held.

    Until one is told, who goes in goes in alone, readers too.
    """
    return 1 if read_once(mem, sem + LOCK.word) & DIED and died_writing(mem, sem) else 0


@compiled
def waited_long(mem: Any, sem: int, waiter: int) -> int:
    """Whether a waiter may ask not to be overtaken any more."""
    if read_once(mem, sem + LOCK.policy) == Policy.PREFER_READERS:
        return 0
    return 1 if clock_ns() - read_once(mem, waiter + CPU.wait_since) > HANDOFF_AFTER else 0


# --- waking and giving up ------------------------------------------------------------------------


@compiled
def mark_wake(mem: Any, sem: int) -> int:
    """Grant the sem to the next waiter: a writer is told to try, readers get their shares at once.

    A reader that would find what a dead writer left is told to try as well, as a writer.

    Returns the CPUs to wake. A writer that barged in keeps the readers waiting: it will call this again
    when it leaves or downgrades, because it left WAITERS alone.
    """
    following = next_in_line(mem, sem)
    if following == 0:
        return 0
    if read_once(mem, following + CPU.wait_mode) == WRITE or is_broken(mem, sem):
        return grant(mem, following) if read_once(mem, sem + LOCK.word) & TAKEN == 0 else 0
    bit = read_once(mem, following + CPU.bit)
    word = fetch_add_acquire(mem, sem + LOCK.word, bit)  # P4: pairs with up_write(); P2 hands it on to the reader
    if word & WRITER:
        ask = word & HANDOFF == 0 and waited_long(mem, sem, following)
        fetch_add_relaxed(mem, sem + LOCK.word, (HANDOFF if ask else 0) - bit)
        return 0
    return grant_readers(mem, sem, bit)


@compiled
def grant_readers(mem: Any, sem: int, bits_in: int) -> int:
    """Let every queued reader in; the first one's bit is in the word already, so no writer can be.

    Bit, out of the queue, word of it, in this order: whoever finds a step missing knows the rest (rwsem_repair), and
    a reader that is told to go on and is in no queue has its share.
    """
    readers = of_mode(mem, read_once(mem, sem + LOCK.waiters), READ)
    woken = 0
    while readers:
        reader = slot_of(mem, lowest_bit(readers))
        readers &= readers - 1
        bit = read_once(mem, reader + CPU.bit)
        if bit != bits_in:
            fetch_add_relaxed(mem, sem + LOCK.word, bit)  # the first one's was the acquire
        leave_queue(mem, reader, sem)
        woken |= grant(mem, reader)
    gone = HANDOFF | (0 if read_once(mem, sem + LOCK.waiters) else WAITERS)
    fetch_and_relaxed(mem, sem + LOCK.word, ~gone)
    return woken


@compiled
def give_up(mem: Any, cpu: int, sem: int) -> int:
    """Leave the queue without the sem. A promise made to us, and a wake, go to the next; returns whom to wake."""
    was_next = next_in_line(mem, sem) == cpu
    leave_queue(mem, cpu, sem)
    gone = (HANDOFF if was_next else 0) | (0 if read_once(mem, sem + LOCK.waiters) else WAITERS)
    if gone:
        fetch_and_relaxed(mem, sem + LOCK.word, ~gone)
    if not was_next or read_once(mem, sem + LOCK.word) & WRITER:
        return 0
    return mark_wake(mem, sem)


# --- the dead ------------------------------------------------------------------------------------


@compiled
def rwsem_lock_queue(mem: Any, cpu: int, sem: int) -> int:
    """Take the wait_lock, of an rwsem that is whole then."""
    if lock_queue(mem, cpu, sem):
        rwsem_repair(mem, sem, dead_tasks(mem))
    return 0


@out_of_line
def rwsem_repair(mem: Any, sem: int, dead: int) -> int:
    """Take back what a set of tasks left behind, and finish what they began for others; the wait_lock is held."""
    forget_waiters(mem, sem, dead)
    _drop_dead_holders(mem, sem, dead)
    _settle_readers(mem, sem)
    if read_once(mem, sem + LOCK.waiters):
        fetch_or_relaxed(mem, sem + LOCK.word, WAITERS)
    else:
        fetch_and_relaxed(mem, sem + LOCK.word, ~(WAITERS | HANDOFF))
    return wake_cpus(mem, mark_wake(mem, sem))


@compiled
def _drop_dead_holders(mem: Any, sem: int, dead: int) -> int:
    """Take the dead out of the word, the news first: then no moment shows a sem that is free and without it."""
    word = read_once(mem, sem + LOCK.word)
    owner = (word & OWNER_MASK) >> OWNER_SHIFT if word & WRITER else 0
    if owner and dead >> owner & 1:
        note_died(mem, sem, owner, WRITE)
        fetch_or_relaxed(mem, sem + LOCK.word, DIED)
        fetch_and_release(mem, sem + LOCK.word, ~(WRITER | OWNER_MASK))  # P4: pairs with down_read(), down_write()
    readers = word & READERS_MASK & (dead >> 1 << READER_SHIFT)
    if readers:
        if not is_broken(mem, sem):  # else there is worse news
            note_died(mem, sem, lowest_bit(readers) - READER_SHIFT + 1, READ)
        fetch_or_relaxed(mem, sem + LOCK.word, DIED)
        fetch_and_release(mem, sem + LOCK.word, ~readers)  # P4: pairs with down_write()
    return 0


@compiled
def _settle_readers(mem: Any, sem: int) -> int:
    """Finish, or take back, a grant to readers that ended half way: they are still in the queue.

    | its bit in the word | |
    |---|---|
    | yes, and a writer | mark_wake() looked whether a writer is in: bit back |
    | yes | granted: out of the queue, tell it |
    | no | still waits |

    One that is out of the queue and was not told finds that out when it is told of the death.
    """
    readers = of_mode(mem, read_once(mem, sem + LOCK.waiters), READ)
    while readers:
        reader = slot_of(mem, lowest_bit(readers))
        readers &= readers - 1
        bit, word = read_once(mem, reader + CPU.bit), read_once(mem, sem + LOCK.word)
        if word & bit and word & WRITER:
            fetch_and_relaxed(mem, sem + LOCK.word, ~bit)
        elif word & bit:
            leave_queue(mem, reader, sem)
            wake_cpus(mem, grant(mem, reader))
    return 0


@compiled
def rwsem_disown(mem: Any, cpu: int, sem: int) -> int:
    """Take back what the last task of this CPU's slot left behind, which died; this one has touched nothing yet."""
    mine = mask_of(mem, cpu)
    take_over(mem, cpu, sem)
    rwsem_repair(mem, sem, dead_tasks(mem) | mine)
    return spin_unlock(mem, cpu, sem + LOCK.wait_lock)
