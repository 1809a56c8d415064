"""Davydov's counter-proposal with one lock moved: ids are given under map_mutex, not under shrinker_rwsem.

Source: davydov.py. An IDR node that is allocated under shrinker_rwsem (W) is allocated where reclaim can do nothing;
under map_mutex, reclaim goes on. docs/writing-a-design.md tells the steps from davydov.py to this file.

Lock           protects
shrinker_rwsem the list of shrinkers (W); a shrinker's life during the walk (R)
map_mutex      the IDR id -> shrinker, the capacity, making and replacing maps
RCU            a map against its replacement, the IDR's nodes against their removal

Lock order: shrinker_rwsem and map_mutex are never held together. cgroup_mutex, map_mutex; s_umount, either.
Allocated: IDR nodes and maps under map_mutex, where slab can be reclaimed; nr_deferred under no lock.

Which operation excludes which (x), or makes the other give up (t: its trylock fails):

|            | register | unregister | growth | shrink_slab | lru_add | online | offline |
|------------|----------|------------|--------|-------------|---------|--------|---------|
| register   | x        | x          | x      | t           |         | x      |         |
| unregister | x        | x          | x      | t, waits    |         | x      |         |
| growth     | x        | x          | x      | RCU         | RCU     | x      |         |
| shrink_slab| waits    | waits      | RCU    |             |         |        |         |
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
from shmreclaim.sync.rcu import rcu_read_lock, rcu_read_unlock
from shmreclaim.sync.rwsem import down_write, rwsem_init, up_read, up_write

PLACEHOLDER = -1
"""What the IDR holds for an id whose shrinker is not ready."""

MOVED = record(
    "MOVED",
    Field("shrinker_list", "under shrinker_rwsem; a list_head of all", 2),
    Field("shrinker_rwsem", "an rwsem", LOCK.SIZE, line=True),
    Field("map_mutex", "a mutex", LOCK.SIZE, line=True),
    Field("capacity", "under map_mutex; bits that every map has"),
    Field("ids", "written under map_mutex, read under RCU; an IDR", IDR_WITH_POOL_WORDS, line=True),
)


@compiled
def init(mem: Any, cpu: int, a: int, b: int, c: int, d: int) -> int:
    """Make the design's record; the root has no map."""
    design = kzalloc(mem, cpu, 0, MOVED.SIZE, GFP_KERNEL)
    write_once(mem, mm_state(mem) + MM.design, design)
    write_once(mem, mm_state(mem) + MM.arithmetic, Arithmetic.V4_16)
    write_once(mem, mm_state(mem) + MM.has_shrink_empty, 1)
    list_init(mem, design + MOVED.shrinker_list)
    idr_init(mem, design + MOVED.ids)
    rwsem_init(mem, design + MOVED.shrinker_rwsem, LockClass.SHRINKER_RWSEM)
    return mutex_init(mem, design + MOVED.map_mutex, LockClass.MAP_MUTEX)


@compiled
def _state(mem: Any) -> int:
    return read_once(mem, mm_state(mem) + MM.design)


# --- ids, capacity and maps under map_mutex ----------------------------------------------------------


@out_of_line
def _alloc_shrinker_id(mem: Any, cpu: int, shrinker: int) -> int:
    """Take the smallest id, then make sure that the maps reach it; the id, or -errno."""
    design = _state(mem)
    _lock_maps(mem, cpu)
    number = idr_alloc_gfp(mem, cpu, design + MOVED.ids, PLACEHOLDER, GFP_KERNEL)
    if number >= 0:
        note_id_taken(mem, number)
    _unlock_maps(mem, cpu)
    if number >= 0 and not _grow(mem, cpu, number):
        _free_shrinker_id(mem, cpu, number)
        return -ENOMEM
    return number


