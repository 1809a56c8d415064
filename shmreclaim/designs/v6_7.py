"""v6.7: each shrinker has a reference count; who walks holds one reference, and unregister waits for the last.

Source: mm/shrinker.c of 6.7 (Qi Zheng's series v6). Arithmetic V5_13; a memcg has lists from its first object on
(5.18); offline sets a bit whenever an object went. Maps are of units that never move.

Lock           protects
shrinker_mutex the list, the IDR, nr_max and the pointers to all maps, for writers; reparenting of what is owed
RCU            the list and the IDR for who looks a shrinker up; a map against its replacement
refcount       a shrinker's life during a scan, which may sleep; its last user completes `done`
(the caller's reference to the memcg: the life of its units)

Lock order: cgroup_mutex, shrinker_mutex; s_umount, shrinker_mutex. Reclaim takes none.
Allocated: nr_deferred of those that know no memcg under no lock; IDR nodes, maps and units under shrinker_mutex,
GFP_KERNEL, where slab can be reclaimed: a walk needs no lock. A callback that registers would wait for itself.

Which operation excludes which (x):

|            | register | unregister | growth | shrink_slab | lru_add | online | offline |
|------------|----------|------------|--------|-------------|---------|--------|---------|
| register   | x        | x          | x      |             |         | x      | x       |
| unregister | x        | x          | x      | its users   |         | x      | x       |
| growth     | x        | x          | x      | RCU         | RCU     | x      | x       |
| online     | x        | x          | x      |             |         | x      | x       |

I1  unregister waits for the users of that shrinker, and of no other.
I4  id taken, maps long enough, id known to list_lru, shrinker on the list, its first reference: in this order.
I9  reclaim has nothing to wait for. I10 growth visits memcgs in pre-order.

D1  a pass that meets an id whose shrinker is not registered clears its bit. D2 so does one that looked a shrinker up
    that goes, though its id may have another owner by then. D3 growth copies pointers to units, so it loses no bit,
    and repairs none. Departures: the superblock holds its shrinker and is freed, with it, after a grace period; the
    bound of a setter is checked before its unit is loaded.
"""

from typing import Any

from shmreclaim.lib.idr import idr_find, idr_init
from shmreclaim.lib.list_head import list_add_tail_rcu, list_del_rcu, list_init, list_next_rcu
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
from shmreclaim.mm.vmscan import do_shrink_slab, shrink_bit
from shmreclaim.sync.completion import complete, init_completion, wait_for_completion
from shmreclaim.sync.lockdep import LOCK, LockClass
from shmreclaim.sync.mutex import mutex_init, mutex_lock, mutex_unlock
from shmreclaim.sync.rcu import rcu_read_lock, rcu_read_unlock
from shmreclaim.sync.refcount import refcount_dec_and_test, refcount_inc_not_zero_acquire, refcount_set_release
from shmreclaim.sync.wait_queue import UNINTERRUPTIBLE

V6_7 = record(
    "V6_7",
    Field("shrinker_list", "RCU, writers under shrinker_mutex; a list_head of all", 2),
    Field("shrinker_mutex", "a mutex", LOCK.SIZE, line=True),
    Field("nr_max", "under shrinker_mutex; bits that every map has"),
    Field("ids", "RCU, writers under shrinker_mutex; an IDR", IDR_WITH_POOL_WORDS, line=True),
)


@compiled
def init(mem: Any, cpu: int, a: int, b: int, c: int, d: int) -> int:
    """Make the design's record; the root has maps of no bits until the first growth."""
    design = kzalloc(mem, cpu, 0, V6_7.SIZE, GFP_KERNEL)
    write_once(mem, mm_state(mem) + MM.design, design)
    write_once(mem, mm_state(mem) + MM.arithmetic, Arithmetic.V5_13)
    write_once(mem, mm_state(mem) + MM.has_shrink_empty, 1)
    write_once(mem, mm_state(mem) + MM.map_kind, MapKind.UNITS)
    write_once(mem, mm_state(mem) + MM.lists_on_demand, 1)
    write_once(mem, mm_state(mem) + MM.drop_halves, 1)
    list_init(mem, design + V6_7.shrinker_list)
    idr_init(mem, design + V6_7.ids)
    mutex_init(mem, design + V6_7.shrinker_mutex, LockClass.SHRINKER_MUTEX)
    return maps_alloc_online(mem, cpu, root_memcg(mem), 0, GFP_KERNEL)


