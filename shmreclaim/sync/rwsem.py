"""Reader-writer semaphore: first come first served, with trylocks, handoff and downgrade.

Model: kernel/locking/rwsem.c, 5.3 and later (handoff bit), without waiting for an owner that runs.
Departure: readers are bits, one for each CPU, instead of a count. Adding one's own bit costs what
raising a count does, and leaves no moment at which the lock is taken by nobody in particular.

Word: bit 0 WRITER, bit 1 WAITERS, bit 2 HANDOFF, bit 3 DIED, bits 4 to 9 the writer's CPU number, bits 10 to 62 the
CPUs that read (CPU n is bit n + 9).

| readers | WRITER, number | WAITERS | HANDOFF | meaning | left by |
|---|---|---|---|---|---|
| none | 0 | 0 | 0 | free | a reader adds its bit; a writer WRITER and its number |
| some | 0 | 0 | 0 | read by them | the same; a reader that leaves takes its bit away |
| none | 1, n | 0 | 0 | written by n | the writer: both away; or a reader's bit instead (downgrade) |
| any | any | 1 | 0 | as above, queue not empty | whoever leaves last wakes; no reader gets in any more |
| any | any | 1 | 1 | promised to the first waiter | no writer gets in any more but the first waiter |

DIED may stand beside each of these: a holder died with the sem and nobody was told yet. No fast path goes past it;
whoever gets in next takes it away and is told (`recovered` in its slot). If it was a writer that died, that one goes in
alone, a reader too, so that nobody reads what is half done before it is set right. Holders that are dead are taken
away under wait_lock.

A reader's bit may be there for a moment without the share: it adds first and looks then, and backs out
under wait_lock when it finds READ_FAILED. So a writer and readers' bits together is legal and short.
WAITERS changes only under wait_lock and is set exactly while the queue is not empty; HANDOFF implies it.

P4  up_read(), up_write(), downgrade_write() release what the next down_*() acquires
    (litmus: test_P4_an_rwsem_hands_over_what_was_written)
Lock order: the rwsem, then its wait_lock.
Progress, by Policy. FAIR: once anybody waits, no reader gets in before the queue does; a writer may still barge
past it until the first waiter has waited HANDOFF_AFTER. Readers anywhere in the queue go in with a first reader.
A trylock for read fails exactly if a writer holds or anyone waits. PREFER_WRITERS: the same, but writers anywhere
in the queue come before its readers. PREFER_READERS: readers in the queue come before its writers, and one that
arrives goes in unless a writer holds: writers may starve.
The queue and what is taken back from the dead are in rwsem_queue.py.
Limits: a CPU has one bit, so it takes one share at most; asking for a second is a violation.
"""

from typing import Any

from shmreclaim.machine.atomics import (
    cmpxchg_acquire,
    cpu_relax,
    fetch_add_acquire,
    fetch_add_relaxed,
    fetch_add_release,
    fetch_and_relaxed,
    fetch_or_relaxed,
    load_acquire,
    read_once,
    write_once,
)
from shmreclaim.machine.compile import compiled, out_of_line
from shmreclaim.machine.cpu import CPU, Violation, violation
from shmreclaim.machine.futex import EPERM
from shmreclaim.sync.lockdep import (
    LOCK,
    READ,
    WRITE,
    LockKind,
    lock_acquire,
    lock_acquired,
    lock_downgraded,
    lock_failed,
    lock_release,
)
from shmreclaim.sync.robust import look_for_the_dead
from shmreclaim.sync.rwsem_queue import (
    DIED,
    HANDOFF,
    OWNER_MASK,
    READ_FAILED,
    TAKEN,
    WAITERS,
    WRITER,
    Policy,
    give_up,
    is_broken,
    mark_wake,
    rwsem_lock_queue,
    take_as_first,
    write_hold,
)
from shmreclaim.sync.spinlock import spin_unlock
from shmreclaim.sync.wait_queue import (
    UNINTERRUPTIBLE,
    begin_wait,
    end_wait,
    is_queued,
    lives_seen,
    queue_init,
    queue_waiter,
    wait_for_wake,
    wake_cpus,
)