@compiled
def _free_shrinker_id(mem: Any, cpu: int, number: int) -> int:
    """Give an id back; no walker can have its shrinker any more."""
    _lock_maps(mem, cpu)
    idr_remove_rcu(mem, cpu, _state(mem) + MOVED.ids, number)
    note_id_freed(mem)
    return _unlock_maps(mem, cpu)


@compiled
def _bind_id(mem: Any, cpu: int, number: int, shrinker: int) -> int:
    """Let an id lead to a shrinker, or to the placeholder; returns where it led before."""
    _lock_maps(mem, cpu)
    old = idr_replace(mem, _state(mem) + MOVED.ids, shrinker, number)
    _unlock_maps(mem, cpu)
    return old


@compiled
def _find(mem: Any, cpu: int, number: int) -> int:
    """The shrinker of an id; shrinker_rwsem is held for read, so that it stays, RCU for the nodes on the way."""
    rcu_read_lock(mem, cpu)
    shrinker = idr_find(mem, _state(mem) + MOVED.ids, number)
    rcu_read_unlock(mem, cpu)
    return shrinker


@out_of_line
def _grow(mem: Any, cpu: int, number: int) -> int:
    """Make every map reach id `number`, unless somebody just did; returns whether memory sufficed.

    After a failure some maps are longer than the capacity says. That is harmless, and the next attempt goes on.
    """
    design = _state(mem)
    since = clock_ns()
    _lock_maps(mem, cpu)
    done = 1
    if number >= read_once(mem, design + MOVED.capacity):
        capacity = bits_for(number)
        done = _grow_all(mem, cpu, capacity)
        if done:
            write_once(mem, design + MOVED.capacity, capacity)
            note_growth(mem, cpu, since)
    _unlock_maps(mem, cpu)
    return done


@compiled
def _lock_maps(mem: Any, cpu: int) -> int:
    return 0 if switched(mem, Switch.NO_MAP_MUTEX) else mutex_lock(mem, cpu, _state(mem) + MOVED.map_mutex)


@compiled
def _unlock_maps(mem: Any, cpu: int) -> int:
    return 0 if switched(mem, Switch.NO_MAP_MUTEX) else mutex_unlock(mem, cpu, _state(mem) + MOVED.map_mutex)


@compiled
def _grow_all(mem: Any, cpu: int, capacity: int) -> int:
    memcg = mem_cgroup_iter(mem, cpu, root_memcg(mem), 0)
    while memcg:
        if not _grow_maps(mem, cpu, memcg, capacity):
            css_put(mem, cpu, memcg)
            return 0
        memcg = mem_cgroup_iter(mem, cpu, root_memcg(mem), memcg)
    return 1


@compiled
def _grow_maps(mem: Any, cpu: int, memcg: int, capacity: int) -> int:
    """Replace a memcg's maps; the root, and one that is not online yet, has none."""
    for nid in range(read_once(mem, mm_state(mem) + MM.nr_nodes)):
        old = map_of(mem, memcg, nid)
        if old == 0 or read_once(mem, old + MAP.nr_bits) >= capacity:
            continue
        new = map_grow(mem, cpu, memcg, nid, capacity)
        if new == 0:
            return 0
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
            return number
        write_once(mem, shrinker + SHRINKER.id, number)
        expose_shrinker_id(mem, shrinker, number)
    return _publish(mem, cpu, shrinker)


@compiled
def _publish(mem: Any, cpu: int, shrinker: int) -> int:
    """Put a shrinker on the list, and itself where its placeholder was."""
    design = _state(mem)
    number = read_once(mem, shrinker + SHRINKER.id)
    down_write(mem, cpu, design + MOVED.shrinker_rwsem)
    list_add_tail(mem, shrinker + SHRINKER.list, design + MOVED.shrinker_list)
    up_write(mem, cpu, design + MOVED.shrinker_rwsem)
    if number >= 0:
        old = _bind_id(mem, cpu, number, shrinker)
        expect(mem, cpu, old == PLACEHOLDER, Violation.ID_BOUND, number, old)
    return 0


