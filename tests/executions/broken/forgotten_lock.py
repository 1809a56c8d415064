"""Test-only: whoever registers takes the cgroup mutex and never gives it back; the next one waits for ever."""

from typing import Any

from shmreclaim.designs.no_map import (
    init,
    memcg_free,
    memcg_offline,
    memcg_online,
    set_shrinker_bit,
    shrink_slab,
    unregister_shrinker,
)
from shmreclaim.machine.compile import compiled
from shmreclaim.mm.state import MM, mm_state
from shmreclaim.sync.mutex import mutex_lock

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
def register_shrinker(mem: Any, cpu: int, shrinker: int, b: int, c: int, d: int) -> int:
    """Take the lock, and forget it."""
    mutex_lock(mem, cpu, mm_state(mem) + MM.list_lrus_mutex)
    return 0