SPINS = 128
AS_WRITER = 1
"""What a reader is told that goes in alone, as a writer."""


@compiled
def rwsem_init(mem: Any, sem: int, klass: int) -> int:
    """Make a free, fair rwsem of `LOCK.SIZE` words."""
    return rwsem_init_policy(mem, sem, klass, Policy.FAIR)


@compiled
def rwsem_init_policy(mem: Any, sem: int, klass: int, policy: int) -> int:
    """Make a free rwsem of `LOCK.SIZE` words that has a Policy."""
    write_once(mem, sem + LOCK.word, 0)
    write_once(mem, sem + LOCK.kind, LockKind.RWSEM)
    write_once(mem, sem + LOCK.klass, klass)
    write_once(mem, sem + LOCK.policy, policy)
    return queue_init(mem, sem)


# --- readers ------------------------------------------------------------------------------------


@compiled
def down_read(mem: Any, cpu: int, sem: int) -> int:
    """Take a read share, however long it takes."""
    return down_read_until(mem, cpu, sem, 0, UNINTERRUPTIBLE)


@compiled
def down_read_until(mem: Any, cpu: int, sem: int, deadline: int, state: int) -> int:
    """Take a read share: 0; -ETIMEDOUT at `deadline` (ns on the clock; 0: never), -EINTR if `state` allows, -EPERM."""
    outcome = down_read_or_write(mem, cpu, sem, deadline, state)
    if outcome == AS_WRITER:
        downgrade_write(mem, cpu, sem)
        return 0
    return outcome


@compiled
def down_read_or_write(mem: Any, cpu: int, sem: int, deadline: int, state: int) -> int:
    """As down_read_until; or AS_WRITER, having the sem for write: a writer died, and this one is told of it."""
    lock_acquire(mem, cpu, sem)
    bit = read_once(mem, cpu + CPU.bit)
    word = fetch_add_acquire(mem, sem + LOCK.word, bit)  # P4: pairs with up_write()
    if word & (READ_FAILED | bit):
        if word & bit:  # added to itself it has carried into the next CPU's bit
            return _refuse(mem, cpu, sem, bit, Violation.RECURSION)
        return _down_read_slowpath(mem, cpu, sem, deadline, state)
    return lock_acquired(mem, cpu, sem, READ, 0)


@compiled
def down_read_trylock(mem: Any, cpu: int, sem: int) -> int:
    """Take a read share if no writer holds the sem, nobody waits, and no holder died; return whether."""
    return _try_read(mem, cpu, sem, READ_FAILED)


@out_of_line
def down_read_trylock_robust(mem: Any, cpu: int, sem: int) -> int:
    """Take a read share if that is possible at once, also if holders died; return whether.

    If a writer died and this one is told of it, it has the sem for write.
    """
    look_for_the_dead(mem)
    rwsem_lock_queue(mem, cpu, sem)
    broken = is_broken(mem, sem)
    spin_unlock(mem, cpu, sem + LOCK.wait_lock)
    if broken:
        return _try_write(mem, cpu, sem)
    against = WRITER if read_once(mem, sem + LOCK.policy) == Policy.PREFER_READERS else WRITER | WAITERS | HANDOFF
    return _try_read(mem, cpu, sem, against) and _learn(mem, cpu, sem)


@compiled
def _try_read(mem: Any, cpu: int, sem: int, against: int) -> int:
    """Take a read share if the word has none of the bits `against`; return whether."""
    bit = read_once(mem, cpu + CPU.bit)
    word = read_once(mem, sem + LOCK.word)
    while not word & (against | bit):
        seen = cmpxchg_acquire(mem, sem + LOCK.word, word, word | bit)  # P4: pairs with up_write()
        if seen == word:
            lock_acquired(mem, cpu, sem, READ, 0)
            return 1
        word = seen
    if word & bit:
        violation(mem, cpu, Violation.RECURSION, sem, word, bit)
    lock_failed(mem, cpu, sem, READ)
    return 0


