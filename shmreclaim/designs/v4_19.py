"""v4.19: as merged. An IDR under shrinker_rwsem, and growth of the maps inside it, under a mutex of their own.

Source: mm/vmscan.c and mm/memcontrol.c of 4.19 (Tkhai's series v9). Arithmetic V4_19; list_lrus have arrays; offline
sets a bit if the heir's list was empty.

Lock           protects
shrinker_rwsem the list, the IDR and nr_max (W), and with them that maps grow; a shrinker's life during the walk,
               and the maps against replacement for walkers (R)
map_mutex      the size of the maps, making them in online against replacing them in growth
RCU            a map against its replacement, for setters

Lock order: s_umount, shrinker_rwsem (W), map_mutex. cgroup_mutex, map_mutex. Reclaim never takes map_mutex.
Allocated: nr_deferred under no lock; IDR nodes under shrinker_rwsem (W); grown maps under that and map_mutex, all
GFP_KERNEL: reclaim entered from there fails its trylock and leaves slab alone. A memcg's first maps under map_mutex
only, where slab can be reclaimed.

Which operation excludes which (x), or makes the other give up (t: its trylock fails):

|            | register | unregister | growth | shrink_slab | lru_add | online | offline |
|------------|----------|------------|--------|-------------|---------|--------|---------|
| register   | x        | x          | x      | t           |         |        |         |
| unregister | x        | x          | x      | t, waits    |         |        |         |
| growth     | x        | x          | x      | t           | RCU     | x      |         |
| shrink_slab| waits    | waits      | waits  |             |         |        |         |

I4  id taken, maps long enough, id known to list_lru, shrinker in the IDR and on the list: in this order.
I10 growth visits memcgs in pre-order.

Departures: a walk that growth cuts short in the middle gives its reference up (fixed in 5.6); nobody's NULL map
is looked into.
"""

from typing import Any

from shmreclaim.lib.idr import idr_find, idr_init, idr_replace
from shmreclaim.lib.list_head import list_add_tail, list_del_init, list_init, list_next
from shmreclaim.machine.atomics import clock_ns, read_once, write_once
from shmreclaim.machine.compile import compiled, out_of_line
from shmreclaim.machine.cpu import CPU, Violation, expect
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
    note_id_freed,
    note_id_taken,
)
from shmreclaim.mm.shrinker_map import MAP, map_clear_bit, map_next_bit, map_of, map_set_bit
from shmreclaim.mm.slab import kfree
from shmreclaim.mm.state import ENOMEM, GFP_KERNEL, MM, mm_state, switched
from shmreclaim.mm.superblock import expose_shrinker_id
from shmreclaim.mm.vmscan import begin_walk, do_shrink_slab, must_leave, shrink_bit
from shmreclaim.switches import Switch
from shmreclaim.sync.lockdep import LOCK, LockClass
from shmreclaim.sync.mutex import mutex_init, mutex_lock, mutex_unlock
from shmreclaim.sync.rwsem import down_write, rwsem_init, up_read, up_write

SHRINKER_REGISTERING = -1
"""What the IDR holds for an id whose shrinker is not ready."""

V4_19 = record(
    "V4_19",
    Field("shrinker_list", "under shrinker_rwsem; a list_head of all", 2),
    Field("shrinker_rwsem", "an rwsem", LOCK.SIZE, line=True),
    Field("map_mutex", "a mutex", LOCK.SIZE, line=True),
    Field("map_bits", "under map_mutex; bits that every map has"),
    Field("nr_max", "under shrinker_rwsem; the highest id so far, plus 1"),
    Field("ids", "under shrinker_rwsem; an IDR", IDR_WITH_POOL_WORDS, line=True),
)


@compiled
def init(mem: Any, cpu: int, a: int, b: int, c: int, d: int) -> int:
    """Make the design's record; the root has no map."""
    design = kzalloc(mem, cpu, 0, V4_19.SIZE, GFP_KERNEL)
    write_once(mem, mm_state(mem) + MM.design, design)
    write_once(mem, mm_state(mem) + MM.arithmetic, Arithmetic.V4_19)
    write_once(mem, mm_state(mem) + MM.has_shrink_empty, 1)
    write_once(mem, mm_state(mem) + MM.drain_at_the_edge, 1)
    list_init(mem, design + V4_19.shrinker_list)
    idr_init(mem, design + V4_19.ids)
    rwsem_init(mem, design + V4_19.shrinker_rwsem, LockClass.SHRINKER_RWSEM)
    return mutex_init(mem, design + V4_19.map_mutex, LockClass.MAP_MUTEX)


@compiled
def _state(mem: Any) -> int:
    return read_once(mem, mm_state(mem) + MM.design)


# --- ids and growth, under shrinker_rwsem -----------------------------------------------------------


