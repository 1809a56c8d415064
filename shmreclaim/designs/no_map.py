"""v4.18 and before: one list of all shrinkers, no map; every memcg's pass asks every shrinker.

Source: mm/vmscan.c of 4.16 to 4.18 (contended bail-out, delta from priority only; the arithmetic V4_16).

Lock           protects
shrinker_rwsem the list of shrinkers (W); a shrinker's life during the whole walk, sleeping scans included (R)
nr_deferred    atomic words, all memcgs together

Lock order: s_umount (W, of a superblock that nobody else sees yet), shrinker_rwsem (W). A scan takes s_umount
inside shrinker_rwsem (R), but only tries it.
Allocated: nr_deferred, before any lock, GFP_KERNEL. Nothing under shrinker_rwsem.

Which operation excludes which (x), or makes the other give up (t: its trylock fails):

|            | register | unregister | shrink_slab | lru_add | online | offline |
|------------|----------|------------|-------------|---------|--------|---------|
| register   | x        | x          | t           |         |        |         |
| unregister | x        | x          | t, waits    |         |        |         |
| shrink_slab| waits    | waits      |             |         |        |         |
| online     |          |            |             |         | x      | x       |

I1  a shrinker is not called after unregister_shrinker() returned: it waited for every walker.
I9  reclaim only tries shrinker_rwsem.
"""

from typing import Any

from shmreclaim.lib.list_head import list_add_tail, list_del_init, list_init, list_next
from shmreclaim.machine.atomics import read_once, write_once
from shmreclaim.machine.compile import compiled
from shmreclaim.machine.cpu import CPU
from shmreclaim.machine.layout import Field, record
from shmreclaim.mm.memcg import css_online
from shmreclaim.mm.page_alloc import kzalloc
from shmreclaim.mm.reparent import memcg_offline_kmem
from shmreclaim.mm.shrinker import SHRINKER, Arithmetic, deferred_word, is_memcg_aware
from shmreclaim.mm.slab import kfree
from shmreclaim.mm.state import ENOMEM, GFP_KERNEL, MM, mm_state
from shmreclaim.mm.vmscan import begin_walk, do_shrink_slab, must_leave
from shmreclaim.sync.lockdep import LOCK, LockClass
from shmreclaim.sync.rwsem import down_write, rwsem_init, up_read, up_write

NO_MAP = record(
    "NO_MAP",
    Field("shrinker_list", "under shrinker_rwsem; a list_head", 2),
    Field("shrinker_rwsem", "an rwsem", LOCK.SIZE, line=True),
)


@compiled
def init(mem: Any, cpu: int, a: int, b: int, c: int, d: int) -> int:
    """Make the design's record."""
    design = kzalloc(mem, cpu, 0, NO_MAP.SIZE, GFP_KERNEL)
    write_once(mem, mm_state(mem) + MM.design, design)
    write_once(mem, mm_state(mem) + MM.arithmetic, Arithmetic.V4_16)
    list_init(mem, design + NO_MAP.shrinker_list)
    return rwsem_init(mem, design + NO_MAP.shrinker_rwsem, LockClass.SHRINKER_RWSEM)


@compiled
def _state(mem: Any) -> int:
    return read_once(mem, mm_state(mem) + MM.design)


@compiled
def register_shrinker(mem: Any, cpu: int, shrinker: int, b: int, c: int, d: int) -> int:
    """Make a shrinker visible to reclaim; 0 or -ENOMEM."""
    nodes = read_once(mem, mm_state(mem) + MM.nr_nodes)
    deferred = kzalloc(mem, cpu, read_once(mem, cpu + CPU.node), nodes, GFP_KERNEL)
    if deferred == 0:
        return -ENOMEM
    write_once(mem, shrinker + SHRINKER.nr_deferred, deferred)
    design = _state(mem)
    down_write(mem, cpu, design + NO_MAP.shrinker_rwsem)
    list_add_tail(mem, shrinker + SHRINKER.list, design + NO_MAP.shrinker_list)
    return up_write(mem, cpu, design + NO_MAP.shrinker_rwsem)


@compiled
def unregister_shrinker(mem: Any, cpu: int, shrinker: int, b: int, c: int, d: int) -> int:
    """Hide a shrinker from reclaim; returns when no walker can be calling it any more (I1)."""
    design = _state(mem)
    down_write(mem, cpu, design + NO_MAP.shrinker_rwsem)
    list_del_init(mem, shrinker + SHRINKER.list)
    up_write(mem, cpu, design + NO_MAP.shrinker_rwsem)
    kfree(mem, cpu, read_once(mem, shrinker + SHRINKER.nr_deferred))
    return write_once(mem, shrinker + SHRINKER.nr_deferred, 0)


@compiled
def memcg_online(mem: Any, cpu: int, memcg: int, b: int, c: int, d: int) -> int:
    """Nothing is kept for a memcg."""
    return 0


@compiled
def memcg_offline(mem: Any, cpu: int, memcg: int, b: int, c: int, d: int) -> int:
    """Objects go to the parent's lists; there is no bit to set."""
    return memcg_offline_kmem(mem, cpu, memcg)


@compiled
def memcg_free(mem: Any, cpu: int, memcg: int, b: int, c: int, d: int) -> int:
    """Nothing was kept for a memcg."""
    return 0


@compiled
def set_shrinker_bit(mem: Any, cpu: int, memcg: int, nid: int, number: int, d: int) -> int:
    """There are no bits."""
    return 0


@compiled
def shrink_slab(mem: Any, cpu: int, memcg: int, nid: int, gfp: int, priority: int) -> int:
    """Ask every shrinker: a memcg's pass those that know memcgs, the pass of none (0) the others."""
    if memcg and not css_online(mem, memcg):
        return 0
    design = _state(mem)
    if not begin_walk(mem, cpu, design + NO_MAP.shrinker_rwsem):
        return 0
    freed = 0
    shrinker = list_next(mem, design + NO_MAP.shrinker_list) - SHRINKER.list
    while shrinker + SHRINKER.list != design + NO_MAP.shrinker_list:
        if (memcg != 0) == (is_memcg_aware(mem, shrinker) != 0):
            freed += do_shrink_slab(mem, cpu, shrinker, memcg, priority, deferred_word(mem, shrinker, nid))
        if must_leave(mem, cpu, design + NO_MAP.shrinker_rwsem):
            freed = freed if freed else 1  # do not let the caller think there was nothing to free
            break
        shrinker = list_next(mem, shrinker + SHRINKER.list) - SHRINKER.list
    up_read(mem, cpu, design + NO_MAP.shrinker_rwsem)
    return freed
