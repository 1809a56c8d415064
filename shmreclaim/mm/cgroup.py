"""mkdir and rmdir of a cgroup: a memcg's way in and out, around the design's online and offline.

Model: css_create, css_online, css_offline and kill_css of kernel/cgroup/cgroup.c. A memcg is in the tree before
the design sees it, so growth of the maps finds it, with maps or without; it is online after. Going, the
design's offline runs first, CSS_ONLINE is cleared after it, as in kernels to this day.

Lock order: cgroup_mutex outermost.
Allocated: the memcg under no lock; what its design and its id need, under cgroup_mutex, GFP_KERNEL.
"""

from typing import Any

from shmreclaim.lib.ida import ida_alloc_range
from shmreclaim.machine.atomics import read_once, store_release, write_once
from shmreclaim.machine.compile import compiled, out_of_line
from shmreclaim.machine.cpu import CPU
from shmreclaim.machine.upcall import upcall
from shmreclaim.mm.id_memory import cpu_pool, ida_pre_get
from shmreclaim.mm.memcg import MEMCG, css_get_many, css_put, memcg_init, memcg_link
from shmreclaim.mm.page_alloc import kmalloc
from shmreclaim.mm.slab import kfree
from shmreclaim.mm.state import EAGAIN, ENOMEM, GFP_KERNEL, LINES_PER_PAGE, MM, Upcall, mm_state
from shmreclaim.sync.mutex import mutex_lock, mutex_unlock


@out_of_line
def cgroup_mkdir(mem: Any, cpu: int, parent: int, handle: int, limit: int) -> int:
    """Make a memcg with a limit in pages: into the tree, what the design keeps for it, online; it, or -errno."""
    memcg = kmalloc(mem, cpu, read_once(mem, cpu + CPU.node), MEMCG.SIZE, GFP_KERNEL)
    if memcg == 0:
        return -ENOMEM
    memcg_init(mem, memcg, parent, handle, limit * LINES_PER_PAGE)
    mutex_lock(mem, cpu, mm_state(mem) + MM.cgroup_mutex)
    outcome = _css_create(mem, cpu, memcg, parent)
    mutex_unlock(mem, cpu, mm_state(mem) + MM.cgroup_mutex)
    return memcg if outcome == 0 else outcome


@compiled
def _css_create(mem: Any, cpu: int, memcg: int, parent: int) -> int:
    """Link a new memcg and let the design see it; 0 or -errno, then it is gone. cgroup_mutex is held."""
    number = _alloc_kmemcg_id(mem, cpu)
    if number < 0:
        kfree(mem, cpu, memcg)
        return number
    write_once(mem, memcg + MEMCG.kmemcg_id, number)
    css_get_many(mem, parent, 1)
    memcg_link(mem, cpu, memcg, parent)
    outcome = upcall(Upcall.MEMCG_ONLINE, mem, cpu, memcg, 0, 0, 0)
    if outcome == 0:
        return store_release(mem, memcg + MEMCG.online, 1)  # P23: pairs with css_online()
    _take_offline(mem, cpu, memcg)
    return outcome


@compiled
def _alloc_kmemcg_id(mem: Any, cpu: int) -> int:
    """An index for a memcg's lists; -ENOSPC if more are online than list_lrus have lists for."""
    mm = mm_state(mem)
    number = -EAGAIN
    while number == -EAGAIN:
        if not ida_pre_get(mem, cpu, GFP_KERNEL):
            return -ENOMEM
        number = ida_alloc_range(mem, mm + MM.memcg_ids, cpu_pool(cpu), 0, read_once(mem, mm + MM.max_memcgs) - 1)
    return number


@compiled
def _take_offline(mem: Any, cpu: int, memcg: int) -> int:
    """The design's offline, then the flag, then the reference that kept it online; cgroup_mutex is held."""
    upcall(Upcall.MEMCG_OFFLINE, mem, cpu, memcg, 0, 0, 0)
    write_once(mem, memcg + MEMCG.online, 0)
    return css_put(mem, cpu, memcg)


@out_of_line
def cgroup_rmdir(mem: Any, cpu: int, memcg: int) -> int:
    """Take a memcg offline; it goes for good when its last charge goes."""
    mutex_lock(mem, cpu, mm_state(mem) + MM.cgroup_mutex)
    _take_offline(mem, cpu, memcg)
    return mutex_unlock(mem, cpu, mm_state(mem) + MM.cgroup_mutex)
