"""Mutex: one owner, waiters first come first, newcomers may barge until the first waiter asks for a handoff.

Model: kernel/locking/mutex.c, 6.x, with the spinning bounded by a count instead of by "the owner runs".

Word: bits 0-15 the owner's CPU number, bit 16 WAITERS, bit 17 HANDOFF, bit 18 DIED.

| owner | WAITERS | HANDOFF | meaning | left by |
|---|---|---|---|---|
| 0 | 0 | 0 | free | anyone: owner := me |
| n | 0 | 0 | held | owner: 0; a waiter, under wait_lock: WAITERS |
| n | 1 | 0 | held, queue not empty | owner: owner := 0, wakes the first; the first waiter: HANDOFF |
| n | 1 | 1 | held, promised to the first waiter | owner: owner := first waiter, HANDOFF off, wakes it |
| 0 | 1 | 0 | free, first waiter on its way | anyone who takes it: owner := me |

DIED may stand beside each of these: an owner died with the mutex and nobody was told yet. Whoever becomes the owner
takes it away and is told (`recovered` in its slot). An owner that is dead is taken away under wait_lock.

WAITERS changes only under wait_lock and is set exactly while the queue is not empty; so does HANDOFF, which
implies an owner whose unlock sees it and passes the mutex on. While an owner holds the wait_lock nobody
else can change the word: owners come only where there is none, flags only under that lock.

P3  mutex_unlock() releases what the next mutex_lock() acquires   (litmus: test_P3_a_mutex_hands_over_what_was_written)
Lock order: the mutex, then its wait_lock.
Progress: a first waiter that was woken and lost asks for a handoff, so it is overtaken in one more
critical section at most.
Limits: not recursive; an owner that locks again is a violation and changes nothing.
"""

from typing import Any

from shmreclaim.machine.atomics import (
    cmpxchg_acquire,
    cmpxchg_release,
    cpu_relax,
    fetch_and_relaxed,
    fetch_or_relaxed,
    read_once,
    write_once,
    xchg_release,
)
from shmreclaim.machine.compile import compiled, out_of_line
from shmreclaim.machine.cpu import CPU, Violation, slot_of, violation
from shmreclaim.machine.futex import EPERM
from shmreclaim.sync.lockdep import LOCK, WRITE, LockKind, lock_acquire, lock_acquired, lock_failed, lock_release
from shmreclaim.sync.robust import dead_tasks, forget_waiters, lock_queue, look_for_the_dead, note_died, take_over
from shmreclaim.sync.spinlock import spin_unlock
from shmreclaim.sync.wait_queue import (
    UNINTERRUPTIBLE,
    begin_wait,
    end_wait,
    first_waiter,
    grant,
    leave_queue,
    lives_seen,
    mask_of,
    queue_init,
    queue_waiter,
    wait_for_wake,
    wake_cpus,
)

OWNER_MASK = 0xFFFF
WAITERS = 1 << 16
HANDOFF = 1 << 17
DIED = 1 << 18
SPINS = 1024
"""cpu_relax() before a waiter queues up: some 10 µs, half of what going to sleep and being woken costs."""
FIRST_PAUSE, LONGEST_PAUSE = 16, 256
"""cpu_relax() between two of its tries."""


@compiled
def mutex_init(mem: Any, mutex: int, klass: int) -> int:
    """Make a free mutex of `LOCK.SIZE` words."""
    write_once(mem, mutex + LOCK.word, 0)
    write_once(mem, mutex + LOCK.kind, LockKind.MUTEX)
    write_once(mem, mutex + LOCK.klass, klass)
    return queue_init(mem, mutex)


@compiled
def mutex_lock(mem: Any, cpu: int, mutex: int) -> int:
    """Take the mutex, however long it takes."""
    return mutex_lock_until(mem, cpu, mutex, 0, UNINTERRUPTIBLE)


@compiled
def mutex_lock_until(mem: Any, cpu: int, mutex: int, deadline: int, state: int) -> int:
    """Take the mutex: 0; -ETIMEDOUT at `deadline` (ns on the clock; 0: never), -EINTR if `state` allows, -EPERM."""
    lock_acquire(mem, cpu, mutex)
    if cmpxchg_acquire(mem, mutex + LOCK.word, 0, read_once(mem, cpu + CPU.id)) != 0:  # P3: pairs with mutex_unlock()
        return _mutex_lock_slowpath(mem, cpu, mutex, deadline, state)
    return lock_acquired(mem, cpu, mutex, WRITE, 0)


@compiled
def mutex_trylock(mem: Any, cpu: int, mutex: int) -> int:
    """Take the mutex if that is possible at once, and no owner died with it; return whether."""
    if not _try(mem, cpu, mutex, OWNER_MASK | DIED):
        lock_failed(mem, cpu, mutex, WRITE)
        return 0
    lock_acquired(mem, cpu, mutex, WRITE, 0)
    return 1


