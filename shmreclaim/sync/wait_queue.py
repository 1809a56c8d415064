"""Waiting: the one place where a CPU goes to sleep on behalf of a lock, and is woken.

A waiter is its CPU's slot: it waits for one thing at a time. `wake` in the slot is 0 while it waits and
1 once it was granted or told to try again. The 1 is stored under the wait_lock of the lock waited for, so a
waiter that left its queue is never granted anything late.

A queue is a word of the lock with a bit for each CPU in it (CPU n is bit n), and their order is that of the tickets
in their slots. Both change only under the wait_lock. One store puts a CPU in, one takes it out: no death in the
middle leaves a queue that is neither.

Who sleeps watches more than what it waits for: the lives of all tasks (machine/life.py), and a count, lives_seq,
of those that began and of ends that were announced. So, whoever ends, one sleeper is woken by the kernel. It
announces the end, which wakes all the others, and each looks at its lock again; should it end before it has, that
wakes the next. The one that the kernel woke may have been granted what it waits for at the same moment: whyever it
stops sleeping, it looks for ends first. Nobody polls: a waiter reads lives_seq before it looks at its lock, and what
changes after that look keeps it from sleeping or wakes it. Where no task has a life, a sleeper watches its word alone.

P2  grant() releases what wait_for_wake() acquires   (litmus: test_P2_a_woken_waiter_sees_what_its_waker_wrote)
P12  whoever changes a word that others wait for with wait_while() or watch_while() releases what they then acquire
     (litmus: test_P12_who_waited_for_a_word_sees_what_came_before_its_change)
P27  announce() releases the end that it saw to whoever finds lives_seq changed with lives_seen()
     (litmus: test_P27_who_sees_that_an_end_was_announced_sees_the_end)
Limits: before Linux 5.16 one cannot sleep on several words (futex_waitv(2)); there, who sleeps looks for the dead
every DULL_SLEEP.
"""

from typing import Any

from shmreclaim.machine.atomics import (
    clock_ns,
    cmpxchg_relaxed,
    fetch_add,
    fetch_or_relaxed,
    load_acquire,
    lowest_bit,
    read_once,
    store_release,
    write_once,
)
from shmreclaim.machine.compile import compiled, out_of_line
from shmreclaim.machine.cpu import CPU, slot_of
from shmreclaim.machine.futex import (
    EAGAIN,
    EINTR,
    ENOSYS,
    ETIMEDOUT,
    EVERYBODY,
    futex_wait,
    futex_wait_any,
    futex_wake,
)
from shmreclaim.machine.layout import HEADER
from shmreclaim.machine.life import ANNOUNCED, FUTEX_OWNER_DIED
from shmreclaim.sync.lockdep import LOCK

UNINTERRUPTIBLE, INTERRUPTIBLE = 0, 1
"""Whether a signal ends a wait (kernel: TASK_UNINTERRUPTIBLE, TASK_INTERRUPTIBLE)."""

DULL_SLEEP = 50_000_000
"""ns; how long a sleeper of an old kernel may be unaware of a death."""


# --- queues: the wait_lock is held ---------------------------------------------------------------


@compiled
def queue_init(mem: Any, lock: int) -> int:
    """Make an empty queue, and a free lock for it."""
    write_once(mem, lock + LOCK.wait_lock, 0)
    write_once(mem, lock + LOCK.tickets, 0)
    return write_once(mem, lock + LOCK.waiters, 0)


@compiled
def queue_waiter(mem: Any, cpu: int, lock: int, mode: int) -> int:
    """Put this CPU last in a queue, ready to be woken."""
    ticket = read_once(mem, lock + LOCK.tickets) + 1
    write_once(mem, lock + LOCK.tickets, ticket)
    write_once(mem, cpu + CPU.ticket, ticket)
    write_once(mem, cpu + CPU.wake, 0)
    write_once(mem, cpu + CPU.wait_mode, mode)
    return write_once(mem, lock + LOCK.waiters, read_once(mem, lock + LOCK.waiters) | mask_of(mem, cpu))


