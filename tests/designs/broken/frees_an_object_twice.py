"""Test-only: no_map, but unregistering frees an object of root, twice."""

from typing import Any

from shmreclaim.designs.no_map import (
    init,
    memcg_free,
    memcg_offline,
    memcg_online,
    register_shrinker,
    set_shrinker_bit,
    shrink_slab,
)
from shmreclaim.designs.no_map import unregister_shrinker as _unregister
from shmreclaim.lib.list_head import list_del_init, list_init, list_next
from shmreclaim.machine.compile import compiled
from shmreclaim.machine.cpu import count_event
from shmreclaim.mm.list_lru import OBJECT, list_lru_walk_one
from shmreclaim.mm.memcg import root_memcg
from shmreclaim.mm.state import Event
from shmreclaim.mm.superblock import SHRINK_CONTROL, SUPERBLOCK, object_free, shrink_control

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
    """Take the oldest dentry of root with it."""
    head = shrink_control(cpu) + SHRINK_CONTROL.dispose
    list_init(mem, head)
    if list_lru_walk_one(mem, cpu, shrinker + SUPERBLOCK.dentries, 0, root_memcg(mem), 1, head):
        item = list_next(mem, head) - OBJECT.link
        list_del_init(mem, item + OBJECT.link)
        object_free(mem, cpu, item)
        object_free(mem, cpu, item)
        count_event(mem, cpu, Event.OBJECTS_DELETED, 1)
    return _unregister(mem, cpu, shrinker, 0, 0, 0)
