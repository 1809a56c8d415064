"""What every design must do, one CPU at a time: ids, maps, objects, offline, reclaim.

Where designs differ on purpose, expected.py says how.
"""

from collections.abc import Iterator

import pytest

from shmreclaim.designs import NAMES
from shmreclaim.machine.compile import plain
from shmreclaim.mm.cgroup import cgroup_mkdir
from shmreclaim.mm.memcg import MEMCG
from shmreclaim.mm.mount import mount as mount_superblock
from shmreclaim.mm.shrinker import SHRINKER, Arithmetic
from shmreclaim.mm.shrinker_map import map_deferred, map_of
from shmreclaim.mm.state import ENOMEM, GFP_KERNEL, Event
from shmreclaim.mm.superblock import superblock_lru
from shmreclaim.mm.vmscan import shrink_slab
from shmreclaim.mm.zone import ZONE
from shmreclaim.sync.lockdep import LOCK, LockClass
from shmreclaim.sync.mutex import mutex_lock, mutex_unlock
from shmreclaim.sync.rcu import rcu_read_lock, rcu_read_unlock
from shmreclaim.sync.rwsem import down_write, up_write
from shmreclaim.workload.ops import Op
from tests.designs.expected import ERAS, EXPECTED, MAPPED, OWING_BY_MEMCG
from tests.designs.rows import LIFE, MIXED
from tests.emulated import Emulated, add, delete, differences, drop, mkdir, mount, rmdir, shrink, touch, umount


@pytest.fixture(params=MAPPED)
def mapped(request: pytest.FixtureRequest, execution: str) -> Iterator[Emulated]:
    """A kernel whose design has maps."""
    with Emulated(str(request.param), execution) as kernel:
        yield kernel


# --- ids --------------------------------------------------------------------------------------------


def test_I6_ids_are_the_smallest_and_are_used_again(kernel: Emulated) -> None:
    """In order of mounting, holes first; without maps nobody has one; unaware shrinkers never."""
    kernel.play([mount(k) for k in range(10)] + [mount(20, 0)])
    numbered = EXPECTED[kernel.design].mapped
    assert [kernel.id(k) for k in range(10)] == (list(range(10)) if numbered else [-1] * 10)
    assert kernel.id(20) == -1
    kernel.play([umount(7), umount(3), umount(20), mount(30), mount(31), mount(32)])
    assert [kernel.id(k) for k in (30, 31, 32)] == ([3, 7, 10] if numbered else [-1] * 3)
    assert kernel.mm("peak_ids") == (11 if numbered else 0)
    assert kernel.mm("max_id") == (10 if numbered else -1)
    assert kernel.oracles() == []


def test_all_memory_comes_back(kernel: Emulated) -> None:
    """What mounts and memcgs took is free again, but for what the first of them made for good."""
    kernel.play(LIFE)
    after_once = kernel.free(0), kernel.free(1)
    kernel.play(LIFE)
    assert (kernel.free(0), kernel.free(1)) == after_once
    assert kernel.mm("nr_memcgs") == 1
    assert kernel.oracles() == []


@pytest.mark.parametrize("mounts", [1, 8, 9, 64, 65, 130])
def test_maps_grow_as_often_as_the_design_says(kernel: Emulated, mounts: int) -> None:
    """And every map of every memcg, old or new, reaches every id."""
    kernel.play([mkdir(1), mkdir(2, 1), *(mount(k) for k in range(mounts)), mkdir(3)])
    assert kernel.event(Event.GROWTHS) == EXPECTED[kernel.design].growths(mounts)
    if EXPECTED[kernel.design].mapped:
        assert all(kernel.map_bits(memcg, nid) >= mounts for memcg in (1, 2, 3) for nid in (0, 1))
    else:
        assert [kernel.map(memcg) for memcg in (0, 1, 2, 3)] == [None] * 4
    assert (kernel.map(0) is not None) == EXPECTED[kernel.design].root_has_a_map
    assert kernel.oracles() == []


