"""Reader-writer semaphore: first come first served, with trylocks, handoff and downgrade.

Model: kernel/locking/rwsem.c, 5.3 and later (handoff bit), without waiting for an owner that runs.
Departure: readers are bits, one for each CPU, instead of a count. Adding one's own bit costs what
raising a count does, and leaves no moment at which the lock is taken by nobody in particular.

Word: bit 0 WRITER, bit 1 WAITERS, bit 2 HANDOFF, bits 3 to 8 the writer's CPU number, bits 9 to 62 the CPUs
that read (CPU n is bit n + 8).

| readers | WRITER, number | WAITERS | HANDOFF | meaning | left by |
|---|---|---|---|---|---|
| none | 0 | 0 | 0 | free | a reader adds its bit; a writer WRITER and its number |
| some | 0 | 0 | 0 | read by them | the same; a reader that leaves takes its bit away |
| none | 1, n | 0 | 0 | written by n | the writer: both away; or a reader's bit instead (downgrade) |
| any | any | 1 | 0 | as above, queue not empty | whoever leaves last wakes; no reader gets in any more |
| any | any | 1 | 1 | promised to the first waiter | no writer gets in any more but the first waiter |

A reader's bit may be there for a moment without the share: it adds first and looks then, and backs out
under wait_lock when it finds READ_FAILED. So a writer and readers' bits together is legal and short.
WAITERS changes only under wait_lock and is set exactly while the queue is not empty; HANDOFF implies it.

P4  up_read(), up_write(), downgrade_write() release what the next down_*() acquires
    (litmus: test_P4_an_rwsem_hands_over_what_was_written)
Lock order: the rwsem, then its wait_lock.
Progress: once anybody waits, no reader gets in before the queue does; a writer may still barge past it
until the first waiter has waited HANDOFF_AFTER. Readers anywhere in the queue go in with a first reader.
A trylock for read fails exactly if a writer holds or anyone waits.
Longer than a file should be: readers, writers and wakers of one word are one proof.
Limits: a CPU has one bit, so it takes one share at most; asking for a second is a violation.
"""

from typing import Any

