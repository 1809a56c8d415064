"""list_lru against plain lists: random operations on the lists of one superblock, plain and compiled alike."""

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from shmreclaim.lib.list_head import list_del_init, list_init
from shmreclaim.machine.compile import plain
from shmreclaim.machine.cpu import count_event
from shmreclaim.mm.cgroup import cgroup_mkdir, cgroup_rmdir
from shmreclaim.mm.list_lru import (
    LIST_LRU,
    LRU_NODE,
    LRU_NODE_WORDS,
    LRU_ONE,
    OBJECT,
    list_lru_add,
    list_lru_count_one,
    list_lru_drain,
    list_lru_evict,
    list_lru_touch,
    list_lru_walk_one,
)
from shmreclaim.mm.memcg import MEMCG
from shmreclaim.mm.page_alloc import object_alloc
from shmreclaim.mm.state import Event
from shmreclaim.mm.superblock import DENTRY_WORDS, dispose_list, superblock_lru
from tests.emulated import Emulated, Twins, add, mkdir, mount, rmdir, umount

ROOT = 0
nodes = st.integers(0, 1)
which = st.integers(0, 1000)


class Memcg:
    """What the model knows of a memcg: where it is, what is above it, whether it is online."""

    def __init__(self, at: int, parent: "Memcg | None") -> None:
        """Online from the start."""
        self.at, self.parent, self.online = at, parent, True

    @property
    def effective(self) -> "Memcg":
        """The nearest one that is online, itself or above."""
        return self if self.online or self.parent is None else self.parent.effective


