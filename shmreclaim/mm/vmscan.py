"""Reclaim: one shrinker, one node, one allocation's worth.

Model: mm/vmscan.c. do_shrink_slab asks one shrinker for its share; shrink_node walks a subtree of memcgs, page
cache and slab of each; try_to_free_pages repeats that with falling priority until a cluster of pages is free.
The walk over shrinkers is the design's, reached by an upcall.

I9   reclaim never blocks for the lock of registration: it holds PF_MEMALLOC, and designs check that.
Lock order: none held on entry that a shrinker could need; whoever holds more must expect trylocks to fail.
"""

from typing import Any

from shmreclaim.machine.atomics import fetch_add_relaxed, read_once, write_once, xchg_relaxed
from shmreclaim.machine.compile import compiled, out_of_line
from shmreclaim.machine.cpu import CPU, PF_KSWAPD, PF_MEMALLOC, Violation, count_event, expect
from shmreclaim.machine.upcall import upcall
from shmreclaim.mm.memcg import css_put, mem_cgroup_iter, root_memcg
from shmreclaim.mm.page_cache import shrink_lruvec
from shmreclaim.mm.shrinker import (
    SHRINK_BATCH,
    SHRINK_EMPTY,
    SHRINK_STOP,
    SHRINKER,
    SHRINKER_ALIVE,
    scan_carry,
    scan_delta,
    scan_target,
)
from shmreclaim.mm.shrinker_map import add_nr_deferred, map_clear_bit, map_set_bit, xchg_nr_deferred
from shmreclaim.mm.state import (
    DEF_PRIORITY,
    GFP_KERNEL,
    LINES_PER_PAGE,
    MM,
    SWAP_CLUSTER_MAX,
    Event,
    Upcall,
    fatal_signal_pending,
    mm_state,
    switched,
)
from shmreclaim.mm.superblock import SHRINK_CONTROL, shrink_control, super_cache_count, super_cache_scan
from shmreclaim.mm.zone import ZONE, zone_free, zone_of
from shmreclaim.switches import Switch
from shmreclaim.sync.lockdep import WRITE, LockClass, class_is_held
from shmreclaim.sync.rwsem import down_read, down_read_trylock, rwsem_is_contended

DROP_SLAB_MIN = 10
"""drop_caches goes on while a round frees more than this (to 5.15)."""


# --- one shrinker ---------------------------------------------------------------------------------


@out_of_line
def do_shrink_slab(mem: Any, cpu: int, shrinker: int, memcg: int, priority: int, deferred: int) -> int:
    """Let one shrinker free its share; objects freed, or SHRINK_EMPTY. gfp and nid are in the shrink_control.

    `deferred` is the word that holds what it owes, 0 for the one in the memcg's map. Like the kernel, a concurrent
    walker sees no debt while this one works it off: the word is taken to zero first.
    """
    sc = shrink_control(cpu)
    magic = read_once(mem, shrinker + SHRINKER.magic)
    expect(mem, cpu, magic == SHRINKER_ALIVE, Violation.USE_AFTER_FREE, shrinker, magic)  # I1
    if magic != SHRINKER_ALIVE:
        return 0  # what it points to is somebody else's by now
    write_once(mem, sc + SHRINK_CONTROL.memcg, memcg if memcg else root_memcg(mem))
    count_event(mem, cpu, Event.SHRINKER_CALLS, 1)
    freeable = super_cache_count(mem, cpu, shrinker)
    if freeable in (0, SHRINK_EMPTY):
        return freeable
    era = read_once(mem, mm_state(mem) + MM.arithmetic)
    owed = _take_owed(mem, cpu, shrinker, deferred)
    batch = read_once(mem, shrinker + SHRINKER.batch)
    batch = batch if batch else SHRINK_BATCH
    delta = scan_delta(era, freeable, priority, read_once(mem, shrinker + SHRINKER.seeks), batch)
    target = scan_target(era, freeable, owed, delta, priority)
    freed = _scan_batches(mem, cpu, shrinker, freeable, target, batch)
    carry = scan_carry(era, freeable, owed, delta, target - read_once(mem, sc + SHRINK_CONTROL.nr_to_scan))
    if carry:
        _owe(mem, cpu, shrinker, deferred, carry)
    return freed


@compiled
def _take_owed(mem: Any, cpu: int, shrinker: int, deferred: int) -> int:
    if deferred:
        return xchg_relaxed(mem, deferred, 0)
    sc = shrink_control(cpu)
    memcg, nid = read_once(mem, sc + SHRINK_CONTROL.memcg), read_once(mem, sc + SHRINK_CONTROL.nid)
    return xchg_nr_deferred(mem, cpu, memcg, nid, read_once(mem, shrinker + SHRINKER.id))


