"""Allocation with what its gfp allows: reclaim of page cache and slab, limits of memcgs, and clean failure."""

from errno import ENOMEM

import pytest

from shmreclaim.machine.cpu import CPU, PF_KSWAPD, PF_MEMALLOC
from shmreclaim.machine.layout import HEADER
from shmreclaim.mm.memcg import MEMCG, NODEINFO, NODEINFO_WORDS
from shmreclaim.mm.page_alloc import (
    MAX_RECLAIM_RETRIES,
    MEMCG_RECLAIM_RETRIES,
    add_to_page_cache,
    alloc_lines,
    charge_pages,
    free_pages,
    kmalloc,
    object_alloc,
)
from shmreclaim.mm.page_cache import lru_cache_add, shrink_lruvec
from shmreclaim.mm.state import (
    GFP_ATOMIC,
    GFP_KERNEL,
    GFP_NOFS,
    GFP_NOWAIT,
    LINES_PER_PAGE,
    MM,
    SWAP_CLUSTER_MAX,
    Event,
    Phase,
)
from shmreclaim.mm.superblock import DENTRY_WORDS, SUPERBLOCK
from shmreclaim.mm.vmscan import balance_pgdat, drop_slab, try_to_free_pages
from shmreclaim.mm.zone import ZONE
from shmreclaim.workload.ops import Op
from tests.emulated import Emulated, add, alloc, cache, mkdir, mount, rmdir

OBJECT_LINES = 3


def cached(kernel: Emulated, memcg: int, nid: int = 0) -> int:
    """Pages of page cache of a memcg (a handle) on a node."""
    return kernel.word(kernel.memcg(memcg) + MEMCG.nodeinfo + nid * NODEINFO_WORDS + NODEINFO.cache_pages)


def allocate(kernel: Emulated, pages: int, gfp: int) -> int:
    """Take pages of node 0."""
    return kernel.call(alloc_lines, kernel.cpus[0], 0, pages * LINES_PER_PAGE, gfp)


# --- what each gfp may do ------------------------------------------------------------------------------


def test_gfp_kernel_frees_page_cache_when_memory_is_short(kernel: Emulated) -> None:
    """A cluster at a time, and it succeeds; the task is not left reclaiming."""
    kernel.play([mkdir(1), cache(1, 100)])
    kernel.leave(0)
    assert allocate(kernel, 1, GFP_KERNEL) == 1
    assert kernel.event(Event.DIRECT_RECLAIMS) == 1
    assert kernel.event(Event.PAGES_FREED) == SWAP_CLUSTER_MAX
    assert cached(kernel, 1) == 100 - SWAP_CLUSTER_MAX
    assert kernel.word(kernel.cpus[0] + CPU.flags) == 0


def test_gfp_kernel_frees_slab_when_there_is_no_page_cache(kernel: Emulated) -> None:
    """Objects of whoever has them, through the design's pass."""
    kernel.play([mkdir(1), mount(0), add(1, 0, 500)])
    kernel.leave(0)
    assert allocate(kernel, 1, GFP_KERNEL) == 1
    assert kernel.event(Event.OBJECTS_FREED) * OBJECT_LINES >= LINES_PER_PAGE
    assert kernel.event(Event.TRYLOCK_FAILED) == 0


def test_gfp_nofs_gets_nothing_from_superblocks(kernel: Emulated) -> None:
    """They answer SHRINK_STOP: what they owe is deferred, memory fails; page cache it may still have."""
    kernel.play([mkdir(1), mount(0), add(1, 0, 500)])
    kernel.leave(0)
    assert allocate(kernel, 1, GFP_NOFS) == 0
    assert kernel.event(Event.OBJECTS_FREED) == 0
    assert kernel.event(Event.SHRINKER_CALLS) > 0
    kernel.leave(40 * LINES_PER_PAGE)
    kernel.play([cache(1, 40)])
    kernel.leave(0)
    assert allocate(kernel, 1, GFP_NOFS) == 1
    assert kernel.event(Event.OBJECTS_FREED) == 0


