"""Test-only: davydov, but a memcg is charged for its maps and nobody uncharges it."""

from typing import Any

from shmreclaim.designs.davydov import (
    init,
    memcg_free,
    memcg_offline,
    register_shrinker,
    set_shrinker_bit,
    shrink_slab,
    unregister_shrinker,
)
from shmreclaim.designs.davydov import memcg_online as _online
from shmreclaim.machine.compile import compiled
from shmreclaim.mm.memcg import page_counter_try_charge

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
def memcg_online(mem: Any, cpu: int, memcg: int, b: int, c: int, d: int) -> int:
    """Charge a line for it."""
    page_counter_try_charge(mem, memcg, 1)
    return _online(mem, cpu, memcg, 0, 0, 0)
