"""Maps: for a memcg and node, one bit for each shrinker that may have objects there, and what it owes.

Model, by the kind that a design chose at boot:

| MapKind | kernels | what stands behind the bits |
|---|---|---|
| BITS | struct memcg_shrinker_map, 4.19 | nothing: a shrinker's deferred count is its own |
| WITH_DEFERRED | struct shrinker_info, 5.13 to 6.6 | a deferred count for each bit; growth copies them |
| UNITS | struct shrinker_info_unit, 6.7 | pointers to units of 64 bits and counts, which never move |

Departure: every map knows its length, so that a reader's bound travels with what it reads (O1 of the davydov
design; kernels have it since 6.4). mm/map_memory.py allocates, grows and frees them.

I2   a bit is set while its list is not empty, for longer than any operation in progress; too many are allowed.
I3   no setter can see a map that is shorter than the id it sets.
P20  the order of adding and setting against clearing and counting again:

        adder                             reclaim
        list_lru_add                      clear_bit
        smp_mb in map_set_bit()           smp_mb in map_clear_bit()
        set_bit                           count again

     Forbidden: the bit stays clear and the second count misses the object.
     (litmus: test_P20_an_object_is_counted_or_its_bit_stays_set)
P21  map_publish() releases the map's words to whoever loads the pointer with map_of().
     (litmus: test_P21_a_published_map_is_whole)
Lifetime: replaced maps go after a grace period; setters and readers are inside RCU or hold a lock that
excludes replacement. The last map goes with its memcg, which setters have a reference to.
"""

from typing import Any

from shmreclaim.lib.bitmap import bitmap_words, clear_bit, find_next_bit, set_bit
from shmreclaim.machine.atomics import (
    fetch_add_relaxed,
    load_acquire,
    lowest_bit,
    read_once,
    smp_mb,
    store_release,
    xchg_relaxed,
)
from shmreclaim.machine.compile import compiled, out_of_line
from shmreclaim.machine.cpu import Violation, count_event, violation
from shmreclaim.machine.layout import Field, record
from shmreclaim.mm.memcg import MEMCG, NODEINFO, nodeinfo, root_memcg
from shmreclaim.mm.slab import POISON_FREE
from shmreclaim.mm.state import MM, Event, MapKind, mm_state
from shmreclaim.sync.rcu import RCU_HEAD_WORDS, rcu_read_lock, rcu_read_unlock

UNIT_BITS = 64

MAP = record(
    "MAP",
    Field("rcu_head", "RCU", RCU_HEAD_WORDS),
    Field("nr_bits", "read-only after publish"),
    Field("bits", "atomic; as many words as nr_bits need, then a deferred count for each; or pointers to units", 0),
    aligned=False,
)

UNIT = record(
    "UNIT",
    Field("bits", "atomic"),
    Field("nr_deferred", "atomic", UNIT_BITS),
    aligned=False,
)


@compiled
def map_of(mem: Any, memcg: int, nid: int) -> int:
    """A memcg's map of a node, 0 if it has none; stays while RCU or the lock of the maps is held."""
    return load_acquire(mem, nodeinfo(memcg, nid) + NODEINFO.map)  # P21: pairs with map_publish()


@compiled
def map_publish(mem: Any, memcg: int, nid: int, block: int) -> int:
    """Make a map the memcg's; returns the one it replaces."""
    at = nodeinfo(memcg, nid) + NODEINFO.map
    old = read_once(mem, at)
    store_release(mem, at, block)  # P21: pairs with map_of()
    return old


@compiled
def map_kind(mem: Any) -> int:
    """The MapKind of this run's design."""
    return read_once(mem, mm_state(mem) + MM.map_kind)


@compiled
def _word_of(mem: Any, block: int, number: int) -> int:
    """Where the 64 bits are that a bit is among."""
    at = block + MAP.bits + (number >> 6)
    return read_once(mem, at) + UNIT.bits if map_kind(mem) == MapKind.UNITS else at


@compiled
def _bound(mem: Any, cpu: int, block: int) -> int:
    """How many bits a map has; -1 if somebody freed it under us, which breaks I1."""
    bits = read_once(mem, block + MAP.nr_bits)
    if bits == POISON_FREE:
        violation(mem, cpu, Violation.USE_AFTER_FREE, block, bits, 0)
        return -1
    return bits


# --- bits --------------------------------------------------------------------------------------------


