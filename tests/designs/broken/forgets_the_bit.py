"""Test-only: davydov, but an object's arrival is noted nowhere (I2)."""

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
    """Forget it."""
    return 0
