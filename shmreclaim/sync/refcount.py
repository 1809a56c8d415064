"""Reference counts that never come back from zero.

Model: lib/refcount.c. One word: the number of references; 0 means the object is going away.

P6  the last refcount_dec_and_test() sees all that earlier ones released
    (litmus: test_P6_the_last_reference_sees_what_others_wrote)
P26  refcount_set_release() releases what its object was filled with to refcount_inc_not_zero_acquire(), for
     objects that can be found before they may be used
     (litmus: test_P26_a_reference_taken_sees_what_was_there_before_the_first)
"""

from typing import Any

from shmreclaim.machine.atomics import (
    cmpxchg_acquire,
    cmpxchg_relaxed,
    fetch_add,
    fetch_add_relaxed,
    read_once,
    store_release,
)
from shmreclaim.machine.compile import compiled


@compiled
def refcount_set_release(mem: Any, ref: int, n: int) -> int:
    """Make the count of an object that others can find already; from now on they can take references."""
    return store_release(mem, ref, n)  # P26: pairs with refcount_inc_not_zero_acquire()


@compiled
def refcount_inc(mem: Any, ref: int) -> int:
    """Take one more reference; the caller has one, so the count cannot be 0."""
    fetch_add_relaxed(mem, ref, 1)
    return 0


@compiled
def refcount_inc_not_zero(mem: Any, ref: int) -> int:
    """Take a reference unless the last one is gone; return whether."""
    seen = read_once(mem, ref)
    while seen > 0:
        found = cmpxchg_relaxed(mem, ref, seen, seen + 1)
        if found == seen:
            return 1
        seen = found
    return 0


@compiled
def refcount_inc_not_zero_acquire(mem: Any, ref: int) -> int:
    """As refcount_inc_not_zero(), of an object that could be found before its first reference was there."""
    seen = read_once(mem, ref)
    while seen > 0:
        found = cmpxchg_acquire(mem, ref, seen, seen + 1)  # P26: pairs with refcount_set_release()
        if found == seen:
            return 1
        seen = found
    return 0


@compiled
def refcount_dec_and_test(mem: Any, ref: int) -> int:
    """Give a reference up; return whether it was the last."""
    # P6: pairs with itself: earlier droppers release, the last acquires.
    return 1 if fetch_add(mem, ref, -1) == 1 else 0
