"""The maps by themselves: bits, bounds that travel with them, growth, publication; plain and compiled."""

from collections.abc import Iterator

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from shmreclaim.machine.cpu import CPU, Violation
from shmreclaim.machine.histogram import HISTOGRAM
from shmreclaim.mm.map_memory import (
    map_alloc,
    map_grow,
    map_replace,
    maps_alloc_online,
    maps_free,
    note_growth,
)
from shmreclaim.mm.shrinker_map import (
    MAP,
    add_nr_deferred,
    map_clear_bit,
    map_next_bit,
    map_of,
    map_publish,
    map_set_bit,
    xchg_nr_deferred,
)
from shmreclaim.mm.slab import kfree, rcu_do_batch
from shmreclaim.mm.state import GFP_KERNEL, GROWTH_HISTOGRAM, MM, Event, MapKind
from shmreclaim.sync.rcu import rcu_read_lock, rcu_read_unlock
from tests.both import KINDS
from tests.emulated import Emulated, mkdir

BITS = 100


@pytest.fixture
def kernel(execution: str) -> Iterator[Emulated]:
    """A kernel whose design has nothing to do with maps, and memcg 1 with maps of BITS bits."""
    with Emulated("no_map", execution) as kernel:
        kernel.play([mkdir(1)])
        assert kernel.call(maps_alloc_online, kernel.cpus[0], kernel.memcg(1), BITS, GFP_KERNEL) == 1
        yield kernel


def set_bit(kernel: Emulated, number: int, nid: int = 0) -> None:
    """Set a bit of memcg 1."""
    kernel.call(map_set_bit, kernel.cpus[0], kernel.memcg(1), nid, number)


def clear_bit(kernel: Emulated, number: int, nid: int = 0) -> None:
    """Clear a bit of memcg 1."""
    kernel.call(map_clear_bit, kernel.cpus[0], kernel.memcg(1), nid, number)


def walk(kernel: Emulated, nid: int = 0) -> list[int]:
    """What a walk over the bits of memcg 1 finds."""
    found, number = [], kernel.call(map_next_bit, kernel.cpus[0], kernel.memcg(1), nid, 0)
    while number >= 0:
        found.append(number)
        number = kernel.call(map_next_bit, kernel.cpus[0], kernel.memcg(1), nid, number + 1)
    return found


def grow(kernel: Emulated, bits: int) -> int:
    """Replace the map of node 0 by a longer one; the new one."""
    new = kernel.call(map_grow, kernel.cpus[0], kernel.memcg(1), 0, bits)
    kernel.call(map_replace, kernel.cpus[0], kernel.memcg(1), 0, new)
    return new


@pytest.mark.parametrize("kind", KINDS)
def test_a_map_is_a_set_of_numbers(kind: str) -> None:
    """Setting, clearing and walking, at random, beside a set."""
    operations = st.lists(st.tuples(st.booleans(), st.sampled_from([0, 1, 62, 63, 64, 65, 98, 99])), max_size=20)
    with Emulated("no_map", kind) as kernel:
        kernel.play([mkdir(1)])
        kernel.call(maps_alloc_online, kernel.cpus[0], kernel.memcg(1), BITS, GFP_KERNEL)

        @settings(deadline=None, max_examples=50)
        @given(operations)
        def play(steps: list[tuple[bool, int]]) -> None:
            model = set(kernel.map(1) or [])
            for setting, number in steps:
                (set_bit if setting else clear_bit)(kernel, number)
                (model.add if setting else model.discard)(number)
            assert kernel.map(1) == walk(kernel) == sorted(model)

        play()


def test_each_node_has_a_map_of_its_own(kernel: Emulated) -> None:
    """As long, and empty at first."""
    set_bit(kernel, 5, nid=1)
    assert (kernel.map(1, 0), kernel.map(1, 1)) == ([], [5])
    assert (kernel.map_bits(1, 0), kernel.map_bits(1, 1)) == (BITS, BITS)


@pytest.mark.parametrize("number", [BITS, BITS + 27, 128, 4000])
def test_I3_a_bit_beyond_the_map_is_not_set_but_reported(kernel: Emulated, number: int) -> None:
    """Beyond the last bit that it has, also where its last word would have room."""
    before = kernel.words(kernel.map_block(1), 8)
    set_bit(kernel, number)
    assert kernel.violations() == [Violation.ID_BEYOND_MAP]
    assert kernel.words(kernel.map_block(1), 8) == before
    assert any(text.startswith(f"CPU 0: I3: shrinker {number} has an object") for text in kernel.oracles())