@compiled
def leave_queue(mem: Any, waiter: int, lock: int) -> int:
    """Take a CPU out of a queue."""
    return write_once(mem, lock + LOCK.waiters, read_once(mem, lock + LOCK.waiters) & ~mask_of(mem, waiter))


@compiled
def is_queued(mem: Any, cpu: int, lock: int) -> int:
    """Whether this CPU is in a queue."""
    return 1 if read_once(mem, lock + LOCK.waiters) & mask_of(mem, cpu) else 0


@compiled
def mask_of(mem: Any, cpu: int) -> int:
    """This CPU in a set of CPUs."""
    return 1 << read_once(mem, cpu + CPU.id)


@compiled
def first_waiter(mem: Any, lock: int) -> int:
    """The CPU that came first, 0 if nobody waits."""
    return first_of(mem, read_once(mem, lock + LOCK.waiters))


@compiled
def first_of(mem: Any, waiters: int) -> int:
    """The CPU of a set that came first, 0 if it is empty."""
    first = 0
    while waiters:
        slot = slot_of(mem, lowest_bit(waiters))
        waiters &= waiters - 1
        if first == 0 or read_once(mem, slot + CPU.ticket) < read_once(mem, first + CPU.ticket):
            first = slot
    return first


# --- waiting -------------------------------------------------------------------------------------


@compiled
def begin_wait(mem: Any, cpu: int, what: int) -> int:
    """Note what this CPU waits for and since when, for those who ask why it does not go on; give the time."""
    now = clock_ns()
    write_once(mem, cpu + CPU.wait_since, now)
    write_once(mem, cpu + CPU.wait_for, what)
    return now


@compiled
def end_wait(mem: Any, cpu: int) -> int:
    """Note that this CPU goes on."""
    return write_once(mem, cpu + CPU.wait_for, 0)


@compiled
def lives_seen(mem: Any) -> int:
    """What a waiter reads before it looks at what it waits for, and then goes to sleep with."""
    return load_acquire(mem, HEADER.lives_seq)  # P27: pairs with announce()


@compiled
def wait_for_wake(mem: Any, cpu: int, seen: int, deadline: int, state: int) -> int:
    """Sleep until woken, or until there is reason to look again; 0, or -ETIMEDOUT, or -EINTR if `state` allows."""
    return watch_while(mem, cpu, cpu + CPU.wake, 0, seen, deadline, state)  # P2: pairs with grant()


@compiled
def grant(mem: Any, waiter: int) -> int:
    """Tell a waiter to go on; the wait_lock is held, so it is still in the queue or was just taken off it.

    Returns its bit in a set of CPUs that `wake_cpus` must wake once the wait_lock is dropped: a system
    call is too long for a spinlock. A CPU woken that has gone on meanwhile just looks again.
    """
    store_release(mem, waiter + CPU.wake, 1)  # P2: pairs with wait_for_wake()
    return mask_of(mem, waiter)


@compiled
def wake_cpus(mem: Any, woken: int) -> int:
    """Wake the sleepers of a set of CPUs made by `grant`."""
    while woken:
        futex_wake(mem, slot_of(mem, lowest_bit(woken)) + CPU.wake, 1)
        woken &= woken - 1
    return 0


@compiled
def wait_while(mem: Any, word: int, value: int, deadline: int, state: int) -> int:
    """Sleep while mem[word] is `value`, whoever dies: recheck, sleep, recheck."""
    while load_acquire(mem, word) == value:  # P12: pairs with start_all() and all that change such a word
        outcome = futex_wait(mem, word, value, deadline)
        if not _rechecks(outcome, state):
            return outcome
    return 0


@compiled
def watch_while(mem: Any, cpu: int, word: int, value: int, seen: int, deadline: int, state: int) -> int:
    """Sleep while mem[word] is `value` and lives_seq is `seen`; 0, or -ETIMEDOUT, or -EINTR if `state` allows."""
    while load_acquire(mem, word) == value and lives_seen(mem) == seen:  # P12: pairs with complete()
        outcome = sleep_on(mem, cpu, word, value, seen, deadline)
        if not _rechecks(outcome, state):
            return outcome
    return 0