@out_of_line
def _down_read_slowpath(mem: Any, cpu: int, sem: int, deadline: int, state: int) -> int:
    """Our bit is in the word, perhaps without the share."""
    since = begin_wait(mem, cpu, sem)
    seen = lives_seen(mem)
    rwsem_lock_queue(mem, cpu, sem)
    outcome = 0
    if _must_queue(mem, sem):
        _queue_reader(mem, cpu, sem)
        outcome = _wait_as_reader(mem, cpu, sem, seen, deadline, state)
    else:  # what was in the way has gone: the bit is the share now
        spin_unlock(mem, cpu, sem + LOCK.wait_lock)
    end_wait(mem, cpu)
    if outcome < 0:
        lock_failed(mem, cpu, sem, READ)
        return outcome
    _learn(mem, cpu, sem)
    lock_acquired(mem, cpu, sem, WRITE if outcome == AS_WRITER else READ, since)
    return outcome


@compiled
def _must_queue(mem: Any, sem: int) -> int:
    """Whether a reader that has put its bit in has no share yet; the wait_lock is held."""
    word = load_acquire(mem, sem + LOCK.word)  # P4: pairs with up_write()
    if read_once(mem, sem + LOCK.policy) == Policy.PREFER_READERS:
        return word & WRITER or is_broken(mem, sem)
    return word & (WRITER | WAITERS | HANDOFF) or is_broken(mem, sem)


@compiled
def _queue_reader(mem: Any, cpu: int, sem: int) -> int:
    """Back out and queue up, in one step for the word. Drops the wait_lock.

    The last to leave may have seen our bit and woken nobody: then waking is up to us.
    """
    was_empty = read_once(mem, sem + LOCK.waiters) == 0
    queue_waiter(mem, cpu, sem, READ)
    change = (WAITERS if was_empty else 0) - read_once(mem, cpu + CPU.bit)
    word = fetch_add_relaxed(mem, sem + LOCK.word, change) + change
    woken = 0
    if word & TAKEN == 0 or (was_empty and word & WRITER == 0):
        woken = mark_wake(mem, sem)
    spin_unlock(mem, cpu, sem + LOCK.wait_lock)
    return wake_cpus(mem, woken)


@compiled
def _wait_as_reader(mem: Any, cpu: int, sem: int, seen: int, deadline: int, state: int) -> int:
    """Sleep until granted; give up only while still in the queue. AS_WRITER if it went in alone."""
    outcome, queued = 0, 1
    while queued and outcome == 0:
        outcome = wait_for_wake(mem, cpu, seen, deadline, state)
        told = load_acquire(mem, cpu + CPU.wake)  # P2: pairs with grant()
        if outcome == 0 and told and not is_queued(mem, cpu, sem):
            return 0
        seen = lives_seen(mem)
        rwsem_lock_queue(mem, cpu, sem)
        queued = is_queued(mem, cpu, sem)
        woken = 0
        if queued:
            if is_broken(mem, sem) and take_as_first(mem, cpu, sem):
                outcome = AS_WRITER
            elif outcome != 0:
                woken = give_up(mem, cpu, sem)
            else:
                write_once(mem, cpu + CPU.wake, 0)
        spin_unlock(mem, cpu, sem + LOCK.wait_lock)
        wake_cpus(mem, woken)
    return outcome if queued else 0


@compiled
def up_read(mem: Any, cpu: int, sem: int) -> int:
    """Give a read share up; the last one out wakes who waits."""
    bit = read_once(mem, cpu + CPU.bit)
    word = fetch_add_release(mem, sem + LOCK.word, -bit)  # P4: pairs with down_write()
    if word & bit == 0:
        return _refuse(mem, cpu, sem, -bit, Violation.NOT_HELD)
    if (word - bit) & (TAKEN | WAITERS) == WAITERS:
        _wake(mem, cpu, sem)
    return lock_release(mem, cpu, sem, READ)