class ListLruMachine(RuleBasedStateMachine):
    """A list_lru of two nodes beside a dict of lists."""

    def __init__(self) -> None:
        """One superblock, root, nothing on the lists."""
        super().__init__()
        self.kernel = Twins("no_map")
        self.kernel.play([mount(0)])
        self.cpu = self.kernel.cpus[0]
        self.lru = plain(superblock_lru)(self.kernel.sb(0), 0)
        self.head = self.kernel.arena.allocate(2)
        self.kernel.other.arena.allocate(2)
        self.kernel.call(list_init, self.head)
        self.memcgs = [Memcg(self.kernel.memcg(0), None)]
        self.lists: dict[tuple[Memcg, int], list[int]] = {}
        self.owner: dict[int, tuple[Memcg, int]] = {}
        self.referenced: set[int] = set()
        self.private: list[int] = []

    def alive(self, k: int) -> Memcg:
        """Some memcg that is there, perhaps dying."""
        held = {owner for owner, _ in self.owner.values()}
        there = [m for m in self.memcgs if m.online or any(o is m or above(m, o) for o in held)]
        return there[k % len(there)]

    def list_of(self, memcg: Memcg, nid: int) -> list[int]:
        """The list that holds a memcg's objects."""
        return self.lists.setdefault((memcg.effective, nid), [])

    @precondition(lambda self: sum(m.online for m in self.memcgs) < 9)
    @rule(k=which)
    def mkdir(self, k: int) -> None:
        """A new memcg below one that is online."""
        online = [m for m in self.memcgs if m.online]
        parent = online[k % len(online)]
        at = self.kernel.call(cgroup_mkdir, self.cpu, parent.at, len(self.memcgs), 0)
        assert at > 0
        self.memcgs.append(Memcg(at, parent))

    @precondition(lambda self: sum(m.online for m in self.memcgs) > 1)
    @rule(k=which)
    def rmdir(self, k: int) -> None:
        """Offline, in any order: its objects, and those it has from below, go to the front of its heir's list."""
        online = [m for m in self.memcgs[1:] if m.online]
        memcg = online[k % len(online)]
        self.kernel.call(cgroup_rmdir, self.cpu, memcg.at)
        memcg.online = False
        for nid in (0, 1):
            gone = self.lists.pop((memcg, nid), [])
            self.lists[memcg.effective, nid] = gone + self.list_of(memcg, nid)

    @rule(k=which, nid=nodes, count=st.integers(1, 4))
    def add(self, k: int, nid: int, count: int) -> None:
        """New objects, last on the list; the first on an empty list is told, with the memcg whose list it is."""
        memcg = self.alive(k)
        for _ in range(count):
            item = self.kernel.call(object_alloc, self.cpu, memcg.at, nid, DENTRY_WORDS)
            self.kernel.call(count_event, self.cpu, Event.OBJECTS_ADDED, 1)
            self.owner[item] = (memcg, nid)
            self._put(item)

    def _put(self, item: int) -> None:
        memcg, nid = self.owner[item]
        target = self.list_of(memcg, nid)
        assert self.kernel.call(list_lru_add, self.cpu, self.lru, item) == (0 if target else memcg.effective.at)
        target.append(item)

    @rule(k=which, nid=nodes, budget=st.integers(0, 6))
    def isolate(self, k: int, nid: int, budget: int) -> None:
        """From the front, as far as the budget goes; one that was referenced costs as much and goes last instead."""
        memcg = self.alive(k)
        target = self.list_of(memcg, nid)
        isolated = 0
        for _ in range(budget):
            if not target:
                break
            item = target.pop(0)
            if item in self.referenced:
                self.referenced.discard(item)
                target.append(item)
            else:
                self.private.append(item)
                isolated += 1
        arguments = (self.cpu, self.lru, nid, memcg.at, budget, self.head)
        assert self.kernel.call(list_lru_walk_one, *arguments) == isolated

    @rule(k=which, nid=nodes, count=st.integers(0, 5))
    def touch(self, k: int, nid: int, count: int) -> None:
        """The first few of a list are referenced."""
        memcg = self.alive(k)
        first = self.list_of(memcg, nid)[:count]
        assert self.kernel.call(list_lru_touch, self.cpu, self.lru, nid, memcg.at, count) == len(first)
        self.referenced.update(first)

    @precondition(lambda self: self.private)
    @rule(k=which)
    def put_back(self, k: int) -> None:
        """What was isolated comes back to where its memcg's objects are now."""
        item = self.private.pop(k % len(self.private))
        self.kernel.call(list_del_init, item + OBJECT.link)
        self._put(item)

    @rule()
    def dispose(self) -> None:
        """Free what was isolated; the last object of a dying memcg takes it along."""
        assert self.kernel.call(dispose_list, self.cpu, self.head) == len(self.private)
        self.kernel.call(count_event, self.cpu, Event.OBJECTS_DELETED, len(self.private))
        for item in self.private:
            del self.owner[item]
        self.private.clear()
        self.kernel.play([])

    @rule(nid=nodes)
    def evict(self, nid: int) -> None:
        """Everything of a node is isolated, referenced or not."""
        items = [item for (_, n), target in self.lists.items() if n == nid for item in target]
        assert self.kernel.call(list_lru_evict, self.cpu, self.lru, nid, self.head) == len(items)
        held = [entry - OBJECT.link for entry in self.kernel.entries(self.head)]
        assert held[: len(self.private)] == self.private
        assert sorted(held[len(self.private) :]) == sorted(items)
        self.private = held
        self.referenced -= set(items)
        self.lists = {key: target for key, target in self.lists.items() if key[1] != nid}

    @rule(k=which, nid=nodes)
    def count(self, k: int, nid: int) -> None:
        """What a dying memcg counts is its heir's."""
        memcg = self.alive(k)
        assert self.kernel.call(list_lru_count_one, self.lru, nid, memcg.at) == len(self.list_of(memcg, nid))

    @invariant()
    def I12_counts_are_lengths_and_order_is_kept(self) -> None:
        """Of every list, of both nodes; and the private list is what was isolated, in order."""
        for nid in (0, 1):
            total = 0
            for memcg in self.memcgs:
                if memcg.online:
                    one = self.kernel.lru_one(self.lru, nid, memcg.at)
                    items = self.list_of(memcg, nid)
                    assert self.kernel.items(one) == items
                    assert self.kernel.word(one + LRU_ONE.nr_items) == len(items)
                    total += len(items)
            node = self.lru + LIST_LRU.nodes + nid * LRU_NODE_WORDS
            assert self.kernel.word(node + LRU_NODE.nr_items) == total
        assert [entry - OBJECT.link for entry in self.kernel.entries(self.head)] == self.private

    def teardown(self) -> None:
        """All goes; nothing is broken, and the two executions end with the same words."""
        try:
            self.dispose()
            self.kernel.check()
            self.kernel.play([umount(0)])
            assert self.kernel.mm("nr_objects") == 0
            for memcg in self.memcgs[1:]:
                if memcg.online:
                    self.kernel.call(cgroup_rmdir, self.cpu, memcg.at)
            assert self.kernel.mm("nr_memcgs") == 1
            self.kernel.check()
        finally:
            self.kernel.__exit__()


def above(memcg: Memcg, other: Memcg) -> bool:
    """Whether a memcg is above another."""
    while other.parent is not None:
        other = other.parent
        if other is memcg:
            return True
    return False


TestListLru = ListLruMachine.TestCase
TestListLru.settings = settings(max_examples=25, stateful_step_count=40, deadline=None)


def dentries(kernel: Emulated, handle: int) -> int:
    """The first list_lru of a superblock."""
    return plain(superblock_lru)(kernel.sb(handle), 0)


def test_all_objects_of_a_shrinker_that_knows_no_memcg_are_on_one_list(kernel: Emulated) -> None:
    """Whosever they are; offline has nothing to move."""
    kernel.play([mount(0, 0), mkdir(1), mkdir(2, 1), add(0, 0, 1), add(1, 0, 2), add(2, 0, 4)])
    lru, root = dentries(kernel, 0), kernel.memcg(0)
    assert [kernel.call(list_lru_count_one, lru, 0, kernel.memcg(k)) for k in (0, 1, 2)] == [7, 7, 7]
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