@out_of_line
def mutex_trylock_robust(mem: Any, cpu: int, mutex: int) -> int:
    """Take the mutex if that is possible at once, also if its owner died; return whether."""
    if look_for_the_dead(mem):
        _lock_queue(mem, cpu, mutex)
        spin_unlock(mem, cpu, mutex + LOCK.wait_lock)
    if not _try(mem, cpu, mutex, OWNER_MASK):
        lock_failed(mem, cpu, mutex, WRITE)
        return 0
    _learn(mem, cpu, mutex)
    lock_acquired(mem, cpu, mutex, WRITE, 0)
    return 1


@compiled
def _try(mem: Any, cpu: int, mutex: int, against: int) -> int:
    """Become the owner if the word has none of the bits `against`; flags stay. HANDOFF has always an owner."""
    seen = read_once(mem, mutex + LOCK.word)
    while seen & against == 0:
        taken = cmpxchg_acquire(mem, mutex + LOCK.word, seen, seen | read_once(mem, cpu + CPU.id))  # P3
        if taken == seen:
            return 1
        seen = taken
    return 0


@out_of_line
def _mutex_lock_slowpath(mem: Any, cpu: int, mutex: int, deadline: int, state: int) -> int:
    me = read_once(mem, cpu + CPU.id)
    if read_once(mem, mutex + LOCK.word) & OWNER_MASK == me:  # in the queue it would look like a grant
        violation(mem, cpu, Violation.RECURSION, mutex, me, 0)
        return -EPERM
    since = begin_wait(mem, cpu, mutex)
    outcome = 0
    if not _spin(mem, cpu, mutex):
        outcome = _wait_in_queue(mem, cpu, mutex, deadline, state)
    end_wait(mem, cpu)
    if outcome != 0:
        lock_failed(mem, cpu, mutex, WRITE)
        return outcome
    _learn(mem, cpu, mutex)
    return lock_acquired(mem, cpu, mutex, WRITE, since)


@compiled
def _learn(mem: Any, cpu: int, mutex: int) -> int:
    """As its new owner, take the news that an owner died."""
    if read_once(mem, mutex + LOCK.word) & DIED:
        fetch_and_relaxed(mem, mutex + LOCK.word, ~DIED)
        write_once(mem, cpu + CPU.recovered, 1)
    return 0


@compiled
def _spin(mem: Any, cpu: int, mutex: int) -> int:
    """Try for as long as a short critical section takes; barges past sleepers unless one was promised the lock.

    Less and less often: each look takes the word's line, and what the lock guards, away from the owner's core. One
    that is left alone meanwhile takes the lock dozens of times, which is what contended throughput is made of
    (T. E. Anderson, The Performance of Spin Lock Alternatives, 1990).
    """
    pause, left = FIRST_PAUSE, SPINS
    while left > 0:
        if _try(mem, cpu, mutex, OWNER_MASK):
            return 1
        for _ in range(pause):
            cpu_relax()
        left -= pause
        pause = min(2 * pause, LONGEST_PAUSE)
    return 0


@compiled
def _wait_in_queue(mem: Any, cpu: int, mutex: int, deadline: int, state: int) -> int:
    """Queue up; sleep and try until we own it or give up."""
    seen = lives_seen(mem)
    _lock_queue(mem, cpu, mutex)
    queue_waiter(mem, cpu, mutex, WRITE)
    fetch_or_relaxed(mem, mutex + LOCK.word, WAITERS)
    outcome = 0
    while not _take_or_ask(mem, cpu, mutex) and outcome == 0:
        write_once(mem, cpu + CPU.wake, 0)
        spin_unlock(mem, cpu, mutex + LOCK.wait_lock)
        outcome = wait_for_wake(mem, cpu, seen, deadline, state)
        seen = lives_seen(mem)
        _lock_queue(mem, cpu, mutex)
    if read_once(mem, mutex + LOCK.word) & OWNER_MASK == read_once(mem, cpu + CPU.id):
        outcome = 0  # perhaps granted while giving up: late is better than lost
    _leave_queue(mem, cpu, mutex)
    spin_unlock(mem, cpu, mutex + LOCK.wait_lock)
    return outcome


@compiled
def _take_or_ask(mem: Any, cpu: int, mutex: int) -> int:
    """Whether we own it: it was passed to us, or is free now. If not, a first waiter once woken asks to be next.

    The wait_lock is held. Free and asking are told apart by one compare-exchange, so that HANDOFF is never
    set on a mutex without an owner, whom nobody would pass on.
    """
    me = read_once(mem, cpu + CPU.id)
    asks = first_waiter(mem, mutex) == cpu and read_once(mem, cpu + CPU.wake) == 1
    seen = read_once(mem, mutex + LOCK.word)
    while seen & OWNER_MASK != me:
        wanted = seen | me if seen & OWNER_MASK == 0 else seen | HANDOFF
        if wanted == seen | HANDOFF and (not asks or seen & HANDOFF):
            return 0
        found = cmpxchg_acquire(mem, mutex + LOCK.word, seen, wanted)  # P3: pairs with mutex_unlock()
        if found == seen:
            return 1 if wanted & OWNER_MASK == me else 0
        seen = found
    return 1