from shmreclaim.lib.list_head import list_del_init, list_empty, list_init, list_next
from shmreclaim.machine.atomics import (
    clock_ns,
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
from shmreclaim.machine.cpu import CPU, MAX_CPUS, READER_SHIFT, Violation, violation
from shmreclaim.machine.futex import EPERM
from shmreclaim.sync.lockdep import (
    LOCK,
    READ,
    WRITE,
    lock_acquire,
    lock_acquired,
    lock_downgraded,
    lock_failed,
    lock_release,
)
from shmreclaim.sync.spinlock import spin_lock, spin_unlock
from shmreclaim.sync.wait_queue import (
    UNINTERRUPTIBLE,
    begin_wait,
    end_wait,
    first_waiter,
    grant,
    queue_waiter,
    wait_for_wake,
    wake_cpus,
)

WRITER = 1 << 0
WAITERS = 1 << 1
HANDOFF = 1 << 2
OWNER_SHIFT = 3

OWNER_MASK = ((1 << READER_SHIFT) - 1) & ~((1 << OWNER_SHIFT) - 1)
READERS_MASK = ((1 << MAX_CPUS) - 1) << READER_SHIFT
TAKEN = WRITER | READERS_MASK
READ_FAILED = WRITER | WAITERS | HANDOFF

HANDOFF_AFTER = 4_000_000
"""ns after which the first waiter may no longer be overtaken (kernel: RWSEM_WAIT_TIMEOUT, 4 ms)."""
SPINS = 128


@compiled
def rwsem_init(mem: Any, sem: int, klass: int) -> int:
    """Make a free rwsem of `LOCK.SIZE` words."""
    write_once(mem, sem + LOCK.word, 0)
    write_once(mem, sem + LOCK.klass, klass)
    write_once(mem, sem + LOCK.wait_lock, 0)
    return list_init(mem, sem + LOCK.queue)


# --- readers ------------------------------------------------------------------------------------


@compiled
def down_read(mem: Any, cpu: int, sem: int) -> int:
    """Take a read share, however long it takes."""
    return down_read_until(mem, cpu, sem, 0, UNINTERRUPTIBLE)


@compiled
def down_read_until(mem: Any, cpu: int, sem: int, deadline: int, state: int) -> int:
    """Take a read share: 0; -ETIMEDOUT at `deadline` (ns on the clock; 0: never), -EINTR if `state` allows, -EPERM."""
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
    """Take a read share if no writer holds the sem and nobody waits; return whether."""
    bit = read_once(mem, cpu + CPU.bit)
    word = read_once(mem, sem + LOCK.word)
    while not word & (READ_FAILED | bit):
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
    spin_lock(mem, cpu, sem + LOCK.wait_lock)
    outcome = 0
    if load_acquire(mem, sem + LOCK.word) & READ_FAILED:  # P4: pairs with up_write()
        _queue_reader(mem, cpu, sem)
        outcome = _wait_as_reader(mem, cpu, sem, deadline, state)
    else:  # what was in the way has gone: the bit is the share now
        spin_unlock(mem, cpu, sem + LOCK.wait_lock)
    end_wait(mem, cpu)
    if outcome != 0:
        lock_failed(mem, cpu, sem, READ)
        return outcome
    return lock_acquired(mem, cpu, sem, READ, since)


@compiled
def _queue_reader(mem: Any, cpu: int, sem: int) -> int:
    """Back out and queue up, in one step for the word. Drops the wait_lock.

    The last to leave may have seen our bit and woken nobody: then waking is up to us.
    """
    was_empty = list_empty(mem, sem + LOCK.queue)
    queue_waiter(mem, cpu, sem + LOCK.queue, READ)
    change = (WAITERS if was_empty else 0) - read_once(mem, cpu + CPU.bit)
    word = fetch_add_relaxed(mem, sem + LOCK.word, change) + change
    woken = 0
    if word & TAKEN == 0 or (was_empty and word & WRITER == 0):
        woken = _mark_wake(mem, sem)
    spin_unlock(mem, cpu, sem + LOCK.wait_lock)
    return wake_cpus(mem, woken)


@compiled
def _wait_as_reader(mem: Any, cpu: int, sem: int, deadline: int, state: int) -> int:
    """Sleep until granted; give up only while still in the queue."""
    outcome = wait_for_wake(mem, cpu, deadline, state)
    if outcome == 0:
        return 0
    spin_lock(mem, cpu, sem + LOCK.wait_lock)
    granted = list_empty(mem, cpu + CPU.wait_next)
    woken = 0 if granted else _give_up(mem, cpu, sem)
    spin_unlock(mem, cpu, sem + LOCK.wait_lock)
    wake_cpus(mem, woken)
    return 0 if granted else outcome


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


@compiled
def _writer(mem: Any, cpu: int) -> int:
    """What a write hold of this CPU looks like in the word."""
    return WRITER | read_once(mem, cpu + CPU.id) << OWNER_SHIFT


# --- writers ------------------------------------------------------------------------------------


@compiled
def down_write(mem: Any, cpu: int, sem: int) -> int:
    """Take the sem for write, however long it takes."""
    return down_write_until(mem, cpu, sem, 0, UNINTERRUPTIBLE)


@compiled
def down_write_until(mem: Any, cpu: int, sem: int, deadline: int, state: int) -> int:
    """Take the sem for write: 0; -ETIMEDOUT at `deadline` (ns on the clock; 0: never), -EINTR if `state` allows."""
    lock_acquire(mem, cpu, sem)
    if cmpxchg_acquire(mem, sem + LOCK.word, 0, _writer(mem, cpu)) != 0:  # P4: pairs with up_read(), up_write()
        return _down_write_slowpath(mem, cpu, sem, deadline, state)
    return lock_acquired(mem, cpu, sem, WRITE, 0)


@compiled
def down_write_trylock(mem: Any, cpu: int, sem: int) -> int:
    """Take the sem for write if it is free and nobody waits; return whether."""
    if cmpxchg_acquire(mem, sem + LOCK.word, 0, _writer(mem, cpu)) != 0:  # P4: up_write()
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
    return lock_acquired(mem, cpu, sem, WRITE, since)


@compiled
def _steal(mem: Any, cpu: int, sem: int) -> int:
    """Take the sem past sleepers if it is free and promised to nobody, trying while a writer may be short.

    Like the kernel's optimistic spinning, only while the owner is a writer: readers may sleep inside.
    """
    mine = _writer(mem, cpu)
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
    spin_lock(mem, cpu, sem + LOCK.wait_lock)
    was_empty = list_empty(mem, sem + LOCK.queue)
    queue_waiter(mem, cpu, sem + LOCK.queue, WRITE)
    if was_empty:
        fetch_or_relaxed(mem, sem + LOCK.word, WAITERS)
    outcome = 0
    while not _take_as_first(mem, cpu, sem):
        woken = _give_up(mem, cpu, sem) if outcome != 0 else 0
        write_once(mem, cpu + CPU.wake, 0)
        spin_unlock(mem, cpu, sem + LOCK.wait_lock)
        wake_cpus(mem, woken)
        if outcome != 0:
            return outcome
        outcome = wait_for_wake(mem, cpu, deadline, state)
        spin_lock(mem, cpu, sem + LOCK.wait_lock)
    spin_unlock(mem, cpu, sem + LOCK.wait_lock)
    return 0


@compiled
def _take_as_first(mem: Any, cpu: int, sem: int) -> int:
    """Take the sem if we are first in the queue and it is free; if we waited long, ask for a handoff.

    The wait_lock is held, so WAITERS and HANDOFF stand still; CPU bits and WRITER do not.
    """
    if first_waiter(mem, sem + LOCK.queue) != cpu:
        return 0
    last = list_next(mem, cpu + CPU.wait_next) == sem + LOCK.queue
    mine = _writer(mem, cpu)
    word = read_once(mem, sem + LOCK.word)
    while True:
        if word & TAKEN == 0:
            wanted = (word & ~(HANDOFF | (WAITERS if last else 0))) | mine
            seen = cmpxchg_acquire(mem, sem + LOCK.word, word, wanted)  # P4: pairs with up_read(), up_write()
            if seen == word:
                list_del_init(mem, cpu + CPU.wait_next)
                return 1
            word = seen
        elif word & HANDOFF == 0 and _waited_long(mem, cpu):
            # Who leaves from here on wakes us; who left just before this did not: look once more.
            word = fetch_or_relaxed(mem, sem + LOCK.word, HANDOFF) | HANDOFF
        else:
            return 0


@compiled
def _waited_long(mem: Any, waiter: int) -> int:
    """Whether a waiter may ask not to be overtaken any more."""
    return 1 if clock_ns() - read_once(mem, waiter + CPU.wait_since) > HANDOFF_AFTER else 0


@compiled
def up_write(mem: Any, cpu: int, sem: int) -> int:
    """Give the sem up; wake who waits first."""
    mine = _writer(mem, cpu)
    word = fetch_add_release(mem, sem + LOCK.word, -mine)  # P4: pairs with down_read(), down_write()
    if word & (WRITER | OWNER_MASK) != mine:
        return _refuse(mem, cpu, sem, -mine, Violation.NOT_HELD)
    if word & WAITERS:
        _wake(mem, cpu, sem)
    return lock_release(mem, cpu, sem, WRITE)


@compiled
def downgrade_write(mem: Any, cpu: int, sem: int) -> int:
    """Turn a write hold into a read share without letting go; wake the readers if one is first."""
    mine = _writer(mem, cpu)
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


# --- waking and giving up; the wait_lock is held ------------------------------------------------


@out_of_line
def _wake(mem: Any, cpu: int, sem: int) -> int:
    """The sem was left with somebody waiting: let the first go on."""
    spin_lock(mem, cpu, sem + LOCK.wait_lock)
    woken = _mark_wake(mem, sem)
    spin_unlock(mem, cpu, sem + LOCK.wait_lock)
    return wake_cpus(mem, woken)


@compiled
def _mark_wake(mem: Any, sem: int) -> int:
    """Grant the sem to the first waiter: a writer is told to try, readers get their shares at once.

    Returns the CPUs to wake. A writer that barged in keeps the readers waiting: it will call this again
    when it leaves or downgrades, because it left WAITERS alone.
    """
    first = first_waiter(mem, sem + LOCK.queue)
    if first == 0:
        return 0
    if read_once(mem, first + CPU.wait_mode) == WRITE:
        return grant(mem, first) if read_once(mem, sem + LOCK.word) & TAKEN == 0 else 0
    bit = read_once(mem, first + CPU.bit)
    word = fetch_add_acquire(mem, sem + LOCK.word, bit)  # P4: pairs with up_write(); P2 hands it on to the reader
    if word & WRITER:
        ask = word & HANDOFF == 0 and _waited_long(mem, first)
        fetch_add_relaxed(mem, sem + LOCK.word, (HANDOFF if ask else 0) - bit)
        return 0
    return _grant_readers(mem, sem, bit)


@compiled
def _grant_readers(mem: Any, sem: int, bits_in: int) -> int:
    """Let every queued reader in; the first one's bit is in the word already, so no writer can be."""
    queue = sem + LOCK.queue
    woken = 0
    entry = list_next(mem, queue)
    while entry != queue:
        reader = entry - CPU.wait_next
        entry = list_next(mem, entry)
        if read_once(mem, reader + CPU.wait_mode) == READ:
            bit = read_once(mem, reader + CPU.bit)
            if bit != bits_in:
                fetch_add_relaxed(mem, sem + LOCK.word, bit)  # the first one's was the acquire
            list_del_init(mem, reader + CPU.wait_next)
            woken |= grant(mem, reader)
    gone = HANDOFF | (WAITERS if list_empty(mem, queue) else 0)
    fetch_and_relaxed(mem, sem + LOCK.word, ~gone)
    return woken


@compiled
def _give_up(mem: Any, cpu: int, sem: int) -> int:
    """Leave the queue without the sem. A promise made to us, and a wake, go to the next; returns whom to wake."""
    was_first = first_waiter(mem, sem + LOCK.queue) == cpu
    list_del_init(mem, cpu + CPU.wait_next)
    gone = (HANDOFF if was_first else 0) | (WAITERS if list_empty(mem, sem + LOCK.queue) else 0)
    if gone:
        fetch_and_relaxed(mem, sem + LOCK.word, ~gone)
    if not was_first or read_once(mem, sem + LOCK.word) & WRITER:
        return 0
    return _mark_wake(mem, sem)
