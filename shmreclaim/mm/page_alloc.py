"""Allocation: a block or pages against the budget, with the reclaim that its gfp allows.

Model: mm/page_alloc.c's slow path and memcontrol.c's try_charge, as far as they decide what a design's
allocation under a lock can do:

- GFP_NOWAIT, GFP_ATOMIC, and any allocation of a task in reclaim: take what the watermark allows, or fail.
- GFP_KERNEL and GFP_NOFS: reclaim and try again, until MAX_RECLAIM_RETRIES in a row freed nothing; there is no
  OOM killer here, so even a small allocation fails in the end.

Nothing is allocated under a spinlock.
"""

from typing import Any

from shmreclaim.machine.atomics import fetch_add_relaxed, read_once, write_once
from shmreclaim.machine.compile import compiled, out_of_line
from shmreclaim.machine.cpu import count_event
from shmreclaim.machine.futex import cond_resched
from shmreclaim.mm.list_lru import OBJECT, OBJECT_ISOLATED
from shmreclaim.mm.memcg import css_get_many, css_put_many, page_counter_try_charge, page_counter_uncharge, root_memcg
from shmreclaim.mm.page_cache import lru_cache_add
from shmreclaim.mm.slab import block_lines, rcu_do_batch, slab_alloc
from shmreclaim.mm.state import (
    ENOMEM,
    GFP_DIRECT_RECLAIM,
    GFP_HIGH,
    GFP_KERNEL,
    LINES_PER_PAGE,
    MM,
    Event,
    fatal_signal_pending,
    in_reclaim,
    mm_state,
)
from shmreclaim.mm.vmscan import try_to_free_pages
from shmreclaim.mm.zone import ZONE, wake_kswapd, zone_give, zone_of, zone_take

MAX_RECLAIM_RETRIES = 16
MAX_RECLAIM_ROUNDS = 256
"""Rounds of reclaim for one allocation, fruitful or not: what they free may all be on another node, or be taken."""
MEMCG_RECLAIM_RETRIES = 5


@compiled
def _floor(mem: Any, cpu: int, zone: int, gfp: int) -> int:
    """Lines that must stay free, by who asks (the table in mm/zone.py)."""
    if in_reclaim(mem, cpu):
        return 0
    low = read_once(mem, zone + ZONE.min)
    return low // 2 if gfp & GFP_HIGH else low


@compiled
def _take_on(mem: Any, cpu: int, nid: int, lines: int, gfp: int) -> int:
    zone = zone_of(mem, nid)
    if zone_take(mem, zone, lines, read_once(mem, zone + ZONE.low)):
        return 1
    if zone_take(mem, zone, lines, _floor(mem, cpu, zone, gfp)):
        wake_kswapd(mem, zone)
        return 1
    return 0


@compiled
def alloc_lines(mem: Any, cpu: int, nid: int, lines: int, gfp: int) -> int:
    """Take `lines` of the budget of node `nid` and no other; 1, or 0 if that is impossible."""
    if _take_on(mem, cpu, nid, lines, gfp):
        return 1
    return _alloc_slowpath(mem, cpu, nid, lines, gfp)


@out_of_line
def _alloc_slowpath(mem: Any, cpu: int, nid: int, lines: int, gfp: int) -> int:
    wake_kswapd(mem, zone_of(mem, nid))
    if rcu_do_batch(mem, cpu) and _take_on(mem, cpu, nid, lines, gfp):
        return 1
    if gfp & GFP_DIRECT_RECLAIM and not in_reclaim(mem, cpu):
        fruitless = 0
        rounds = 0
        while fruitless < MAX_RECLAIM_RETRIES and rounds < MAX_RECLAIM_ROUNDS and not fatal_signal_pending(mem):
            rounds += 1
            progress = try_to_free_pages(mem, cpu, root_memcg(mem), gfp)
            if _take_on(mem, cpu, nid, lines, gfp):
                return 1
            fruitless = 0 if progress else fruitless + 1
            cond_resched()  # whoever holds the lock that reclaim could not get may need this core
    count_event(mem, cpu, Event.ALLOC_FAILED, 1)
    return 0


