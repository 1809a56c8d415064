"""Random operations on the parts of mm/ and on their obvious models, step by step (Hypothesis state machines).

Each machine runs on `emulate`: Twins, unless a test wants a plain kernel alone, to put a mistake into it.
"""

from __future__ import annotations

from collections.abc import Callable
from errno import ENOMEM, ENOSPC
from typing import ClassVar

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from shmreclaim.lib.list_head import list_del_init, list_init
from shmreclaim.machine.compile import plain
from shmreclaim.machine.cpu import count_event
from shmreclaim.machine.layout import LINE
from shmreclaim.mm.cgroup import cgroup_mkdir, cgroup_rmdir
from shmreclaim.mm.list_lru import (
    LIST_LRU,
    LRU_NODE,
    LRU_NODE_WORDS,
    LRU_ONE,
    OBJECT,
    list_lru_add,
    list_lru_count_one,
    list_lru_evict,
    list_lru_touch,
    list_lru_walk_one,
)
from shmreclaim.mm.list_lru_memcg import memcg_list_lru_alloc
from shmreclaim.mm.memcg import (
    MEMCG,
    css_get_many,
    css_put,
    css_put_many,
    css_tryget,
    mem_cgroup_iter,
)
from shmreclaim.mm.page_alloc import add_to_page_cache, charge_pages, free_pages, kmalloc, kzalloc, object_alloc
from shmreclaim.mm.page_cache import shrink_lruvec
from shmreclaim.mm.slab import (
    BLOCK_WORDS,
    CHUNK_WORDS,
    HEAP,
    allocated_lines,
    block_node,
    kfree,
    kfree_rcu,
    rcu_do_batch,
)
from shmreclaim.mm.state import GFP_NOWAIT, LINES_PER_PAGE, MM, SWAP_CLUSTER_MAX, Event
from shmreclaim.mm.superblock import DENTRY_WORDS, dispose_list, superblock_lru
from tests.emulated import SMALL, Emulated, Twins, mount, umount

SOME = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""No limits of time: other tests run beside, and the first call of a function compiles it."""

which = st.integers(0, 1000)
nodes = st.integers(0, 1)


# --- list_lru ---------------------------------------------------------------------------------------


class Owner:
    """What the model knows of a memcg: where it is, what is above it, whether it is online."""

    def __init__(self, at: int, parent: Owner | None) -> None:
        """Online from the start."""
        self.at, self.parent, self.online = at, parent, True

    @property
    def effective(self) -> Owner:
        """The nearest one that is online, itself or above."""
        return next(m for m in self.path() if m.online)

    def path(self) -> list[Owner]:
        """Itself and all above."""
        return [self] + (self.parent.path() if self.parent else [])


class ListLruMachine(RuleBasedStateMachine):
    """A list_lru of two nodes beside a dict of lists."""

    emulate: ClassVar[Callable[[str], Emulated]] = Twins
    on_demand: ClassVar[int] = 0

    def __init__(self) -> None:
        """One superblock, root, nothing on the lists."""
        super().__init__()
        self.kernel = self.emulate("no_map")
        self.kernel.set_word(self.kernel.word_of_mm(MM.lists_on_demand), self.on_demand)
        self.kernel.play([mount(0)])
        self.cpu = self.kernel.cpus[0]
        self.lru = plain(superblock_lru)(self.kernel.sb(0), 0)
        self.head = self.kernel.allocate(2)
        self.kernel.call(list_init, self.head)
        self.memcgs = [Owner(self.kernel.memcg(0), None)]
        self.lists: dict[tuple[Owner, int], list[int]] = {}
        self.listed = {self.memcgs[0]}
        """On demand: who has lists, on all nodes, empty or not."""
        self.owner: dict[int, tuple[Owner, int]] = {}
        self.referenced: set[int] = set()
        self.private: list[int] = []

    def alive(self, k: int) -> Owner:
        """Some memcg that is there, perhaps dying."""
        held = {owner for owner, _ in self.owner.values()}
        there = [m for m in self.memcgs if m.online or any(m in o.path() for o in held)]
        return there[k % len(there)]

    def list_of(self, memcg: Owner, nid: int) -> list[int]:
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
        self.memcgs.append(Owner(at, parent))

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
        self.listed.update(m for m in memcg.path() if m.online)
        for _ in range(count):
            assert self.kernel.call(memcg_list_lru_alloc, self.cpu, self.lru, memcg.at) == 0
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
            self.referenced.discard(item)
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
        self.lists = {key: target for key, target in self.lists.items() if key[1] != nid}

    @rule(k=which, nid=nodes)
    def count(self, k: int, nid: int) -> None:
        """What a dying memcg counts is its heir's."""
        memcg = self.alive(k)
        assert self.kernel.call(list_lru_count_one, self.kernel.cpus[0], self.lru, nid, memcg.at) == len(
            self.list_of(memcg, nid)
        )

    @invariant()
    def I12_counts_are_lengths_and_order_is_kept(self) -> None:
        """Of every list, of both nodes; and the private list is what was isolated, in order."""
        for nid in (0, 1):
            total = 0
            for memcg in self.memcgs:
                if memcg.online:
                    one = self.kernel.lru_one(self.lru, nid, memcg.at)
                    items = self.list_of(memcg, nid)
                    assert (one != 0) == (memcg in self.listed or not self.on_demand)
                    assert self.kernel.items(one) == items
                    assert one == 0 or self.kernel.word(one + LRU_ONE.nr_items) == len(items)
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


