"""A writer that dies before any of its stores: no id is lost, none is given twice, readers find what was there."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from errno import ENOENT

import pytest

from shmreclaim.lib.bitmap import set_bit
from shmreclaim.lib.ida import IDA_BITMAP, ida_alloc_range, ida_exists, ida_free
from shmreclaim.lib.idr import IDR, IDR_NODE, idr_alloc, idr_find, idr_remove, idr_replace
from shmreclaim.machine.compile import plain
from tests.lib.owner import POOL_AT, ROOT, Owner, make_ida, make_idr

A, B = 4711, 4712
IDR_IDS = [*range(129), 4500]
"""Two full leaves, a lone id in a third, a lone id far away."""
IDA_IDS = [*range(1023), 1024, 1 << 16]
"""A bitmap that one more fills, a lone id in the next, a lone id far away."""


class Died(Exception):  # noqa: N818 - no error but what is wanted
    """The writer did not come to its next store."""


class Mortal(list[int]):
    """Plain memory whose writer dies instead of its store number `lives`."""

    lives = -1

    def __setitem__(self, i: object, value: object) -> None:
        """Store, or die."""
        if self.lives == 0:
            raise Died
        self.lives -= 1
        super().__setitem__(i, value)  # type: ignore[call-overload]


def deaths(owner: Owner, function: Callable[..., int], *args: int) -> Iterator[int]:
    """Call `function` again and again from the same state, dying one store later each time, until it survives."""
    state, died, lives = list(owner.memory.mem), True, 0
    while died:
        owner.memory.mem = Mortal(state)
        owner.memory.mem.lives = lives
        with suppress(Died):
            owner.call(function, *args)
            died = False
        owner.memory.mem.lives = -1
        yield lives
        lives += 1
    assert lives > 1, "it stored nothing"


def short(cell: object) -> str:
    """A readable id of a parameter."""
    return getattr(cell, "__name__", str(cell))


@pytest.mark.parametrize(
    ("function", "args"),
    [
        (idr_alloc, (ROOT, POOL_AT, B, 0, 0)),
        (idr_alloc, (ROOT, POOL_AT, B, 5000, 0)),
        (idr_alloc, (ROOT, POOL_AT, B, 1 << 30, 0)),
        (idr_remove, (ROOT, 5)),
        (idr_remove, (ROOT, 128)),
        (idr_remove, (ROOT, 4500)),
    ],
    ids=short,
)
def test_an_idr_loses_no_id(function: Callable[..., int], args: tuple[int, ...]) -> None:
    """After a death at each store in turn, the other ids are there, and every free one can be had once."""
    owner = make_idr("plain", 1 << 12)
    for n in IDR_IDS:
        owner.ask(idr_alloc, A, n, 0)
    for _ in range(20):
        owner.put(IDR_NODE.SIZE)
    others = [n for n in IDR_IDS if function is idr_alloc or n != args[-1]]
    for lives in deaths(owner, function, *args):
        if function is idr_remove:
            owner.call(function, *args)
        assert all(owner.call(idr_find, ROOT, n) == A for n in others), f"store {lives}"
        used = {n for n in range(200) if owner.call(idr_replace, ROOT, B, n) != -ENOENT}
        free = [n for n in range(200) if n not in used]
        assert len(used - set(others)) <= (function is idr_alloc), f"store {lives}"
        assert [owner.call(idr_alloc, ROOT, POOL_AT, B, 0, 200) for _ in free] == free, f"store {lives}"


@pytest.mark.parametrize(
    ("function", "args"),
    [
        (ida_alloc_range, (ROOT, POOL_AT, 0, -1)),
        (ida_alloc_range, (ROOT, POOL_AT, 2048, -1)),
        (ida_alloc_range, (ROOT, POOL_AT, 1 << 20, -1)),
        (ida_free, (ROOT, 5)),
        (ida_free, (ROOT, 1024)),
        (ida_free, (ROOT, 1 << 16)),
    ],
    ids=short,
)
def test_an_ida_loses_no_id(function: Callable[..., int], args: tuple[int, ...]) -> None:
    """After a death at each store in turn, the other ids are in use, and every free one can be had once."""
    owner = make_ida("plain", 1 << 12)
    for n in IDA_IDS:
        owner.ask(ida_alloc_range, n, n)
    for size in [IDR_NODE.SIZE] * 10 + [IDA_BITMAP.SIZE] * 2:
        owner.put(size)
    others = [n for n in IDA_IDS if function is ida_alloc_range or n != args[-1]]
    for lives in deaths(owner, function, *args):
        if function is ida_free:
            owner.call(function, *args)
        assert all(owner.call(ida_exists, ROOT, n) for n in others), f"store {lives}"
        used = {n for n in range(1050) if owner.call(ida_exists, ROOT, n)}
        free = [n for n in range(1050) if n not in used]
        assert len(used - set(others)) <= (function is ida_alloc_range), f"store {lives}"
        assert [owner.call(ida_alloc_range, ROOT, POOL_AT, 0, 1049) for _ in free] == free, f"store {lives}"


def marks_the_leaf_first(mem: list[int], idr: int, leaf: int, offset: int) -> int:
    """tree_mark_free() from the bottom up, and only as far as a node was full."""
    node, was = leaf, mem[leaf + IDR_NODE.free]
    plain(set_bit)(mem, leaf + IDR_NODE.free, offset)
    while node != mem[idr + IDR.top] and was == 0:
        above, node = mem[node + IDR_NODE.offset], mem[node + IDR_NODE.parent]
        was = mem[node + IDR_NODE.free]
        plain(set_bit)(mem, node + IDR_NODE.free, above)
    return 0


def test_the_order_of_the_marks_is_what_saves_the_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """Marking the leaf first is right for a writer that lives, and loses an id for one that dies between."""
    monkeypatch.setitem(plain(idr_remove).__globals__, "tree_mark_free", marks_the_leaf_first)
    with pytest.raises(AssertionError, match="store 2"):
        test_an_idr_loses_no_id(idr_remove, (ROOT, 5))
