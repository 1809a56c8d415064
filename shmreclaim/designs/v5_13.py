"""v5.13: what a shrinker owes is kept for each memcg, beside its bits, and shrinker_rwsem protects it all.

Source: mm/vmscan.c of 5.13 to 5.15 (Yang Shi's series v10). Arithmetic V5_13; list_lrus have arrays (to 5.17); offline
sets a bit whenever an object went (since 5.10).

Lock           protects
shrinker_rwsem the list, the IDR, nr_max and the pointers to all maps (W: register, unregister, online);
               a shrinker's life and the maps during the walk, and deferred counts against growth (R: reclaim, offline)
RCU            a map against its replacement, for setters
nr_deferred    atomic words, of each memcg and shrinker; of shrinkers that know no memcg, their own

Lock order: cgroup_mutex, shrinker_rwsem; s_umount, shrinker_rwsem (W). No lock inside.
Allocated: nr_deferred of those that know no memcg under no lock; IDR nodes, grown maps and a memcg's first maps under
shrinker_rwsem (W), GFP_KERNEL: reclaim entered from there fails its trylock and leaves slab alone.

Which operation excludes which (x), or makes the other give up (t: its trylock fails):

|            | register | unregister | growth | shrink_slab | lru_add | online | offline |
|------------|----------|------------|--------|-------------|---------|--------|---------|
| register   | x        | x          | x      | t           |         | x      | x       |
| unregister | x        | x          | x      | t, waits    |         | x      | x       |
| growth     | x        | x          | x      | t           | RCU     | x      | x       |
| shrink_slab| waits    | waits      | waits  |             |         | waits  |         |
| online     | x        | x          | x      | t           |         | x      | x       |

I4  id taken, maps long enough, id known to list_lru, shrinker registered: in this order.
I10 growth visits memcgs in pre-order; offline adds to the parent's counts, whose map reaches as far.

An id that is used again finds its bits and what its last owner owed still there: nothing clears them (H30).
"""

from typing import Any

from shmreclaim.lib.idr import idr_find, idr_init
from shmreclaim.lib.list_head import list_add_tail, list_del_init, list_init, list_next
from shmreclaim.machine.atomics import clock_ns, read_once, write_once
from shmreclaim.machine.compile import compiled, out_of_line
from shmreclaim.machine.cpu import CPU
from shmreclaim.machine.layout import Field, record
from shmreclaim.mm.id_memory import IDR_WITH_POOL_WORDS, idr_alloc_gfp, idr_remove_rcu
from shmreclaim.mm.map_memory import bits_for, map_grow, map_replace, maps_alloc_online, maps_free, note_growth
from shmreclaim.mm.memcg import css_online, css_put, mem_cgroup_iter, root_memcg
from shmreclaim.mm.page_alloc import kzalloc
from shmreclaim.mm.reparent import memcg_offline_kmem
from shmreclaim.mm.shrinker import (
    SHRINK_EMPTY,
    SHRINKER,
    Arithmetic,
    deferred_word,
    is_memcg_aware,
    is_registered,
    note_id_freed,
    note_id_taken,
    set_registered,
)
from shmreclaim.mm.shrinker_map import (
    MAP,
    map_clear_bit,
    map_next_bit,
    map_of,
    map_set_bit,
    reparent_shrinker_deferred,
)
from shmreclaim.mm.slab import kfree
from shmreclaim.mm.state import ENOMEM, GFP_KERNEL, MM, MapKind, mm_state
from shmreclaim.mm.superblock import expose_shrinker_id
from shmreclaim.mm.vmscan import begin_walk, do_shrink_slab, must_leave, shrink_bit
from shmreclaim.sync.lockdep import LOCK, LockClass
from shmreclaim.sync.rwsem import down_read, down_write, rwsem_init, up_read, up_write

V5_13 = record(
    "V5_13",
    Field("shrinker_list", "under shrinker_rwsem; a list_head of all", 2),
    Field("shrinker_rwsem", "an rwsem", LOCK.SIZE, line=True),
    Field("nr_max", "under shrinker_rwsem; bits that every map has"),
    Field("ids", "under shrinker_rwsem; an IDR", IDR_WITH_POOL_WORDS, line=True),
)


@compiled
def init(mem: Any, cpu: int, a: int, b: int, c: int, d: int) -> int:
    """Make the design's record; the root has maps of no bits until the first growth."""
    design = kzalloc(mem, cpu, 0, V5_13.SIZE, GFP_KERNEL)
    write_once(mem, mm_state(mem) + MM.design, design)
    write_once(mem, mm_state(mem) + MM.arithmetic, Arithmetic.V5_13)
    write_once(mem, mm_state(mem) + MM.has_shrink_empty, 1)
    write_once(mem, mm_state(mem) + MM.map_kind, MapKind.WITH_DEFERRED)
    list_init(mem, design + V5_13.shrinker_list)
    idr_init(mem, design + V5_13.ids)
    rwsem_init(mem, design + V5_13.shrinker_rwsem, LockClass.SHRINKER_RWSEM)
    return maps_alloc_online(mem, cpu, root_memcg(mem), 0, GFP_KERNEL)