def test_growth_sets_every_bit_of_the_old_range_and_none_beyond(mapped: Emulated) -> None:
    """A setter may be at work on the old map: what it sets may not be lost. A memcg that comes later starts empty."""
    before = EXPECTED[mapped.design].lengths[0]
    mapped.play([mkdir(1), *(mount(k) for k in range(before))])
    assert mapped.map(1) == []
    mapped.play([mount(before)])
    assert mapped.map_bits(1) > before
    assert mapped.map(1) == (list(range(before)) if EXPECTED[mapped.design].growth_sets_bits else [])
    mapped.play([mkdir(2)])
    assert mapped.map(2) == []


def test_a_memcg_keeps_its_maps_until_it_is_gone(mapped: Emulated) -> None:
    """Dying but charged, it is grown with the others; its maps go when it goes."""
    mapped.play([mkdir(1), mount(0), add(1, 0, 4)])
    dying = mapped.memcg(1)
    mapped.play([rmdir(1), *(mount(k) for k in range(1, 70))])
    assert dying in mapped.memcgs()
    assert mapped.oracles() == []
    mapped.play([drop()])
    assert dying not in mapped.memcgs()
    assert mapped.oracles() == []


# --- bits and objects ---------------------------------------------------------------------------------


def test_I2_the_bit_is_set_when_the_first_object_comes(mapped: Emulated) -> None:
    """On its node and for its memcg alone, from dentries and from inodes."""
    mapped.play([mkdir(1), mkdir(2), mount(0), mount(1), mount(2), add(1, 1, 1, nid=1)])
    assert (mapped.map(1, 0), mapped.map(1, 1), mapped.map(2, 1)) == ([], [1], [])
    mapped.play([add(2, 2, 5, inodes=1)])
    assert (mapped.map(2, 0), mapped.map(1, 0)) == ([2], [])
    assert mapped.oracles() == []


def test_a_bit_is_set_at_the_edge_and_stays_when_the_last_object_goes(mapped: Emulated) -> None:
    """One event for a list that becomes non-empty, none for each object; deletion leaves it to reclaim."""
    mapped.play([mkdir(1), mount(0), add(1, 0, 10), add(1, 0, 10)])
    assert mapped.event(Event.BITS_SET) == 1
    mapped.play([delete(1, 0, 20)])
    assert mapped.map(1) == [0]
    assert mapped.event(Event.BITS_CLEARED) == 0


def test_reclaim_clears_the_bit_of_an_empty_shrinker_and_asks_once_more(mapped: Emulated) -> None:
    """Empty, cleared, asked again: two calls, and none in the next pass."""
    mapped.play([mkdir(1), mount(0), add(1, 0, 5), delete(1, 0, 5), shrink(1)])
    assert mapped.event(Event.SHRINKER_CALLS) == 2
    assert mapped.event(Event.EMPTY_PROBES) == 1
    assert mapped.map(1) == []
    mapped.play([shrink(1), shrink(1, 12)])
    assert mapped.event(Event.SHRINKER_CALLS) == 2


def test_without_maps_every_pass_asks_everybody(design: str, execution: str) -> None:
    """N shrinkers, M memcgs, nothing to free: N x M calls a pass against none."""
    with Emulated(design, execution) as kernel:
        kernel.play([mkdir(1), mkdir(2), mkdir(3), *(mount(k) for k in range(6))])
        for _ in range(4):
            kernel.play([shrink(1), shrink(2), shrink(3)])
        assert kernel.event(Event.SHRINKER_CALLS) == (0 if EXPECTED[design].mapped else 4 * 3 * 6)


def test_reclaim_clears_the_bit_of_an_id_that_nobody_has(mapped: Emulated) -> None:
    """Its shrinker was unregistered: the bit goes, nobody is called."""
    mapped.play([mkdir(1), mount(0), mount(1), add(1, 0, 5), umount(0)])
    assert mapped.map(1) == [0]
    mapped.play([shrink(1)])
    assert mapped.map(1) == []
    assert mapped.event(Event.SHRINKER_CALLS) == 0


def test_objects_that_are_left_keep_their_bit(mapped: Emulated) -> None:
    """A scan that frees some, or none, and a cache too small to be scanned at this priority."""
    mapped.play([mkdir(1), mount(0), mount(1), add(1, 0, 8), touch(1, 0, 8), add(1, 1, 3), shrink(1, 12)])
    assert mapped.map(1) == [0, 1]
    mapped.play([shrink(1), shrink(1), shrink(1)])
    assert mapped.map(1) == []
    assert mapped.mm("nr_objects") == 0
    assert mapped.oracles() == []


