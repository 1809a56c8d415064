"""Test-only: davydov, but a shrinker that is gone can still be found by its id (I1)."""

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
    shrink_slab,
)
from shmreclaim.lib.list_head import list_del_init
from shmreclaim.machine.atomics import read_once, write_once
from shmreclaim.machine.compile import compiled
from shmreclaim.mm.shrinker import SHRINKER, note_id_freed
from shmreclaim.mm.slab import kfree
from shmreclaim.mm.superblock import expose_shrinker_id
from shmreclaim.sync.rwsem import down_write, up_write

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
def unregister_shrinker(mem: Any, cpu: int, shrinker: int, b: int, c: int, d: int) -> int:
    """Off the list, and no more."""
    down_write(mem, cpu, _state(mem) + DAVYDOV.shrinker_rwsem)
    list_del_init(mem, shrinker + SHRINKER.list)
    expose_shrinker_id(mem, shrinker, -1)
    note_id_freed(mem)
    up_write(mem, cpu, _state(mem) + DAVYDOV.shrinker_rwsem)
    kfree(mem, cpu, read_once(mem, shrinker + SHRINKER.nr_deferred))
    return write_once(mem, shrinker + SHRINKER.nr_deferred, 0)