@compiled
def unregister_shrinker(mem: Any, cpu: int, shrinker: int, b: int, c: int, d: int) -> int:
    """Hide a shrinker from reclaim; returns when no walker can be calling it any more (I1, I5)."""
    design = _state(mem)
    number = read_once(mem, shrinker + SHRINKER.id)
    if number >= 0:
        expose_shrinker_id(mem, shrinker, -1)
        _bind_id(mem, cpu, number, PLACEHOLDER)  # no walker finds it from here on
    down_write(mem, cpu, design + MOVED.shrinker_rwsem)
    list_del_init(mem, shrinker + SHRINKER.list)
    up_write(mem, cpu, design + MOVED.shrinker_rwsem)
    if number >= 0:
        _free_shrinker_id(mem, cpu, number)  # those who had found it are gone: the id may be another's now
    kfree(mem, cpu, read_once(mem, shrinker + SHRINKER.nr_deferred))
    return write_once(mem, shrinker + SHRINKER.nr_deferred, 0)


@compiled
def memcg_online(mem: Any, cpu: int, memcg: int, b: int, c: int, d: int) -> int:
    """Give a memcg maps of the present capacity, which cannot change meanwhile; 0 or -ENOMEM."""
    design = _state(mem)
    _lock_maps(mem, cpu)
    done = maps_alloc_online(mem, cpu, memcg, read_once(mem, design + MOVED.capacity), GFP_KERNEL)
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
    if not begin_walk(mem, cpu, design + MOVED.shrinker_rwsem):
        return 0
    if memcg == root_memcg(mem):
        freed = _shrink_list(mem, cpu, memcg, nid, priority)
    else:
        freed = _shrink_map(mem, cpu, memcg, nid, priority)
    up_read(mem, cpu, design + MOVED.shrinker_rwsem)
    return freed


@compiled
def _shrink_map(mem: Any, cpu: int, memcg: int, nid: int, priority: int) -> int:
    """The walk over a memcg's bits; each step looks at the map of that moment, growth may replace it between."""
    freed = 0
    number = map_next_bit(mem, cpu, memcg, nid, 0)
    while number >= 0:
        freed += _shrink_id(mem, cpu, memcg, nid, number, priority)
        if must_leave(mem, cpu, _state(mem) + MOVED.shrinker_rwsem):
            return freed if freed else 1
        number = map_next_bit(mem, cpu, memcg, nid, number + 1)
    return freed


@compiled
def _shrink_id(mem: Any, cpu: int, memcg: int, nid: int, number: int, priority: int) -> int:
    """One bit: ask its shrinker, or clear the bit if nobody has that id."""
    shrinker = _find(mem, cpu, number)
    if shrinker == PLACEHOLDER:
        return 0
    if shrinker == 0:
        map_clear_bit(mem, cpu, memcg, nid, number)
        if _find(mem, cpu, number):  # taken meanwhile: what was cleared may be its new owner's
            map_set_bit(mem, cpu, memcg, nid, number)
        return 0
    return shrink_bit(mem, cpu, shrinker, memcg, number, priority, deferred_word(mem, shrinker, nid))


@compiled
def _shrink_list(mem: Any, cpu: int, memcg: int, nid: int, priority: int) -> int:
    """The walk over all shrinkers for the root; shrinker_rwsem is held for read."""
    head = _state(mem) + MOVED.shrinker_list
    freed = 0
    shrinker = list_next(mem, head) - SHRINKER.list
    while shrinker + SHRINKER.list != head:
        outcome = do_shrink_slab(mem, cpu, shrinker, memcg, priority, deferred_word(mem, shrinker, nid))
        freed += outcome if outcome != SHRINK_EMPTY else 0
        if must_leave(mem, cpu, _state(mem) + MOVED.shrinker_rwsem):
            return freed if freed else 1
        shrinker = list_next(mem, shrinker + SHRINKER.list) - SHRINKER.list
    return freed