@out_of_line
def _alloc_shrinker_id(mem: Any, cpu: int, shrinker: int) -> int:
    """Take the smallest id and make the maps reach it; the id, or -errno."""
    design = _state(mem)
    down_write(mem, cpu, design + V4_19.shrinker_rwsem)
    number = idr_alloc_gfp(mem, cpu, design + V4_19.ids, SHRINKER_REGISTERING, GFP_KERNEL)
    if number >= 0:
        note_id_taken(mem, number)
        if number >= read_once(mem, design + V4_19.nr_max):
            if _memcg_expand_shrinker_maps(mem, cpu, number):
                write_once(mem, design + V4_19.nr_max, number + 1)
            else:
                _free_shrinker_id(mem, cpu, number)
                number = -ENOMEM
    up_write(mem, cpu, design + V4_19.shrinker_rwsem)
    return number


@compiled
def _free_shrinker_id(mem: Any, cpu: int, number: int) -> int:
    """Give an id back; shrinker_rwsem is held for write."""
    idr_remove_rcu(mem, cpu, _state(mem) + V4_19.ids, number)
    return note_id_freed(mem)


@out_of_line
def _memcg_expand_shrinker_maps(mem: Any, cpu: int, number: int) -> int:
    """Make every map reach id `number`; returns whether memory sufficed. shrinker_rwsem is held for write.

    After a failure some maps are longer than their size says. That is harmless, and the next attempt goes on.
    """
    design = _state(mem)
    bits = bits_for(number)
    if bits <= read_once(mem, design + V4_19.map_bits):  # no lock: whoever writes it holds shrinker_rwsem
        return 1
    since = clock_ns()
    _lock_maps(mem, cpu)
    done = _expand_all(mem, cpu, bits)
    if done:
        write_once(mem, design + V4_19.map_bits, bits)
        note_growth(mem, cpu, since)
    _unlock_maps(mem, cpu)
    return done


@compiled
def _lock_maps(mem: Any, cpu: int) -> int:
    return 0 if switched(mem, Switch.NO_MAP_MUTEX) else mutex_lock(mem, cpu, _state(mem) + V4_19.map_mutex)


@compiled
def _unlock_maps(mem: Any, cpu: int) -> int:
    return 0 if switched(mem, Switch.NO_MAP_MUTEX) else mutex_unlock(mem, cpu, _state(mem) + V4_19.map_mutex)


@compiled
def _expand_all(mem: Any, cpu: int, bits: int) -> int:
    memcg = mem_cgroup_iter(mem, cpu, root_memcg(mem), 0)
    while memcg:
        if not _expand_one(mem, cpu, memcg, bits):
            css_put(mem, cpu, memcg)
            return 0
        memcg = mem_cgroup_iter(mem, cpu, root_memcg(mem), memcg)
    return 1


@compiled
def _expand_one(mem: Any, cpu: int, memcg: int, bits: int) -> int:
    """Replace a memcg's maps; the root, and one that is not online yet, has none."""
    for nid in range(read_once(mem, mm_state(mem) + MM.nr_nodes)):
        old = map_of(mem, memcg, nid)
        if old == 0 or read_once(mem, old + MAP.nr_bits) >= bits:
            continue
        new = map_grow(mem, cpu, memcg, nid, bits)
        if new == 0:
            return 0
        if switched(mem, Switch.NESTED_WRITE):  # as if the pointers needed the lock that registration holds
            down_write(mem, cpu, _state(mem) + V4_19.shrinker_rwsem)
        map_replace(mem, cpu, memcg, nid, new)
    return 1


# --- the design's functions -------------------------------------------------------------------------


@compiled
def register_shrinker(mem: Any, cpu: int, shrinker: int, b: int, c: int, d: int) -> int:
    """Make a shrinker visible to reclaim; 0 or -errno, then nothing is left of it (I7)."""
    nodes = read_once(mem, mm_state(mem) + MM.nr_nodes)
    deferred = kzalloc(mem, cpu, read_once(mem, cpu + CPU.node), nodes, GFP_KERNEL)
    if deferred == 0:
        return -ENOMEM
    write_once(mem, shrinker + SHRINKER.nr_deferred, deferred)
    if is_memcg_aware(mem, shrinker):
        number = _alloc_shrinker_id(mem, cpu, shrinker)
        if number < 0:
            kfree(mem, cpu, deferred)
            return -ENOMEM
        write_once(mem, shrinker + SHRINKER.id, number)
        expose_shrinker_id(mem, shrinker, number)
    return _register_shrinker_prepared(mem, cpu, shrinker)


@compiled
def _register_shrinker_prepared(mem: Any, cpu: int, shrinker: int) -> int:
    """Put a shrinker on the list, and itself where its placeholder was."""
    design = _state(mem)
    number = read_once(mem, shrinker + SHRINKER.id)
    down_write(mem, cpu, design + V4_19.shrinker_rwsem)
    list_add_tail(mem, shrinker + SHRINKER.list, design + V4_19.shrinker_list)
    if number >= 0:
        old = idr_replace(mem, design + V4_19.ids, shrinker, number)
        expect(mem, cpu, old == SHRINKER_REGISTERING, Violation.ID_BOUND, number, old)
    return up_write(mem, cpu, design + V4_19.shrinker_rwsem)