@pytest.mark.parametrize("gfp", [GFP_NOWAIT, GFP_ATOMIC])
def test_without_direct_reclaim_an_allocation_fails_at_once(kernel: Emulated, gfp: int) -> None:
    """Whatever could be freed; kswapd is asked."""
    kernel.play([mkdir(1), mount(0), add(1, 0, 100), cache(1, 50)])
    kernel.leave(-kernel.word(kernel.zone() + ZONE.min) // 2)
    asked = kernel.word(kernel.zone() + ZONE.kswapd)
    assert allocate(kernel, 1, gfp) == 0
    assert kernel.event(Event.DIRECT_RECLAIMS) == 0
    assert kernel.word(kernel.zone() + ZONE.kswapd) == asked + 1
    assert (kernel.event(Event.PAGES_FREED), kernel.event(Event.OBJECTS_FREED)) == (0, 0)


def test_a_task_in_reclaim_does_not_reclaim_again(kernel: Emulated) -> None:
    """It may take what is left below the watermark instead."""
    kernel.play([mkdir(1), cache(1, 50)])
    kernel.leave(0)
    kernel.set_word(kernel.cpus[0] + CPU.flags, PF_MEMALLOC)
    assert allocate(kernel, 1, GFP_KERNEL) == 1
    assert allocate(kernel, 1000, GFP_KERNEL) == 0
    assert kernel.event(Event.DIRECT_RECLAIMS) == 0


def test_memory_that_cannot_be_had_is_given_up_after_so_many_rounds(kernel: Emulated) -> None:
    """In a row, none of which freed anything; nothing is taken."""
    kernel.play([mkdir(1), cache(1, 40)])
    kernel.leave(0)
    free = kernel.free()
    assert allocate(kernel, 10_000, GFP_KERNEL) == 0
    assert kernel.event(Event.DIRECT_RECLAIMS) == 2 + MAX_RECLAIM_RETRIES
    assert kernel.event(Event.ALLOC_FAILED) == 1
    assert kernel.free() == free + 40 * LINES_PER_PAGE
    assert cached(kernel, 1) == 0
    assert kernel.oracles() == []


def test_a_run_that_is_stopped_does_not_go_on_reclaiming(kernel: Emulated) -> None:
    """The loop has no other end that is near."""
    kernel.play([mkdir(1), cache(1, 40)])
    kernel.leave(0)
    kernel.set_word(HEADER.phase, Phase.STOP)
    assert allocate(kernel, 10_000, GFP_KERNEL) == 0
    assert kernel.event(Event.DIRECT_RECLAIMS) == 0


@pytest.mark.parametrize(("phase", "counted"), [(Phase.RUN, "failed_enomem"), (Phase.STOP, "skipped")])
def test_an_operation_that_fails_because_the_run_ends_is_no_failure(
    kernel: Emulated, phase: Phase, counted: str
) -> None:
    """It stopped waiting for memory; how a run that is ended in full memory came out would count one for each CPU."""
    kernel.leave(0)
    kernel.set_word(HEADER.phase, phase)
    kernel.play_one(mount(1))
    assert {name: n for name, n in kernel.outcomes(Op.REGISTER).items() if n} == {counted: 1}


def test_reclaim_becomes_more_urgent_until_a_cluster_is_free(kernel: Emulated) -> None:
    """From priority 12 on: at 0 the objects of a small cache are scanned, at 12 they are only owed."""
    kernel.play([mkdir(1), mount(0), add(1, 0, 60)])
    freed = kernel.call(try_to_free_pages, kernel.cpus[0], kernel.memcg(0), GFP_KERNEL)
    assert freed == kernel.event(Event.OBJECTS_FREED) * OBJECT_LINES
    assert kernel.mm("nr_objects") == 0
    assert kernel.event(Event.RECLAIM_PASSES) == 13 * 2 * 3


# --- limits of memcgs -----------------------------------------------------------------------------------


def test_a_memcg_at_its_limit_reclaims_its_own_page_cache(kernel: Emulated) -> None:
    """And what is below it, but not its neighbour's."""
    kernel.play([mkdir(1, 0, 60), mkdir(2, 1), mkdir(3), cache(1, 30), cache(2, 30), cache(3, 30)])
    assert kernel.event(Event.MEMCG_RECLAIMS) == 0
    kernel.play([cache(1, 5)])
    assert kernel.outcomes(Op.CACHE_PAGES)["done"] == 4
    assert kernel.event(Event.MEMCG_RECLAIMS) == 1
    assert kernel.event(Event.DIRECT_RECLAIMS) == 0
    assert cached(kernel, 3) == 30
    assert cached(kernel, 1) + cached(kernel, 2) < 60
    assert kernel.oracles() == []


def test_a_limit_above_reclaims_from_the_whole_subtree(kernel: Emulated) -> None:
    """The memcg that is charged need not have anything itself."""
    kernel.play([mkdir(1, 0, 40), mkdir(2, 1), mkdir(3, 1), cache(2, 40)])
    kernel.play([alloc(3, 10)])
    assert kernel.outcomes(Op.ALLOC)["done"] == 1
    assert cached(kernel, 2) < 40
    assert kernel.usage(kernel.memcg(3)) == 0


def test_objects_are_reclaimed_at_a_limit_too(kernel: Emulated) -> None:
    """They are charged like pages."""
    per_page = LINES_PER_PAGE // OBJECT_LINES
    kernel.play([mkdir(1, 0, 4), mount(0), add(1, 0, 6 * per_page)])
    assert kernel.event(Event.OBJECTS_ADDED) == 6 * per_page
    assert kernel.event(Event.OBJECTS_FREED) > 0
    assert kernel.usage(kernel.memcg(1)) <= 4
    assert kernel.oracles() == []


def test_a_charge_that_cannot_be_had_fails_after_some_rounds(kernel: Emulated) -> None:
    """Nothing is charged, up to root; nothing is taken."""
    kernel.play([mkdir(1, 0, 10), mkdir(2, 1)])
    free = kernel.free()
    kernel.play([cache(2, 11)])
    assert kernel.outcomes(Op.CACHE_PAGES)["failed_enomem"] == 1
    assert kernel.event(Event.MEMCG_RECLAIMS) == MEMCG_RECLAIM_RETRIES + 1
    assert kernel.event(Event.CHARGE_FAILED) == 1
    assert [kernel.usage(kernel.memcg(k)) for k in (0, 1, 2)] == [0, 0, 0]
    assert kernel.free() == free
    assert kernel.oracles() == []


@pytest.mark.parametrize("gfp", [GFP_NOWAIT, GFP_ATOMIC])
def test_a_charge_without_direct_reclaim_fails_at_once(kernel: Emulated, gfp: int) -> None:
    """Even if the memcg has page cache to give."""
    kernel.play([mkdir(1, 0, 10), cache(1, 10)])
    kernel.play([cache(1, 1, gfp=gfp)])
    assert kernel.outcomes(Op.CACHE_PAGES)["failed_enomem"] == 1
    assert cached(kernel, 1) == 10


# --- failure is clean -------------------------------------------------------------------------------------


def test_what_was_charged_is_uncharged_when_memory_fails(kernel: Emulated) -> None:
    """Pages and objects; no reference to the memcg stays."""
    kernel.play([mkdir(1)])
    memcg, cpu = kernel.memcg(1), kernel.cpus[0]
    kernel.leave(0)
    kernel.stop_reclaiming()
    assert kernel.call(charge_pages, cpu, memcg, 0, 1, GFP_KERNEL) == -ENOMEM
    assert kernel.call(add_to_page_cache, cpu, memcg, 0, 1, GFP_KERNEL) == -ENOMEM
    assert kernel.call(object_alloc, cpu, memcg, 0, DENTRY_WORDS) == 0
    assert kernel.usage(memcg) == 0
    assert kernel.word(memcg + MEMCG.refcount) == 1
    kernel.stop_reclaiming(yes=False)
    assert kernel.oracles() == []


def test_a_heap_that_is_exhausted_gives_the_budget_back(kernel: Emulated) -> None:
    """More lines than chunks: the block cannot be had, its lines can."""
    kernel.leave(1 << 30)
    words = kernel.machine.heap_chunks * 512
    free = kernel.free()
    assert kernel.call(kmalloc, kernel.cpus[0], 0, words, GFP_KERNEL) == 0
    assert kernel.event(Event.HEAP_EXHAUSTED) == 1
    assert kernel.free() == free


def test_objects_that_do_not_fit_fail_the_operation_and_those_that_did_stay(kernel: Emulated) -> None:
    """A limit of one page, a superblock that nobody may ask: -ENOMEM, with what was made before it on the list."""
    kernel.play([mkdir(1, 0, 1), mount(0)])
    kernel.set_word(kernel.sb(0) + SUPERBLOCK.born, 0)
    kernel.play([add(1, 0, 1000)])
    assert kernel.outcomes(Op.LRU_ADD)["failed_enomem"] == 1
    made = kernel.event(Event.OBJECTS_ADDED)
    assert made == LINES_PER_PAGE // OBJECT_LINES
    assert kernel.mm("nr_objects") == made
    assert kernel.oracles() == []


# --- page cache --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 31, 32, 33, 100, 5000])
def test_a_pass_takes_its_share_of_the_page_cache_but_at_least_a_cluster(kernel: Emulated, size: int) -> None:
    """1/2^priority of it; all of a small one."""
    kernel.play([mkdir(1)])
    memcg, cpu = kernel.memcg(1), kernel.cpus[0]
    kernel.leave(6000 * LINES_PER_PAGE)
    for priority in (12, 6, 1, 0):
        assert size == 0 or kernel.call(charge_pages, cpu, memcg, 0, size, GFP_KERNEL) == 0
        kernel.call(lru_cache_add, memcg, 0, size)
        n = max(size >> priority, min(size, SWAP_CLUSTER_MAX))
        assert kernel.call(shrink_lruvec, cpu, memcg, 0, priority) == n
        assert cached(kernel, 1) == size - n
        kernel.call(shrink_lruvec, cpu, memcg, 0, 0)
    assert kernel.usage(memcg) == 0
    assert kernel.oracles() == []


def test_page_cache_keeps_a_dying_memcg_until_it_is_reclaimed(kernel: Emulated) -> None:
    """Its last page takes it along."""
    kernel.play([mkdir(1), cache(1, 40)])
    dying = kernel.memcg(1)
    kernel.play([rmdir(1)])
    assert dying in kernel.memcgs()
    kernel.call(try_to_free_pages, kernel.cpus[0], kernel.memcg(0), GFP_KERNEL)
    kernel.call(try_to_free_pages, kernel.cpus[0], kernel.memcg(0), GFP_KERNEL)
    assert dying not in kernel.memcgs()
    assert kernel.oracles() == []


def test_pages_that_nobody_put_on_an_lru_are_given_back_by_hand(kernel: Emulated) -> None:
    """Charged, taken, uncharged, given."""
    kernel.play([mkdir(1)])
    memcg, cpu, free = kernel.memcg(1), kernel.cpus[0], kernel.free()
    kernel.call(charge_pages, cpu, memcg, 0, 7, GFP_KERNEL)
    assert (kernel.usage(memcg), kernel.free()) == (7, free - 7 * LINES_PER_PAGE)
    kernel.call(free_pages, cpu, memcg, 0, 7)
    assert (kernel.usage(memcg), kernel.free()) == (0, free)


# --- background reclaim and drop_caches ------------------------------------------------------------------------


def test_kswapd_reclaims_up_to_the_high_watermark_and_no_further(kernel: Emulated) -> None:
    """On its node; it is marked while it does."""
    kernel.play([mkdir(1), cache(1, 200), cache(1, 100, nid=1)])
    kernel.leave(0)
    kernel.call(balance_pgdat, kernel.cpus[0], 0)
    high = kernel.word(kernel.zone() + ZONE.high)
    assert high <= kernel.free() < high + SWAP_CLUSTER_MAX * LINES_PER_PAGE
    assert cached(kernel, 1, 1) == 100
    assert kernel.word(kernel.cpus[0] + CPU.flags) & (PF_KSWAPD | PF_MEMALLOC) == 0
    freed = kernel.event(Event.PAGES_FREED)
    kernel.call(balance_pgdat, kernel.cpus[0], 0)
    assert kernel.event(Event.PAGES_FREED) == freed


def test_drop_caches_goes_on_while_a_round_frees_enough(kernel: Emulated) -> None:
    """And tells how many objects went in all; page cache stays."""
    kernel.play([mkdir(1), mount(0), add(1, 0, 90), add(0, 0, 30, nid=1), cache(1, 10)])
    assert kernel.call(drop_slab, kernel.cpus[0]) == 120
    assert kernel.mm("nr_objects") == 0
    assert cached(kernel, 1) == 10
    assert kernel.word(kernel.cpus[0] + CPU.flags) == 0


@pytest.mark.parametrize(("halves", "freed", "rounds"), [(0, 10, 1), (0, 11, 2), (1, 1, 1), (1, 2, 2), (1, 90, 2)])
def test_how_much_a_round_of_drop_caches_must_free_for_another(
    kernel: Emulated, halves: int, freed: int, rounds: int
) -> None:
    """More than ten objects of a node; since 5.16 two in the first round, and then more."""
    kernel.set_word(kernel.word_of_mm(MM.drop_halves), halves)
    kernel.play([mkdir(1), mount(0), add(1, 0, freed)])
    assert kernel.call(drop_slab, kernel.cpus[0]) == freed
    other_node = kernel.machine.nodes - 1
    assert kernel.event(Event.DROP_ROUNDS) == rounds + other_node