# --- writers ------------------------------------------------------------------------------------


@compiled
def down_write(mem: Any, cpu: int, sem: int) -> int:
    """Take the sem for write, however long it takes."""
    return down_write_until(mem, cpu, sem, 0, UNINTERRUPTIBLE)


@compiled
def down_write_until(mem: Any, cpu: int, sem: int, deadline: int, state: int) -> int:
    """Take the sem for write: 0; -ETIMEDOUT at `deadline` (ns on the clock; 0: never), -EINTR if `state` allows."""
    lock_acquire(mem, cpu, sem)
    if cmpxchg_acquire(mem, sem + LOCK.word, 0, write_hold(mem, cpu)) != 0:  # P4: pairs with up_read(), up_write()
        return _down_write_slowpath(mem, cpu, sem, deadline, state)
    return lock_acquired(mem, cpu, sem, WRITE, 0)


@compiled
def down_write_trylock(mem: Any, cpu: int, sem: int) -> int:
    """Take the sem for write if it is free and nobody waits; return whether."""
    if cmpxchg_acquire(mem, sem + LOCK.word, 0, write_hold(mem, cpu)) != 0:  # P4: up_write()
        lock_failed(mem, cpu, sem, WRITE)
        return 0
    lock_acquired(mem, cpu, sem, WRITE, 0)
    return 1


@out_of_line
def _down_write_slowpath(mem: Any, cpu: int, sem: int, deadline: int, state: int) -> int:
    since = begin_wait(mem, cpu, sem)
    outcome = 0
    if not _steal(mem, cpu, sem):
        outcome = _wait_as_writer(mem, cpu, sem, deadline, state)
    end_wait(mem, cpu)
    if outcome != 0:
        lock_failed(mem, cpu, sem, WRITE)
        return outcome
    _learn(mem, cpu, sem)
    return lock_acquired(mem, cpu, sem, WRITE, since)


@out_of_line
def down_write_trylock_robust(mem: Any, cpu: int, sem: int) -> int:
    """Take the sem for write if that is possible at once, also if holders died; return whether."""
    _repair_if_needed(mem, cpu, sem)
    return _try_write(mem, cpu, sem)


@compiled
def _try_write(mem: Any, cpu: int, sem: int) -> int:
    """Take the sem for write if it is free and nobody waits, also if a holder died; return whether."""
    mine = write_hold(mem, cpu)
    for free in (0, DIED):
        if cmpxchg_acquire(mem, sem + LOCK.word, free, free | mine) == free:  # P4: pairs with up_read(), up_write()
            _learn(mem, cpu, sem)
            lock_acquired(mem, cpu, sem, WRITE, 0)
            return 1
    lock_failed(mem, cpu, sem, WRITE)
    return 0


@compiled
def _steal(mem: Any, cpu: int, sem: int) -> int:
    """Take the sem past sleepers if it is free and promised to nobody, trying while a writer may be short.

    Like the kernel's optimistic spinning, only while the owner is a writer: readers may sleep inside.
    """
    mine = write_hold(mem, cpu)
    for _ in range(SPINS):
        word = read_once(mem, sem + LOCK.word)
        if word & (TAKEN | HANDOFF) == 0:
            if cmpxchg_acquire(mem, sem + LOCK.word, word, word | mine) == word:  # P4: pairs with up_read(), up_write()
                return 1
        elif word & WRITER == 0 or word & HANDOFF:
            return 0
        cpu_relax()
    return 0