@compiled
def _rechecks(outcome: int, state: int) -> int:
    """Whether one who slept looks at its word again.

    Not negative: woken, perhaps spuriously. -EAGAIN: a word changed before the kernel looked. -EINTR: a signal, which
    only an interruptible wait tells its caller. -ETIMEDOUT ends a wait, and so do -EFAULT and -EINVAL: the segment is
    gone from under us.
    """
    return outcome >= 0 or outcome == -EAGAIN or (outcome == -EINTR and state != INTERRUPTIBLE)


@compiled
def sleep_on(mem: Any, cpu: int, word: int, value: int, seen: int, deadline: int) -> int:
    """Sleep once while mem[word] is `value`, lives_seq is `seen` and nobody's life ends."""
    if read_once(mem, HEADER.lives) == 0:
        return futex_wait(mem, word, value, deadline)
    outcome = _watchful_sleep(mem, cpu, word, value, seen, deadline)
    announce_ends(mem)
    return outcome


@out_of_line
def _watchful_sleep(mem: Any, cpu: int, word: int, value: int, seen: int, deadline: int) -> int:
    write_once(mem, cpu + CPU.watch, word)
    write_once(mem, cpu + CPU.watch + 1, value)
    write_once(mem, cpu + CPU.watch + 2, HEADER.lives_seq)
    write_once(mem, cpu + CPU.watch + 3, seen)
    count = _watch_lives(mem, cpu, 2)
    outcome = futex_wait_any(mem, cpu + CPU.watch, count, deadline)
    if outcome != -ENOSYS:
        return outcome
    soon = clock_ns() + DULL_SLEEP
    if deadline and deadline < soon:
        return futex_wait(mem, word, value, deadline)
    outcome = futex_wait(mem, word, value, soon)
    return 0 if outcome == -ETIMEDOUT else outcome


# --- lives ---------------------------------------------------------------------------------------


@compiled
def _watch_lives(mem: Any, cpu: int, count: int) -> int:
    """Add the lives of all others to what this CPU watches; announce what ended. Returns how many it watches then."""
    lives = read_once(mem, HEADER.lives) & ~mask_of(mem, cpu)
    while lives:
        slot = slot_of(mem, lowest_bit(lives))
        mask, lives = lives & -lives, lives & (lives - 1)
        life = read_once(mem, slot + CPU.life)
        if life == 0:
            continue
        if life & FUTEX_OWNER_DIED == 0:
            write_once(mem, cpu + CPU.watch + 2 * count, slot + CPU.life)
            write_once(mem, cpu + CPU.watch + 2 * count + 1, life)
            count += 1
        elif life & ANNOUNCED == 0:
            announce(mem, mask)
    return count


@compiled
def announce_ends(mem: Any) -> int:
    """Announce all ends that nobody has noticed yet."""
    lives = read_once(mem, HEADER.lives)
    dead = 0
    while lives:
        life = read_once(mem, slot_of(mem, lowest_bit(lives)) + CPU.life)
        if life & FUTEX_OWNER_DIED and life & ANNOUNCED == 0:
            dead |= lives & -lives
        lives &= lives - 1
    return announce(mem, dead) if dead else 0


@compiled
def announce(mem: Any, dead: int) -> int:
    """Wake all who sleep on behalf of a lock: these tasks ended; who is woken finds them so.

    Marked first, so that who looks because lives_seq changed finds a reason to repair. Who dies between the two is
    announced in turn, and that wakes the same. The mark is in the life: where a new one began, that has none.
    """
    left = dead
    while left:
        at = slot_of(mem, lowest_bit(left)) + CPU.life
        life = read_once(mem, at)
        if life & FUTEX_OWNER_DIED:
            cmpxchg_relaxed(mem, at, life, life | ANNOUNCED)
        left &= left - 1
    fetch_or_relaxed(mem, HEADER.announced, dead)
    fetch_add(mem, HEADER.lives_seq, 1)  # P27: pairs with lives_seen()
    return futex_wake(mem, HEADER.lives_seq, EVERYBODY)