class ListsOnDemandMachine(ListLruMachine):
    """The same where a memcg has lists from its first object on."""

    on_demand = 1


# --- the tree of memcgs -----------------------------------------------------------------------------


class Memcg:
    """One memcg of the model."""

    def __init__(self, at: int, parent: Memcg | None, limit: int) -> None:
        """Online; the newest child comes first."""
        self.at, self.parent, self.limit = at, parent, limit
        self.children: list[Memcg] = []
        self.online, self.refs = True, 0
        self.pages, self.cached = [0, 0], [0, 0]
        if parent:
            parent.children.insert(0, self)

    @property
    def references(self) -> int:
        """One for being online, one a child, one a page, and what was taken."""
        return self.online + len(self.children) + sum(self.pages) + sum(self.cached) + self.refs

    @property
    def usage(self) -> int:
        """Pages charged to it and below."""
        return sum(self.pages) + sum(self.cached) + sum(child.usage for child in self.children)

    @property
    def effective(self) -> Memcg:
        """The nearest one that is online, itself or above."""
        return self if self.online or self.parent is None else self.parent.effective

    def subtree(self) -> list[Memcg]:
        """Itself and all below, in pre-order."""
        return [self] + [m for child in self.children for m in child.subtree()]

    def fits(self, pages: int) -> bool:
        """Whether so many more pages are within its limit and those above."""
        own = not self.limit or self.usage + pages <= self.limit
        return own and (self.parent is None or self.parent.fits(pages))

    def collect(self) -> int:
        """Go, and let go of those above, if nothing refers to it any more; how many went."""
        if self.references or self.parent is None:
            return 0
        self.parent.children.remove(self)
        return 1 + self.parent.collect()