def test_a_shrinker_that_knows_no_memcg_is_asked_once_in_its_own_pass(kernel: Emulated) -> None:
    """In the pass of none, or, where all of root's pass goes over the list, in that; never for another memcg."""
    kernel.play([mkdir(1), mount(0, 0), add(1, 0, 5), add(0, 0, 5)])
    cpu, root = kernel.cpus[0], kernel.memcg(0)
    calls = {}
    for who, memcg in (("memcg", kernel.memcg(1)), ("root", root), ("none", 0)):
        before = kernel.event(Event.SHRINKER_CALLS)
        kernel.call(shrink_slab, cpu, memcg, 0, GFP_KERNEL, 12)
        calls[who] = kernel.event(Event.SHRINKER_CALLS) - before
    assert calls == {"memcg": 0, "root": 0, "none": 0} | {EXPECTED[kernel.design].unaware_pass: 1}
    kernel.play([shrink(0), shrink(0)])
    assert kernel.mm("nr_objects") == 0
    assert kernel.oracles() == []


def test_an_aware_shrinker_is_not_asked_in_the_pass_of_none(kernel: Emulated) -> None:
    """Its objects belong to memcgs, root included."""
    kernel.play([mount(0), add(0, 0, 5)])
    kernel.call(shrink_slab, kernel.cpus[0], 0, 0, GFP_KERNEL, 0)
    assert kernel.event(Event.SHRINKER_CALLS) == 0
    kernel.play([shrink(0)])
    assert kernel.mm("nr_objects") == 0


def test_the_objects_of_other_memcgs_and_nodes_are_left_alone(kernel: Emulated) -> None:
    """A pass is for one memcg, not for those below it, and for one node."""
    kernel.play([mkdir(1), mkdir(2, 1), mount(0), add(1, 0, 5), add(1, 0, 6, nid=1), add(2, 0, 7), shrink(1)])
    assert kernel.event(Event.OBJECTS_FREED) == 5
    kernel.play([shrink(1, nid=1)])
    assert kernel.event(Event.OBJECTS_FREED) == 11
    kernel.play([shrink(2)])
    assert kernel.event(Event.OBJECTS_FREED) == 18


def test_a_memcg_that_is_offline_is_not_shrunk(kernel: Emulated) -> None:
    """Its objects are its parent's."""
    kernel.play([mkdir(1), mount(0), add(1, 0, 5)])
    dying = kernel.memcg(1)
    kernel.play([rmdir(1)])
    assert kernel.call(shrink_slab, kernel.cpus[0], dying, 0, GFP_KERNEL, 0) == 0
    assert kernel.event(Event.SHRINKER_CALLS) == 0


def test_offline_hands_the_objects_and_the_bit_to_the_parent(kernel: Emulated) -> None:
    """On both nodes and from both lists; the dying memcg lives as long as they do."""
    kernel.play([mkdir(1), mkdir(2, 1), mount(0), mount(1), add(2, 0, 3), add(2, 1, 4, nid=1, inodes=1)])
    heir, dying = kernel.memcg(1), kernel.memcg(2)
    kernel.play([rmdir(2)])
    if EXPECTED[kernel.design].mapped:
        assert (kernel.map(1, 0), kernel.map(1, 1)) == ([0], [1])
    assert kernel.word(dying + MEMCG.effective) == heir
    assert len(kernel.items(kernel.lru_one(superblock_lru_of(kernel, 0, 0), 0, heir))) == 3
    assert len(kernel.items(kernel.lru_one(superblock_lru_of(kernel, 1, 1), 1, heir))) == 4
    assert kernel.oracles() == []
    kernel.play([shrink(1), shrink(1, nid=1)])
    assert kernel.event(Event.OBJECTS_FREED) == 7
    assert dying not in kernel.memcgs()
    assert kernel.oracles() == []


def superblock_lru_of(kernel: Emulated, handle: int, inodes: int) -> int:
    """One of the two lists of a superblock."""
    return plain(superblock_lru)(kernel.sb(handle), inodes)


