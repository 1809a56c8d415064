"""Test-only: davydov, but maps stay as short as they were when their memcg came online (I3)."""

from typing import Any

from shmreclaim.designs.davydov import (
    DAVYDOV,
    PLACEHOLDER,
    _publish,
    _state,
    init,
    memcg_free,
    memcg_offline,
    memcg_online,
    set_shrinker_bit,
    shrink_slab,
    unregister_shrinker,
)
from shmreclaim.machine.atomics import read_once, write_once
from shmreclaim.machine.compile import compiled
from shmreclaim.mm.id_memory import idr_alloc_gfp
from shmreclaim.mm.page_alloc import kzalloc
from shmreclaim.mm.shrinker import SHRINKER, note_id_taken
from shmreclaim.mm.slab import kfree
from shmreclaim.mm.state import ENOMEM, GFP_KERNEL, MM, mm_state
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
def register_shrinker(mem: Any, cpu: int, shrinker: int, b: int, c: int, d: int) -> int:
    """Take an id, and tell everybody."""
    deferred = kzalloc(mem, cpu, 0, read_once(mem, mm_state(mem) + MM.nr_nodes), GFP_KERNEL)
    if deferred == 0:
        return -ENOMEM
    design = _state(mem)
    down_write(mem, cpu, design + DAVYDOV.shrinker_rwsem)
    number = idr_alloc_gfp(mem, cpu, design + DAVYDOV.ids, PLACEHOLDER, GFP_KERNEL)
    if number >= 0:
        note_id_taken(mem, number)
    up_write(mem, cpu, design + DAVYDOV.shrinker_rwsem)
    if number < 0:
        kfree(mem, cpu, deferred)
        return number
    write_once(mem, shrinker + SHRINKER.nr_deferred, deferred)
    write_once(mem, shrinker + SHRINKER.id, number)
    expose_shrinker_id(mem, shrinker, number)
    return _publish(mem, cpu, shrinker)
