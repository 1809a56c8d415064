"""Tkhai's first series (21 March 2018, RFC, 10 patches): ids and maps under a lock of their own.

Source: linux-mm, "[PATCH 00/10] Improve shrink_slab() scalability"; patches 01 to 04 and 08 to 10. Arithmetic
V4_16; SHRINK_EMPTY is patch 10's.

Lock           protects
bitmap_rwsem   the ids, the start hint, the capacity, which maps exist (W to allocate ids, grow and free ids;
               R in online, to freeze the capacity)
shrinker_rwsem the list, the array id -> shrinker, and the pointers to maps against walkers (W); the walk (R)
RCU            a map against its replacement, for setters

Lock order: cgroup_mutex, bitmap_rwsem (R); s_umount, bitmap_rwsem (W), shrinker_rwsem (W).
Allocated: nr_deferred and the IDA's preload under no lock; array and maps under bitmap_rwsem (W), never under
shrinker_rwsem, all GFP_KERNEL: reclaim can take shrinker_rwsem there, so slab is reclaimed.

Which operation excludes which (x), or makes the other give up (t: its trylock fails), W: in short sections only:

|            | register | unregister | growth | shrink_slab | lru_add | online | offline |
|------------|----------|------------|--------|-------------|---------|--------|---------|
| register   | x        | x          | x      | t, W        |         | x      |         |
| unregister | x        | x          | x      | t, W, waits |         | x      |         |
| growth     | x        | x          | x      | t, W        | RCU     | x      |         |
| shrink_slab| waits    | waits      | waits  |             |         |        |         |

I4  id taken, array and maps long enough, shrinker in its slot, id known to list_lru: in this order.
I10 growth visits memcgs in pre-order.

Departures, each to make the posted series safe; the bugs themselves are the checker's business:
- setters are inside RCU (review of patch 08), and a memcg's maps are freed with it in css_free, not in
  css_offline (review of patch 03), since a walker or a setter may still be there;
- the root's map hangs where everybody's does, instead of in an object of its own;
- the result of ida_pre_get() is looked at: ignoring it makes the retry endless once memory is exhausted.
"""

from typing import Any

from shmreclaim.lib.ida import IDA, ida_get_new_above, ida_init, ida_remove
from shmreclaim.lib.list_head import list_add_tail, list_del_init, list_init, list_next
from shmreclaim.machine.atomics import clock_ns, read_once, write_once
from shmreclaim.machine.compile import compiled, out_of_line
from shmreclaim.machine.cpu import CPU, Violation, count_event, expect
from shmreclaim.machine.layout import Field, record
from shmreclaim.mm.id_memory import cpu_pool, ida_free_retired, ida_pre_get
from shmreclaim.mm.map_memory import map_grow, map_replace, maps_alloc_online, maps_free, note_growth
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
from shmreclaim.mm.state import EAGAIN, ENOMEM, GFP_KERNEL, MM, Event, mm_state, switched
from shmreclaim.mm.superblock import expose_shrinker_id
from shmreclaim.mm.vmscan import begin_walk, do_shrink_slab, must_leave, shrink_bit
from shmreclaim.switches import Switch
from shmreclaim.sync.lockdep import LOCK, LockClass
from shmreclaim.sync.rwsem import (
    down_read,
    down_write,
    rwsem_init,
    up_read,
    up_write,
)

MIN_CAPACITY = 8

TKHAI_V1 = record(
    "TKHAI_V1",
    Field("shrinker_list", "under shrinker_rwsem; a list_head of those that know no memcg", 2),
    Field("shrinker_rwsem", "an rwsem", LOCK.SIZE, line=True),
    Field("bitmap_rwsem", "an rwsem", LOCK.SIZE, line=True),
    Field("ids", "under bitmap_rwsem; an IDA", IDA.SIZE, line=True),
    Field("id_start", "under bitmap_rwsem; every id below it is taken"),
    Field("nr_ids", "written under bitmap_rwsem; capacity of all maps"),
    Field("mcg_shrinkers", "written under both, read under shrinker_rwsem; array id -> shrinker"),
    Field("nr_slots", "as mcg_shrinkers; its length"),
)