@compiled
def _wait_as_writer(mem: Any, cpu: int, sem: int, deadline: int, state: int) -> int:
    """Queue up; sleep and try until we have it or give up."""
    seen = lives_seen(mem)
    rwsem_lock_queue(mem, cpu, sem)
    queue_waiter(mem, cpu, sem, WRITE)
    fetch_or_relaxed(mem, sem + LOCK.word, WAITERS)
    outcome = 0
    while not take_as_first(mem, cpu, sem):
        woken = give_up(mem, cpu, sem) if outcome != 0 else 0
        write_once(mem, cpu + CPU.wake, 0)
        spin_unlock(mem, cpu, sem + LOCK.wait_lock)
        wake_cpus(mem, woken)
        if outcome != 0:
            return outcome
        outcome = wait_for_wake(mem, cpu, seen, deadline, state)
        seen = lives_seen(mem)
        rwsem_lock_queue(mem, cpu, sem)
    spin_unlock(mem, cpu, sem + LOCK.wait_lock)
    return 0


@compiled
def up_write(mem: Any, cpu: int, sem: int) -> int:
    """Give the sem up; wake who waits first."""
    mine = write_hold(mem, cpu)
    word = fetch_add_release(mem, sem + LOCK.word, -mine)  # P4: pairs with down_read(), down_write()
    if word & (WRITER | OWNER_MASK) != mine:
        return _refuse(mem, cpu, sem, -mine, Violation.NOT_HELD)
    if word & WAITERS:
        _wake(mem, cpu, sem)
    return lock_release(mem, cpu, sem, WRITE)


@compiled
def downgrade_write(mem: Any, cpu: int, sem: int) -> int:
    """Turn a write hold into a read share without letting go; wake the readers if one is first."""
    mine = write_hold(mem, cpu)
    change = read_once(mem, cpu + CPU.bit) - mine
    word = fetch_add_release(mem, sem + LOCK.word, change)  # P4: pairs with down_read()
    if word & (WRITER | OWNER_MASK) != mine:
        return _refuse(mem, cpu, sem, change, Violation.NOT_HELD)
    lock_downgraded(mem, cpu, sem)
    if word & WAITERS:
        _wake(mem, cpu, sem)
    return 0


@out_of_line
def _refuse(mem: Any, cpu: int, sem: int, change: int, kind: int) -> int:
    """Take back a change of the word that its CPU had no right to make, and write that down."""
    word = fetch_add_relaxed(mem, sem + LOCK.word, -change) - change
    violation(mem, cpu, kind, sem, word, change)
    return -EPERM


@compiled
def rwsem_is_contended(mem: Any, sem: int) -> int:
    """Whether anybody waits; a writer still spinning does not count, as in the kernel."""
    return 1 if read_once(mem, sem + LOCK.word) & WAITERS else 0


# --- waking -------------------------------------------------------------------------------------


@out_of_line
def _wake(mem: Any, cpu: int, sem: int) -> int:
    """The sem was left with somebody waiting: let the next go on."""
    rwsem_lock_queue(mem, cpu, sem)
    woken = mark_wake(mem, sem)
    spin_unlock(mem, cpu, sem + LOCK.wait_lock)
    return wake_cpus(mem, woken)


@compiled
def _repair_if_needed(mem: Any, cpu: int, sem: int) -> int:
    """Repair the sem if there are tasks that ended."""
    if look_for_the_dead(mem):
        rwsem_lock_queue(mem, cpu, sem)
        spin_unlock(mem, cpu, sem + LOCK.wait_lock)
    return 0


@compiled
def _learn(mem: Any, cpu: int, sem: int) -> int:
    """As one that just got in, take the news that a holder died: of readers that get in together, one does."""
    if read_once(mem, sem + LOCK.word) & DIED and fetch_and_relaxed(mem, sem + LOCK.word, ~DIED) & DIED:
        write_once(mem, cpu + CPU.recovered, 1)
    return 1


@compiled
def rwsem_mark_died(mem: Any, _cpu: int, sem: int) -> int:
    """As a holder, pass the news that a holder died on to the next."""
    return fetch_or_relaxed(mem, sem + LOCK.word, DIED)