def test_clearing_beyond_the_map_does_nothing(kernel: Emulated) -> None:
    """A walker may have seen the number in a longer map, or it is no bit at all."""
    clear_bit(kernel, BITS)
    assert kernel.event(Event.BITS_CLEARED) == 0
    assert kernel.violations() == []


def test_a_memcg_without_a_map_takes_and_gives_nothing(kernel: Emulated) -> None:
    """Root, or one that is not online: no bit is lost, since nobody looks for it there."""
    cpu, root = kernel.cpus[0], kernel.memcg(0)
    kernel.call(map_set_bit, cpu, root, 0, 3)
    kernel.call(map_clear_bit, cpu, root, 0, 3)
    assert kernel.call(map_next_bit, cpu, root, 0, 0) == -1
    assert kernel.violations() == []
    assert kernel.event(Event.BITS_SET) == 0


@pytest.mark.parametrize("bits", [0, 1, 8, 63, 64, 65, 128, 200])
def test_a_longer_map_is_all_ones_as_far_as_the_old_one_reached(kernel: Emulated, bits: int) -> None:
    """And zero beyond, to the last bit."""
    cpu, memcg = kernel.cpus[0], kernel.memcg(1)
    short = kernel.call(map_alloc, cpu, 0, bits, 0, GFP_KERNEL)
    kernel.call(kfree, cpu, kernel.call(map_publish, memcg, 0, short))
    grow(kernel, bits + 70)
    assert kernel.map_bits(1) == bits + 70
    assert kernel.map(1) == list(range(bits))


def test_a_bit_that_is_set_in_the_old_map_while_it_is_replaced_is_not_lost(kernel: Emulated) -> None:
    """Whoever loaded the old pointer sets it there, late: the new one has it set already."""
    cpu, memcg = kernel.cpus[0], kernel.memcg(1)
    new = kernel.call(map_grow, cpu, memcg, 0, 2 * BITS)
    set_bit(kernel, 41)
    kernel.call(map_replace, cpu, memcg, 0, new)
    assert 41 in (kernel.map(1) or [])


def test_the_bound_of_a_walk_is_that_of_the_map_it_reads(kernel: Emulated) -> None:
    """O1: before and after growth, whatever anybody believes the capacity to be."""
    set_bit(kernel, BITS - 1)
    assert walk(kernel) == [BITS - 1]
    grow(kernel, BITS + 64)
    assert walk(kernel) == list(range(BITS))
    set_bit(kernel, BITS + 63)
    assert walk(kernel)[-1] == BITS + 63


def test_a_replaced_map_is_freed_after_its_readers(kernel: Emulated) -> None:
    """Not while somebody is inside who may have its pointer."""
    cpu, reader = kernel.cpus[0], kernel.cpus[1]
    kernel.call(rcu_read_lock, reader)
    old = kernel.call(map_of, kernel.memcg(1), 0)
    grow(kernel, 2 * BITS)
    assert kernel.call(rcu_do_batch, cpu) == 0
    assert kernel.word(old + MAP.nr_bits) == BITS
    kernel.call(rcu_read_unlock, reader)
    assert kernel.call(rcu_do_batch, cpu) == 1


def test_maps_take_memory_on_their_nodes_and_give_it_back(kernel: Emulated) -> None:
    """Each node's map from its own budget."""
    with_maps = kernel.free(0), kernel.free(1)
    kernel.call(maps_free, kernel.cpus[0], kernel.memcg(1))
    assert kernel.free(0) == with_maps[0] + 1
    assert kernel.free(1) == with_maps[1] + 1
    assert kernel.map(1) is None
    assert kernel.oracles() == []


@pytest.mark.parametrize("node", [0, 1])
def test_a_memcg_for_whose_maps_memory_fails_has_none(kernel: Emulated, node: int) -> None:
    """On no node, and nothing is taken."""
    cpu, memcg = kernel.cpus[0], kernel.memcg(1)
    kernel.call(maps_free, cpu, memcg)
    kernel.leave(0, node)
    left = kernel.free(0), kernel.free(1)
    kernel.stop_reclaiming()
    assert kernel.call(maps_alloc_online, cpu, memcg, BITS, GFP_KERNEL) == 0
    assert kernel.map(1, 0) is kernel.map(1, 1) is None
    assert (kernel.free(0), kernel.free(1)) == left