def test_objects_go_up_a_whole_chain_of_memcgs(kernel: Emulated) -> None:
    """From the leaf to root, whichever of them goes offline first."""
    kernel.play([mkdir(1), mkdir(2, 1), mkdir(3, 2), mount(0), add(3, 0, 5), add(1, 0, 2)])
    kernel.play([rmdir(1), rmdir(3)])
    assert kernel.oracles() == []
    kernel.play([shrink(2)])
    assert kernel.event(Event.OBJECTS_FREED) == 5
    kernel.play([rmdir(2), shrink(0)])
    assert kernel.event(Event.OBJECTS_FREED) == 7
    assert kernel.mm("nr_memcgs") == 1
    assert kernel.oracles() == []


def test_drop_caches_frees_everything(kernel: Emulated) -> None:
    """Of all memcgs, live and dying, on all nodes, aware or not."""
    rows = [mount(0), mount(1), mount(2, 0), mkdir(1), mkdir(2, 1), mkdir(3)]
    rows += [
        add(memcg, sb, 15, nid, inodes) for memcg in range(4) for sb in range(3) for nid in (0, 1) for inodes in (0, 1)
    ]
    kernel.play([*rows, rmdir(2), drop()])
    assert kernel.mm("nr_objects") == 0
    assert kernel.event(Event.OBJECTS_FREED) == 4 * 3 * 4 * 15
    assert kernel.oracles() == []


def test_unmounting_evicts_whatever_is_cached(kernel: Emulated) -> None:
    """Of live memcgs and dying ones; the last object takes the dying memcg with it."""
    kernel.play([mount(0), mkdir(1), mkdir(2), add(1, 0, 5), add(2, 0, 5, nid=1, inodes=1), rmdir(2), umount(0)])
    assert kernel.mm("nr_objects") == 0
    assert kernel.mm("nr_memcgs") == 2
    assert kernel.event(Event.OBJECTS_DELETED) == 10
    assert kernel.oracles() == []


def test_I1_an_unregistered_shrinker_is_not_called(kernel: Emulated) -> None:
    """Nor is the one that gets its id called in its name."""
    kernel.play([mkdir(1), mount(0), add(1, 0, 5), umount(0), mount(1), shrink(1), shrink(0), drop()])
    assert kernel.violations() == []
    assert kernel.event(Event.OBJECTS_FREED) == 0
    assert kernel.oracles() == []


# --- locks against reclaim ------------------------------------------------------------------------------


def test_I9_reclaim_gives_up_where_a_writer_is(design_with_rwsem: str, execution: str) -> None:
    """The trylock fails and is counted; nobody is asked, nothing is freed."""
    with Emulated(design_with_rwsem, execution) as kernel:
        sem = kernel.field_of_design("shrinker_rwsem")
        kernel.play([mkdir(1), mount(0), add(1, 0, 5)])
        kernel.call(down_write, kernel.cpus[1], sem)
        kernel.play([shrink(1), shrink(0)])
        assert kernel.event(Event.TRYLOCK_FAILED) >= 2
        assert kernel.event(Event.SHRINKER_CALLS) == 0
        assert kernel.word(sem + LOCK.klass) == LockClass.SHRINKER_RWSEM
        kernel.call(up_write, kernel.cpus[1], sem)
        kernel.play([shrink(1)])
        assert kernel.event(Event.OBJECTS_FREED) == 5
        assert kernel.oracles() == []


def test_I9_reclaim_goes_on_while_somebody_registers(design_without_lock: str, execution: str) -> None:
    """Without a lock to fail for: shrinker_mutex is held, passes run all the same."""
    with Emulated(design_without_lock, execution) as kernel:
        mutex = kernel.field_of_design("shrinker_mutex")
        kernel.play([mkdir(1), mount(0), add(1, 0, 5)])
        kernel.call(mutex_lock, kernel.cpus[1], mutex)
        kernel.play([shrink(1), shrink(0)])
        assert kernel.event(Event.OBJECTS_FREED) == 5
        assert kernel.event(Event.TRYLOCK_FAILED) == 0
        assert kernel.word(mutex + LOCK.klass) == LockClass.SHRINKER_MUTEX
        kernel.call(mutex_unlock, kernel.cpus[1], mutex)
        assert kernel.oracles() == []


# --- failure ----------------------------------------------------------------------------------------------