@compiled
def _state(mem: Any) -> int:
    return read_once(mem, mm_state(mem) + MM.design)


# --- ids and growth, under shrinker_mutex -----------------------------------------------------------


@out_of_line
def _shrinker_memcg_alloc(mem: Any, cpu: int, shrinker: int) -> int:
    """Take the smallest id and make the maps reach it; the id, or -errno."""
    design = _state(mem)
    mutex_lock(mem, cpu, design + V6_7.shrinker_mutex)
    number = idr_alloc_gfp(mem, cpu, design + V6_7.ids, shrinker, GFP_KERNEL)
    if number >= 0:
        note_id_taken(mem, number)
        if number >= read_once(mem, design + V6_7.nr_max) and not _expand_shrinker_info(mem, cpu, number):
            _shrinker_memcg_remove(mem, cpu, number)
            number = -ENOMEM
    mutex_unlock(mem, cpu, design + V6_7.shrinker_mutex)
    return number


@compiled
def _shrinker_memcg_remove(mem: Any, cpu: int, number: int) -> int:
    """Give an id back; shrinker_mutex is held."""
    idr_remove_rcu(mem, cpu, _state(mem) + V6_7.ids, number)
    return note_id_freed(mem)


@out_of_line
def _expand_shrinker_info(mem: Any, cpu: int, number: int) -> int:
    """Make every map reach id `number`; returns whether memory sufficed. shrinker_mutex is held.

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
    write_once(mem, design + V6_7.nr_max, bits)
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
        number = _shrinker_memcg_alloc(mem, cpu, shrinker)
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
    return _shrinker_register(mem, cpu, shrinker)


@compiled
def _shrinker_register(mem: Any, cpu: int, shrinker: int) -> int:
    """Put a shrinker on the list; who finds it before its first reference is there takes it for one that goes."""
    design = _state(mem)
    mutex_lock(mem, cpu, design + V6_7.shrinker_mutex)
    list_add_tail_rcu(mem, shrinker + SHRINKER.list, design + V6_7.shrinker_list)
    set_registered(mem, shrinker, 1)
    mutex_unlock(mem, cpu, design + V6_7.shrinker_mutex)
    init_completion(mem, shrinker + SHRINKER.done)
    return refcount_set_release(mem, shrinker + SHRINKER.refcount, 1)


@compiled
def unregister_shrinker(mem: Any, cpu: int, shrinker: int, b: int, c: int, d: int) -> int:
    """Give the first reference up and wait for the last (I1), then take the shrinker off list and IDR (I5)."""
    design = _state(mem)
    number = read_once(mem, shrinker + SHRINKER.id)
    _shrinker_put(mem, shrinker)
    wait_for_completion(mem, cpu, shrinker + SHRINKER.done, 0, UNINTERRUPTIBLE)
    mutex_lock(mem, cpu, design + V6_7.shrinker_mutex)
    list_del_rcu(mem, shrinker + SHRINKER.list)
    set_registered(mem, shrinker, 0)
    if number >= 0:
        expose_shrinker_id(mem, shrinker, -1)
        _shrinker_memcg_remove(mem, cpu, number)
    mutex_unlock(mem, cpu, design + V6_7.shrinker_mutex)
    kfree(mem, cpu, read_once(mem, shrinker + SHRINKER.nr_deferred))
    return write_once(mem, shrinker + SHRINKER.nr_deferred, 0)


@compiled
def _shrinker_try_get(mem: Any, shrinker: int) -> int:
    """Become a user of a shrinker, unless it is not registered yet or any more; return whether."""
    return refcount_inc_not_zero_acquire(mem, shrinker + SHRINKER.refcount)


@compiled
def _shrinker_put(mem: Any, shrinker: int) -> int:
    """Be a user no more; the last one lets unregister go on."""
    if refcount_dec_and_test(mem, shrinker + SHRINKER.refcount):
        complete(mem, shrinker + SHRINKER.done)
    return 0


@compiled
def memcg_online(mem: Any, cpu: int, memcg: int, b: int, c: int, d: int) -> int:
    """Give a memcg maps of the present size, which cannot change meanwhile; 0 or -ENOMEM."""
    design = _state(mem)
    mutex_lock(mem, cpu, design + V6_7.shrinker_mutex)
    done = maps_alloc_online(mem, cpu, memcg, read_once(mem, design + V6_7.nr_max), GFP_KERNEL)
    mutex_unlock(mem, cpu, design + V6_7.shrinker_mutex)
    return 0 if done else -ENOMEM


@compiled
def memcg_offline(mem: Any, cpu: int, memcg: int, b: int, c: int, d: int) -> int:
    """Objects go to the parent's lists, its bits are set; then what is owed, not beside growth, which copies it."""
    memcg_offline_kmem(mem, cpu, memcg)
    design = _state(mem)
    mutex_lock(mem, cpu, design + V6_7.shrinker_mutex)
    reparent_shrinker_deferred(mem, memcg)
    return mutex_unlock(mem, cpu, design + V6_7.shrinker_mutex)


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
    if memcg == root_memcg(mem):
        return _shrink_list(mem, cpu, memcg, nid, priority)
    freed = 0
    number = map_next_bit(mem, cpu, memcg, nid, 0)
    while number >= 0:
        freed += _shrink_id(mem, cpu, memcg, nid, number, priority)
        number = map_next_bit(mem, cpu, memcg, nid, number + 1)
    return freed