class MemcgMachine(RuleBasedStateMachine):
    """A tree beside a tree."""

    emulate: ClassVar[Callable[[str], Emulated]] = Twins

    def __init__(self) -> None:
        """Root alone."""
        super().__init__()
        self.kernel = self.emulate("davydov")
        self.cpu = self.kernel.cpus[0]
        self.root = Memcg(self.kernel.memcg(0), None, 0)
        self.made = self.freed = 0
        self.walk: tuple[Memcg, Memcg] | None = None
        """A walk that was begun: its top, and where it stands."""

    def some(self, k: int) -> Memcg:
        """Any memcg there is."""
        there = self.root.subtree()
        return there[k % len(there)]

    def online(self, k: int) -> Memcg | None:
        """Any that is online, but not root."""
        there = [m for m in self.root.subtree()[1:] if m.online]
        return there[k % len(there)] if there else None

    @rule(k=which, limit=st.sampled_from([0, 0, 3, 10]))
    def mkdir(self, k: int, limit: int) -> None:
        """Below any there is, a dying one too; refused if more are online than list_lrus have lists for."""
        parent = self.some(k)
        full = sum(m.online for m in self.root.subtree()) - 1 == SMALL.max_memcgs
        self.made += 1
        at = self.kernel.call(cgroup_mkdir, self.cpu, parent.at, self.made, limit)
        if full:
            assert at == -ENOSPC
        else:
            Memcg(at, parent, limit)

    @rule(k=which)
    def rmdir(self, k: int) -> None:
        """In any order, children or not."""
        memcg = self.online(k)
        if memcg:
            self.kernel.call(cgroup_rmdir, self.cpu, memcg.at)
            memcg.online = False
            self.freed += memcg.collect()

    @rule(k=which, n=st.integers(1, 3))
    def get(self, k: int, n: int) -> None:
        """Take references."""
        memcg = self.some(k)
        assert self.kernel.call(css_tryget, memcg.at) == 1
        if n > 1:
            self.kernel.call(css_get_many, memcg.at, n - 1)
        memcg.refs += n

    @rule(k=which, many=st.booleans())
    def put(self, k: int, many: bool) -> None:
        """Give one up, or all that were taken; the last one frees."""
        taken = [m for m in self.root.subtree() if m.refs and (self.walk is None or m is not self.walk[1])]
        if taken:
            memcg = taken[k % len(taken)]
            n = memcg.refs if many else 1
            if many:
                self.kernel.call(css_put_many, self.cpu, memcg.at, n)
            else:
                self.kernel.call(css_put, self.cpu, memcg.at)
            memcg.refs -= n
            self.freed += memcg.collect()

    @rule(k=which, nid=nodes, pages=st.integers(1, 4), cached=st.booleans())
    def charge(self, k: int, nid: int, pages: int, cached: bool) -> None:
        """Pages, on the LRU or not: all the way up, or nowhere."""
        memcg = self.some(k)
        expected = 0 if memcg.fits(pages) else -ENOMEM
        function = add_to_page_cache if cached else charge_pages
        assert self.kernel.call(function, self.cpu, memcg.at, nid, pages, GFP_NOWAIT) == expected
        if expected == 0:
            (memcg.cached if cached else memcg.pages)[nid] += pages

    @rule(k=which, nid=nodes)
    def uncharge(self, k: int, nid: int) -> None:
        """All pages of one memcg and node that are on no LRU."""
        memcg = self.some(k)
        if memcg.pages[nid]:
            self.kernel.call(free_pages, self.cpu, memcg.at, nid, memcg.pages[nid])
            memcg.pages[nid] = 0
            self.freed += memcg.collect()

    @rule(k=which, nid=nodes, priority=st.integers(0, 12))
    def reclaim(self, k: int, nid: int, priority: int) -> None:
        """A pass over the page cache of one memcg: its share, at least a cluster; perhaps the end of it."""
        memcg = self.some(k)
        size = memcg.cached[nid]
        n = max(size >> priority, min(size, SWAP_CLUSTER_MAX))
        assert self.kernel.call(shrink_lruvec, self.cpu, memcg.at, nid, priority) == n
        memcg.cached[nid] -= n
        self.freed += memcg.collect()

    @rule(k=which)
    def iterate(self, k: int) -> None:
        """The whole of a subtree, parents first (I10), each once."""
        top, found, memcg = self.some(k), [], 0
        while memcg := self.kernel.call(mem_cgroup_iter, self.cpu, top.at, memcg):
            found.append(memcg)
        assert found == [m.at for m in top.subtree()]

    @precondition(lambda self: self.walk is None)
    @rule(k=which)
    def begin_a_walk(self, k: int) -> None:
        """And do something else before it goes on."""
        top = self.some(k)
        assert self.kernel.call(mem_cgroup_iter, self.cpu, top.at, 0) == top.at
        top.refs += 1
        self.walk = (top, top)

    @precondition(lambda self: self.walk is not None)
    @rule()
    def go_on_walking(self) -> None:
        """To whoever comes next now: memcgs came and went, the one it stands on stayed."""
        assert self.walk
        top, here = self.walk
        order = top.subtree()
        after = order[order.index(here) + 1 :]
        found = self.kernel.call(mem_cgroup_iter, self.cpu, top.at, here.at)
        assert found == (after[0].at if after else 0)
        self.walk = (top, after[0]) if after else None
        if after:
            after[0].refs += 1
        here.refs -= 1
        self.freed += here.collect()

    @precondition(lambda self: self.walk is not None)
    @rule()
    def leave_the_walk(self) -> None:
        """Early: the last one must be put."""
        assert self.walk
        here = self.walk[1]
        self.kernel.call(css_put, self.cpu, here.at)
        self.walk = None
        here.refs -= 1
        self.freed += here.collect()

    @invariant()
    def the_list_is_the_tree_in_pre_order(self) -> None:
        """With nobody else on it: who went, went with the last reference and not before."""
        there = self.root.subtree()
        assert self.kernel.memcgs() == [m.at for m in there]
        assert self.kernel.mm("nr_memcgs") == len(there)
        assert self.kernel.event(Event.MEMCGS_FREED) == self.freed

    @invariant()
    def references_charges_and_heirs_are_right(self) -> None:
        """Of everybody."""
        for memcg in self.root.subtree():
            assert self.kernel.word(memcg.at + MEMCG.refcount) == memcg.references
            assert self.kernel.word(memcg.at + MEMCG.usage) == memcg.usage * LINES_PER_PAGE
            assert self.kernel.word(memcg.at + MEMCG.effective) == memcg.effective.at
            assert self.kernel.word(memcg.at + MEMCG.online) == memcg.online

    def teardown(self) -> None:
        """When all is given up root is alone, and the two executions end with the same words."""
        try:
            if self.walk:
                self.leave_the_walk()
            for memcg in self.root.subtree():
                self._give_up(memcg)
            assert self.root.subtree() == [self.root]
            self.the_list_is_the_tree_in_pre_order()
            self.kernel.check()
        finally:
            self.kernel.__exit__()

    def _give_up(self, memcg: Memcg) -> None:
        if memcg.online and memcg.parent:
            self.kernel.call(cgroup_rmdir, self.cpu, memcg.at)
            memcg.online = False
            self.freed += memcg.collect()
        for nid in (0, 1):
            if memcg.cached[nid]:
                self.kernel.call(shrink_lruvec, self.cpu, memcg.at, nid, 0)
                memcg.cached[nid] = 0
                self.freed += memcg.collect()
            if memcg.pages[nid]:
                self.kernel.call(free_pages, self.cpu, memcg.at, nid, memcg.pages[nid])
                memcg.pages[nid] = 0
                self.freed += memcg.collect()
        if memcg.refs:
            self.kernel.call(css_put_many, self.cpu, memcg.at, memcg.refs)
            memcg.refs = 0
            self.freed += memcg.collect()


