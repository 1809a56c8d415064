"""Test-only: davydov, but a memcg that goes offline keeps its objects on its own lists."""

from typing import Any

from shmreclaim.designs.davydov import (
    init,
    memcg_free,
    memcg_online,
    register_shrinker,
    set_shrinker_bit,
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
def memcg_offline(mem: Any, cpu: int, memcg: int, b: int, c: int, d: int) -> int:
    """Leave everything where it is."""
    return 0
