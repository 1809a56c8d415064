"""v6.4-rc: readers under SRCU take no lock at all. Reverted before the release.

Source: mm/vmscan.c of 6.4-rc1 to -rc6 (Qi Zheng's series v5, parts by Kirill Tkhai). Arithmetic V5_13; a memcg has
lists from its first object on (5.18); offline sets a bit whenever an object went.

Lock           protects
shrinker_mutex the list, the IDR, nr_max and the pointers to all maps, for writers; reparenting of what is owed
SRCU           the list, a shrinker's life and the IDR during the walk, sleeping scans included
generation     raised by unregister: walkers that see it change make way
RCU            a map against its replacement, for setters, walkers and deferred counts

Lock order: cgroup_mutex, shrinker_mutex; s_umount, shrinker_mutex; s_umount, srcu_gp_mutex. Reclaim takes none.
Allocated: nr_deferred of those that know no memcg under no lock; IDR nodes and maps under shrinker_mutex, GFP_KERNEL,
where slab can be reclaimed: a walk needs no lock.

Which operation excludes which (x), or makes the other make way (g: it sees the generation change):

|            | register | unregister | growth | shrink_slab | lru_add | online | offline |
|------------|----------|------------|--------|-------------|---------|--------|---------|
| register   | x        | x          | x      |             |         | x      | x       |
| unregister | x        | x          | x      | g, waits    |         | x      | x       |
| growth     | x        | x          | x      | RCU         | RCU     | x      | x       |
| online     | x        | x          | x      |             |         | x      | x       |

I1  unregister waits for a grace period of SRCU: every walk that may have found the shrinker is over.
I4  id taken, maps long enough, id known to list_lru, shrinker registered: in this order. But a walker takes no lock,
    and nothing orders SHRINKER.id before REGISTERED for it: x86 does, and the kernel has the same gap.
I9  reclaim has nothing to wait for.

How long a grace period lasts is a parameter, srcu_gp_us: 2 ms fits both published slowdowns, of 2.5 and 3 ms for
each unmount, if who asks waits for the rest of one and a whole one. Departure: replaced maps go after a grace period
of RCU, not of SRCU, since here whoever looks into one is inside RCU while it does.
"""

from typing import Any

from shmreclaim.lib.idr import idr_find, idr_init
from shmreclaim.lib.list_head import list_add_tail_rcu, list_del_rcu, list_init, list_next_rcu
from shmreclaim.machine.atomics import clock_ns, fetch_add_relaxed, read_once, write_once
from shmreclaim.machine.compile import compiled, out_of_line
from shmreclaim.machine.cpu import CPU, count_event
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
from shmreclaim.mm.state import ENOMEM, GFP_KERNEL, MM, Event, MapKind, mm_state
from shmreclaim.mm.superblock import expose_shrinker_id
from shmreclaim.mm.vmscan import do_shrink_slab, shrink_bit
from shmreclaim.sync.lockdep import LOCK, LockClass
from shmreclaim.sync.mutex import mutex_init, mutex_lock, mutex_unlock
from shmreclaim.sync.srcu import SRCU, init_srcu, srcu_read_lock, srcu_read_unlock, synchronize_srcu

SRCU_GP_NS = 2_000_000
"""How long a grace period lasts without a reader."""

V6_4_SRCU = record(
    "V6_4_SRCU",
    Field("shrinker_list", "SRCU, writers under shrinker_mutex; a list_head of all", 2),
    Field("generation", "atomic; how often a shrinker went", line=True),
    Field("shrinker_mutex", "a mutex", LOCK.SIZE, line=True),
    Field("nr_max", "under shrinker_mutex; bits that every map has"),
    Field("ids", "SRCU, writers under shrinker_mutex; an IDR", IDR_WITH_POOL_WORDS, line=True),
    Field("srcu", "the domain of all walks", SRCU.SIZE, line=True),
)


