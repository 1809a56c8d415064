"""list_lru against plain lists: random operations on the lists of one superblock, plain and compiled alike."""

from collections.abc import Iterator
from errno import ENOMEM

import pytest
from hypothesis import settings

from shmreclaim.machine.compile import plain
from shmreclaim.mm.list_lru import (
    OBJECT,
    list_lru_add,
    list_lru_count_one,
    list_lru_drain,
)
from shmreclaim.mm.list_lru_memcg import memcg_list_lru_alloc
from shmreclaim.mm.memcg import MEMCG
from shmreclaim.mm.page_alloc import object_alloc
from shmreclaim.mm.state import MM
from shmreclaim.mm.superblock import DENTRY_WORDS, superblock_lru
from tests.emulated import Emulated, add, delete, drop, mkdir, mount, rmdir, shrink
from tests.mm.machines import SOME, ListLruMachine, ListsOnDemandMachine

TestListLru = ListLruMachine.TestCase
TestListLru.settings = settings(SOME, max_examples=25, stateful_step_count=40)
TestListsOnDemand = ListsOnDemandMachine.TestCase
TestListsOnDemand.settings = settings(SOME, max_examples=25, stateful_step_count=40)


def dentries(kernel: Emulated, handle: int) -> int:
    """The first list_lru of a superblock."""
    return plain(superblock_lru)(kernel.sb(handle), 0)


def test_all_objects_of_a_shrinker_that_knows_no_memcg_are_on_one_list(kernel: Emulated) -> None:
    """Whosever they are; offline has nothing to move."""
    kernel.play([mount(0, 0), mkdir(1), mkdir(2, 1), add(0, 0, 1), add(1, 0, 2), add(2, 0, 4)])
    lru, root = dentries(kernel, 0), kernel.memcg(0)
    assert [kernel.call(list_lru_count_one, kernel.cpus[0], lru, 0, kernel.memcg(k)) for k in (0, 1, 2)] == [7, 7, 7]
    assert kernel.call(list_lru_drain, kernel.cpus[0], lru, 0, kernel.memcg(2), root) == 0
    kernel.play([rmdir(2)])
    assert len(kernel.items(kernel.lru_one(lru, 0, root))) == 7
    assert kernel.oracles() == []


def test_a_drain_of_an_empty_list_moves_nothing(kernel: Emulated) -> None:
    """And says 0: the heir's bit need not be set."""
    kernel.play([mount(0), mkdir(1), add(0, 0, 2)])
    assert kernel.call(list_lru_drain, kernel.cpus[0], dentries(kernel, 0), 0, kernel.memcg(1), kernel.memcg(0)) == 0


@pytest.mark.parametrize("heirs", [0, 3])
def test_a_drain_tells_how_many_came_whatever_was_there(kernel: Emulated, heirs: int) -> None:
    """Not only when the heir's list was empty: an edge can be hidden (commit 8199be001a47)."""
    kernel.play([mount(0), mkdir(1), *([add(0, 0, heirs)] if heirs else []), add(1, 0, 5)])
    lru, dying, heir = dentries(kernel, 0), kernel.memcg(1), kernel.memcg(0)
    mine, theirs = (kernel.items(kernel.lru_one(lru, 0, m)) for m in (dying, heir))
    assert kernel.call(list_lru_drain, kernel.cpus[0], lru, 0, dying, heir) == 5
    assert kernel.items(kernel.lru_one(lru, 0, heir)) == mine + theirs
    assert kernel.items(kernel.lru_one(lru, 0, dying)) == []


def test_an_object_of_a_dying_memcg_goes_to_its_heir(kernel: Emulated) -> None:
    """Who has a reference may still add; the memcg told is the one whose list it came to."""
    kernel.play([mount(0), mkdir(1), mkdir(2, 1)])
    dying, heir = kernel.memcg(2), kernel.memcg(1)
    item = kernel.call(object_alloc, kernel.cpus[0], dying, 0, DENTRY_WORDS)
    kernel.play([rmdir(2)])
    assert kernel.call(list_lru_add, kernel.cpus[0], dentries(kernel, 0), item) == heir
    assert kernel.word(item + OBJECT.memcg) == dying
    assert kernel.word(dying + MEMCG.effective) == heir


