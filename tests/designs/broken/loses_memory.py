"""Test-only: davydov, but a memcg that goes leaves its maps allocated (I11)."""

from typing import Any

from shmreclaim.designs.davydov import (
    init,
    memcg_offline,
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
def memcg_free(mem: Any, cpu: int, memcg: int, b: int, c: int, d: int) -> int:
    """Forget the maps."""
    return 0
