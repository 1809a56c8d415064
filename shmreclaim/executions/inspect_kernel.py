"""The emulated kernel of a segment, read: memory, memcgs with their maps, shrinkers with their objects, ids.

Everything is reached from the root record and bounded by the Snapshot. A list that leads astray is told as damage, as
far as it could be followed: it may have been changed under the look.
"""

from __future__ import annotations

import numpy as np

from shmreclaim.executions.snapshot import Snapshot
from shmreclaim.inspection import Ids, KernelLook, Map, MemcgLook, NodeLook, ShrinkerLook
from shmreclaim.machine.cpu import CPU
from shmreclaim.machine.layout import HEADER
from shmreclaim.mm.list_lru import LIST_LRU, LRU_NODE, LRU_NODE_WORDS
from shmreclaim.mm.memcg import MEMCG, NODEINFO, NODEINFO_WORDS
from shmreclaim.mm.shrinker import SHRINKER
from shmreclaim.mm.shrinker_map import MAP, UNIT
from shmreclaim.mm.slab import HEAP
from shmreclaim.mm.state import LINES_PER_PAGE, MAX_NODES, MM, Event, MapKind, Phase
from shmreclaim.mm.superblock import SUPERBLOCK
from shmreclaim.mm.zone import ZONE

MOST_ENTRIES = 1 << 17
"""Of a list that is followed."""
PHASES = {Phase.BOOT: "starting", Phase.RUN: "running", Phase.STOP: "stopping"}


def see_kernel(words: Snapshot, slots: list[int], damage: list[str]) -> KernelLook | None:
    """All of it; None if the segment has none. What could not be followed is added to `damage`."""
    mm = words[HEADER.kernel]
    if not mm:
        return None
    nodes = words[mm + MM.nr_nodes]
    if not 1 <= nodes <= MAX_NODES:
        raise ValueError(f"{nodes} nodes")
    memcgs = _entries(words, mm + MM.memcgs, "memcgs", damage)
    return KernelLook(
        phase=PHASES.get(words[HEADER.phase], "?"),  # type: ignore[call-overload]
        map_kind=MapKind(words[mm + MM.map_kind]).name.lower(),
        nodes=[_node(words, mm, nid) for nid in range(nodes)],
        ids=Ids(live=words[mm + MM.live_ids], peak=words[mm + MM.peak_ids], highest=words[mm + MM.max_id]),
        objects=words[mm + MM.nr_objects],
        memcgs=_each(words, memcgs, MEMCG.list, nodes, damage),
        shrinkers=[_shrinker(words, sb, nodes) for sb in mounted(words, damage)],
        events={event.name.lower(): sum(words[slot + CPU.events + event] for slot in slots) for event in Event},
    )


def mounted(words: Snapshot, damage: list[str] | None = None) -> list[int]:
    """The superblocks that are mounted."""
    head = words[HEADER.kernel] + MM.superblocks
    found = _entries(words, head, "superblocks", [] if damage is None else damage)
    fit = [entry - SUPERBLOCK.link for entry in found]
    return [sb for sb in fit if 0 < sb <= len(words) - SUPERBLOCK.SIZE]


def _entries(words: Snapshot, head: int, what: str, damage: list[str]) -> list[int]:
    """Entries of a list_head, as far as each knows the one before it."""
    found: list[int] = []
    before, entry = head, words[head]
    while entry != head:
        if not 0 < entry < len(words) - 1 or words[entry + 1] != before or len(found) >= MOST_ENTRIES:
            damage.append(f"{what}: the list is broken, or changed under the look, after {len(found)} entries")
            break
        found.append(entry)
        before, entry = entry, words[entry]
    return found


def _node(words: Snapshot, mm: int, nid: int) -> NodeLook:
    zone, heap = words[mm + MM.zones] + nid * ZONE.SIZE, words[mm + MM.heaps] + nid * HEAP.SIZE
    pages = {field: words[zone + getattr(ZONE, field)] / LINES_PER_PAGE for field in ("free", "min", "low", "high")}
    return NodeLook(
        pages=words[zone + ZONE.size] / LINES_PER_PAGE,
        kswapd_runs=words[zone + ZONE.kswapd_runs] != 0,
        heap_chunks=words[heap + HEAP.nr_chunks],
        heap_used=words[heap + HEAP.nr_used],
        **pages,
    )


def _each(words: Snapshot, entries: list[int], offset: int, nodes: int, damage: list[str]) -> list[MemcgLook]:
    found = []
    for entry in entries:
        try:
            found.append(_memcg(words, entry - offset, nodes))
        except (IndexError, ValueError) as error:
            damage.append(f"memcg at {entry - offset}: {error}")
            if len(damage) > 100:
                raise
    return found


def _memcg(words: Snapshot, memcg: int, nodes: int) -> MemcgLook:
    parent, limit = words[memcg + MEMCG.parent], words[memcg + MEMCG.limit]
    infos = [memcg + MEMCG.nodeinfo + nid * NODEINFO_WORDS for nid in range(nodes)]
    return MemcgLook(
        handle=words[memcg + MEMCG.handle],
        parent=words[parent + MEMCG.handle] if parent else None,
        online=words[memcg + MEMCG.online] != 0,
        usage=words[memcg + MEMCG.usage] / LINES_PER_PAGE,
        limit=limit / LINES_PER_PAGE if limit else None,
        references=words[memcg + MEMCG.refcount],
        cache_pages=[words[info + NODEINFO.cache_pages] for info in infos],
        maps=[_map(words, words[info + NODEINFO.map]) for info in infos],
    )


def _map(words: Snapshot, block: int) -> Map | None:
    if not block:
        return None
    bits = words[block + MAP.nr_bits]
    if not 0 <= bits <= len(words):
        raise ValueError(f"a map of {bits} bits")
    count = -(-bits // 64)
    found = words.view(block + MAP.bits, count)
    if words[words[HEADER.kernel] + MM.map_kind] == MapKind.UNITS:
        found = np.array([words[int(unit) + UNIT.bits] for unit in found], np.int64)
    which = np.flatnonzero(np.unpackbits(found.view(np.uint8), bitorder="little"))
    return Map(bits=bits, set=which.tolist())


def _shrinker(words: Snapshot, sb: int, nodes: int) -> ShrinkerLook:
    def on_lists(lru: int) -> list[int]:
        return [words[sb + lru + LIST_LRU.nodes + nid * LRU_NODE_WORDS + LRU_NODE.nr_items] for nid in range(nodes)]

    return ShrinkerLook(
        handle=words[sb + SUPERBLOCK.handle],
        id=words[sb + SHRINKER.id],
        scans=words[sb + SHRINKER.nr_scans],
        dentries=on_lists(SUPERBLOCK.dentries),
        inodes=on_lists(SUPERBLOCK.inodes),
    )
