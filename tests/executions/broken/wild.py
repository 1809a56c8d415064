"""Test-only: registering writes far outside the segment, as a design with a bad offset would."""

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
from shmreclaim.machine.atomics import write_once
from shmreclaim.machine.compile import compiled

FAR = 1 << 40

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
    """Write where nothing is."""
    return write_once(mem, FAR, 1)
