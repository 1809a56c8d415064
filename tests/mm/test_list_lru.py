"""list_lru against plain lists: random operations on the lists of one superblock, plain and compiled alike."""

import pytest
from hypothesis import settings

from shmreclaim.machine.compile import plain
from shmreclaim.mm.list_lru import (
    OBJECT,
    list_lru_add,
    list_lru_count_one,
    list_lru_drain,
)
from shmreclaim.mm.memcg import MEMCG
from shmreclaim.mm.page_alloc import object_alloc
from shmreclaim.mm.superblock import DENTRY_WORDS, superblock_lru
from tests.emulated import Emulated, add, mkdir, mount, rmdir
from tests.mm.machines import SOME, ListLruMachine

TestListLru = ListLruMachine.TestCase
TestListLru.settings = settings(SOME, max_examples=25, stateful_step_count=40)


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