def budgets(kernel: Emulated, node: int) -> Iterator[int]:
    """Leave a node 0 lines, then 1, 2, ...: so every allocation is once the first to fail. Ends by being left."""
    room = kernel.spare(0), kernel.spare(1)
    for lines in range(3000):
        kernel.leave(room[0], 0)
        kernel.leave(room[1], 1)
        kernel.leave(lines, node)
        kernel.stop_reclaiming()
        yield lines
        kernel.stop_reclaiming(yes=False)
    pytest.fail("it never succeeded")


def taken(kernel: Emulated) -> list[int]:
    """Lines that are taken on each node."""
    return [kernel.word(kernel.zone(nid) + ZONE.size) - kernel.free(nid) for nid in (0, 1)]


@pytest.mark.parametrize("node", [0, 1])
@pytest.mark.parametrize("before", [0, 8, 64])
def test_I7_a_registration_that_fails_leaves_nothing(kernel: Emulated, before: int, node: int) -> None:
    """Whichever allocation it is that fails, of the first id, and of one for which the maps must grow."""
    kernel.play([mkdir(1), mkdir(2, 1), *(mount(k) for k in range(before))])
    ids = kernel.mm("live_ids")
    kept = taken(kernel)
    failures = 0
    for _ in budgets(kernel, node):
        sb = kernel.call(mount_superblock, kernel.cpus[0], 200, 1, 0)
        kernel.stop_reclaiming(yes=False)
        if sb >= 0:
            break
        failures += 1
        assert sb == -ENOMEM
        assert kernel.mm("live_ids") == ids
        assert kernel.oracles() == []
    nothing_there = (kernel.mm("lists_on_demand"), before, node) == (1, 8, 1)  # no lists yet, and maps long enough
    assert (failures == 0) == nothing_there
    grown = sum(taken(kernel)) - sum(kept)
    assert grown > 0
    kernel.set_word(kernel.mm("shrinker_table") + 200, sb)
    numbered = EXPECTED[kernel.design].mapped
    assert kernel.id(200) == (before if numbered else -1)
    kernel.play([add(2, 200, 1), umount(200)])
    assert kernel.mm("live_ids") == ids
    assert kernel.oracles() == []


@pytest.mark.parametrize("node", [0, 1])
def test_I7_a_memcg_that_cannot_come_online_leaves_nothing(kernel: Emulated, node: int) -> None:
    """Neither in the tree nor in the budget; the next one gets its index."""
    kernel.play([mkdir(1), *(mount(k) for k in range(70)), add(1, 0, 1), delete(1, 0, 1)])  # its lists are there
    kept = taken(kernel)
    parent = kernel.memcg(1)
    for _ in budgets(kernel, node):
        memcg = kernel.call(cgroup_mkdir, kernel.cpus[0], parent, 2, 0)
        kernel.stop_reclaiming(yes=False)
        if memcg > 0:
            break
        assert memcg == -ENOMEM
        assert kernel.oracles() == []
        assert kernel.mm("nr_memcgs") == 2
        assert taken(kernel) == kept
    kernel.set_word(kernel.mm("memcg_table") + 2, memcg)
    kernel.play([add(2, 0, 3), rmdir(2), shrink(1)])
    assert taken(kernel) == kept
    assert kernel.oracles() == []


def test_more_memcgs_than_there_is_room_for_are_refused(kernel: Emulated) -> None:
    """With -ENOSPC; one that goes offline makes room, though it is dying still."""
    most = kernel.machine.max_memcgs
    kernel.play([mount(0), *(mkdir(1 + k) for k in range(most)), add(1, 0, 1), mkdir(50)])
    assert kernel.outcomes(Op.MEMCG_ONLINE)["failed_enospc"] == 1
    kernel.play([rmdir(1), mkdir(51)])
    assert kernel.outcomes(Op.MEMCG_ONLINE)["done"] == most + 1
    assert kernel.oracles() == []