def test_growth_is_counted_and_timed(kernel: Emulated) -> None:
    """One event, one time in the histogram of growths."""
    kernel.call(note_growth, kernel.cpus[0], 0)
    at = kernel.cpus[0] + CPU.histograms + GROWTH_HISTOGRAM * HISTOGRAM.SIZE
    assert kernel.event(Event.GROWTHS) == 1
    assert sum(kernel.words(at + HISTOGRAM.buckets, HISTOGRAM.SIZE - HISTOGRAM.buckets)) == 1


# --- kinds: with deferred counts, and of units -------------------------------------------------------------


@pytest.fixture(params=["WITH_DEFERRED", "UNITS"])
def counting(request: pytest.FixtureRequest, execution: str) -> Iterator[Emulated]:
    """A kernel whose maps keep what is owed, and memcg 1 with maps of one word."""
    with Emulated("no_map", execution) as kernel:
        kernel.set_word(kernel.word_of_mm(MM.map_kind), MapKind[request.param])
        kernel.play([mkdir(1)])
        assert kernel.call(maps_alloc_online, kernel.cpus[0], kernel.memcg(1), 64, GFP_KERNEL) == 1
        yield kernel


def owe(kernel: Emulated, number: int, nr: int) -> None:
    """Let a shrinker owe memcg 1 more, on node 0."""
    kernel.call(add_nr_deferred, kernel.cpus[0], kernel.memcg(1), 0, number, nr)


def test_bits_and_debts_of_such_maps_are_apart(counting: Emulated) -> None:
    """The last bit of a word, its count, and those beside."""
    for number in (0, 62, 63):
        set_bit(counting, number)
        owe(counting, number, 1000 + number)
    assert walk(counting) == counting.map(1) == [0, 62, 63]
    taken = [
        counting.call(xchg_nr_deferred, counting.cpus[0], counting.memcg(1), 0, k) for k in (0, 1, 61, 62, 63, 63, 64)
    ]
    assert taken == [1000, 0, 0, 1062, 1063, 0, 0]
    assert walk(counting) == [0, 62, 63]
    clear_bit(counting, 62)
    assert walk(counting) == [0, 63]


def test_growth_keeps_what_is_owed_and_every_bit(counting: Emulated) -> None:
    """Bits too many where they are copied under setters; exactly those that were where units stay."""
    units = counting.mm("map_kind") == MapKind.UNITS
    set_bit(counting, 5)
    owe(counting, 63, 7)
    grow(counting, 192)
    set_bit(counting, 190)
    owe(counting, 190, 9)
    assert walk(counting) == ([5, 190] if units else [*range(64), 190])
    taken = [counting.call(xchg_nr_deferred, counting.cpus[0], counting.memcg(1), 0, k) for k in (63, 190)]
    assert taken == [7, 9]


def test_a_unit_keeps_what_is_set_in_it_through_an_old_map(counting: Emulated) -> None:
    """Whoever loaded the old pointer sets the bit in the same unit: nothing is lost, though nothing is set anew."""
    old = counting.map_block(1)
    grow(counting, 128)
    set_bit(counting, 3)
    units = counting.mm("map_kind") == MapKind.UNITS
    assert (counting.word(old + MAP.bits) == counting.word(counting.map_block(1) + MAP.bits)) == units


def test_maps_of_such_kinds_cost_what_they_need_and_give_all_of_it_back(counting: Emulated) -> None:
    """Made, grown, freed: the budget is whole again; a failure on the way leaves nothing either."""
    counting.call(maps_free, counting.cpus[0], counting.memcg(1))
    whole = counting.free(0), counting.free(1)
    for lines in range(200):
        spare = counting.spare(0)
        counting.leave(lines)
        counting.stop_reclaiming()
        done = counting.call(maps_alloc_online, counting.cpus[0], counting.memcg(1), 130, GFP_KERNEL)
        counting.stop_reclaiming(yes=False)
        counting.leave(spare - (lines - counting.spare(0)))
        if done:
            break
        assert (counting.free(0), counting.free(1)) == whole
    assert lines > 2
    grow(counting, 256)
    counting.call(rcu_do_batch, counting.cpus[0])
    counting.call(maps_free, counting.cpus[0], counting.memcg(1))
    assert (counting.free(0), counting.free(1)) == whole
    assert counting.oracles() == []


def test_I1_a_setter_that_finds_a_freed_map_is_told(kernel: Emulated) -> None:
    """A freed block bears a poison where a map's length was."""
    old = kernel.map_block(1)
    kernel.call(kfree, kernel.cpus[0], old)
    set_bit(kernel, 3)
    clear_bit(kernel, 3)
    assert walk(kernel) == []
    assert set(kernel.violations()) == {Violation.USE_AFTER_FREE}