@compiled
def _state(mem: Any) -> int:
    return read_once(mem, mm_state(mem) + MM.design)


# --- ids and growth, under shrinker_rwsem -----------------------------------------------------------


@out_of_line
def _prealloc_memcg_shrinker(mem: Any, cpu: int, shrinker: int) -> int:
    """Take the smallest id and make the maps reach it; the id, or -errno."""
    design = _state(mem)
    down_write(mem, cpu, design + V5_13.shrinker_rwsem)
    number = idr_alloc_gfp(mem, cpu, design + V5_13.ids, shrinker, GFP_KERNEL)
    if number >= 0:
        note_id_taken(mem, number)
        if number >= read_once(mem, design + V5_13.nr_max) and not _expand_shrinker_info(mem, cpu, number):
            _unregister_memcg_shrinker(mem, cpu, number)
            number = -ENOMEM
    up_write(mem, cpu, design + V5_13.shrinker_rwsem)
    return number


@compiled
def _unregister_memcg_shrinker(mem: Any, cpu: int, number: int) -> int:
    """Give an id back; shrinker_rwsem is held for write."""
    idr_remove_rcu(mem, cpu, _state(mem) + V5_13.ids, number)
    return note_id_freed(mem)


@out_of_line
def _expand_shrinker_info(mem: Any, cpu: int, number: int) -> int:
    """Make every map reach id `number`; returns whether memory sufficed. shrinker_rwsem is held for write.

    After a failure some maps are longer than nr_max says. That is harmless, and the next attempt goes on.
    """
    since = clock_ns()
    design = _state(mem)
    bits = bits_for(number)
    memcg = mem_cgroup_iter(mem, cpu, root_memcg(mem), 0)
    while memcg:
        if not _expand_one_shrinker_info(mem, cpu, memcg, bits):
            css_put(mem, cpu, memcg)
            return 0
        memcg = mem_cgroup_iter(mem, cpu, root_memcg(mem), memcg)
    write_once(mem, design + V5_13.nr_max, bits)
    note_growth(mem, cpu, since)
    return 1


@compiled
def _expand_one_shrinker_info(mem: Any, cpu: int, memcg: int, bits: int) -> int:
    """Replace a memcg's maps; one that is not online yet has none."""
    for nid in range(read_once(mem, mm_state(mem) + MM.nr_nodes)):
        old = map_of(mem, memcg, nid)
        if old == 0 or read_once(mem, old + MAP.nr_bits) >= bits:
            continue
        new = map_grow(mem, cpu, memcg, nid, bits)
        if new == 0:
            return 0
        map_replace(mem, cpu, memcg, nid, new)
    return 1


# --- the design's functions -------------------------------------------------------------------------


@compiled
def register_shrinker(mem: Any, cpu: int, shrinker: int, b: int, c: int, d: int) -> int:
    """Make a shrinker visible to reclaim; 0 or -errno, then nothing is left of it (I7)."""
    if is_memcg_aware(mem, shrinker):
        number = _prealloc_memcg_shrinker(mem, cpu, shrinker)
        if number < 0:
            return -ENOMEM
        write_once(mem, shrinker + SHRINKER.id, number)
        expose_shrinker_id(mem, shrinker, number)
    else:
        nodes = read_once(mem, mm_state(mem) + MM.nr_nodes)
        deferred = kzalloc(mem, cpu, read_once(mem, cpu + CPU.node), nodes, GFP_KERNEL)
        if deferred == 0:
            return -ENOMEM
        write_once(mem, shrinker + SHRINKER.nr_deferred, deferred)
    return _register_shrinker_prepared(mem, cpu, shrinker)


@compiled
def _register_shrinker_prepared(mem: Any, cpu: int, shrinker: int) -> int:
    """Put a shrinker on the list, and let walkers call it."""
    design = _state(mem)
    down_write(mem, cpu, design + V5_13.shrinker_rwsem)
    list_add_tail(mem, shrinker + SHRINKER.list, design + V5_13.shrinker_list)
    set_registered(mem, shrinker, 1)
    return up_write(mem, cpu, design + V5_13.shrinker_rwsem)