@compiled
def init(mem: Any, cpu: int, a: int, b: int, c: int, d: int) -> int:
    """Make the design's record; the root has maps of no bits until the first growth."""
    design = kzalloc(mem, cpu, 0, TKHAI_V1.SIZE, GFP_KERNEL)
    write_once(mem, mm_state(mem) + MM.design, design)
    write_once(mem, mm_state(mem) + MM.arithmetic, Arithmetic.V4_16)
    write_once(mem, mm_state(mem) + MM.has_shrink_empty, 1)
    list_init(mem, design + TKHAI_V1.shrinker_list)
    ida_init(mem, design + TKHAI_V1.ids)
    rwsem_init(mem, design + TKHAI_V1.shrinker_rwsem, LockClass.SHRINKER_RWSEM)
    rwsem_init(mem, design + TKHAI_V1.bitmap_rwsem, LockClass.BITMAP_RWSEM)
    return maps_alloc_online(mem, cpu, root_memcg(mem), 0, GFP_KERNEL)


@compiled
def _state(mem: Any) -> int:
    return read_once(mem, mm_state(mem) + MM.design)


# --- ids and capacity, under bitmap_rwsem -----------------------------------------------------------


@out_of_line
def _alloc_shrinker_id(mem: Any, cpu: int, shrinker: int) -> int:
    """Take the smallest id, growing array and maps if it is beyond them; the id, or -errno."""
    design = _state(mem)
    number = -EAGAIN
    while number == -EAGAIN:
        if not ida_pre_get(mem, cpu, GFP_KERNEL) and not switched(mem, Switch.IGNORE_PRELOAD):
            return -ENOMEM
        down_write(mem, cpu, design + TKHAI_V1.bitmap_rwsem)
        start = 0 if switched(mem, Switch.NO_START_HINT) else read_once(mem, design + TKHAI_V1.id_start)
        number = ida_get_new_above(mem, design + TKHAI_V1.ids, cpu_pool(cpu), start)
        if number >= 0:
            number = _claim_id(mem, cpu, number)
        up_write(mem, cpu, design + TKHAI_V1.bitmap_rwsem)
        if number == -EAGAIN:  # somebody else used up what was preloaded
            count_event(mem, cpu, Event.ID_RETRIES, 1)
    return number


@compiled
def _claim_id(mem: Any, cpu: int, number: int) -> int:
    """Make room for a new id, or give it back; the id, or -ENOMEM."""
    design = _state(mem)
    if number >= read_once(mem, design + TKHAI_V1.nr_ids) and not _grow(mem, cpu):
        ida_remove(mem, design + TKHAI_V1.ids, number)
        ida_free_retired(mem, cpu, design + TKHAI_V1.ids)
        return -ENOMEM
    write_once(mem, design + TKHAI_V1.id_start, number + 1)
    return note_id_taken(mem, number)


@compiled
def _free_shrinker_id(mem: Any, cpu: int, number: int) -> int:
    design = _state(mem)
    down_write(mem, cpu, design + TKHAI_V1.bitmap_rwsem)
    ida_remove(mem, design + TKHAI_V1.ids, number)
    ida_free_retired(mem, cpu, design + TKHAI_V1.ids)
    write_once(mem, design + TKHAI_V1.id_start, min(number, read_once(mem, design + TKHAI_V1.id_start)))
    note_id_freed(mem)
    return up_write(mem, cpu, design + TKHAI_V1.bitmap_rwsem)


