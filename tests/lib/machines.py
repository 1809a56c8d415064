"""Random operations on an IDR or IDA and on its obvious model, step by step (Hypothesis state machines).

The pool is empty unless a rule fills it, so every allocation that needs blocks meets -EAGAIN at each of them.
"""

from errno import ENOSPC

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from shmreclaim.lib.ida import (
    IDA_BITMAP,
    ida_alloc_range,
    ida_destroy,
    ida_exists,
    ida_free,
    ida_get_new_above,
    ida_is_empty,
    ida_remove,
)
from shmreclaim.lib.idr import (
    IDR_NODE,
    INT_MAX,
    UINT_MAX,
    idr_alloc,
    idr_alloc_cyclic,
    idr_alloc_u32,
    idr_destroy,
    idr_find,
    idr_get_cursor,
    idr_get_next,
    idr_get_next_ul,
    idr_is_empty,
    idr_remove,
    idr_replace,
    idr_set_cursor,
)
from tests.lib import strategies as some
from tests.lib.naive import NaiveIda, NaiveIdr
from tests.lib.owner import ROOT, WORD, make_ida, make_idr

which = st.integers(0, 1000)


class IdrMachine(RuleBasedStateMachine):
    """An IDR beside a dict."""

    execution = "plain"
    structure = True
    """Whether the inner invariants are checked too; without, only what a caller sees."""

    def __init__(self) -> None:
        """Both empty."""
        super().__init__()
        self.real = make_idr(self.execution)
        self.model = NaiveIdr()

    def known(self, k: int) -> int:
        """Some id that is in use; 0 if there is none."""
        numbers = sorted(self.model.values)
        return numbers[k % len(numbers)] if numbers else 0

    @rule(value=some.values, start=some.any_ids, end=st.one_of(st.just(0), some.any_ids))
    def alloc(self, value: int, start: int, end: int) -> None:
        """The smallest id of any range."""
        assert self.real.ask(idr_alloc, value, start, end) == self.model.alloc(value, start, end)

    @rule(value=some.values, start=some.small)
    def alloc_low(self, value: int, start: int) -> None:
        """The smallest id, as most callers want it."""
        assert self.real.ask(idr_alloc, value, start, 0) == self.model.alloc(value, start, 0)

    @rule(value=some.values, start=some.u32_ids, room=st.one_of(st.integers(-1, 3), st.just(UINT_MAX)))
    def alloc_u32(self, value: int, start: int, room: int) -> None:
        """The smallest id of a range that ends inclusively, told before it is published."""
        highest = start + room if room < UINT_MAX else UINT_MAX
        self.real.memory.set_word(WORD, start)
        result = self.real.ask(idr_alloc_u32, value, WORD, highest)
        expected = self.model.alloc_u32(value, start, highest)
        assert result == min(expected, 0)
        assert self.real.memory.word(WORD) == (expected if expected >= 0 else start)

    @rule(value=some.values, start=some.any_ids, end=st.one_of(st.just(0), some.any_ids))
    def alloc_cyclic(self, value: int, start: int, end: int) -> None:
        """The next id of a range."""
        assert self.real.ask(idr_alloc_cyclic, value, start, end) == self.model.alloc_cyclic(value, start, end)
        assert self.real.call(idr_get_cursor, ROOT) == self.model.cursor

    @rule(cursor=some.ids)
    def set_cursor(self, cursor: int) -> None:
        """Go on from anywhere."""
        self.real.call(idr_set_cursor, ROOT, cursor)
        self.model.cursor = cursor

    @rule(start=some.ids, count=st.sampled_from([3, 64, 70, 130]))
    def fill(self, start: int, count: int) -> None:
        """Many at once, so that nodes become full."""
        for k in range(count):
            assert self.real.ask(idr_alloc, k + 1, start, 0) == self.model.alloc(k + 1, start, 0)

    @precondition(lambda self: self.model.values)
    @rule(k=which)
    def remove_known(self, k: int) -> None:
        """One that is there; find says so before and after."""
        number = self.known(k)
        assert self.real.call(idr_find, ROOT, number) == self.model.find(number)
        assert self.real.call(idr_remove, ROOT, number) == self.model.remove(number)
        assert self.real.call(idr_find, ROOT, number) == 0

    @rule(number=some.any_ids)
    def remove_any(self, number: int) -> None:
        """One that may not be there."""
        assert self.real.call(idr_remove, ROOT, number) == self.model.remove(number)

    @rule(k=which, count=st.integers(1, 130))
    def remove_many(self, k: int, count: int) -> None:
        """A run of them, so that nodes become empty and the tree low."""
        numbers = sorted(self.model.values)
        for number in numbers[k % max(len(numbers), 1) :][:count]:
            assert self.real.call(idr_remove, ROOT, number) == self.model.remove(number)

    @rule(value=some.values, k=which)
    def replace_known(self, value: int, k: int) -> None:
        """Another value for one that is there, or for 0."""
        number = self.known(k)
        assert self.real.call(idr_replace, ROOT, value, number) == self.model.replace(value, number)

    @rule(value=some.values, number=some.any_ids)
    def replace_any(self, value: int, number: int) -> None:
        """Another value for one that may not be there."""
        assert self.real.call(idr_replace, ROOT, value, number) == self.model.replace(value, number)

    @rule(number=some.u32_ids)
    def find(self, number: int) -> None:
        """Any id."""
        assert self.real.call(idr_find, ROOT, number) == self.model.find(number)

    @rule(start=some.any_ids)
    def get_next(self, start: int) -> None:
        """The next populated one, by int and by unsigned long."""
        assert self.real.call(idr_get_next, ROOT, start) == self.model.get_next(start)
        if start >= 0:
            assert self.real.call(idr_get_next_ul, ROOT, start) == self.model.get_next(start, UINT_MAX)

    @rule()
    def iterate(self) -> None:
        """All of them, ascending, none twice."""
        found, number = [], self.real.call(idr_get_next_ul, ROOT, 0)
        while number >= 0:
            found.append((number, self.real.call(idr_find, ROOT, number)))
            number = self.real.call(idr_get_next_ul, ROOT, number + 1)
        assert found == [(n, value) for n, value in sorted(self.model.values.items()) if value]

    @rule(count=st.integers(1, 12))
    def preload(self, count: int) -> None:
        """Some nodes before they are needed."""
        for _ in range(count):
            self.real.put(IDR_NODE.SIZE)

    @rule()
    def drain(self) -> None:
        """Somebody else uses the pool up."""
        self.real.drain()

    @rule()
    def grace_period(self) -> None:
        """All readers leave; what was retired is freed and poisoned."""
        self.real.take_retired()
        self.real.grace_period()

    @rule(sure=st.integers(0, 9))
    def destroy(self, sure: int) -> None:
        """Everything goes; rarely, or nothing large would ever grow."""
        if sure == 0:
            self.real.call(idr_destroy, ROOT)
            self.model.values.clear()

    @invariant()
    def is_empty(self) -> None:
        """Empty means that no id is in use."""
        assert self.real.call(idr_is_empty, ROOT) == (not self.model.values)

    @invariant()
    def I13_I14_I15_and_conservation(self) -> None:
        """The tree is sound and no block is lost."""
        if self.structure:
            self.real.check()

    def teardown(self) -> None:
        """Nothing is left after destruction."""
        if self.structure:
            self.real.call(idr_destroy, ROOT)
            self.real.finish()


