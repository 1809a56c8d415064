"""Test-only: davydov, but reclaim waits for shrinker_rwsem (I9)."""

from typing import Any

from shmreclaim.designs.davydov import (
    DAVYDOV,
    _shrink_map,
    _state,
    init,
    memcg_free,
    memcg_offline,
    memcg_online,
    register_shrinker,
    set_shrinker_bit,
    unregister_shrinker,
)
from shmreclaim.machine.compile import compiled
from shmreclaim.mm.memcg import css_online
from shmreclaim.sync.rwsem import down_read, up_read

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
def shrink_slab(mem: Any, cpu: int, memcg: int, nid: int, gfp: int, priority: int) -> int:
    """Walk the map, root's too, as soon as possible."""
    if memcg == 0 or not css_online(mem, memcg):
        return 0
    sem = _state(mem) + DAVYDOV.shrinker_rwsem
    down_read(mem, cpu, sem)
    freed = _shrink_map(mem, cpu, memcg, nid, priority)
    up_read(mem, cpu, sem)
    return freed
