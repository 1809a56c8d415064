"""Operations on shared words, the memory order in the name.

The body of each function is what it *means*; compiled, it is one machine instruction (or two, where
the machine has no single one). Orders are the kernel's (Documentation/atomic_t.txt): a name without a
suffix is fully ordered, `_acquire`, `_release` and `_relaxed` are what they say, `read_once` and
`write_once` are atomic and unordered. `mem[i]` is a signed 64-bit word; arithmetic wraps.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from typing import Any, TypeVar

from numba.extending import overload

from shmreclaim.machine import _intrinsics as ll
from shmreclaim.machine.sources import JOURNALED

F = TypeVar("F", bound=Callable[..., int])

MAX_WORD = (1 << 63) - 1

XCHG, ADD, OR, AND = range(4)
"""What a logged read_modify_write() does (machine/journal.py); whatever its order, it is fully ordered there."""


def operation(intrinsic: Any, journaled: Any = None) -> Callable[[F], F]:
    """Let a plain function compile to `intrinsic`, which takes the same arguments; where all is logged, to another."""

    def bind(body: F) -> F:
        names = ", ".join(inspect.signature(body).parameters)
        # The overload must have the very parameter names of the body; a lambda made from them has.
        scope = {"intrinsic": journaled if JOURNALED and journaled is not None else intrinsic}
        implementation = eval(f"lambda {names}: intrinsic({names})", scope)
        overload(body)(eval(f"lambda {names}: implementation", {"implementation": implementation}))
        return body

    return bind


def wrap(value: int) -> int:
    """Reduce to a signed 64-bit word, as the machine does."""
    return ((value + (1 << 63)) & ((1 << 64) - 1)) - (1 << 63)


# --- loads and stores --------------------------------------------------------------------------


@operation(ll.load("monotonic"), ll.journaled("load", 2))
def read_once(mem: Any, i: int) -> int:
    """mem[i]; atomic, unordered."""
    return mem[i]  # type: ignore[no-any-return]


@operation(ll.load("acquire"), ll.journaled("load", 2))
def load_acquire(mem: Any, i: int) -> int:
    """mem[i]; nothing after it moves before it."""
    return mem[i]  # type: ignore[no-any-return]


@operation(ll.store("monotonic"), ll.journaled("store", 3))
def write_once(mem: Any, i: int, value: int) -> int:
    """mem[i] = value; atomic, unordered."""
    mem[i] = wrap(value)
    return 0


@operation(ll.store("release"), ll.journaled("store", 3))
def store_release(mem: Any, i: int, value: int) -> int:
    """mem[i] = value; nothing before it moves after it."""
    mem[i] = wrap(value)
    return 0


# --- read, modify, write: all return what was there before --------------------------------------


def _exchange(mem: Any, i: int, value: int) -> int:
    old = mem[i]
    mem[i] = wrap(value)
    return old  # type: ignore[no-any-return]


@operation(ll.read_modify_write("xchg", "seq_cst"), ll.journaled("change", 3, XCHG))
def xchg(mem: Any, i: int, value: int) -> int:
    """mem[i] = value; fully ordered."""
    return _exchange(mem, i, value)


@operation(ll.read_modify_write("xchg", "release"), ll.journaled("change", 3, XCHG))
def xchg_release(mem: Any, i: int, value: int) -> int:
    """mem[i] = value; nothing before it moves after it."""
    return _exchange(mem, i, value)


@operation(ll.read_modify_write("xchg", "monotonic"), ll.journaled("change", 3, XCHG))
def xchg_relaxed(mem: Any, i: int, value: int) -> int:
    """mem[i] = value; unordered."""
    return _exchange(mem, i, value)


@operation(ll.read_modify_write("add", "seq_cst"), ll.journaled("change", 3, ADD))
def fetch_add(mem: Any, i: int, value: int) -> int:
    """mem[i] += value; fully ordered."""
    return _exchange(mem, i, mem[i] + value)


@operation(ll.read_modify_write("add", "acquire"), ll.journaled("change", 3, ADD))
def fetch_add_acquire(mem: Any, i: int, value: int) -> int:
    """mem[i] += value; nothing after it moves before it."""
    return _exchange(mem, i, mem[i] + value)


@operation(ll.read_modify_write("add", "release"), ll.journaled("change", 3, ADD))
def fetch_add_release(mem: Any, i: int, value: int) -> int:
    """mem[i] += value; nothing before it moves after it."""
    return _exchange(mem, i, mem[i] + value)


@operation(ll.read_modify_write("add", "monotonic"), ll.journaled("change", 3, ADD))
def fetch_add_relaxed(mem: Any, i: int, value: int) -> int:
    """mem[i] += value; unordered."""
    return _exchange(mem, i, mem[i] + value)


@operation(ll.read_modify_write("or", "seq_cst"), ll.journaled("change", 3, OR))
def fetch_or(mem: Any, i: int, value: int) -> int:
    """mem[i] |= value; fully ordered."""
    return _exchange(mem, i, mem[i] | value)


@operation(ll.read_modify_write("or", "monotonic"), ll.journaled("change", 3, OR))
def fetch_or_relaxed(mem: Any, i: int, value: int) -> int:
    """mem[i] |= value; unordered."""
    return _exchange(mem, i, mem[i] | value)


@operation(ll.read_modify_write("and", "seq_cst"), ll.journaled("change", 3, AND))
def fetch_and(mem: Any, i: int, value: int) -> int:
    """mem[i] &= value; fully ordered."""
    return _exchange(mem, i, mem[i] & value)


@operation(ll.read_modify_write("and", "release"), ll.journaled("change", 3, AND))
def fetch_and_release(mem: Any, i: int, value: int) -> int:
    """mem[i] &= value; nothing before it moves after it."""
    return _exchange(mem, i, mem[i] & value)


@operation(ll.read_modify_write("and", "monotonic"), ll.journaled("change", 3, AND))
def fetch_and_relaxed(mem: Any, i: int, value: int) -> int:
    """mem[i] &= value; unordered."""
    return _exchange(mem, i, mem[i] & value)


def _compare_exchange(mem: Any, i: int, expected: int, new: int) -> int:
    return _exchange(mem, i, new) if mem[i] == expected else mem[i]


@operation(ll.compare_exchange("seq_cst", "monotonic"), ll.journaled("compare_exchange", 4))
def cmpxchg(mem: Any, i: int, expected: int, new: int) -> int:
    """If mem[i] == expected: mem[i] = new; fully ordered when it succeeds."""
    return _compare_exchange(mem, i, expected, new)


@operation(ll.compare_exchange("acquire", "monotonic"), ll.journaled("compare_exchange", 4))
def cmpxchg_acquire(mem: Any, i: int, expected: int, new: int) -> int:
    """If mem[i] == expected: mem[i] = new; nothing after a success moves before it."""
    return _compare_exchange(mem, i, expected, new)


@operation(ll.compare_exchange("release", "monotonic"), ll.journaled("compare_exchange", 4))
def cmpxchg_release(mem: Any, i: int, expected: int, new: int) -> int:
    """If mem[i] == expected: mem[i] = new; nothing before a success moves after it."""
    return _compare_exchange(mem, i, expected, new)


@operation(ll.compare_exchange("monotonic", "monotonic"), ll.journaled("compare_exchange", 4))
def cmpxchg_relaxed(mem: Any, i: int, expected: int, new: int) -> int:
    """If mem[i] == expected: mem[i] = new; unordered."""
    return _compare_exchange(mem, i, expected, new)


# --- barriers, hints, bits, time ---------------------------------------------------------------


@operation(ll.fence("seq_cst"))
def smp_mb() -> int:
    """Every load and store before it is seen before every one after it."""
    return 0


@operation(ll.pause)
def cpu_relax() -> int:
    """Tell the core that this is a spin loop."""
    return 0


@operation(ll.count_trailing_zeros)
def lowest_bit(word: int) -> int:
    """Index of the lowest set bit; 64 if there is none."""
    return (word & -word).bit_length() - 1 if word else 64


@operation(ll.count_ones)
def hweight(word: int) -> int:
    """Number of set bits of a 64-bit word."""
    return (word & ((1 << 64) - 1)).bit_count()


@operation(ll.floor_log2)
def floor_log2(word: int) -> int:
    """Index of the highest set bit of a positive word."""
    return word.bit_length() - 1


@operation(ll.clock, ll.journaled("clock", 0))
def clock_ns() -> int:
    """CLOCK_MONOTONIC in nanoseconds: the same clock in every process of the machine."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


@operation(ll.cpu_clock, ll.journaled("cpu_clock", 0))
def cpu_clock_ns() -> int:
    """CLOCK_THREAD_CPUTIME_ID in nanoseconds: how long the caller has run, sleep and preemption left out."""
    return time.clock_gettime_ns(time.CLOCK_THREAD_CPUTIME_ID)
