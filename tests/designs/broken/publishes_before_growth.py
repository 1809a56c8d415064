"""Test-only: davydov, but the id is known to list_lru and to reclaim before the maps reach it (O2, I4)."""

from typing import Any

from shmreclaim.designs.davydov import (
    _grow,
    init,
    memcg_free,
    memcg_offline,
    memcg_online,
    set_shrinker_bit,
    shrink_slab,
    unregister_shrinker,
)
from shmreclaim.machine.atomics import read_once
from shmreclaim.machine.compile import compiled
from shmreclaim.mm.shrinker import SHRINKER
from tests.designs.broken.does_not_grow import register_shrinker as _publish_at_once

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
    """Publish, then grow; when memory fails it is too late to give the id back."""
    outcome = _publish_at_once(mem, cpu, shrinker, 0, 0, 0)
    if outcome == 0:
        _grow(mem, cpu, read_once(mem, shrinker + SHRINKER.id))
    return outcome
