"""The lists of a memcg in a list_lru, made when its first object comes and gone when it goes offline.

Model: memcg_list_lru_alloc() and memcg_reparent_list_lru() of mm/list_lru.c since 5.18. Lists of those above are made
first, so reparenting finds them and never allocates. Departure: the tree is an IDR, and lists leave it after they
were drained, not before: until then whoever holds a node's lock and found a memcg `effective` finds its lists.

A memcg gets no lists once it is not its own `effective` any more. Offline changes that first and takes the
xa_lock later; so what is put in before is found by offline, and afterwards nothing is put in. Its number
can therefore be used again.

Lock order: xa_lock (a spinlock) innermost. Allocated: lists and nodes of the tree, under no lock, GFP_KERNEL.
"""

from typing import Any

from shmreclaim.lib.idr import IDR_NODE, idr_alloc, idr_find, idr_get_next, pool_put_node, pool_take_node
from shmreclaim.machine.atomics import read_once
from shmreclaim.machine.compile import compiled, out_of_line
from shmreclaim.machine.cpu import CPU
from shmreclaim.mm.id_memory import idr_remove_rcu
from shmreclaim.mm.list_lru import LIST_LRU, LISTS_ON_DEMAND, LRU_MEMCG, LRU_ONE, lru_one_init
from shmreclaim.mm.memcg import MEMCG
from shmreclaim.mm.page_alloc import kmalloc
from shmreclaim.mm.slab import kfree, kfree_rcu
from shmreclaim.mm.state import EAGAIN, ENOMEM, GFP_KERNEL, MM, mm_state
from shmreclaim.sync.rcu import rcu_read_lock, rcu_read_unlock
from shmreclaim.sync.spinlock import spin_lock, spin_unlock


@compiled
def memcg_list_lru_alloc(mem: Any, cpu: int, lru: int, memcg: int) -> int:
    """Make sure that an object of a memcg, which is referenced, finds a list; 0 or -ENOMEM."""
    if read_once(mem, lru + LIST_LRU.memcg_aware) != LISTS_ON_DEMAND:
        return 0
    return _alloc_lists(mem, cpu, lru, memcg)


@out_of_line
def _alloc_lists(mem: Any, cpu: int, lru: int, memcg: int) -> int:
    missing = _highest_without(mem, cpu, lru, memcg)
    while missing:
        if not _add_lists(mem, cpu, lru, missing):
            return -ENOMEM
        missing = _highest_without(mem, cpu, lru, memcg)
    return 0


@compiled
def _highest_without(mem: Any, cpu: int, lru: int, memcg: int) -> int:
    """Of a memcg's `effective` and those above it, the highest that has no lists; 0 if all have."""
    missing = 0
    rcu_read_lock(mem, cpu)
    above = read_once(mem, memcg + MEMCG.effective)
    number = read_once(mem, above + MEMCG.kmemcg_id)
    while number >= 0:  # the root has no number, and its lists from the start
        if idr_find(mem, lru + LIST_LRU.xa, number) == 0:
            missing = above
        above = read_once(mem, read_once(mem, above + MEMCG.parent) + MEMCG.effective)
        number = read_once(mem, above + MEMCG.kmemcg_id)
    rcu_read_unlock(mem, cpu)
    return missing


@compiled
def _add_lists(mem: Any, cpu: int, lru: int, memcg: int) -> int:
    """Give a memcg empty lists, unless somebody just did or it goes offline; 0 if memory failed."""
    nid = read_once(mem, cpu + CPU.node)
    nodes = read_once(mem, mm_state(mem) + MM.nr_nodes)
    block = kmalloc(mem, cpu, nid, LRU_MEMCG.lists + nodes * LRU_ONE.SIZE, GFP_KERNEL)
    if block == 0:
        return 0
    for k in range(nodes):
        lru_one_init(mem, block + LRU_MEMCG.lists + k * LRU_ONE.SIZE)
    outcome = _insert(mem, cpu, lru, memcg, block)
    while outcome == -EAGAIN:
        node = kmalloc(mem, cpu, nid, IDR_NODE.SIZE, GFP_KERNEL)
        if node == 0:
            kfree(mem, cpu, block)
            return 0
        spin_lock(mem, cpu, lru + LIST_LRU.xa_lock)
        pool_put_node(mem, lru + LIST_LRU.pool, node)
        spin_unlock(mem, cpu, lru + LIST_LRU.xa_lock)
        outcome = _insert(mem, cpu, lru, memcg, block)
    if outcome < 0:
        kfree(mem, cpu, block)
    return 1


@compiled
def _insert(mem: Any, cpu: int, lru: int, memcg: int, block: int) -> int:
    """Put lists into the tree; -EAGAIN if that needs a node, another negative errno if they are not wanted."""
    number = read_once(mem, memcg + MEMCG.kmemcg_id)
    spin_lock(mem, cpu, lru + LIST_LRU.xa_lock)
    outcome = -ENOMEM
    if read_once(mem, memcg + MEMCG.effective) == memcg:
        outcome = idr_alloc(mem, lru + LIST_LRU.xa, lru + LIST_LRU.pool, block, number, number + 1)
    spin_unlock(mem, cpu, lru + LIST_LRU.xa_lock)
    return outcome


@out_of_line
def list_lru_forget(mem: Any, cpu: int, lru: int, number: int) -> int:
    """Free the lists of a kmemcg_id, which were drained on every node; who counts may still be inside."""
    if read_once(mem, lru + LIST_LRU.memcg_aware) != LISTS_ON_DEMAND:
        return 0
    spin_lock(mem, cpu, lru + LIST_LRU.xa_lock)
    block = idr_remove_rcu(mem, cpu, lru + LIST_LRU.xa, number)
    spin_unlock(mem, cpu, lru + LIST_LRU.xa_lock)
    return kfree_rcu(mem, cpu, block)


@out_of_line
def list_lru_destroy(mem: Any, cpu: int, lru: int) -> int:
    """Free what a list_lru made on demand; it is empty, and offline does not find it any more."""
    number = idr_get_next(mem, lru + LIST_LRU.xa, 0)
    while number >= 0:
        list_lru_forget(mem, cpu, lru, number)
        number = idr_get_next(mem, lru + LIST_LRU.xa, number + 1)
    node = pool_take_node(mem, lru + LIST_LRU.pool)
    while node:
        kfree(mem, cpu, node)
        node = pool_take_node(mem, lru + LIST_LRU.pool)
    return 0
