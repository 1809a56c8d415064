"""Waiting: the one place where a CPU goes to sleep on behalf of a lock, and is woken.

A waiter is its CPU's slot: it waits for one thing at a time. `wake` in the slot is 0 while it waits and
1 once it was granted or told to try again. The 1 is stored under the wait_lock of the lock waited for, so a
waiter that left its queue is never granted anything late. Queues are list_heads of slots (their
`wait_next` words), under the same wait_lock.

P2  grant() releases what wait_for_wake() acquires   (litmus: test_P2_a_woken_waiter_sees_what_its_waker_wrote)
P12  whoever changes a word that others wait for with wait_while() releases what they then acquire
     (litmus: test_P12_who_waited_for_a_word_sees_what_came_before_its_change)
"""

from typing import Any

from shmreclaim.lib.list_head import list_add_tail, list_empty, list_next
from shmreclaim.machine.atomics import clock_ns, load_acquire, lowest_bit, read_once, store_release, write_once
from shmreclaim.machine.compile import compiled
from shmreclaim.machine.cpu import CPU
from shmreclaim.machine.futex import EAGAIN, EINTR, futex_wait, futex_wake
from shmreclaim.machine.layout import HEADER

UNINTERRUPTIBLE, INTERRUPTIBLE = 0, 1
"""Whether a signal ends a wait (kernel: TASK_UNINTERRUPTIBLE, TASK_INTERRUPTIBLE)."""

EVERYBODY = 1 << 30


@compiled
def queue_waiter(mem: Any, cpu: int, queue: int, mode: int) -> int:
    """Put this CPU last in a queue, ready to be woken; the wait_lock is held."""
    write_once(mem, cpu + CPU.wake, 0)
    write_once(mem, cpu + CPU.wait_mode, mode)
    return list_add_tail(mem, cpu + CPU.wait_next, queue)


@compiled
def first_waiter(mem: Any, queue: int) -> int:
    """The CPU that came first, 0 if nobody waits; the wait_lock is held."""
    return 0 if list_empty(mem, queue) else list_next(mem, queue) - CPU.wait_next


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
def wait_for_wake(mem: Any, cpu: int, deadline: int, state: int) -> int:
    """Sleep until woken; 0, or -ETIMEDOUT, or -EINTR if `state` is INTERRUPTIBLE."""
    return wait_while(mem, cpu + CPU.wake, 0, deadline, state)  # P2: pairs with grant()


@compiled
def grant(mem: Any, waiter: int) -> int:
    """Tell a waiter to go on; the wait_lock is held, so it is still in the queue or was just taken off it.

    Returns its bit in a set of CPUs that `wake_cpus` must wake once the wait_lock is dropped: a system
    call is too long for a spinlock. A CPU woken that has gone on meanwhile just looks again.
    """
    store_release(mem, waiter + CPU.wake, 1)  # P2: pairs with wait_for_wake()
    return 1 << read_once(mem, waiter + CPU.id)


@compiled
def wake_cpus(mem: Any, woken: int) -> int:
    """Wake the sleepers of a set of CPUs made by `grant`."""
    while woken:
        number = lowest_bit(woken)
        woken &= woken - 1
        slot = read_once(mem, HEADER.cpus) + (number - 1) * read_once(mem, HEADER.cpu_stride)
        futex_wake(mem, slot + CPU.wake, 1)
    return 0


@compiled
def wait_while(mem: Any, word: int, value: int, deadline: int, state: int) -> int:
    """Sleep while mem[word] is `value`: recheck, sleep, recheck."""
    while load_acquire(mem, word) == value:  # P12: pairs with start_all(), complete() and all that change such a word
        outcome = futex_wait(mem, word, value, deadline)
        # 0: woken, perhaps spuriously. -EAGAIN: the word changed before the kernel looked. Both: recheck.
        # -EINTR: a signal, which only an interruptible wait tells its caller. -ETIMEDOUT ends the wait, and so do
        # -EFAULT and -EINVAL: the segment is gone from under us.
        again = outcome in (0, -EAGAIN) or (outcome == -EINTR and state != INTERRUPTIBLE)
        if not again:
            return outcome
    return 0
