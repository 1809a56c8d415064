"""The tree of memcgs against plain objects: who is there, who is charged, what a walk finds, plain and compiled."""

from __future__ import annotations

from errno import ENOMEM, ENOSPC

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from shmreclaim.machine.cpu import Violation
from shmreclaim.mm.cgroup import cgroup_mkdir, cgroup_rmdir
from shmreclaim.mm.memcg import (
    MEMCG,
    css_get_many,
    css_online,
    css_put,
    css_put_many,
    css_tryget,
    mem_cgroup_iter,
    page_counter_try_charge,
    page_counter_uncharge,
)
from shmreclaim.mm.page_alloc import add_to_page_cache, charge_pages, free_pages
from shmreclaim.mm.page_cache import shrink_lruvec
from shmreclaim.mm.state import GFP_NOWAIT, LINES_PER_PAGE, SWAP_CLUSTER_MAX, Event
from tests.emulated import SMALL, Emulated, Twins, mkdir, rmdir

which = st.integers(0, 1000)
nodes = st.integers(0, 1)


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

    def __init__(self) -> None:
        """Root alone."""
        super().__init__()
        self.kernel = Twins("davydov")
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


TestMemcgTree = MemcgMachine.TestCase
TestMemcgTree.settings = settings(max_examples=25, stateful_step_count=50, deadline=None)


def test_a_charge_that_is_too_much_names_the_limit_that_it_hit(kernel: Emulated) -> None:
    """The lowest one that it is too much for; below and above nothing is charged."""
    kernel.play([mkdir(1, 0, 5), mkdir(2, 1, 0), mkdir(3, 2, 2)])
    top, leaf = kernel.memcg(1), kernel.memcg(3)
    assert kernel.call(page_counter_try_charge, leaf, 2 * LINES_PER_PAGE) == 0
    assert kernel.call(page_counter_try_charge, leaf, 1) == leaf
    assert kernel.call(page_counter_try_charge, kernel.memcg(2), 3 * LINES_PER_PAGE) == 0
    assert kernel.call(page_counter_try_charge, kernel.memcg(2), 1) == top
    assert [kernel.usage(kernel.memcg(k)) for k in (0, 1, 2, 3)] == [5, 5, 5, 2]
    kernel.call(page_counter_uncharge, leaf, 2 * LINES_PER_PAGE)
    kernel.call(page_counter_uncharge, kernel.memcg(2), 3 * LINES_PER_PAGE)
    assert kernel.oracles() == []


def test_a_memcg_whose_last_reference_is_gone_gives_no_new_one(kernel: Emulated) -> None:
    """It is off the list, and its memory stays for those who are just looking."""
    kernel.play([mkdir(1)])
    memcg = kernel.memcg(1)
    assert kernel.call(css_online, memcg) == 1
    kernel.play([rmdir(1)])
    assert kernel.call(css_tryget, memcg) == 0
    assert kernel.call(css_online, memcg) == 0


def test_giving_up_more_than_was_taken_is_found_on_line(kernel: Emulated) -> None:
    """The count and how many were too many."""
    kernel.play([mkdir(1)])
    kernel.call(css_put_many, kernel.cpus[0], kernel.memcg(1), 3)
    assert kernel.violations() == [Violation.REF_UNDERFLOW]
    kernel.call(css_get_many, kernel.memcg(1), 3)


def test_a_memcg_that_goes_while_it_is_charged_is_found_on_line(kernel: Emulated) -> None:
    """Somebody lost a reference or an uncharge."""
    kernel.play([mkdir(1)])
    kernel.call(page_counter_try_charge, kernel.memcg(1), 7)
    kernel.play([rmdir(1)])
    assert kernel.violations() == [Violation.NEGATIVE_COUNT]
