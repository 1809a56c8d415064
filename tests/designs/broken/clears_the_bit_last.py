"""Test-only: davydov, but the bit is cleared after the second count, not before it (P20)."""

from typing import Any

from shmreclaim.designs.davydov import (
    DAVYDOV,
    _state,
    init,
    memcg_free,
    memcg_offline,
    memcg_online,
    register_shrinker,
    set_shrinker_bit,
    unregister_shrinker,
)
from shmreclaim.lib.idr import idr_find
from shmreclaim.machine.atomics import clock_ns, cpu_relax
from shmreclaim.machine.compile import compiled
from shmreclaim.mm.memcg import css_online
from shmreclaim.mm.shrinker import SHRINK_EMPTY, deferred_word
from shmreclaim.mm.shrinker_map import map_clear_bit, map_next_bit
from shmreclaim.mm.vmscan import do_shrink_slab
from shmreclaim.sync.rwsem import down_read_trylock, up_read

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


WINDOW_NS = 5_000
"""How long what is between the two takes: long enough to be hit soon."""


@compiled
def shrink_slab(mem: Any, cpu: int, memcg: int, nid: int, gfp: int, priority: int) -> int:
    """Walk the map, root's too."""
    if memcg == 0 or not css_online(mem, memcg):
        return 0
    sem = _state(mem) + DAVYDOV.shrinker_rwsem
    if not down_read_trylock(mem, cpu, sem):
        return 0
    freed = 0
    number = map_next_bit(mem, cpu, memcg, nid, 0)
    while number >= 0:
        freed += _shrink_id(mem, cpu, memcg, nid, number, priority)
        number = map_next_bit(mem, cpu, memcg, nid, number + 1)
    up_read(mem, cpu, sem)
    return freed


@compiled
def _shrink_id(mem: Any, cpu: int, memcg: int, nid: int, number: int, priority: int) -> int:
    """Ask; if it is empty, ask again; if it still is, clear the bit."""
    shrinker = idr_find(mem, _state(mem) + DAVYDOV.ids, number)
    if shrinker <= 0:
        return 0
    deferred = deferred_word(mem, shrinker, nid)
    freed = do_shrink_slab(mem, cpu, shrinker, memcg, priority, deferred)
    if freed == SHRINK_EMPTY:
        freed = do_shrink_slab(mem, cpu, shrinker, memcg, priority, deferred)
    if freed == SHRINK_EMPTY:
        end = clock_ns() + WINDOW_NS
        while clock_ns() < end:
            cpu_relax()
        map_clear_bit(mem, cpu, memcg, nid, number)
        return 0
    return freed