# --- the heap ---------------------------------------------------------------------------------------


sizes = st.one_of(st.sampled_from(BLOCK_WORDS), st.integers(1, 300), st.integers(257, 3 * CHUNK_WORDS))


def cost(words: int) -> tuple[int, int]:
    """Words that are given for so many, and lines that they cost: the next size, or whole chunks."""
    given = next((size for size in BLOCK_WORDS if size >= words), -(-words // CHUNK_WORDS) * CHUNK_WORDS)
    return given, given // LINE


class SlabMachine(RuleBasedStateMachine):
    """Two heaps beside a dict."""

    emulate: ClassVar[Callable[[str], Emulated]] = Twins

    def __init__(self) -> None:
        """Nothing taken but by the design."""
        super().__init__()
        self.kernel = self.emulate("no_map")
        self.cpu = self.kernel.cpus[0]
        self.blocks: dict[int, tuple[int, int]] = {}
        """What is given out: its size in words, and its node."""
        self.free = [self.kernel.free(nid) for nid in (0, 1)]
        self.waiting: list[tuple[int, int]] = []

    @rule(nid=nodes, words=sizes, zeroed=st.booleans(), count=st.sampled_from([1, 1, 3, 70]))
    def allocate(self, nid: int, words: int, zeroed: bool, count: int) -> None:
        """Some of one size; they are filled, so that what overlaps shows. 0 only if there is no room."""
        given, lines = cost(words)
        for _ in range(count):
            tight = self.kernel.spare(nid) < lines
            exhausted = self.kernel.event(Event.HEAP_EXHAUSTED)
            block = self.kernel.call(kzalloc if zeroed else kmalloc, self.cpu, nid, words, GFP_NOWAIT)
            if tight:
                self._all_waiting_is_free()
            if block == 0:
                fragmented = self.kernel.event(Event.HEAP_EXHAUSTED) > exhausted and words > CHUNK_WORDS
                assert self.kernel.spare(nid) < lines or fragmented
                break
            if zeroed:
                assert self.kernel.words(block, words) == [0] * words
            self.blocks[block] = (given, nid)
            self.free[nid] -= lines
            for k in (0, given - 1):
                self.kernel.set_word(block + k, block)

    @precondition(lambda self: self.blocks)
    @rule(k=which, count=st.sampled_from([1, 1, 5, 80]), later=st.booleans())
    def give_back(self, k: int, count: int, later: bool) -> None:
        """Some, in an order of their own, now or after a grace period."""
        for _ in range(min(count, len(self.blocks))):
            there = list(self.blocks)
            block = there[k % len(there)]
            given, nid = self.blocks.pop(block)
            if later:
                self.kernel.call(kfree_rcu, self.cpu, block)
                self.waiting.append((given, nid))
            else:
                self.kernel.call(kfree, self.cpu, block)
                self.free[nid] += given // LINE
            k = k * 7 + 3

    @rule()
    def grace_period(self) -> None:
        """Nobody is reading: all that waits is free now."""
        assert self.kernel.call(rcu_do_batch, self.cpu) == len(self.waiting)
        self._all_waiting_is_free()

    def _all_waiting_is_free(self) -> None:
        for given, nid in self.waiting:
            self.free[nid] += given // LINE
        self.waiting.clear()

    @precondition(lambda self: self.blocks)
    @rule(k=which)
    def look_up(self, k: int) -> None:
        """A block knows its node and what it costs."""
        block = list(self.blocks)[k % len(self.blocks)]
        given, nid = self.blocks[block]
        assert self.kernel.call(block_node, block) == nid
        assert self.kernel.call(allocated_lines, block) == given // LINE

    @invariant()
    def I11_the_budget_lacks_what_is_given_out(self) -> None:
        """On each node, to the line."""
        assert [self.kernel.free(nid) for nid in (0, 1)] == self.free

    @invariant()
    def blocks_are_apart_and_hold_what_was_written(self) -> None:
        """Sorted by address each ends before the next begins, and on its node's side."""
        end = 0
        for block, (given, nid) in sorted(self.blocks.items()):
            assert block >= end
            end = block + given
            heap = self.kernel.mm("heaps") + nid * HEAP.SIZE
            first = self.kernel.word(heap + HEAP.first_chunk)
            assert first <= block
            assert end <= first + self.kernel.word(heap + HEAP.nr_chunks) * CHUNK_WORDS
            assert self.kernel.word(block) == self.kernel.word(end - 1) == block

    def teardown(self) -> None:
        """All comes back; the oracles and the two executions agree."""
        try:
            self.grace_period()
            for block, (given, nid) in self.blocks.items():
                self.kernel.call(kfree, self.cpu, block)
                self.free[nid] += given // LINE
            self.I11_the_budget_lacks_what_is_given_out()
            self.kernel.check()
        finally:
            self.kernel.__exit__()
