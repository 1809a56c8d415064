"""Mount and unmount: a superblock's way in and out, around the design's register and unregister.

Model: sget and deactivate_locked_super of fs/super.c. Both list_lrus are there before the shrinker is, and go
after it: I4 and I5 begin and end here.

Lock order: s_umount, then list_lrus_mutex or the locks of the design; sb_lock (a spinlock) innermost.
Allocated: the superblock and the arrays of its list_lrus, under no lock, GFP_KERNEL.
"""

from typing import Any

from shmreclaim.lib.list_head import list_add_tail, list_del_init, list_init
from shmreclaim.machine.atomics import read_once, write_once
from shmreclaim.machine.compile import compiled, out_of_line
from shmreclaim.machine.cpu import CPU, count_event
from shmreclaim.machine.upcall import upcall
from shmreclaim.mm.list_lru import (
    LISTS_IN_ARRAYS,
    LISTS_ON_DEMAND,
    LRU_NODE,
    LRU_ONE,
    list_lru_evict,
    list_lru_init,
    list_lru_init_node,
    list_lru_link,
    list_lru_unlink,
    lru_node,
)
from shmreclaim.mm.list_lru_memcg import list_lru_destroy
from shmreclaim.mm.page_alloc import kmalloc
from shmreclaim.mm.shrinker import SHRINKER, SHRINKER_FREED, SHRINKER_MEMCG_AWARE, SHRINKER_NUMA_AWARE, shrinker_init
from shmreclaim.mm.slab import kfree, kfree_rcu
from shmreclaim.mm.state import ENOMEM, GFP_KERNEL, MM, Event, Upcall, mm_state
from shmreclaim.mm.superblock import (
    SHRINK_CONTROL,
    SUPERBLOCK,
    SUPERBLOCK_BATCH,
    dispose_list,
    shrink_control,
    superblock_lru,
)
from shmreclaim.sync.lockdep import LockClass
from shmreclaim.sync.rwsem import down_write, rwsem_init, up_write
from shmreclaim.sync.spinlock import spin_lock, spin_unlock


@out_of_line
def mount(mem: Any, cpu: int, handle: int, aware: int, scan_ns: int) -> int:
    """Make a superblock and register its shrinker; the superblock, or a negative errno.

    Its scans sleep `scan_ns` each, as those of a slow file system; if that is negative they give up.
    """
    nid = read_once(mem, cpu + CPU.node)
    sb = kmalloc(mem, cpu, nid, SUPERBLOCK.SIZE, GFP_KERNEL)
    if sb == 0:
        return -ENOMEM
    shrinker_init(mem, sb, SHRINKER_NUMA_AWARE | (SHRINKER_MEMCG_AWARE if aware else 0), SUPERBLOCK_BATCH)
    rwsem_init(mem, sb + SUPERBLOCK.s_umount, LockClass.S_UMOUNT)
    write_once(mem, sb + SUPERBLOCK.born, 0)
    write_once(mem, sb + SUPERBLOCK.handle, handle)
    write_once(mem, sb + SUPERBLOCK.scan_ns, scan_ns)
    outcome = _init_lrus(mem, cpu, sb, aware)
    if outcome == 0:
        down_write(mem, cpu, sb + SUPERBLOCK.s_umount)
        outcome = upcall(Upcall.REGISTER_SHRINKER, mem, cpu, sb, 0, 0, 0)
        if outcome == 0:
            # No order: who may look found the shrinker under the design's lock, after its lists were made.
            write_once(mem, sb + SUPERBLOCK.born, 1)
        up_write(mem, cpu, sb + SUPERBLOCK.s_umount)
        if outcome != 0:
            _destroy_lrus(mem, cpu, sb)
    if outcome != 0:
        kfree(mem, cpu, sb)
        return outcome
    _link_superblock(mem, cpu, sb)
    return sb


@compiled
def _link_superblock(mem: Any, cpu: int, sb: int) -> int:
    mm = mm_state(mem)
    spin_lock(mem, cpu, mm + MM.sb_lock)
    list_add_tail(mem, sb + SUPERBLOCK.link, mm + MM.superblocks)
    return spin_unlock(mem, cpu, mm + MM.sb_lock)


@out_of_line
def _init_lrus(mem: Any, cpu: int, sb: int, aware: int) -> int:
    """Make both list_lrus, in the layout of the design's era; 0 or -ENOMEM."""
    mm = mm_state(mem)
    nodes = read_once(mem, mm + MM.nr_nodes)
    kind = LISTS_ON_DEMAND if read_once(mem, mm + MM.lists_on_demand) else LISTS_IN_ARRAYS
    for k in range(2):
        list_lru_init(mem, superblock_lru(sb, k), kind if aware else 0)
    words = read_once(mem, mm + MM.max_memcgs) * LRU_ONE.SIZE if aware and kind == LISTS_IN_ARRAYS else 0
    for k in range(2 * nodes):
        lists = kmalloc(mem, cpu, k >> 1, words, GFP_KERNEL) if words else 0
        if words and lists == 0:
            _free_lists(mem, cpu, sb, k)
            return -ENOMEM
        list_lru_init_node(mem, superblock_lru(sb, k & 1), k >> 1, lists)
    for k in range(2):
        list_lru_link(mem, cpu, superblock_lru(sb, k))
    return 0


@compiled
def _free_lists(mem: Any, cpu: int, sb: int, count: int) -> int:
    for k in range(count):
        kfree(mem, cpu, read_once(mem, lru_node(superblock_lru(sb, k & 1), k >> 1) + LRU_NODE.lists))
    return 0


@out_of_line
def _destroy_lrus(mem: Any, cpu: int, sb: int) -> int:
    """Hide both list_lrus from offline, and free their lists: they are empty."""
    for k in range(2):
        list_lru_unlink(mem, cpu, superblock_lru(sb, k))
        list_lru_destroy(mem, cpu, superblock_lru(sb, k))
    return _free_lists(mem, cpu, sb, 2 * read_once(mem, mm_state(mem) + MM.nr_nodes))


@out_of_line
def unmount(mem: Any, cpu: int, sb: int) -> int:
    """Unregister a superblock's shrinker, evict what is cached, free the superblock."""
    mm = mm_state(mem)
    spin_lock(mem, cpu, mm + MM.sb_lock)
    list_del_init(mem, sb + SUPERBLOCK.link)
    spin_unlock(mem, cpu, mm + MM.sb_lock)
    down_write(mem, cpu, sb + SUPERBLOCK.s_umount)
    upcall(Upcall.UNREGISTER_SHRINKER, mem, cpu, sb, 0, 0, 0)
    _evict(mem, cpu, sb)
    up_write(mem, cpu, sb + SUPERBLOCK.s_umount)
    _destroy_lrus(mem, cpu, sb)
    write_once(mem, sb + SHRINKER.magic, SHRINKER_FREED)
    return kfree_rcu(mem, cpu, sb)  # walkers may still be looking at what they found (kernel: destroy_super_rcu)


@compiled
def _evict(mem: Any, cpu: int, sb: int) -> int:
    head = shrink_control(cpu) + SHRINK_CONTROL.dispose
    list_init(mem, head)
    for nid in range(read_once(mem, mm_state(mem) + MM.nr_nodes)):
        list_lru_evict(mem, cpu, sb + SUPERBLOCK.dentries, nid, head)
        list_lru_evict(mem, cpu, sb + SUPERBLOCK.inodes, nid, head)
    return count_event(mem, cpu, Event.OBJECTS_DELETED, dispose_list(mem, cpu, head))