@compiled
def init(mem: Any, cpu: int, a: int, b: int, c: int, d: int) -> int:
    """Make the design's record; the root has maps of no bits until the first growth."""
    design = kzalloc(mem, cpu, 0, V6_4_SRCU.SIZE, GFP_KERNEL)
    write_once(mem, mm_state(mem) + MM.design, design)
    write_once(mem, mm_state(mem) + MM.arithmetic, Arithmetic.V5_13)
    write_once(mem, mm_state(mem) + MM.has_shrink_empty, 1)
    write_once(mem, mm_state(mem) + MM.map_kind, MapKind.WITH_DEFERRED)
    write_once(mem, mm_state(mem) + MM.lists_on_demand, 1)
    write_once(mem, mm_state(mem) + MM.drop_halves, 1)
    list_init(mem, design + V6_4_SRCU.shrinker_list)
    idr_init(mem, design + V6_4_SRCU.ids)
    mutex_init(mem, design + V6_4_SRCU.shrinker_mutex, LockClass.SHRINKER_MUTEX)
    gp_ns = read_once(mem, mm_state(mem) + MM.srcu_gp_ns)
    init_srcu(mem, design + V6_4_SRCU.srcu, gp_ns if gp_ns >= 0 else SRCU_GP_NS)
    return maps_alloc_online(mem, cpu, root_memcg(mem), 0, GFP_KERNEL)


@compiled
def _state(mem: Any) -> int:
    return read_once(mem, mm_state(mem) + MM.design)


# --- ids and growth, under shrinker_mutex -----------------------------------------------------------


@out_of_line
def _prealloc_memcg_shrinker(mem: Any, cpu: int, shrinker: int) -> int:
    """Take the smallest id and make the maps reach it; the id, or -errno."""
    design = _state(mem)
    mutex_lock(mem, cpu, design + V6_4_SRCU.shrinker_mutex)
    number = idr_alloc_gfp(mem, cpu, design + V6_4_SRCU.ids, shrinker, GFP_KERNEL)
    if number >= 0:
        note_id_taken(mem, number)
        if number >= read_once(mem, design + V6_4_SRCU.nr_max) and not _expand_shrinker_info(mem, cpu, number):
            _unregister_memcg_shrinker(mem, cpu, number)
            number = -ENOMEM
    mutex_unlock(mem, cpu, design + V6_4_SRCU.shrinker_mutex)
    return number


@compiled
def _unregister_memcg_shrinker(mem: Any, cpu: int, number: int) -> int:
    """Give an id back; shrinker_mutex is held."""
    idr_remove_rcu(mem, cpu, _state(mem) + V6_4_SRCU.ids, number)
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
    write_once(mem, design + V6_4_SRCU.nr_max, bits)
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
    mutex_lock(mem, cpu, design + V6_4_SRCU.shrinker_mutex)
    list_add_tail_rcu(mem, shrinker + SHRINKER.list, design + V6_4_SRCU.shrinker_list)
    set_registered(mem, shrinker, 1)
    return mutex_unlock(mem, cpu, design + V6_4_SRCU.shrinker_mutex)


@compiled
def unregister_shrinker(mem: Any, cpu: int, shrinker: int, b: int, c: int, d: int) -> int:
    """Hide a shrinker from reclaim; returns when no walker can be calling it any more (I1, I5)."""
    design = _state(mem)
    number = read_once(mem, shrinker + SHRINKER.id)
    mutex_lock(mem, cpu, design + V6_4_SRCU.shrinker_mutex)
    list_del_rcu(mem, shrinker + SHRINKER.list)
    set_registered(mem, shrinker, 0)
    if number >= 0:
        expose_shrinker_id(mem, shrinker, -1)
        _unregister_memcg_shrinker(mem, cpu, number)
    mutex_unlock(mem, cpu, design + V6_4_SRCU.shrinker_mutex)
    fetch_add_relaxed(mem, design + V6_4_SRCU.generation, 1)
    synchronize_srcu(mem, cpu, design + V6_4_SRCU.srcu)
    kfree(mem, cpu, read_once(mem, shrinker + SHRINKER.nr_deferred))
    return write_once(mem, shrinker + SHRINKER.nr_deferred, 0)