@compiled
def unregister_shrinker(mem: Any, cpu: int, shrinker: int, b: int, c: int, d: int) -> int:
    """Hide a shrinker from reclaim; returns when no walker can be calling it any more (I1, I5)."""
    design = _state(mem)
    number = read_once(mem, shrinker + SHRINKER.id)
    down_write(mem, cpu, design + V5_13.shrinker_rwsem)
    list_del_init(mem, shrinker + SHRINKER.list)
    set_registered(mem, shrinker, 0)
    if number >= 0:
        expose_shrinker_id(mem, shrinker, -1)
        _unregister_memcg_shrinker(mem, cpu, number)
    up_write(mem, cpu, design + V5_13.shrinker_rwsem)
    kfree(mem, cpu, read_once(mem, shrinker + SHRINKER.nr_deferred))
    return write_once(mem, shrinker + SHRINKER.nr_deferred, 0)


@compiled
def memcg_online(mem: Any, cpu: int, memcg: int, b: int, c: int, d: int) -> int:
    """Give a memcg maps of the present size, which cannot change meanwhile; 0 or -ENOMEM."""
    design = _state(mem)
    down_write(mem, cpu, design + V5_13.shrinker_rwsem)
    done = maps_alloc_online(mem, cpu, memcg, read_once(mem, design + V5_13.nr_max), GFP_KERNEL)
    up_write(mem, cpu, design + V5_13.shrinker_rwsem)
    return 0 if done else -ENOMEM


@compiled
def memcg_offline(mem: Any, cpu: int, memcg: int, b: int, c: int, d: int) -> int:
    """Objects go to the parent's lists, its bits are set; then what is owed, not beside growth, which copies it."""
    memcg_offline_kmem(mem, cpu, memcg)
    design = _state(mem)
    down_read(mem, cpu, design + V5_13.shrinker_rwsem)
    reparent_shrinker_deferred(mem, memcg)
    return up_read(mem, cpu, design + V5_13.shrinker_rwsem)


@compiled
def memcg_free(mem: Any, cpu: int, memcg: int, b: int, c: int, d: int) -> int:
    """Free the maps: nobody has a reference any more, growth included."""
    return maps_free(mem, cpu, memcg)


@compiled
def set_shrinker_bit(mem: Any, cpu: int, memcg: int, nid: int, number: int, d: int) -> int:
    """Note that shrinker `number` has an object in a memcg; the root's map is there for what is owed only."""
    return 0 if memcg == root_memcg(mem) else map_set_bit(mem, cpu, memcg, nid, number)


@compiled
def shrink_slab(mem: Any, cpu: int, memcg: int, nid: int, gfp: int, priority: int) -> int:
    """Ask the shrinkers whose bit is set for a memcg; for the root, all of them; for none (0), nobody."""
    if memcg == 0 or not css_online(mem, memcg):
        return 0
    design = _state(mem)
    if not begin_walk(mem, cpu, design + V5_13.shrinker_rwsem):
        return 0
    if memcg == root_memcg(mem):
        freed = _shrink_list(mem, cpu, memcg, nid, priority)
    else:
        freed = _shrink_map(mem, cpu, memcg, nid, priority)
    up_read(mem, cpu, design + V5_13.shrinker_rwsem)
    return freed


@compiled
def _shrink_map(mem: Any, cpu: int, memcg: int, nid: int, priority: int) -> int:
    """The walk over a memcg's bits; shrinker_rwsem is held for read, so its map stands still."""
    freed = 0
    number = map_next_bit(mem, cpu, memcg, nid, 0)
    while number >= 0:
        freed += _shrink_id(mem, cpu, memcg, nid, number, priority)
        if must_leave(mem, cpu, _state(mem) + V5_13.shrinker_rwsem):
            return freed if freed else 1
        number = map_next_bit(mem, cpu, memcg, nid, number + 1)
    return freed


@compiled
def _shrink_id(mem: Any, cpu: int, memcg: int, nid: int, number: int, priority: int) -> int:
    """One bit: ask its shrinker, keep the bit if that is not ready, or clear it if nobody has that id."""
    shrinker = idr_find(mem, _state(mem) + V5_13.ids, number)
    if shrinker == 0:
        map_clear_bit(mem, cpu, memcg, nid, number)
        return 0
    if not is_registered(mem, shrinker):
        return 0
    return shrink_bit(mem, cpu, shrinker, memcg, number, priority, 0)


@compiled
def _shrink_list(mem: Any, cpu: int, memcg: int, nid: int, priority: int) -> int:
    """The walk over all shrinkers for the root; shrinker_rwsem is held for read."""
    head = _state(mem) + V5_13.shrinker_list
    freed = 0
    shrinker = list_next(mem, head) - SHRINKER.list
    while shrinker + SHRINKER.list != head:
        deferred = 0 if is_memcg_aware(mem, shrinker) else deferred_word(mem, shrinker, nid)
        outcome = do_shrink_slab(mem, cpu, shrinker, memcg, priority, deferred)
        freed += outcome if outcome != SHRINK_EMPTY else 0
        if must_leave(mem, cpu, _state(mem) + V5_13.shrinker_rwsem):
            return freed if freed else 1
        shrinker = list_next(mem, shrinker + SHRINKER.list) - SHRINKER.list
    return freed
