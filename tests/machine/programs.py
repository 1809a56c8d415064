"""Compiled functions that the tests of the machine call."""

from typing import Any

from shmreclaim.machine.atomics import (
    clock_ns,
    cmpxchg,
    cmpxchg_acquire,
    cmpxchg_relaxed,
    cmpxchg_release,
    cpu_clock_ns,
    cpu_relax,
    fetch_add,
    fetch_add_acquire,
    fetch_add_relaxed,
    fetch_add_release,
    fetch_and,
    fetch_and_relaxed,
    fetch_or,
    fetch_or_relaxed,
    floor_log2,
    hweight,
    load_acquire,
    lowest_bit,
    read_once,
    smp_mb,
    store_release,
    write_once,
    xchg,
    xchg_release,
)
from shmreclaim.machine.builtin import WORDS, new_reference, python_call, thread_self
from shmreclaim.machine.compile import compiled, out_of_line
from shmreclaim.machine.futex import futex_wait, futex_wake
from shmreclaim.machine.upcall import upcall

LOADS = ("read_once", "load_acquire")
STORES = ("write_once", "store_release")
CHANGES = (
    "xchg", "xchg_release", "fetch_add", "fetch_add_acquire", "fetch_add_release", "fetch_add_relaxed",
    "fetch_or", "fetch_or_relaxed", "fetch_and", "fetch_and_relaxed",
)  # fmt: skip
EXCHANGES = ("cmpxchg", "cmpxchg_acquire", "cmpxchg_release", "cmpxchg_relaxed")


@compiled
def load(mem: Any, which: int, i: int) -> int:
    """One of LOADS."""
    return read_once(mem, i) if which == 0 else load_acquire(mem, i)


@compiled
def store(mem: Any, which: int, i: int, value: int) -> int:
    """One of STORES."""
    return write_once(mem, i, value) if which == 0 else store_release(mem, i, value)


@compiled
def change(mem: Any, which: int, i: int, value: int) -> int:
    """One of CHANGES."""
    if which == 0:
        return xchg(mem, i, value)
    if which == 1:
        return xchg_release(mem, i, value)
    if which == 2:
        return fetch_add(mem, i, value)
    if which == 3:
        return fetch_add_acquire(mem, i, value)
    if which == 4:
        return fetch_add_release(mem, i, value)
    if which == 5:
        return fetch_add_relaxed(mem, i, value)
    if which == 6:
        return fetch_or(mem, i, value)
    if which == 7:
        return fetch_or_relaxed(mem, i, value)
    if which == 8:
        return fetch_and(mem, i, value)
    return fetch_and_relaxed(mem, i, value)


@compiled
def exchange(mem: Any, which: int, i: int, expected: int, new: int) -> int:
    """One of EXCHANGES."""
    if which == 0:
        return cmpxchg(mem, i, expected, new)
    if which == 1:
        return cmpxchg_acquire(mem, i, expected, new)
    if which == 2:
        return cmpxchg_release(mem, i, expected, new)
    return cmpxchg_relaxed(mem, i, expected, new)


@compiled
def bits(mem: Any, word: int) -> int:
    """Lowest bit, number of bits, highest bit of a positive word: three numbers in one."""
    highest = floor_log2(word) if word > 0 else 0
    return lowest_bit(word) << 16 | hweight(word) << 8 | highest


@compiled
def barriers_and_hints(mem: Any) -> int:
    """What returns nothing of interest."""
    return smp_mb() + cpu_relax()


@compiled
def now(mem: Any) -> int:
    """The clock."""
    return clock_ns()


@compiled
def ran(mem: Any) -> int:
    """How long this thread has run."""
    return cpu_clock_ns()


@compiled
def sleep(mem: Any, word: int, value: int, deadline: int) -> int:
    """One futex wait."""
    return futex_wait(mem, word, value, deadline)


@compiled
def wake(mem: Any, word: int, count: int) -> int:
    """One futex wake."""
    return futex_wake(mem, word, count)


@compiled
def weigh(mem: Any, a: int, b: int, c: int, d: int, e: int) -> int:
    """Six arguments, each with a weight of its own."""
    return read_once(mem, 0) + 2 * a + 3 * b + 5 * c + 7 * d + 11 * e


@compiled
def weigh_otherwise(mem: Any, a: int, b: int, c: int, d: int, e: int) -> int:
    """Something else of the same shape."""
    return -a


@compiled
def call_up(mem: Any, slot: int, a: int, b: int) -> int:
    """Call whatever is bound to a slot."""
    return upcall(slot, mem, a, b, 3, 4, 5)


@out_of_line
def far(mem: Any, value: int) -> int:
    """A slow path."""
    return read_once(mem, 0) * value


@compiled
def near(mem: Any, value: int) -> int:
    """A fast path with a slow one behind."""
    return far(mem, value) + 1


@compiled
def answer(bound: Any, args: int, nargs: int, names: int) -> int:
    """A builtin: without arguments it returns the object that is bound, with any it asks the slow path."""
    if nargs == 0 and names == 0:
        return new_reference(read_once(bound, WORDS))
    return python_call(read_once(bound, WORDS + 1), args, nargs, names)


@compiled
def me(mem: Any) -> int:
    """The calling thread."""
    return thread_self()