@compiled
def memcg_online(mem: Any, cpu: int, memcg: int, b: int, c: int, d: int) -> int:
    """Give a memcg maps of the present size, which cannot change meanwhile; 0 or -ENOMEM."""
    design = _state(mem)
    mutex_lock(mem, cpu, design + V6_4_SRCU.shrinker_mutex)
    done = maps_alloc_online(mem, cpu, memcg, read_once(mem, design + V6_4_SRCU.nr_max), GFP_KERNEL)
    mutex_unlock(mem, cpu, design + V6_4_SRCU.shrinker_mutex)
    return 0 if done else -ENOMEM


@compiled
def memcg_offline(mem: Any, cpu: int, memcg: int, b: int, c: int, d: int) -> int:
    """Objects go to the parent's lists, its bits are set; then what is owed, not beside growth, which copies it."""
    memcg_offline_kmem(mem, cpu, memcg)
    design = _state(mem)
    mutex_lock(mem, cpu, design + V6_4_SRCU.shrinker_mutex)
    reparent_shrinker_deferred(mem, memcg)
    return mutex_unlock(mem, cpu, design + V6_4_SRCU.shrinker_mutex)


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
    srcu_read_lock(mem, cpu)
    generation = read_once(mem, design + V6_4_SRCU.generation)
    if memcg == root_memcg(mem):
        freed = _shrink_list(mem, cpu, memcg, nid, priority, generation)
    else:
        freed = _shrink_map(mem, cpu, memcg, nid, priority, generation)
    srcu_read_unlock(mem, cpu)
    return freed


@compiled
def _shrink_map(mem: Any, cpu: int, memcg: int, nid: int, priority: int, generation: int) -> int:
    """The walk over a memcg's bits; it makes way for who unregisters, and goes on where it was."""
    freed = 0
    number = map_next_bit(mem, cpu, memcg, nid, 0)
    while number >= 0:
        freed += _shrink_id(mem, cpu, memcg, nid, number, priority)
        now = read_once(mem, _state(mem) + V6_4_SRCU.generation)
        if now != generation:
            generation = now
            srcu_read_unlock(mem, cpu)
            srcu_read_lock(mem, cpu)
        number = map_next_bit(mem, cpu, memcg, nid, number + 1)
    return freed


@compiled
def _shrink_id(mem: Any, cpu: int, memcg: int, nid: int, number: int, priority: int) -> int:
    """One bit: ask its shrinker, keep the bit if that is not ready, or clear it if nobody has that id."""
    shrinker = idr_find(mem, _state(mem) + V6_4_SRCU.ids, number)
    if shrinker == 0:
        map_clear_bit(mem, cpu, memcg, nid, number)
        return 0
    if not is_registered(mem, shrinker):
        return 0
    return shrink_bit(mem, cpu, shrinker, memcg, number, priority, 0)


@compiled
def _shrink_list(mem: Any, cpu: int, memcg: int, nid: int, priority: int, generation: int) -> int:
    """The walk over all shrinkers for the root; it leaves when somebody unregisters."""
    design = _state(mem)
    freed = 0
    shrinker = list_next_rcu(mem, design + V6_4_SRCU.shrinker_list) - SHRINKER.list
    while shrinker + SHRINKER.list != design + V6_4_SRCU.shrinker_list:
        deferred = 0 if is_memcg_aware(mem, shrinker) else deferred_word(mem, shrinker, nid)
        outcome = do_shrink_slab(mem, cpu, shrinker, memcg, priority, deferred)
        freed += outcome if outcome != SHRINK_EMPTY else 0
        if read_once(mem, design + V6_4_SRCU.generation) != generation:
            count_event(mem, cpu, Event.BAILED_OUT, 1)
            return freed if freed else 1
        shrinker = list_next_rcu(mem, shrinker + SHRINKER.list) - SHRINKER.list
    return freed
