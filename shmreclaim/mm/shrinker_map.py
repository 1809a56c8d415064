"""Maps: for a memcg and node, one bit for each shrinker that may have objects there.

Model: struct memcg_shrinker_map of mm/memcontrol.c, 4.19, with its length in the map itself, so that a reader's
bound travels with what it reads (O1 of the davydov design; kernels have it since 6.4).

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

from shmreclaim.lib.bitmap import bitmap_fill, bitmap_words, clear_bit, find_next_bit, set_bit
from shmreclaim.machine.atomics import clock_ns, load_acquire, read_once, smp_mb, store_release, write_once
from shmreclaim.machine.compile import compiled, out_of_line
from shmreclaim.machine.cpu import CPU, Violation, count_event, violation
from shmreclaim.machine.histogram import HISTOGRAM, histogram_add
from shmreclaim.machine.layout import Field, record
from shmreclaim.mm.memcg import NODEINFO, nodeinfo
from shmreclaim.mm.page_alloc import kmalloc
from shmreclaim.mm.slab import kfree, kfree_rcu
from shmreclaim.mm.state import GFP_KERNEL, GROWTH_HISTOGRAM, MM, Event, mm_state
from shmreclaim.sync.rcu import RCU_HEAD_WORDS, rcu_read_lock, rcu_read_unlock

MAP = record(
    "MAP",
    Field("rcu_head", "RCU", RCU_HEAD_WORDS),
    Field("nr_bits", "read-only after publish"),
    Field("bits", "atomic; as many words as nr_bits need", 0),
    aligned=False,
)


@compiled
def map_of(mem: Any, memcg: int, nid: int) -> int:
    """A memcg's map of a node, 0 if it has none; stays while RCU or the lock of the maps is held."""
    return load_acquire(mem, nodeinfo(memcg, nid) + NODEINFO.map)  # P21: pairs with map_publish()


@out_of_line
def map_alloc(mem: Any, cpu: int, nid: int, bits: int, ones: int, gfp: int) -> int:
    """Allocate a map of `bits` bits, the first `ones` of them set; 0 on failure."""
    block = kmalloc(mem, cpu, nid, MAP.bits + bitmap_words(bits), gfp)
    if block:
        write_once(mem, block + MAP.nr_bits, bits)
        bitmap_fill(mem, block + MAP.bits, bitmap_words(bits), 0)
        bitmap_fill(mem, block + MAP.bits, ones >> 6, -1)
        if ones & 63:
            write_once(mem, block + MAP.bits + (ones >> 6), (1 << (ones & 63)) - 1)
    return block


@compiled
def map_publish(mem: Any, memcg: int, nid: int, block: int) -> int:
    """Make a map the memcg's; returns the one it replaces."""
    at = nodeinfo(memcg, nid) + NODEINFO.map
    old = read_once(mem, at)
    store_release(mem, at, block)  # P21: pairs with map_of()
    return old


@out_of_line
def maps_alloc_online(mem: Any, cpu: int, memcg: int, bits: int, gfp: int) -> int:
    """Give a memcg that comes online an empty map on each node; 0 if memory failed, then it has none."""
    for nid in range(read_once(mem, mm_state(mem) + MM.nr_nodes)):
        block = map_alloc(mem, cpu, nid, bits, 0, gfp)
        if block == 0:
            maps_free(mem, cpu, memcg)
            return 0
        map_publish(mem, memcg, nid, block)
    return 1


@out_of_line
def maps_free(mem: Any, cpu: int, memcg: int) -> int:
    """Free a memcg's maps on all nodes; nobody can reach the memcg any more."""
    for nid in range(read_once(mem, mm_state(mem) + MM.nr_nodes)):
        kfree(mem, cpu, map_publish(mem, memcg, nid, 0))
    return 0


@out_of_line
def map_grow(mem: Any, cpu: int, memcg: int, nid: int, bits: int) -> int:
    """Allocate the longer map that is to replace a memcg's: all ones as far as the old one reached.

    Copying could lose a bit that a setter, under RCU only, sets in the old map after it was copied.
    Returns 0 if memory failed.
    """
    from_bits = read_once(mem, map_of(mem, memcg, nid) + MAP.nr_bits)
    return map_alloc(mem, cpu, nid, bits, from_bits, GFP_KERNEL)


@out_of_line
def map_set_bit(mem: Any, cpu: int, memcg: int, nid: int, number: int) -> int:
    """Note that shrinker `number` has an object in a memcg; the object is on its list already."""
    rcu_read_lock(mem, cpu)
    smp_mb()  # P20: pairs with map_clear_bit(); before the map is looked up, so that growth cannot come between
    block = map_of(mem, memcg, nid)
    if block:
        if number >= read_once(mem, block + MAP.nr_bits):
            violation(mem, cpu, Violation.ID_BEYOND_MAP, number, read_once(mem, block + MAP.nr_bits), memcg)
        else:
            set_bit(mem, block + MAP.bits, number)
            count_event(mem, cpu, Event.BITS_SET, 1)
    return rcu_read_unlock(mem, cpu)


@out_of_line
def map_clear_bit(mem: Any, cpu: int, memcg: int, nid: int, number: int) -> int:
    """Clear a bit whose shrinker was found empty, or gone; the caller counts again after."""
    rcu_read_lock(mem, cpu)
    block = map_of(mem, memcg, nid)
    if block and number < read_once(mem, block + MAP.nr_bits):
        clear_bit(mem, block + MAP.bits, number)
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
        bits = read_once(mem, block + MAP.nr_bits)
        found = find_next_bit(mem, block + MAP.bits, bits, start)
        number = found if found < bits else -1
    rcu_read_unlock(mem, cpu)
    return number


@compiled
def map_replace(mem: Any, cpu: int, memcg: int, nid: int, block: int) -> int:
    """Publish a longer map; the old one goes after a grace period."""
    return kfree_rcu(mem, cpu, map_publish(mem, memcg, nid, block))


@compiled
def note_growth(mem: Any, cpu: int, since: int) -> int:
    """Count one growth of the maps that began at `since`."""
    count_event(mem, cpu, Event.GROWTHS, 1)
    return histogram_add(mem, cpu + CPU.histograms + GROWTH_HISTOGRAM * HISTOGRAM.SIZE, clock_ns() - since)