@compiled
def unregister_shrinker(mem: Any, cpu: int, shrinker: int, b: int, c: int, d: int) -> int:
    """Hide a shrinker from memcgs, then from the root; returns when nobody can be calling it any more (I1, I5)."""
    design = _state(mem)
    number = read_once(mem, shrinker + SHRINKER.id)
    if number >= 0:
        expose_shrinker_id(mem, shrinker, -1)
        down_write(mem, cpu, design + V4_19.shrinker_rwsem)
        _free_shrinker_id(mem, cpu, number)
        up_write(mem, cpu, design + V4_19.shrinker_rwsem)
    down_write(mem, cpu, design + V4_19.shrinker_rwsem)
    list_del_init(mem, shrinker + SHRINKER.list)
    up_write(mem, cpu, design + V4_19.shrinker_rwsem)
    kfree(mem, cpu, read_once(mem, shrinker + SHRINKER.nr_deferred))
    return write_once(mem, shrinker + SHRINKER.nr_deferred, 0)


@compiled
def memcg_online(mem: Any, cpu: int, memcg: int, b: int, c: int, d: int) -> int:
    """Give a memcg maps of the present size, which cannot change meanwhile; 0 or -ENOMEM."""
    design = _state(mem)
    _lock_maps(mem, cpu)
    done = maps_alloc_online(mem, cpu, memcg, read_once(mem, design + V4_19.map_bits), GFP_KERNEL)
    _unlock_maps(mem, cpu)
    return 0 if done else -ENOMEM


@compiled
def memcg_offline(mem: Any, cpu: int, memcg: int, b: int, c: int, d: int) -> int:
    """Objects go to the parent's lists, its bits are set; the maps stay until the memcg goes."""
    return memcg_offline_kmem(mem, cpu, memcg)


@compiled
def memcg_free(mem: Any, cpu: int, memcg: int, b: int, c: int, d: int) -> int:
    """Free the maps: nobody has a reference any more, growth included."""
    return maps_free(mem, cpu, memcg)


@compiled
def set_shrinker_bit(mem: Any, cpu: int, memcg: int, nid: int, number: int, d: int) -> int:
    """Note that shrinker `number` has an object in a memcg; the root has no map and needs none."""
    return map_set_bit(mem, cpu, memcg, nid, number)


@compiled
def shrink_slab(mem: Any, cpu: int, memcg: int, nid: int, gfp: int, priority: int) -> int:
    """Ask the shrinkers whose bit is set for a memcg; for the root, all of them; for none (0), nobody."""
    if memcg == 0 or not css_online(mem, memcg):
        return 0
    design = _state(mem)
    if not begin_walk(mem, cpu, design + V4_19.shrinker_rwsem):
        return 0
    if memcg == root_memcg(mem):
        freed = _shrink_list(mem, cpu, memcg, nid, priority)
    else:
        freed = _shrink_map(mem, cpu, memcg, nid, priority)
    up_read(mem, cpu, design + V4_19.shrinker_rwsem)
    return freed


@compiled
def _shrink_map(mem: Any, cpu: int, memcg: int, nid: int, priority: int) -> int:
    """The walk over a memcg's bits; shrinker_rwsem is held for read, so its map stands still."""
    freed = 0
    number = map_next_bit(mem, cpu, memcg, nid, 0)
    while number >= 0:
        freed += _shrink_id(mem, cpu, memcg, nid, number, priority)
        if must_leave(mem, cpu, _state(mem) + V4_19.shrinker_rwsem):
            return freed if freed else 1
        number = map_next_bit(mem, cpu, memcg, nid, number + 1)
    return freed


@compiled
def _shrink_id(mem: Any, cpu: int, memcg: int, nid: int, number: int, priority: int) -> int:
    """One bit: ask its shrinker, keep the bit if that is not ready, or clear it if nobody has that id."""
    shrinker = idr_find(mem, _state(mem) + V4_19.ids, number)
    if shrinker == SHRINKER_REGISTERING:
        return 0
    if shrinker == 0:
        map_clear_bit(mem, cpu, memcg, nid, number)
        return 0
    return shrink_bit(mem, cpu, shrinker, memcg, number, priority, deferred_word(mem, shrinker, nid))


@compiled
def _shrink_list(mem: Any, cpu: int, memcg: int, nid: int, priority: int) -> int:
    """The walk over all shrinkers for the root; shrinker_rwsem is held for read."""
    head = _state(mem) + V4_19.shrinker_list
    freed = 0
    shrinker = list_next(mem, head) - SHRINKER.list
    while shrinker + SHRINKER.list != head:
        outcome = do_shrink_slab(mem, cpu, shrinker, memcg, priority, deferred_word(mem, shrinker, nid))
        freed += outcome if outcome != SHRINK_EMPTY else 0
        if must_leave(mem, cpu, _state(mem) + V4_19.shrinker_rwsem):
            return freed if freed else 1
        shrinker = list_next(mem, shrinker + SHRINKER.list) - SHRINKER.list
    return freed