class IdaMachine(RuleBasedStateMachine):
    """An IDA beside a set."""

    execution = "plain"
    structure = True

    def __init__(self) -> None:
        """Both empty."""
        super().__init__()
        self.real = make_ida(self.execution)
        self.model = NaiveIda()

    @rule(start=some.any_ids)
    def get_new_above(self, start: int) -> None:
        """The old interface."""
        assert self.real.ask(ida_get_new_above, start) == self.model.alloc_range(start, INT_MAX)

    @rule(lowest=some.any_ids, room=st.one_of(st.integers(-1, 3), st.just(UINT_MAX)))
    def alloc_range(self, lowest: int, room: int) -> None:
        """The new interface."""
        highest = lowest + room
        assert self.real.ask(ida_alloc_range, lowest, highest) == self.model.alloc_range(lowest, highest)

    @rule(base=st.sampled_from([0, 0, 1 << 10, 1 << 16]), count=st.sampled_from([3, 64, 200, 1024]))
    def fill(self, base: int, count: int) -> None:
        """Many at once, so that bitmaps become full."""
        for _ in range(count):
            expected = self.model.alloc_range(base, base + 1023)
            assert self.real.ask(ida_alloc_range, base, base + 1023) == expected
            if expected == -ENOSPC:
                break

    @precondition(lambda self: self.model.taken)
    @rule(k=which, count=st.sampled_from([1, 1, 1, 50, 1024]))
    def free_known(self, k: int, count: int) -> None:
        """One that is there, or a run of them."""
        numbers = sorted(self.model.taken)
        for number in numbers[k % len(numbers) :][:count]:
            assert self.real.call(ida_free, ROOT, number) == self.model.free(number)

    @rule(number=some.any_ids)
    def remove_any(self, number: int) -> None:
        """One that may not be there: then nothing changes."""
        assert self.real.call(ida_remove, ROOT, number) == self.model.free(number)

    @rule(number=some.any_ids)
    def exists(self, number: int) -> None:
        """Any id."""
        assert self.real.call(ida_exists, ROOT, number) == (number in self.model.taken)

    @rule(nodes=st.integers(0, 7), bitmaps=st.integers(0, 2))
    def preload(self, nodes: int, bitmaps: int) -> None:
        """Some blocks before they are needed."""
        for size in [IDR_NODE.SIZE] * nodes + [IDA_BITMAP.SIZE] * bitmaps:
            self.real.put(size)

    @rule()
    def drain(self) -> None:
        """Somebody else uses the pool up."""
        self.real.drain()

    @rule(sure=st.integers(0, 9))
    def destroy(self, sure: int) -> None:
        """Everything goes, rarely."""
        if sure == 0:
            self.real.call(ida_destroy, ROOT)
            self.model.taken.clear()

    @invariant()
    def is_empty(self) -> None:
        """Empty means that no id is in use."""
        assert self.real.call(ida_is_empty, ROOT) == (not self.model.taken)

    @invariant()
    def I13_I14_and_conservation(self) -> None:
        """The tree is sound and no block is lost."""
        if self.structure:
            self.real.check()

    def teardown(self) -> None:
        """Nothing is left after destruction."""
        if self.structure:
            self.real.call(ida_destroy, ROOT)
            self.real.finish()