@compiled
def _shrink_id(mem: Any, cpu: int, memcg: int, nid: int, number: int, priority: int) -> int:
    """One bit: ask its shrinker, or clear the bit if nobody has that id, or its owner comes or goes (D1, D2)."""
    rcu_read_lock(mem, cpu)
    shrinker = idr_find(mem, _state(mem) + V6_7.ids, number)
    if shrinker == 0 or not _shrinker_try_get(mem, shrinker):
        map_clear_bit(mem, cpu, memcg, nid, number)
        rcu_read_unlock(mem, cpu)
        return 0
    rcu_read_unlock(mem, cpu)
    freed = shrink_bit(mem, cpu, shrinker, memcg, number, priority, 0)
    _shrinker_put(mem, shrinker)
    return freed


@compiled
def _shrink_list(mem: Any, cpu: int, memcg: int, nid: int, priority: int) -> int:
    """The walk over all shrinkers for the root, outside RCU while one is asked.

    RCU is entered again before the reference is given up: our reference keeps this shrinker on the list, so its
    `next` is of that moment, and the section keeps both allocated.
    """
    head = _state(mem) + V6_7.shrinker_list
    freed = 0
    rcu_read_lock(mem, cpu)
    shrinker = list_next_rcu(mem, head) - SHRINKER.list
    while shrinker + SHRINKER.list != head:
        if _shrinker_try_get(mem, shrinker):
            rcu_read_unlock(mem, cpu)
            deferred = 0 if is_memcg_aware(mem, shrinker) else deferred_word(mem, shrinker, nid)
            outcome = do_shrink_slab(mem, cpu, shrinker, memcg, priority, deferred)
            freed += outcome if outcome != SHRINK_EMPTY else 0
            rcu_read_lock(mem, cpu)
            _shrinker_put(mem, shrinker)
        shrinker = list_next_rcu(mem, shrinker + SHRINKER.list) - SHRINKER.list
    rcu_read_unlock(mem, cpu)
    return freed
