"""What offline does to a memcg's objects: they become its parent's.

Model: memcg_offline_kmem() and memcg_drain_all_list_lrus() of 4.19; when a bit is set is list_lru_drain()'s to say.
The order matters: first new objects go to the heir's lists, then the old ones follow.

Lock order: cgroup_mutex (held by the caller), list_lrus_mutex, a node's lock.
"""

from typing import Any

from shmreclaim.lib.ida import ida_free
from shmreclaim.lib.list_head import list_next
from shmreclaim.machine.atomics import read_once
from shmreclaim.machine.compile import compiled, out_of_line
from shmreclaim.machine.upcall import upcall
from shmreclaim.mm.id_memory import ida_free_retired
from shmreclaim.mm.list_lru import LIST_LRU, list_lru_drain
from shmreclaim.mm.list_lru_memcg import list_lru_forget
from shmreclaim.mm.map_memory import maps_free
from shmreclaim.mm.memcg import MEMCG, memcg_reparent_effective
from shmreclaim.mm.state import MM, Upcall, mm_state, switched
from shmreclaim.switches import Switch
from shmreclaim.sync.mutex import mutex_lock, mutex_unlock


@out_of_line
def memcg_offline_kmem(mem: Any, cpu: int, memcg: int) -> int:
    """Hand all objects of a memcg to its parent's lists, setting the heir's bits, and free its lists' id."""
    mm = mm_state(mem)
    if switched(mem, Switch.FREE_MAPS_OFFLINE):
        maps_free(mem, cpu, memcg)
    heir = memcg_reparent_effective(mem, cpu, memcg)
    mutex_lock(mem, cpu, mm + MM.list_lrus_mutex)
    lru = list_next(mem, mm + MM.list_lrus)
    while lru != mm + MM.list_lrus:
        _drain(mem, cpu, lru, memcg, heir)
        lru = list_next(mem, lru)
    mutex_unlock(mem, cpu, mm + MM.list_lrus_mutex)
    ida_free(mem, mm + MM.memcg_ids, read_once(mem, memcg + MEMCG.kmemcg_id))
    return ida_free_retired(mem, cpu, mm + MM.memcg_ids)


@compiled
def _drain(mem: Any, cpu: int, lru: int, memcg: int, heir: int) -> int:
    """Move one list_lru's objects on all nodes, and set the heir's bit by the rule of the design's era."""
    number = read_once(mem, lru + LIST_LRU.shrinker_id)
    for nid in range(read_once(mem, mm_state(mem) + MM.nr_nodes)):
        if list_lru_drain(mem, cpu, lru, nid, memcg, heir) and number >= 0:
            upcall(Upcall.SET_SHRINKER_BIT, mem, cpu, heir, nid, number, 0)
    return list_lru_forget(mem, cpu, lru, read_once(mem, memcg + MEMCG.kmemcg_id))
