"""Where the memory of ids comes from: the budget, with the gfp the caller's locks allow.

Model: idr_alloc(..., gfp) and ida_pre_get() of lib/idr.c and lib/radix-tree.c. The trees of lib/ take their
nodes from a pool and say -EAGAIN when it lacks one; here the pool is filled by kmalloc().
"""

from typing import Any

from shmreclaim.lib.ida import IDA_BITMAP, IDA_PRELOAD_NODES, ida_take_retired_bitmap, ida_take_retired_node
from shmreclaim.lib.idr import idr_alloc, idr_alloc_cyclic, idr_remove, idr_take_retired
from shmreclaim.lib.radix_tree import (
    IDR,
    IDR_NODE,
    POOL,
    pool_init,
    pool_put_bitmap,
    pool_put_node,
    pool_take_bitmap,
    pool_take_node,
)
from shmreclaim.machine.atomics import read_once
from shmreclaim.machine.compile import compiled, out_of_line
from shmreclaim.machine.cpu import CPU, count_event
from shmreclaim.mm.page_alloc import kmalloc
from shmreclaim.mm.slab import kfree, kfree_rcu
from shmreclaim.mm.state import EAGAIN, ENOMEM, GFP_NOWAIT, Event, switched
from shmreclaim.switches import Switch

IDR_WITH_POOL_WORDS = IDR.SIZE + POOL.SIZE
"""An IDR of the kernel's kind: the tree, then the pool that idr_alloc_gfp() fills."""


@out_of_line
def idr_alloc_gfp(mem: Any, cpu: int, idr: int, value: int, gfp: int) -> int:
    """Store `value` under the smallest free id; the id, -ENOMEM or -ENOSPC. The IDR's lock is held meanwhile."""
    pool = idr + IDR.SIZE
    if switched(mem, Switch.IDS_NOWAIT):
        gfp = GFP_NOWAIT
    number = _idr_alloc(mem, idr, pool, value)
    while number == -EAGAIN:
        node = kmalloc(mem, cpu, read_once(mem, cpu + CPU.node), IDR_NODE.SIZE, gfp)
        if node == 0:
            return -ENOMEM
        count_event(mem, cpu, Event.ID_NODES, 1)
        pool_put_node(mem, pool, node)
        number = _idr_alloc(mem, idr, pool, value)
    return number


@compiled
def _idr_alloc(mem: Any, idr: int, pool: int, value: int) -> int:
    if switched(mem, Switch.CYCLIC_IDS):
        return idr_alloc_cyclic(mem, idr, pool, value, 0, 0)
    return idr_alloc(mem, idr, pool, value, 0, 0)


@out_of_line
def idr_remove_rcu(mem: Any, cpu: int, idr: int, number: int) -> int:
    """Take an id out; nodes that fall empty go after a grace period, lookups may be inside. The old value."""
    value = idr_remove(mem, idr, number)
    node = idr_take_retired(mem, idr)
    while node:
        kfree_rcu(mem, cpu, node)
        node = idr_take_retired(mem, idr)
    return value


@out_of_line
def ida_free_retired(mem: Any, cpu: int, ida: int) -> int:
    """Free what an IDA does not need any more; its lock is held, and nobody looks into an IDA without it."""
    block = ida_take_retired_node(mem, ida)
    while block:
        kfree(mem, cpu, block)
        block = ida_take_retired_node(mem, ida)
    block = ida_take_retired_bitmap(mem, ida)
    while block:
        kfree(mem, cpu, block)
        block = ida_take_retired_bitmap(mem, ida)
    return 0


@compiled
def cpu_pool(cpu: int) -> int:
    """The preloaded memory of this CPU."""
    return cpu + CPU.preload


@out_of_line
def ida_pre_get(mem: Any, cpu: int, gfp: int) -> int:
    """Fill this CPU's pool so that an id can be had without allocating; 1, or 0 if memory failed."""
    pool = cpu_pool(cpu)
    nid = read_once(mem, cpu + CPU.node)
    if read_once(mem, pool + POOL.bitmaps) == 0:
        bitmap = kmalloc(mem, cpu, nid, IDA_BITMAP.SIZE, gfp)
        if bitmap == 0:
            return 0
        pool_put_bitmap(mem, pool, bitmap)
    while read_once(mem, pool + POOL.nr_nodes) < IDA_PRELOAD_NODES:
        node = kmalloc(mem, cpu, nid, IDR_NODE.SIZE, gfp)
        if node == 0:
            return 0
        pool_put_node(mem, pool, node)
    return 1


@out_of_line
def ida_pre_put(mem: Any, cpu: int) -> int:
    """Give back what this CPU preloaded and did not use."""
    pool = cpu_pool(cpu)
    block = pool_take_bitmap(mem, pool)
    while block:
        kfree(mem, cpu, block)
        block = pool_take_bitmap(mem, pool)
    block = pool_take_node(mem, pool)
    while block:
        kfree(mem, cpu, block)
        block = pool_take_node(mem, pool)
    return pool_init(mem, pool)