@out_of_line
def _grow(mem: Any, cpu: int) -> int:
    """Double the capacity: first the array, then every memcg's maps; returns whether memory sufficed.

    After a failure some are longer than the capacity says. That is harmless, and the next attempt goes on.
    """
    since = clock_ns()
    design = _state(mem)
    capacity = max(2 * read_once(mem, design + TKHAI_V1.nr_ids), MIN_CAPACITY)
    if not _grow_array(mem, cpu, capacity):
        return 0
    memcg = mem_cgroup_iter(mem, cpu, root_memcg(mem), 0)
    while memcg:
        if not _grow_maps(mem, cpu, memcg, capacity):
            css_put(mem, cpu, memcg)
            return 0
        memcg = mem_cgroup_iter(mem, cpu, root_memcg(mem), memcg)
    write_once(mem, design + TKHAI_V1.nr_ids, capacity)
    note_growth(mem, cpu, since)
    return 1


@compiled
def _grow_array(mem: Any, cpu: int, capacity: int) -> int:
    design = _state(mem)
    array = kzalloc(mem, cpu, read_once(mem, cpu + CPU.node), capacity, GFP_KERNEL)
    if array == 0:
        return 0
    down_write(mem, cpu, design + TKHAI_V1.shrinker_rwsem)
    old = read_once(mem, design + TKHAI_V1.mcg_shrinkers)
    for k in range(min(capacity, read_once(mem, design + TKHAI_V1.nr_slots))):
        write_once(mem, array + k, read_once(mem, old + k))
    write_once(mem, design + TKHAI_V1.mcg_shrinkers, array)
    write_once(mem, design + TKHAI_V1.nr_slots, capacity)
    up_write(mem, cpu, design + TKHAI_V1.shrinker_rwsem)
    kfree(mem, cpu, old)
    return 1


@compiled
def _grow_maps(mem: Any, cpu: int, memcg: int, capacity: int) -> int:
    """Replace a memcg's maps, one short write section for each; one that is not online yet has none."""
    design = _state(mem)
    for nid in range(read_once(mem, mm_state(mem) + MM.nr_nodes)):
        old = map_of(mem, memcg, nid)
        if old == 0 or read_once(mem, old + MAP.nr_bits) >= capacity:
            continue
        new = map_grow(mem, cpu, memcg, nid, capacity)
        if new == 0:
            return 0
        down_write(mem, cpu, design + TKHAI_V1.shrinker_rwsem)
        map_replace(mem, cpu, memcg, nid, new)
        up_write(mem, cpu, design + TKHAI_V1.shrinker_rwsem)
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
    _publish(mem, cpu, shrinker)
    return expose_shrinker_id(mem, shrinker, read_once(mem, shrinker + SHRINKER.id))


@compiled
def _publish(mem: Any, cpu: int, shrinker: int) -> int:
    """Put a shrinker into its slot, or on the list if it has none."""
    design = _state(mem)
    number = read_once(mem, shrinker + SHRINKER.id)
    down_write(mem, cpu, design + TKHAI_V1.shrinker_rwsem)
    if number < 0:
        list_add_tail(mem, shrinker + SHRINKER.list, design + TKHAI_V1.shrinker_list)
    else:
        slots = read_once(mem, design + TKHAI_V1.nr_slots)
        expect(mem, cpu, number < slots, Violation.ID_BOUND, number, slots)
        write_once(mem, read_once(mem, design + TKHAI_V1.mcg_shrinkers) + number, shrinker)
    return up_write(mem, cpu, design + TKHAI_V1.shrinker_rwsem)


@compiled
def unregister_shrinker(mem: Any, cpu: int, shrinker: int, b: int, c: int, d: int) -> int:
    """Hide a shrinker from reclaim; returns when no walker can be calling it any more (I1, I5)."""
    design = _state(mem)
    number = read_once(mem, shrinker + SHRINKER.id)
    down_write(mem, cpu, design + TKHAI_V1.shrinker_rwsem)
    if number < 0:
        list_del_init(mem, shrinker + SHRINKER.list)
    else:
        write_once(mem, read_once(mem, design + TKHAI_V1.mcg_shrinkers) + number, 0)
    up_write(mem, cpu, design + TKHAI_V1.shrinker_rwsem)
    if number >= 0:
        expose_shrinker_id(mem, shrinker, -1)
        _free_shrinker_id(mem, cpu, number)
    kfree(mem, cpu, read_once(mem, shrinker + SHRINKER.nr_deferred))
    return write_once(mem, shrinker + SHRINKER.nr_deferred, 0)