# --- lists on demand ------------------------------------------------------------------------------------


@pytest.fixture
def on_demand(execution: str) -> Iterator[Emulated]:
    """A kernel whose memcgs have lists from their first object on."""
    with Emulated("no_map", execution) as kernel:
        kernel.set_word(kernel.word_of_mm(MM.lists_on_demand), 1)
        kernel.play([mount(0), mkdir(1), mkdir(2, 1), mkdir(3, 2), mkdir(4)])
        yield kernel


def have_lists(kernel: Emulated) -> list[int]:
    """Which of memcgs 1 to 4 have lists of dentries on superblock 0."""
    return [k for k in range(1, 5) if kernel.memcg(k) and kernel.lru_one(dentries(kernel, 0), 0, kernel.memcg(k))]


def test_a_memcg_has_lists_from_its_first_object_on_and_those_above_have_them_too(on_demand: Emulated) -> None:
    """So offline finds its heir's and need not allocate; counting and walking make none."""
    on_demand.play([shrink(4), drop(), delete(4, 0, 3)])
    assert have_lists(on_demand) == []
    on_demand.play([add(3, 0, 1, nid=1)])
    assert have_lists(on_demand) == [1, 2, 3]
    on_demand.check()


def test_lists_go_with_their_memcg_and_are_not_found_by_the_next_of_its_number(on_demand: Emulated) -> None:
    """Its number is given out again at once."""
    on_demand.play([add(4, 0, 5)])
    number = on_demand.word(on_demand.memcg(4) + MEMCG.kmemcg_id)
    on_demand.play([rmdir(4), mkdir(5)])
    assert on_demand.word(on_demand.memcg(5) + MEMCG.kmemcg_id) == number
    assert on_demand.lru_one(dentries(on_demand, 0), 0, on_demand.memcg(5)) == 0
    assert len(on_demand.items(on_demand.lru_one(dentries(on_demand, 0), 0, on_demand.memcg(0)))) == 5
    on_demand.check()


def test_an_object_that_finds_no_memory_for_its_lists_is_not_made(on_demand: Emulated) -> None:
    """Whichever block is the first to fail; then nothing of it is left but what those above keep."""
    on_demand.play([mkdir(6, 3)])
    for lines in range(60):
        on_demand.leave(lines)
        on_demand.stop_reclaiming()
        outcome = on_demand.call(memcg_list_lru_alloc, on_demand.cpus[0], dentries(on_demand, 0), on_demand.memcg(6))
        on_demand.stop_reclaiming(yes=False)
        assert outcome in (0, -ENOMEM)
        assert on_demand.oracles() == []
        if outcome == 0:
            break
    assert lines > 2
    assert have_lists(on_demand) == [1, 2, 3]


def test_a_memcg_that_goes_offline_gets_no_lists_any_more(on_demand: Emulated) -> None:
    """Its objects go to those of the one above."""
    on_demand.play([add(3, 0, 1)])
    dying = on_demand.memcg(3)
    on_demand.play([rmdir(3)])
    assert on_demand.call(memcg_list_lru_alloc, on_demand.cpus[0], dentries(on_demand, 0), dying) == 0
    assert on_demand.lru_one(dentries(on_demand, 0), 0, dying) == 0
    on_demand.check()


@pytest.mark.parametrize(("at_the_edge", "told"), [(0, 2), (1, 0)])
def test_when_offline_sets_the_heirs_bit_is_the_eras(kernel: Emulated, at_the_edge: int, told: int) -> None:
    """Since 5.10 whenever an object went; before, only if the heir had none."""
    kernel.set_word(kernel.word_of_mm(MM.drain_at_the_edge), at_the_edge)
    kernel.play([mount(0), mkdir(1), mkdir(2, 1), mkdir(3, 1), add(2, 0, 3), add(3, 0, 2)])
    lru, cpu = dentries(kernel, 0), kernel.cpus[0]
    assert kernel.call(list_lru_drain, cpu, lru, 0, kernel.memcg(2), kernel.memcg(1)) == 3
    assert kernel.call(list_lru_drain, cpu, lru, 0, kernel.memcg(3), kernel.memcg(1)) == told