@compiled
def _leave_queue(mem: Any, cpu: int, mutex: int) -> int:
    """Leave the queue, as owner or having given up; a promise made to us goes with us. The wait_lock is held."""
    gone = HANDOFF if first_waiter(mem, mutex) == cpu else 0
    leave_queue(mem, cpu, mutex)
    if read_once(mem, mutex + LOCK.waiters) == 0:
        gone |= WAITERS
    if gone:
        fetch_and_relaxed(mem, mutex + LOCK.word, ~gone)
    return 0


@compiled
def mutex_unlock(mem: Any, cpu: int, mutex: int) -> int:
    """Give the mutex up; to its first waiter if that was promised it."""
    me = read_once(mem, cpu + CPU.id)
    seen = cmpxchg_release(mem, mutex + LOCK.word, me, 0)  # P3: pairs with mutex_lock()
    if seen != me:
        if seen & OWNER_MASK != me:
            return violation(mem, cpu, Violation.NOT_HELD, mutex, seen, me)
        _mutex_unlock_slowpath(mem, cpu, mutex)
    return lock_release(mem, cpu, mutex, WRITE)


@out_of_line
def _mutex_unlock_slowpath(mem: Any, cpu: int, mutex: int) -> int:
    """Somebody waits: nobody but us can change the owner, and flags change only under wait_lock."""
    _lock_queue(mem, cpu, mutex)
    heir = first_waiter(mem, mutex)
    word = read_once(mem, mutex + LOCK.word)
    kept = word & (WAITERS | DIED)
    if heir and word & HANDOFF:
        kept |= read_once(mem, heir + CPU.id)
    xchg_release(mem, mutex + LOCK.word, kept)  # P3: pairs with mutex_lock()
    woken = grant(mem, heir) if heir else 0
    spin_unlock(mem, cpu, mutex + LOCK.wait_lock)
    return wake_cpus(mem, woken)


@compiled
def mutex_is_locked(mem: Any, mutex: int) -> int:
    """Whether anybody owns it."""
    return 1 if read_once(mem, mutex + LOCK.word) & OWNER_MASK else 0


# --- the dead ------------------------------------------------------------------------------------


@compiled
def _lock_queue(mem: Any, cpu: int, mutex: int) -> int:
    """Take the wait_lock, of a mutex that is whole then."""
    if lock_queue(mem, cpu, mutex):
        mutex_repair(mem, mutex, dead_tasks(mem))
    return 0


@out_of_line
def mutex_repair(mem: Any, mutex: int, dead: int) -> int:
    """Take back what a set of tasks left behind; the wait_lock is held.

    Queue first, then the owner, then the flags that follow from both; last, whoever has or may have the mutex now and
    may not have been told is woken. While an owner is dead nobody else changes the word, so one store replaces it.
    """
    waiters = forget_waiters(mem, mutex, dead)
    word = read_once(mem, mutex + LOCK.word)
    owner = word & OWNER_MASK
    if owner and dead >> owner & 1:
        note_died(mem, mutex, owner, WRITE)
        owner = 0
        xchg_release(mem, mutex + LOCK.word, DIED | (WAITERS if waiters else 0))  # P3: what the dead one did is seen
    elif waiters:
        fetch_or_relaxed(mem, mutex + LOCK.word, WAITERS)
    else:
        fetch_and_relaxed(mem, mutex + LOCK.word, ~(WAITERS | HANDOFF))
    heir = first_waiter(mem, mutex)
    if owner:
        heir = slot_of(mem, owner) if waiters >> owner & 1 else 0
    return wake_cpus(mem, grant(mem, heir)) if heir else 0


@compiled
def mutex_disown(mem: Any, cpu: int, mutex: int) -> int:
    """Take back what the last task of this CPU's slot left behind, which died; this one has touched nothing yet."""
    mine = mask_of(mem, cpu)
    take_over(mem, cpu, mutex)
    mutex_repair(mem, mutex, dead_tasks(mem) | mine)
    return spin_unlock(mem, cpu, mutex + LOCK.wait_lock)


@compiled
def mutex_mark_died(mem: Any, _cpu: int, mutex: int) -> int:
    """As its owner, pass the news that an owner died on to the next."""
    return fetch_or_relaxed(mem, mutex + LOCK.word, DIED)
