"""Reference counts that never come back from zero.

Model: lib/refcount.c. One word: the number of references; 0 means the object is going away.

P6  the last refcount_dec_and_test() sees all that earlier ones released
    (litmus: test_P6_the_last_reference_sees_what_others_wrote)
"""

from typing import Any

from shmreclaim.machine.atomics import cmpxchg_relaxed, fetch_add, fetch_add_relaxed, read_once
from shmreclaim.machine.compile import compiled


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
def refcount_dec_and_test(mem: Any, ref: int) -> int:
    """Give a reference up; return whether it was the last."""
    # P6: pairs with itself: earlier droppers release, the last acquires.
    return 1 if fetch_add(mem, ref, -1) == 1 else 0
