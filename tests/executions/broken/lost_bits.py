"""Test-only: davydov, but nobody sets a bit when a list becomes non-empty (breaks I2)."""

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