@compiled
def memcg_online(mem: Any, cpu: int, memcg: int, b: int, c: int, d: int) -> int:
    """Give a memcg maps of the present capacity, which cannot change meanwhile; 0 or -ENOMEM."""
    design = _state(mem)
    down_read(mem, cpu, design + TKHAI_V1.bitmap_rwsem)
    done = maps_alloc_online(mem, cpu, memcg, read_once(mem, design + TKHAI_V1.nr_ids), GFP_KERNEL)
    up_read(mem, cpu, design + TKHAI_V1.bitmap_rwsem)
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
    """Note that shrinker `number` has an object in a memcg, the root included."""
    return map_set_bit(mem, cpu, memcg, nid, number)


@compiled
def shrink_slab(mem: Any, cpu: int, memcg: int, nid: int, gfp: int, priority: int) -> int:
    """Ask the shrinkers whose bit is set for a memcg; in the pass of none (0), those that know no memcg."""
    if memcg and not css_online(mem, memcg):
        return 0
    design = _state(mem)
    if not begin_walk(mem, cpu, design + TKHAI_V1.shrinker_rwsem):
        return 0
    freed = _shrink_map(mem, cpu, memcg, nid, priority) if memcg else _shrink_list(mem, cpu, nid, priority)
    up_read(mem, cpu, design + TKHAI_V1.shrinker_rwsem)
    return freed


@compiled
def _shrink_map(mem: Any, cpu: int, memcg: int, nid: int, priority: int) -> int:
    """The walk over a memcg's bits; shrinker_rwsem is held for read, so array and maps stand still."""
    freed = 0
    number = map_next_bit(mem, cpu, memcg, nid, 0)
    while number >= 0:
        freed += _shrink_id(mem, cpu, memcg, nid, number, priority)
        if must_leave(mem, cpu, _state(mem) + TKHAI_V1.shrinker_rwsem):
            return freed if freed else 1
        number = map_next_bit(mem, cpu, memcg, nid, number + 1)
    return freed


@compiled
def _shrink_id(mem: Any, cpu: int, memcg: int, nid: int, number: int, priority: int) -> int:
    """One bit: ask its shrinker, or clear the bit if nobody has that id."""
    design = _state(mem)
    shrinker = 0
    if number < read_once(mem, design + TKHAI_V1.nr_slots):
        shrinker = read_once(mem, read_once(mem, design + TKHAI_V1.mcg_shrinkers) + number)
    if shrinker == 0:
        map_clear_bit(mem, cpu, memcg, nid, number)
        return 0
    return shrink_bit(mem, cpu, shrinker, memcg, number, priority, deferred_word(mem, shrinker, nid))


@compiled
def _shrink_list(mem: Any, cpu: int, nid: int, priority: int) -> int:
    """The walk over the shrinkers that know no memcg; shrinker_rwsem is held for read."""
    head = _state(mem) + TKHAI_V1.shrinker_list
    freed = 0
    shrinker = list_next(mem, head) - SHRINKER.list
    while shrinker + SHRINKER.list != head:
        outcome = do_shrink_slab(mem, cpu, shrinker, 0, priority, deferred_word(mem, shrinker, nid))
        freed += outcome if outcome != SHRINK_EMPTY else 0
        if must_leave(mem, cpu, _state(mem) + TKHAI_V1.shrinker_rwsem):
            return freed if freed else 1
        shrinker = list_next(mem, shrinker + SHRINKER.list) - SHRINKER.list
    return freed
