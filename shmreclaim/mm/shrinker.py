"""A shrinker's record, and how much of its objects one call should scan.

Model: struct shrinker and do_shrink_slab of mm/vmscan.c, in the arithmetic of each era:

| Arithmetic | kernels | delta | target | carry |
|---|---|---|---|---|
| V4_16 | 4.16 to 4.18 | (f >> p) * 4 / s | d + delta, halved and capped | what was not scanned |
| V4_19 | 4.19, 4.20 | the same, at least min(f, B) | the same | the same |
| V5_0 | 5.0 to 5.12 | as V4_16; f / 2 if s is 0 | the same | the same |
| V5_13 | since 5.13 | as V5_0 | (d >> p) + delta, capped at 2f | capped at 2f |

f: freeable, p: priority, s: seeks, B: batch, d: deferred. Divisions truncate; shifts of d are of a
signed long. Golden vectors: tests/mm/test_shrink_slab_arithmetic.py.

I8  with a single walker: deferred after = carry(deferred before, delta, scanned).
"""

from enum import IntEnum
from typing import Any

from shmreclaim.machine.atomics import read_once, write_once
from shmreclaim.machine.compile import compiled
from shmreclaim.machine.layout import Field, record
from shmreclaim.mm.state import MM, mm_state
from shmreclaim.sync.rcu import RCU_HEAD_WORDS


class Arithmetic(IntEnum):
    """Whose do_shrink_slab."""

    V4_16 = 0
    V4_19 = 1
    V5_0 = 2
    V5_13 = 3


DEFAULT_SEEKS = 2
SHRINK_BATCH = 128

SHRINK_STOP = -1
"""What a scan returns that cannot go on without the danger of a deadlock (kernel: ~0UL)."""
SHRINK_EMPTY = -2
"""What a count returns that is sure there is no object (kernel: ~0UL - 1, since 4.19)."""

SHRINKER_ALIVE, SHRINKER_FREED = 0x5B41BE, 0x6B6B6B6B
"""SHRINKER.magic; the second is the kernel's poison for freed memory."""

SHRINKER_MEMCG_AWARE, SHRINKER_NUMA_AWARE, SHRINKER_REGISTERED = 1, 2, 4

SHRINKER = record(
    "SHRINKER",
    Field("rcu_head", "RCU", RCU_HEAD_WORDS),
    Field("list", "under the lock of the design's list", 2),
    Field("id", "read-only while registered; -1 without one"),
    Field("flags", "written under the lock of the design's list"),
    Field("seeks", "read-only after init"),
    Field("batch", "read-only after init; 0 for SHRINK_BATCH"),
    Field("nr_deferred", "read-only while registered; a block of one atomic word a node, 0 if memcgs keep them"),
    Field("refcount", "atomic; users of a registered shrinker, itself included (6.7)"),
    Field("done", "atomic, futex: a completion, of the last user (6.7)"),
    Field("nr_scans", "atomic; how often it was scanned"),
    Field("magic", "SHRINKER_ALIVE from init until it is freed; a call that finds anything else came too late"),
)


@compiled
def shrinker_init(mem: Any, shrinker: int, flags: int, batch: int) -> int:
    """Fill in a shrinker that is not registered."""
    for k in range(SHRINKER.SIZE):
        write_once(mem, shrinker + k, 0)
    write_once(mem, shrinker + SHRINKER.magic, SHRINKER_ALIVE)
    write_once(mem, shrinker + SHRINKER.id, -1)
    write_once(mem, shrinker + SHRINKER.flags, flags)
    write_once(mem, shrinker + SHRINKER.seeks, DEFAULT_SEEKS)
    return write_once(mem, shrinker + SHRINKER.batch, batch)


@compiled
def is_memcg_aware(mem: Any, shrinker: int) -> int:
    """Whether it is called for each memcg."""
    return read_once(mem, shrinker + SHRINKER.flags) & SHRINKER_MEMCG_AWARE


@compiled
def is_registered(mem: Any, shrinker: int) -> int:
    """Whether reclaim may call it (5.13 and later; before, an id's placeholder said so)."""
    return read_once(mem, shrinker + SHRINKER.flags) & SHRINKER_REGISTERED


@compiled
def set_registered(mem: Any, shrinker: int, yes: int) -> int:
    """Let reclaim call it, or not; the lock of the design's list is held."""
    flags = read_once(mem, shrinker + SHRINKER.flags) & ~SHRINKER_REGISTERED
    return write_once(mem, shrinker + SHRINKER.flags, flags | (SHRINKER_REGISTERED if yes else 0))


@compiled
def deferred_word(mem: Any, shrinker: int, nid: int) -> int:
    """Where a shrinker's deferred count of a node is, all memcgs together (before 5.13)."""
    return read_once(mem, shrinker + SHRINKER.nr_deferred) + nid


@compiled
def note_id_taken(mem: Any, number: int) -> int:
    """Keep the figures of I6 (ids stay small); the lock of the design's ids is held."""
    mm = mm_state(mem)
    live = read_once(mem, mm + MM.live_ids) + 1
    write_once(mem, mm + MM.live_ids, live)
    if live > read_once(mem, mm + MM.peak_ids):
        write_once(mem, mm + MM.peak_ids, live)
    if number > read_once(mem, mm + MM.max_id):
        write_once(mem, mm + MM.max_id, number)
    return number


@compiled
def note_id_freed(mem: Any) -> int:
    """The other side of `note_id_taken`; the lock of the design's ids is held."""
    at = mm_state(mem) + MM.live_ids
    return write_once(mem, at, read_once(mem, at) - 1)


# --- the arithmetic ------------------------------------------------------------------------------


@compiled
def scan_delta(arithmetic: int, freeable: int, priority: int, seeks: int, batch: int) -> int:
    """Objects that this call owes by itself."""
    if seeks == 0 and arithmetic >= Arithmetic.V5_0:
        return freeable // 2
    delta = ((freeable >> priority) * 4) // seeks
    if arithmetic == Arithmetic.V4_19:
        delta = max(delta, min(freeable, batch))
    return delta


@compiled
def scan_target(arithmetic: int, freeable: int, deferred: int, delta: int, priority: int) -> int:
    """Objects to scan: what is owed by this call and by earlier ones, within reason."""
    if arithmetic >= Arithmetic.V5_13:
        return min((deferred >> priority) + delta, 2 * freeable)
    total = deferred + delta
    if total < 0:
        total = freeable
    if delta < freeable // 4:
        total = min(total, freeable // 2)
    return min(total, 2 * freeable)


@compiled
def scan_carry(arithmetic: int, freeable: int, deferred: int, delta: int, scanned: int) -> int:
    """Objects to owe to later calls."""
    owed = deferred + delta
    if arithmetic >= Arithmetic.V5_13:
        return min(max(owed - scanned, 0), 2 * freeable)
    if owed < 0:
        owed = deferred
    return max(owed - scanned, 0)