def test_growth_that_failed_halfway_goes_on_where_it_stopped(mapped: Emulated) -> None:
    """Parents are grown before their children (I10); what is long enough already is not made again."""
    chain = range(1, 11)
    count = EXPECTED[mapped.design].lengths[0]
    mapped.play([*(mkdir(k, k - 1) for k in chain), *(mount(k) for k in range(count))])
    short = mapped.map_bits(1)
    halfway: list[int] = []
    for _ in budgets(mapped, 0):
        mapped.call(rcu_read_lock, mapped.cpus[3])  # or the memory of a replaced map would do for the next
        sb = mapped.call(mount_superblock, mapped.cpus[0], 200, 1, 0)
        mapped.call(rcu_read_unlock, mapped.cpus[3])
        mapped.stop_reclaiming(yes=False)
        if sb > 0:
            break
        lengths = [mapped.map_bits(k) for k in chain]
        assert lengths == sorted(lengths, reverse=True)
        grown = [mapped.map_block(k) for k in chain if mapped.map_bits(k) > short]
        assert grown[: len(halfway)] == halfway
        halfway = grown
        assert mapped.oracles() == []
    assert 2 < len(halfway) < len(chain)
    assert [mapped.map_block(k) for k in chain][: len(halfway)] == halfway
    assert mapped.event(Event.GROWTHS) == 2


# --- one set of rows, all designs ------------------------------------------------------------------------


def other_layout(design: str) -> str:
    """A design with its lists where another era has them."""
    with Emulated(design, "plain") as kernel:
        return f"{design}+lists_on_demand={1 - kernel.mm('lists_on_demand')}"


@pytest.mark.parametrize("designs", ERAS, ids="-".join)
def test_the_same_rows_free_the_same_objects_under_every_design_of_an_era(
    execution: str, designs: tuple[str, ...]
) -> None:
    """One CPU: what is added, deleted, freed and left depends neither on how shrinkers are found nor on the lists."""
    found = {}
    for design in (*designs, other_layout(designs[0])):
        with Emulated(design, execution) as kernel:
            kernel.play(MIXED)
            found[design] = [
                kernel.event(e)
                for e in (Event.OBJECTS_ADDED, Event.OBJECTS_DELETED, Event.OBJECTS_FREED, Event.SCAN_CALLS)
            ] + [kernel.mm("nr_objects"), kernel.mm("nr_memcgs")]
            assert kernel.oracles() == [], design
            assert kernel.violations() == []
    assert len(set(map(tuple, found.values()))) == 1, found
    assert found[designs[0]][2] > 500


def test_maps_spare_most_of_the_calls(execution: str) -> None:
    """For the same objects freed."""
    calls = {}
    for design in NAMES:
        with Emulated(design, execution) as kernel:
            kernel.play([*(mount(k) for k in range(40)), *(mkdir(k) for k in range(1, 11))])
            kernel.play([add(k, k, 10) for k in range(1, 11)])
            kernel.play([shrink(k, p) for p in (3, 0) for k in range(1, 11)])
            calls[design] = kernel.event(Event.SHRINKER_CALLS)
            assert kernel.mm("nr_objects") == 0
    assert calls["no_map"] == 2 * 10 * 40
    assert all(calls[design] < calls["no_map"] / 20 for design in MAPPED), calls
    for era in ERAS:
        assert len({calls[design] for design in era if design in MAPPED}) == 1, calls


def test_plain_and_compiled_leave_the_same_words(design: str) -> None:
    """Every word but those that hold times; every count, every list, every byte of every object."""
    images, counts = [], []
    for execution in ("plain", "compiled"):
        with Emulated(design, execution) as kernel:
            kernel.play(MIXED)
            kernel.play([drop(), *(umount(k) for k in (0, 30))], cpu=1)
            images.append(kernel.image())
            counts.append(kernel.counts())
    assert differences(*images) == []
    assert counts[0] == counts[1]


def test_init_makes_one_record_and_nothing_else(kernel: Emulated) -> None:
    """A kernel that did nothing is in order."""
    assert kernel.mm("design") != 0
    assert kernel.oracles() == []
    assert kernel.violations() == []


@pytest.mark.parametrize("aware", [0, 1])
def test_the_deferred_counts_go_with_the_shrinker(kernel: Emulated, aware: int) -> None:
    """Allocated for it, one word a node, unless memcgs keep them, and freed when it goes."""
    kernel.play([mount(1, aware), umount(1)])  # the first makes maps that stay
    assert kernel.oracles() == []
    kept = taken(kernel)
    kernel.play([mount(0, aware)])
    own = kernel.word(kernel.sb(0) + SHRINKER.nr_deferred)
    assert (own == 0) == bool(aware and EXPECTED[kernel.design].owes_by_memcg)
    assert not own or kernel.words(own, 2) == [0, 0]
    kernel.play([umount(0)])
    assert kernel.oracles() == []
    assert taken(kernel) == kept