@out_of_line
def kmalloc(mem: Any, cpu: int, nid: int, words: int, gfp: int) -> int:
    """Allocate a block, contents undefined; 0 on failure. Free it with kfree() or kfree_rcu()."""
    lines = block_lines(words)
    if not alloc_lines(mem, cpu, nid, lines, gfp):
        return 0
    block = slab_alloc(mem, cpu, nid, words)
    if block == 0:
        zone_give(mem, cpu, nid, lines)
        count_event(mem, cpu, Event.HEAP_EXHAUSTED, 1)
    return block


@out_of_line
def kzalloc(mem: Any, cpu: int, nid: int, words: int, gfp: int) -> int:
    """Allocate a zeroed block; 0 on failure."""
    block = kmalloc(mem, cpu, nid, words, gfp)
    if block:
        for k in range(words):
            write_once(mem, block + k, 0)
    return block


# --- charged to a memcg ----------------------------------------------------------------------------


@out_of_line
def try_charge(mem: Any, cpu: int, memcg: int, lines: int, gfp: int) -> int:
    """Charge `lines` to a memcg and all above it, reclaiming below whichever limit is hit; 0 or -ENOMEM."""
    for _ in range(MEMCG_RECLAIM_RETRIES + 1):
        over = page_counter_try_charge(mem, memcg, lines)
        if over == 0:
            return 0
        if gfp & GFP_DIRECT_RECLAIM == 0 or in_reclaim(mem, cpu) or fatal_signal_pending(mem):
            break
        try_to_free_pages(mem, cpu, over, gfp)
    count_event(mem, cpu, Event.CHARGE_FAILED, 1)
    return -ENOMEM


@out_of_line
def object_alloc(mem: Any, cpu: int, memcg: int, nid: int, words: int) -> int:
    """Allocate a slab object charged to a memcg, on no list; 0 on failure."""
    lines = block_lines(words)
    if try_charge(mem, cpu, memcg, lines, GFP_KERNEL) != 0:
        return 0
    item = kmalloc(mem, cpu, nid, words, GFP_KERNEL)
    if item == 0:
        page_counter_uncharge(mem, memcg, lines)
        return 0
    css_get_many(mem, memcg, 1)
    write_once(mem, item + OBJECT.state, OBJECT_ISOLATED)
    write_once(mem, item + OBJECT.memcg, memcg)
    write_once(mem, item + OBJECT.nid, nid)
    write_once(mem, item + OBJECT.words, words)
    write_once(mem, item + OBJECT.referenced, 0)
    fetch_add_relaxed(mem, mm_state(mem) + MM.nr_objects, 1)
    return item


@out_of_line
def charge_pages(mem: Any, cpu: int, memcg: int, nid: int, pages: int, gfp: int) -> int:
    """Allocate `pages` pages charged and referenced for a memcg; 0 or -ENOMEM."""
    lines = pages * LINES_PER_PAGE
    if try_charge(mem, cpu, memcg, lines, gfp) != 0:
        return -ENOMEM
    if not alloc_lines(mem, cpu, nid, lines, gfp):
        page_counter_uncharge(mem, memcg, lines)
        return -ENOMEM
    css_get_many(mem, memcg, pages)
    return 0


@out_of_line
def add_to_page_cache(mem: Any, cpu: int, memcg: int, nid: int, pages: int, gfp: int) -> int:
    """Read `pages` pages of a file: charged, on the LRU; 0 or -ENOMEM, then nothing is."""
    outcome = charge_pages(mem, cpu, memcg, nid, pages, gfp)
    if outcome == 0:
        lru_cache_add(mem, memcg, nid, pages)
    return outcome


@out_of_line
def free_pages(mem: Any, cpu: int, memcg: int, nid: int, pages: int) -> int:
    """Give back what charge_pages() took and nobody put on an LRU."""
    page_counter_uncharge(mem, memcg, pages * LINES_PER_PAGE)
    zone_give(mem, cpu, nid, pages * LINES_PER_PAGE)
    return css_put_many(mem, cpu, memcg, pages)
