"""Page cache: what reclaim can free without any shrinker.

Model: shrink_lruvec of mm/vmscan.c, reduced to what the shrinkers' argument needs: pages have no identity,
an LRU is a count for each memcg and node, and every page on it is clean and unreferenced. A pass at
priority p takes 1/2^p of it.

Who may: anyone in reclaim; no lock of the shrinkers is needed, which is the point.
"""

from typing import Any

from shmreclaim.machine.atomics import cmpxchg_relaxed, fetch_add_relaxed, read_once
from shmreclaim.machine.compile import compiled
from shmreclaim.machine.cpu import count_event
from shmreclaim.mm.memcg import NODEINFO, css_put_many, nodeinfo, page_counter_uncharge
from shmreclaim.mm.state import LINES_PER_PAGE, SWAP_CLUSTER_MAX, Event
from shmreclaim.mm.zone import zone_give


@compiled
def lru_cache_add(mem: Any, memcg: int, nid: int, pages: int) -> int:
    """Put pages that are already charged and referenced for on a memcg's LRU."""
    return fetch_add_relaxed(mem, nodeinfo(memcg, nid) + NODEINFO.cache_pages, pages)


@compiled
def _isolate_pages(mem: Any, memcg: int, nid: int, wanted: int) -> int:
    """Take up to `wanted` pages off the LRU; returns how many."""
    at = nodeinfo(memcg, nid) + NODEINFO.cache_pages
    seen = read_once(mem, at)
    while True:
        n = min(seen, wanted)
        if n <= 0:
            return 0
        found = cmpxchg_relaxed(mem, at, seen, seen - n)
        if found == seen:
            return n
        seen = found


@compiled
def shrink_lruvec(mem: Any, cpu: int, memcg: int, nid: int, priority: int) -> int:
    """Free page cache of one memcg and node: its share at this priority, at least a cluster. Returns pages."""
    size = read_once(mem, nodeinfo(memcg, nid) + NODEINFO.cache_pages)
    n = _isolate_pages(mem, memcg, nid, max(size >> priority, min(size, SWAP_CLUSTER_MAX)))
    if n:
        free_cache_pages(mem, cpu, memcg, nid, n)
        count_event(mem, cpu, Event.PAGES_FREED, n)
    return n


@compiled
def free_cache_pages(mem: Any, cpu: int, memcg: int, nid: int, pages: int) -> int:
    """Uncharge pages taken off the LRU and give them back; may drop the memcg's last reference."""
    page_counter_uncharge(mem, memcg, pages * LINES_PER_PAGE)
    zone_give(mem, cpu, nid, pages * LINES_PER_PAGE)
    return css_put_many(mem, cpu, memcg, pages)
