"""Test-only: davydov, but the heir of a memcg's objects is not told (the bug of 4.19 that 8199be001a47 fixed)."""

from typing import Any

from shmreclaim.designs.davydov import (
    init,
    memcg_free,
    memcg_offline,
    memcg_online,
    register_shrinker,
    shrink_slab,
    unregister_shrinker,
)
from shmreclaim.machine.compile import compiled
from shmreclaim.mm.shrinker_map import map_set_bit
from shmreclaim.mm.state import MM, mm_state
from shmreclaim.sync.lockdep import WRITE, lock_is_held

__all__ = [
    "init",
    "memcg_free",
    "memcg_offline",
    "memcg_online",
    "register_shrinker",
    "set_shrinker_bit",
    "shrink_slab",
    "unregister_shrinker",
]


@compiled
def set_shrinker_bit(mem: Any, cpu: int, memcg: int, nid: int, number: int, d: int) -> int:
    """Set it, unless this is offline's drain: it holds the mutex."""
    if lock_is_held(mem, cpu, mm_state(mem) + MM.list_lrus_mutex, WRITE):
        return 0
    return map_set_bit(mem, cpu, memcg, nid, number)