@out_of_line
def map_set_bit(mem: Any, cpu: int, memcg: int, nid: int, number: int) -> int:
    """Note that shrinker `number` has an object in a memcg; the object is on its list already."""
    rcu_read_lock(mem, cpu)
    smp_mb()  # P20: pairs with map_clear_bit(); before the map is looked up, so that growth cannot come between
    block = map_of(mem, memcg, nid)
    if block:
        bits = _bound(mem, cpu, block)
        if number < bits:
            set_bit(mem, _word_of(mem, block, number), number & 63)
            count_event(mem, cpu, Event.BITS_SET, 1)
        elif bits >= 0:
            violation(mem, cpu, Violation.ID_BEYOND_MAP, number, bits, memcg)
    elif memcg != root_memcg(mem):
        count_event(mem, cpu, Event.NULL_MAPS, 1)
    return rcu_read_unlock(mem, cpu)


@out_of_line
def map_clear_bit(mem: Any, cpu: int, memcg: int, nid: int, number: int) -> int:
    """Clear a bit whose shrinker was found empty, or gone; the caller counts again after."""
    rcu_read_lock(mem, cpu)
    block = map_of(mem, memcg, nid)
    if block and number < _bound(mem, cpu, block):
        clear_bit(mem, _word_of(mem, block, number), number & 63)
        smp_mb()  # P20: pairs with map_set_bit()
        count_event(mem, cpu, Event.BITS_CLEARED, 1)
    return rcu_read_unlock(mem, cpu)


@out_of_line
def map_next_bit(mem: Any, cpu: int, memcg: int, nid: int, start: int) -> int:
    """The first set bit at or after `start`; -1 if there is none, or no map."""
    rcu_read_lock(mem, cpu)
    block = map_of(mem, memcg, nid)
    number = -1
    if block:
        bits = _bound(mem, cpu, block)
        if map_kind(mem) == MapKind.UNITS:
            number = _next_in_units(mem, block, bits, start)
        else:
            number = find_next_bit(mem, block + MAP.bits, bits, start)
        number = number if number < bits else -1
    rcu_read_unlock(mem, cpu)
    return number


@compiled
def _next_in_units(mem: Any, block: int, bits: int, start: int) -> int:
    """The first set bit at or after `start`; `bits` if there is none. Maps of units are of whole units.

    Where the next unit is does not depend on what this one holds, so the misses of an empty map overlap.
    """
    if start >= bits:
        return bits
    units = block + MAP.bits
    k = start >> 6
    last = (bits - 1) >> 6
    word = read_once(mem, read_once(mem, units + k) + UNIT.bits) & (-1 << (start & 63))
    while word == 0 and k < last:
        k += 1
        word = read_once(mem, read_once(mem, units + k) + UNIT.bits)
    return (k << 6) + lowest_bit(word)


# --- what a shrinker owes to a memcg (5.13) ----------------------------------------------------------


@compiled
def map_deferred(mem: Any, block: int, number: int) -> int:
    """Where a map keeps the deferred count of a bit; 0 if it is too short, or there is no map."""
    bits = read_once(mem, block + MAP.nr_bits) if block else 0
    if number >= bits:
        return 0
    if map_kind(mem) == MapKind.UNITS:
        return read_once(mem, block + MAP.bits + (number >> 6)) + UNIT.nr_deferred + (number & 63)
    return block + MAP.bits + bitmap_words(bits) + number


@out_of_line
def xchg_nr_deferred(mem: Any, cpu: int, memcg: int, nid: int, number: int) -> int:
    """Take over what a shrinker owes to a memcg."""
    rcu_read_lock(mem, cpu)
    at = map_deferred(mem, map_of(mem, memcg, nid), number)
    owed = xchg_relaxed(mem, at, 0) if at else 0
    rcu_read_unlock(mem, cpu)
    return owed


@out_of_line
def add_nr_deferred(mem: Any, cpu: int, memcg: int, nid: int, number: int, nr: int) -> int:
    """Let a shrinker owe more to a memcg."""
    rcu_read_lock(mem, cpu)
    at = map_deferred(mem, map_of(mem, memcg, nid), number)
    if at:
        fetch_add_relaxed(mem, at, nr)
    return rcu_read_unlock(mem, cpu)


@out_of_line
def reparent_shrinker_deferred(mem: Any, memcg: int) -> int:
    """Let the parent owe what a memcg that goes offline does; the caller's lock excludes growth.

    The memcg's own counts stay: a pass that is still over it may add to them, and nobody asks any more.
    """
    parent = read_once(mem, memcg + MEMCG.parent)
    for nid in range(read_once(mem, mm_state(mem) + MM.nr_nodes)):
        mine, theirs = map_of(mem, memcg, nid), map_of(mem, parent, nid)
        for number in range(read_once(mem, mine + MAP.nr_bits) if mine else 0):
            owed = read_once(mem, map_deferred(mem, mine, number))
            at = map_deferred(mem, theirs, number)  # I10: the parent's reaches as far
            if owed and at:
                fetch_add_relaxed(mem, at, owed)
    return 0
