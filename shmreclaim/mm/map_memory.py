"""Where the memory of maps comes from: made when a memcg comes online, replaced by growth, freed with the memcg.

Model: memcg_expand_shrinker_maps() of mm/memcontrol.c, 4.19; alloc_shrinker_info() and expand_one_shrinker_info() of
mm/vmscan.c, 5.13, and of mm/shrinker.c, 6.7. Which of them is the design's MapKind (mm/shrinker_map.py).

Growth sets every bit that the old map reached, since copying could lose a bit that a setter, under RCU only, sets in
the old map after it was copied. Deferred counts are copied: whoever changes them is excluded by the design's lock,
but for v6_4_srcu, where what a walker adds meanwhile is lost. Units stay where they are, so nothing is copied
and nothing lost.
"""

from typing import Any

from shmreclaim.lib.bitmap import bitmap_fill, bitmap_words
from shmreclaim.machine.atomics import clock_ns, read_once, write_once
from shmreclaim.machine.compile import compiled, out_of_line
from shmreclaim.machine.cpu import CPU, count_event
from shmreclaim.machine.histogram import HISTOGRAM, histogram_add
from shmreclaim.mm.page_alloc import kmalloc, kzalloc
from shmreclaim.mm.shrinker_map import MAP, UNIT, UNIT_BITS, map_kind, map_of, map_publish
from shmreclaim.mm.slab import kfree, kfree_rcu
from shmreclaim.mm.state import GFP_KERNEL, GROWTH_HISTOGRAM, MM, Event, MapKind, mm_state, switched
from shmreclaim.switches import Switch


@compiled
def _words_behind_head(mem: Any, bits: int) -> int:
    """Bits, and a deferred count each if they have one; of a map of units, pointers to them."""
    return bitmap_words(bits) + (bits if map_kind(mem) == MapKind.WITH_DEFERRED else 0)


@out_of_line
def map_alloc(mem: Any, cpu: int, nid: int, bits: int, ones: int, gfp: int) -> int:
    """Allocate a map of `bits` bits, the first `ones` of them set, without units; 0 on failure."""
    words = _words_behind_head(mem, bits)
    block = kmalloc(mem, cpu, nid, MAP.bits + words, gfp)
    if block:
        write_once(mem, block + MAP.nr_bits, bits)
        bitmap_fill(mem, block + MAP.bits, words, 0)
        bitmap_fill(mem, block + MAP.bits, ones >> 6, -1)
        if ones & 63:
            write_once(mem, block + MAP.bits + (ones >> 6), (1 << (ones & 63)) - 1)
    return block


@compiled
def _add_units(mem: Any, cpu: int, nid: int, block: int, first: int) -> int:
    """Give a map that is not published its units from number `first` on; 0 if memory failed, then it is freed."""
    for k in range(first, bitmap_words(read_once(mem, block + MAP.nr_bits))):
        unit = kzalloc(mem, cpu, nid, UNIT.SIZE, GFP_KERNEL)
        if unit == 0:
            _free_units(mem, cpu, block, first, k)
            kfree(mem, cpu, block)
            return 0
        write_once(mem, block + MAP.bits + k, unit)
    return 1


@compiled
def _free_units(mem: Any, cpu: int, block: int, first: int, end: int) -> int:
    for k in range(first, end):
        kfree(mem, cpu, read_once(mem, block + MAP.bits + k))
    return 0


# --- online, offline ---------------------------------------------------------------------------------


@out_of_line
def maps_alloc_online(mem: Any, cpu: int, memcg: int, bits: int, gfp: int) -> int:
    """Give a memcg that comes online an empty map on each node; 0 if memory failed, then it has none."""
    for nid in range(read_once(mem, mm_state(mem) + MM.nr_nodes)):
        block = map_alloc(mem, cpu, nid, bits, 0, gfp)
        if block and map_kind(mem) == MapKind.UNITS and not _add_units(mem, cpu, nid, block, 0):
            block = 0
        if block == 0:
            maps_free(mem, cpu, memcg)
            return 0
        map_publish(mem, memcg, nid, block)
    return 1


@out_of_line
def maps_free(mem: Any, cpu: int, memcg: int) -> int:
    """Free a memcg's maps on all nodes; nobody can reach the memcg any more."""
    for nid in range(read_once(mem, mm_state(mem) + MM.nr_nodes)):
        block = map_publish(mem, memcg, nid, 0)
        if block and map_kind(mem) == MapKind.UNITS:
            _free_units(mem, cpu, block, 0, bitmap_words(read_once(mem, block + MAP.nr_bits)))
        kfree(mem, cpu, block)
    return 0


# --- growth ------------------------------------------------------------------------------------------


@out_of_line
def map_grow(mem: Any, cpu: int, memcg: int, nid: int, bits: int) -> int:
    """Allocate the longer map that is to replace a memcg's; 0 if memory failed. The lock of the maps is held."""
    old = map_of(mem, memcg, nid)
    from_bits = read_once(mem, old + MAP.nr_bits)
    kind = map_kind(mem)
    copied = kind == MapKind.UNITS or switched(mem, Switch.COPY_BITS) != 0
    new = map_alloc(mem, cpu, nid, bits, 0 if copied else from_bits, GFP_KERNEL)
    if new == 0:
        return 0
    if copied:
        _copy(mem, old + MAP.bits, new + MAP.bits, bitmap_words(from_bits))
    if kind == MapKind.UNITS and not _add_units(mem, cpu, nid, new, bitmap_words(from_bits)):
        return 0
    if kind == MapKind.WITH_DEFERRED:
        _copy(mem, old + MAP.bits + bitmap_words(from_bits), new + MAP.bits + bitmap_words(bits), from_bits)
    return new


@compiled
def _copy(mem: Any, source: int, target: int, words: int) -> int:
    for k in range(words):
        write_once(mem, target + k, read_once(mem, source + k))
    return 0


@compiled
def map_replace(mem: Any, cpu: int, memcg: int, nid: int, block: int) -> int:
    """Publish a longer map; the old one goes after a grace period, its units stay."""
    old = map_publish(mem, memcg, nid, block)
    return kfree(mem, cpu, old) if switched(mem, Switch.NO_GRACE_PERIOD) else kfree_rcu(mem, cpu, old)


@compiled
def note_growth(mem: Any, cpu: int, since: int) -> int:
    """Count one growth of the maps that began at `since`."""
    count_event(mem, cpu, Event.GROWTHS, 1)
    return histogram_add(mem, cpu + CPU.histograms + GROWTH_HISTOGRAM * HISTOGRAM.SIZE, clock_ns() - since)


@compiled
def bits_for(number: int) -> int:
    """How long maps must be for an id, where they grow a word at a time."""
    return (number // UNIT_BITS + 1) * UNIT_BITS