@compiled
def _owe(mem: Any, cpu: int, shrinker: int, deferred: int, nr: int) -> int:
    if deferred:
        return fetch_add_relaxed(mem, deferred, nr)
    sc = shrink_control(cpu)
    memcg, nid = read_once(mem, sc + SHRINK_CONTROL.memcg), read_once(mem, sc + SHRINK_CONTROL.nid)
    return add_nr_deferred(mem, cpu, memcg, nid, read_once(mem, shrinker + SHRINKER.id), nr)


@compiled
def _scan_batches(mem: Any, cpu: int, shrinker: int, freeable: int, target: int, batch: int) -> int:
    """Scan `target` objects in batches; what is left of it is in sc.nr_to_scan after. Returns objects freed."""
    sc = shrink_control(cpu)
    freed = 0
    left = target
    while left >= batch or left >= freeable:
        n = min(batch, left)
        write_once(mem, sc + SHRINK_CONTROL.nr_to_scan, n)
        write_once(mem, sc + SHRINK_CONTROL.nr_scanned, n)
        outcome = super_cache_scan(mem, cpu, shrinker)
        if outcome == SHRINK_STOP:
            break
        freed += outcome
        left -= read_once(mem, sc + SHRINK_CONTROL.nr_scanned)
    write_once(mem, sc + SHRINK_CONTROL.nr_to_scan, left)
    return freed


# --- what designs share of their walks --------------------------------------------------------------


@compiled
def begin_walk(mem: Any, cpu: int, sem: int) -> int:
    """Take the lock of the shrinkers for a walk, if it is to be had at once (I9); return whether."""
    if down_read_trylock(mem, cpu, sem):
        return 1
    if switched(mem, Switch.BLOCKING_RECLAIM):
        down_read(mem, cpu, sem)
        return 1
    count_event(mem, cpu, Event.TRYLOCK_FAILED, 1)
    return 0


@compiled
def must_leave(mem: Any, cpu: int, sem: int) -> int:
    """Whether a writer waits for those who walk under `sem` to leave."""
    if not rwsem_is_contended(mem, sem):
        return 0
    count_event(mem, cpu, Event.BAILED_OUT, 1)
    return 1


@out_of_line
def shrink_bit(mem: Any, cpu: int, shrinker: int, memcg: int, number: int, priority: int, deferred: int) -> int:
    """One set bit: ask its shrinker; if that is empty, clear the bit, and ask once more (P20). Objects freed."""
    freed = do_shrink_slab(mem, cpu, shrinker, memcg, priority, deferred)
    if freed != SHRINK_EMPTY:
        return freed
    nid = read_once(mem, shrink_control(cpu) + SHRINK_CONTROL.nid)
    late = switched(mem, Switch.COUNT_FIRST)
    if not late:
        map_clear_bit(mem, cpu, memcg, nid, number)
    count_event(mem, cpu, Event.EMPTY_PROBES, 1)
    if not switched(mem, Switch.NO_RECOUNT):
        freed = do_shrink_slab(mem, cpu, shrinker, memcg, priority, deferred)
    if late and freed == SHRINK_EMPTY:
        map_clear_bit(mem, cpu, memcg, nid, number)
    if freed == SHRINK_EMPTY:
        return 0
    map_set_bit(mem, cpu, memcg, nid, number)
    return freed


# --- one memcg, one node --------------------------------------------------------------------------


@compiled
def shrink_slab(mem: Any, cpu: int, memcg: int, nid: int, gfp: int, priority: int) -> int:
    """Run the design's pass over the shrinkers of a memcg (0: those that know no memcg); objects freed."""
    count_event(mem, cpu, Event.RECLAIM_PASSES, 1)
    sc = shrink_control(cpu)
    write_once(mem, sc + SHRINK_CONTROL.gfp, gfp)
    write_once(mem, sc + SHRINK_CONTROL.nid, nid)
    return upcall(Upcall.SHRINK_SLAB, mem, cpu, memcg, nid, gfp, priority)


@compiled
def memalloc_save(mem: Any, cpu: int) -> int:
    """Enter reclaim: allocations do not reclaim any more. Returns the flags to restore."""
    flags = read_once(mem, cpu + CPU.flags)
    write_once(mem, cpu + CPU.flags, flags | PF_MEMALLOC)
    return flags


