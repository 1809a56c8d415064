"""A writer that dies before any of its stores: no id is lost, none is given twice, readers find what was there."""

from collections.abc import Callable
from errno import ENOSPC

import pytest

from shmreclaim.lib.ida import ida_alloc_range, ida_exists, ida_free
from shmreclaim.lib.idr import idr_alloc, idr_destroy, idr_find, idr_remove
from tests.lib.owner import ROOT, Owner, make_ida, make_idr

A, B = 4711, 4712
FULL_LEAF = range(129)
"""Two full leaves and a lone id in a third."""


class Died(Exception):  # noqa: N818 - not an error: what is wanted
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


def dies(owner: Owner, lives: int, function: Callable[..., int], *args: int) -> bool:
    """Call an allocating function with a full pool, or any other, and let it make so many stores; whether it died."""
    memory = owner.memory.mem
    owner.memory.mem = Mortal(memory)
    owner.memory.mem.lives = lives
    try:
        owner.call(function, *args)
        return False
    except Died:
        return True
    finally:
        memory[:] = list(owner.memory.mem)
        owner.memory.mem = memory


@pytest.mark.parametrize(
    ("function", "args"),
    [
        (idr_alloc, (B, 0, 0)),
        (idr_alloc, (B, 5000, 0)),
        (idr_alloc, (B, 1 << 30, 0)),
        (idr_remove, (5,)),
        (idr_remove, (128,)),
        (idr_remove, (4500,)),
    ],
    ids=lambda cell: getattr(cell, "__name__", str(cell)),
)
def test_an_idr_loses_no_id(function: Callable[..., int], args: tuple[int, ...]) -> None:
    """After a death at each store in turn, all other ids are there, and the rest can be had, once each."""
    lives, died = 0, True
    while died:
        owner = make_idr("plain", 1 << 13)
        used = [*FULL_LEAF, 4500]
        for n in used:
            owner.ask(idr_alloc, A, n, 0)
        for _ in range(10):
            owner.put(72)
        died = dies(owner, lives, function, ROOT, *((128,) if function is idr_alloc else ()), *args)
        lives += 1
        target = args[0] if function is idr_remove else -1
        owner.call(idr_remove, ROOT, target)
        assert all(owner.call(idr_find, ROOT, n) == A for n in used if n != target)
        assert_the_rest_can_be_had(owner, idr_alloc, (B,), set(used) - {target})
        owner.call(idr_destroy, ROOT)
    assert lives > 2


@pytest.mark.parametrize(
    ("function", "args"),
    [
        (ida_alloc_range, (0, 1023)),
        (ida_alloc_range, (2048, -1)),
        (ida_alloc_range, (1 << 20, -1)),
        (ida_free, (5,)),
        (ida_free, (1024,)),
        (ida_free, (1 << 16,)),
    ],
    ids=lambda cell: getattr(cell, "__name__", str(cell)),
)
def test_an_ida_loses_no_id(function: Callable[..., int], args: tuple[int, ...]) -> None:
    """After a death at each store in turn, all other ids are in use, and the rest can be had, once each."""
    full = range(1023) if function is ida_alloc_range else range(1024)
    lives, died = 0, True
    prepared = make_ida("plain", 1 << 12)
    used = [*full, 1024, 1 << 16]
    for n in used:
        prepared.ask(ida_alloc_range, n, n)
    for size in [72] * 6 + [16]:
        prepared.put(size)
    image = list(prepared.memory.mem)
    while died:
        prepared.memory.mem[:] = image
        died = dies(prepared, lives, function, ROOT, *((128,) if function is ida_alloc_range else ()), *args)
        lives += 1
        target = args[0] if function is ida_free else -1
        prepared.call(ida_free, ROOT, target)
        assert all(prepared.call(ida_exists, ROOT, n) for n in used if n != target)
        assert not prepared.call(ida_exists, ROOT, target)
        found = {n for n in range(1100) if prepared.call(ida_exists, ROOT, n)}
        expected = [n for n in range(1060) if n not in found][:40]
        assert [prepared.call(ida_alloc_range, ROOT, 128, 0, 1100) for _ in expected] == expected
    assert lives > 2


def assert_the_rest_can_be_had(owner: Owner, alloc: Callable[..., int], value: tuple[int, ...], used: set[int]) -> None:
    """Every id below 200 that is not in use is given, ascending; then there is none."""
    given = [owner.ask(alloc, *value, 0, 200) for n in range(200) if n not in used]
    assert given == [n for n in range(200) if n not in used]
    assert owner.ask(alloc, *value, 0, 200) == -ENOSPC
