"""Sleeping on a word of shared memory until another process changes it (futex(2)).

The kernel compares 32 bits: only the low half of a word is compared, so a word that is slept on keeps
everything that matters there. Waiters are in any process, so FUTEX_PRIVATE_FLAG is never used.
Callers outside `sync/wait_queue.py` and `sync/spinlock.py` use those instead of these.
"""

from typing import Any

from shmreclaim.errors import InternalError
from shmreclaim.machine import _intrinsics as ll
from shmreclaim.machine.atomics import operation

EVERYBODY = 1 << 30
"""How many futex_wake() is to wake: all there are."""

EPERM, EINTR, EAGAIN, ENOSYS, ETIMEDOUT = 1, 4, 11, 38, 110


class LoneTaskError(InternalError):
    """A plain body was to sleep until another task does something, and there is none."""


@operation(ll.futex_wait, ll.journaled("wait", 4))
def futex_wait(mem: Any, i: int, expected: int, deadline: int) -> int:
    """Sleep while the low half of mem[i] is `expected`, until woken or `deadline` (ns on the clock; 0: none).

    Returns 0 when woken (or spuriously), -EAGAIN when the word differed at once, -EINTR, -ETIMEDOUT.
    The plain body has no other task to wait for: sleeping in it would be for ever.
    """
    if (mem[i] ^ expected) & 0xFFFFFFFF:
        return -EAGAIN
    if deadline:
        return -ETIMEDOUT
    raise LoneTaskError(f"a lone task would sleep for ever on word {i} (value {mem[i]})")


@operation(ll.futex_wait_any, ll.journaled("wait_any", 4))
def futex_wait_any(mem: Any, pairs: int, count: int, deadline: int) -> int:
    """Sleep while each of `count` words is what it is expected to be; the pairs (word, value) begin at mem[pairs].

    Returns which of them woke it (or 0), -EAGAIN when one differed at once, -EINTR, -ETIMEDOUT, and -ENOSYS
    before Linux 5.16. The values are 32 bits wide (futex_waitv(2)).
    """
    for k in range(count):
        if (mem[mem[pairs + 2 * k]] ^ mem[pairs + 2 * k + 1]) & 0xFFFFFFFF:
            return -EAGAIN
    if deadline:
        return -ETIMEDOUT
    raise LoneTaskError(f"a lone task would sleep for ever on {count} words")


@operation(ll.futex_wake, ll.journaled("wake", 3))
def futex_wake(mem: Any, i: int, count: int) -> int:
    """Wake up to `count` of those who sleep on mem[i]; return how many there were."""
    return 0


@operation(ll.sched_yield)
def cond_resched() -> int:
    """Let another process have the core, if one wants it (kernel: the same name)."""
    return 0