@out_of_line
def shrink_node(mem: Any, cpu: int, top: int, nid: int, gfp: int, priority: int) -> int:
    """One pass over a subtree of memcgs: page cache and slab of each; then the shrinkers that know no memcg."""
    memcg = mem_cgroup_iter(mem, cpu, top, 0)
    while memcg:
        shrink_lruvec(mem, cpu, memcg, nid, priority)
        shrink_slab(mem, cpu, memcg, nid, gfp, priority)
        if fatal_signal_pending(mem):
            css_put(mem, cpu, memcg)
            break
        memcg = mem_cgroup_iter(mem, cpu, top, memcg)
    if top == root_memcg(mem):
        shrink_slab(mem, cpu, 0, nid, gfp, priority)
    return 0


# --- one allocation's worth -------------------------------------------------------------------------


@out_of_line
def try_to_free_pages(mem: Any, cpu: int, top: int, gfp: int) -> int:
    """Reclaim below `top` on all nodes, priority 12 down to 0, until a cluster is free; lines freed.

    Direct reclaim if `top` is the root, reclaim against a memcg's limit otherwise.
    """
    root = top == root_memcg(mem)
    count_event(mem, cpu, Event.DIRECT_RECLAIMS if root else Event.MEMCG_RECLAIMS, 1)
    flags = memalloc_save(mem, cpu)
    write_once(mem, cpu + CPU.reclaimed, 0)
    priority = DEF_PRIORITY
    while priority >= 0 and not fatal_signal_pending(mem):
        for nid in range(read_once(mem, mm_state(mem) + MM.nr_nodes)):
            shrink_node(mem, cpu, top, nid, gfp, priority)
        if read_once(mem, cpu + CPU.reclaimed) >= SWAP_CLUSTER_MAX * LINES_PER_PAGE:
            break
        priority -= 1
    write_once(mem, cpu + CPU.flags, flags)
    freed = read_once(mem, cpu + CPU.reclaimed)
    if class_is_held(mem, cpu, LockClass.SHRINKER_RWSEM, WRITE):
        count_event(mem, cpu, Event.RECLAIMS_UNDER_WRITE, 1)
        count_event(mem, cpu, Event.RECLAIMED_UNDER_WRITE, freed)
    return freed


@out_of_line
def balance_pgdat(mem: Any, cpu: int, nid: int) -> int:
    """What kswapd does when it was woken: passes of rising urgency until the high watermark is reached."""
    zone = zone_of(mem, nid)
    high = read_once(mem, zone + ZONE.high)
    flags = memalloc_save(mem, cpu)
    write_once(mem, cpu + CPU.flags, flags | PF_MEMALLOC | PF_KSWAPD)
    priority = DEF_PRIORITY
    while priority > 0 and zone_free(mem, zone) < high and not fatal_signal_pending(mem):
        shrink_node(mem, cpu, root_memcg(mem), nid, GFP_KERNEL, priority)
        priority -= 1
    return write_once(mem, cpu + CPU.flags, flags)


@compiled
def _drops_on(mem: Any, freed: int, rounds: int) -> int:
    """Whether one more round is worth it: after `rounds`, the last of which freed so much."""
    if read_once(mem, mm_state(mem) + MM.drop_halves):
        return freed >> (rounds - 1) > 1
    return freed > DROP_SLAB_MIN


@out_of_line
def drop_slab(mem: Any, cpu: int) -> int:
    """What writing 2 to drop_caches does: passes at priority 0 over everything while one frees enough.

    To 5.15 that is more than DROP_SLAB_MIN. Since 5.16 each further round has to free twice as much, so that it ends
    though objects keep coming (commit 1399af7e5489); the five of the shipped recording ended by that rule.
    """
    flags = memalloc_save(mem, cpu)
    total = 0
    for nid in range(read_once(mem, mm_state(mem) + MM.nr_nodes)):
        rounds = 0
        freed = 0
        while rounds == 0 or (_drops_on(mem, freed, rounds) and not fatal_signal_pending(mem)):
            rounds += 1
            count_event(mem, cpu, Event.DROP_ROUNDS, 1)
            freed = shrink_slab(mem, cpu, 0, nid, GFP_KERNEL, 0)
            memcg = mem_cgroup_iter(mem, cpu, root_memcg(mem), 0)
            while memcg:
                freed += shrink_slab(mem, cpu, memcg, nid, GFP_KERNEL, 0)
                memcg = mem_cgroup_iter(mem, cpu, root_memcg(mem), memcg)
            total += freed
    write_once(mem, cpu + CPU.flags, flags)
    return total