# --- what a shrinker owes -----------------------------------------------------------------------------


@pytest.fixture(params=OWING_BY_MEMCG)
def owing(request: pytest.FixtureRequest, execution: str) -> Iterator[Emulated]:
    """A kernel whose memcgs keep what is owed to them."""
    with Emulated(str(request.param), execution) as kernel:
        yield kernel


def owed(kernel: Emulated, memcg: int, number: int, nid: int = 0) -> int:
    """What shrinker `number` owes to a memcg (an offset)."""
    memory = kernel.arena.memory
    return kernel.word(plain(map_deferred)(memory, plain(map_of)(memory, memcg, nid), number))


def test_what_is_owed_for_one_memcg_is_owed_by_no_other(owing: Emulated) -> None:
    """Scans that give up leave their target to the next pass over the same memcg and node."""
    owing.play([mkdir(1), mkdir(2), (0, Op.REGISTER, 0, 0, 0, -1, 1), add(1, 0, 100), add(2, 0, 100)])
    owing.play([shrink(1, 2), shrink(1, 2)])
    assert owed(owing, owing.memcg(1), 0) == 2 * (2 * (100 >> 2))
    assert owed(owing, owing.memcg(2), 0) == owed(owing, owing.memcg(1), 0, nid=1) == 0
    assert owing.word(owing.sb(0) + SHRINKER.nr_deferred) == 0


def test_before_that_all_memcgs_shared_one_debt(design: str, execution: str) -> None:
    """A shrinker that knows memcgs has a count of its own until 5.13."""
    with Emulated(design, execution) as kernel:
        kernel.play([mkdir(1), mkdir(2), (0, Op.REGISTER, 0, 0, 0, -1, 1), add(1, 0, 100), shrink(1, 2)])
        own = kernel.word(kernel.sb(0) + SHRINKER.nr_deferred)
        assert (own != 0) == (not EXPECTED[design].owes_by_memcg)
        if own:
            whole = EXPECTED[design].arithmetic == Arithmetic.V4_19  # which scans small caches whole
            delta = 100 if whole else 2 * (100 >> 2)
            assert kernel.words(own, 2) == [delta, 0]


def test_I8_what_is_owed_goes_to_the_parent_at_offline_and_through_growth(owing: Emulated) -> None:
    """Added to what the parent is owed; longer maps have it too."""
    owing.play([mkdir(1), mkdir(2, 1), (0, Op.REGISTER, 0, 0, 0, -1, 1), add(1, 0, 100), add(2, 0, 40)])
    owing.play([shrink(1, 1), shrink(2, 1), rmdir(2)])
    assert owed(owing, owing.memcg(1), 0) == 2 * (100 >> 1) + 2 * (40 >> 1)
    owing.play([mount(k) for k in range(1, 65)])
    assert owing.map_bits(1) == 128
    assert owed(owing, owing.memcg(1), 0) == 140
    assert owing.oracles() == []


def test_an_id_that_is_used_again_finds_what_its_last_owner_owed(owing: Emulated) -> None:
    """Nothing clears it (H30)."""
    owing.play([mkdir(1), (0, Op.REGISTER, 0, 0, 0, -1, 1), add(1, 0, 100), shrink(1, 2), umount(0), mount(1)])
    assert owing.id(1) == 0
    assert owed(owing, owing.memcg(1), 0) == 50


@pytest.mark.parametrize("per_round", [1, 2, 3, 10, 11, 40])
def test_drop_caches_goes_on_by_the_rule_of_its_era(kernel: Emulated, per_round: int) -> None:
    """A referenced object is freed one round later: so each of some rounds frees `per_round`, and the last none."""
    kernel.play([mkdir(1), mount(0), add(1, 0, per_round)])
    passes = kernel.event(Event.RECLAIM_PASSES)
    kernel.play([drop()])
    rounds, per_node = divmod(kernel.event(Event.RECLAIM_PASSES) - passes, 3)  # of none, the root, memcg 1
    assert per_node == 0
    again = per_round > EXPECTED[kernel.design].rounds_end_at
    assert rounds == 2 + again  # on node 0 once or twice, on node 1 once
    assert kernel.mm("nr_objects") == 0
