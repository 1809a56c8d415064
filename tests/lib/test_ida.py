"""The IDA's contract, old and new interface: the values that the kernel's own test expects, and ours beside them."""

from errno import EAGAIN, ENOENT, ENOSPC

import pytest

from shmreclaim.lib.ida import (
    IDA_BITMAP,
    IDA_PRELOAD_NODES,
    ida_alloc_range,
    ida_destroy,
    ida_exists,
    ida_free,
    ida_get_new_above,
    ida_is_empty,
    ida_remove,
)
from shmreclaim.lib.idr import IDR_NODE, INT_MAX, POOL
from tests.lib.owner import POOL_AT, ROOT, Owner, make_ida


@pytest.fixture
def owner(execution: str) -> Owner:
    """An empty IDA."""
    return make_ida(execution)


def test_a_bitmap_is_of_the_kernels_size() -> None:
    """128 bytes for 1024 ids, and 576 bytes for a node of 64 slots."""
    assert (IDA_BITMAP.SIZE, IDR_NODE.SIZE) == (16, 72)


def test_I6_the_lowest_free_id_comes_first(owner: Owner) -> None:
    """0, 1, 2; a freed one before any other."""
    assert [owner.ask(ida_get_new_above, 0) for _ in range(3)] == [0, 1, 2]
    assert owner.call(ida_remove, ROOT, 1) == 0
    assert owner.ask(ida_get_new_above, 0) == 1
    assert owner.ask(ida_get_new_above, 0) == 3


@pytest.mark.parametrize("base", [0, 1024, 65536])
def test_a_bitmap_fills_from_its_base(base: int, owner: Owner) -> None:
    """1024 ids from the base, in order; then the next bitmap; destroyed twice it is empty."""
    assert [owner.ask(ida_get_new_above, base) for _ in range(1025)] == list(range(base, base + 1025))
    owner.check()
    for _ in range(2):
        owner.call(ida_destroy, ROOT)
        assert owner.call(ida_is_empty, ROOT) == 1
    owner.finish()


def test_ids_end_at_INT_MAX(owner: Owner) -> None:
    """The last one can be had, then there is none, and nothing below it is disturbed."""
    assert owner.ask(ida_get_new_above, INT_MAX - 1) == INT_MAX - 1
    assert owner.ask(ida_get_new_above, INT_MAX - 1) == INT_MAX
    assert owner.ask(ida_get_new_above, INT_MAX - 1) == -ENOSPC
    assert owner.ask(ida_get_new_above, INT_MAX + 1) == -ENOSPC
    assert owner.ask(ida_get_new_above, 0) == 0
    owner.check()


@pytest.mark.parametrize(
    ("lowest", "highest", "expected"),
    [
        (0, 0, 0),
        (5, 9, 5),
        (5, 4, -ENOSPC),
        (1023, 1024, 1023),
        (-1, 5, -ENOSPC),
        (7, -1, 7),
        (7, 1 << 40, 7),
        (INT_MAX + 1, -1, -ENOSPC),
    ],
)
def test_a_range_includes_both_ends(lowest: int, highest: int, expected: int, owner: Owner) -> None:
    """The new interface; a highest that is no int means INT_MAX."""
    assert owner.ask(ida_alloc_range, lowest, highest) == expected
    assert owner.call(ida_is_empty, ROOT) == (expected < 0)


def test_a_full_range_gives_ENOSPC(owner: Owner) -> None:
    """Three ids of 1022..1024, over the border of two bitmaps, and not a fourth."""
    assert [owner.ask(ida_alloc_range, 1022, 1024) for _ in range(4)] == [1022, 1023, 1024, -ENOSPC]


@pytest.mark.parametrize("number", [-1, 0, 3, 1 << 20, INT_MAX, INT_MAX + 1, 1 << 40])
def test_freeing_what_is_not_in_use_changes_nothing(number: int, owner: Owner) -> None:
    """-ENOENT, where the kernel warns."""
    owner.ask(ida_alloc_range, 7, 7)
    before = owner.memory.image()
    assert owner.call(ida_free, ROOT, number) == -ENOENT
    assert owner.memory.image() == before
    assert owner.call(ida_exists, ROOT, number) == 0
    assert owner.call(ida_exists, ROOT, 7) == 1


def test_without_memory_it_stays_empty(owner: Owner) -> None:
    """-EAGAIN names first the one block that is lacking, then the other; nothing else has changed."""
    assert owner.call(ida_get_new_above, ROOT, POOL_AT, 0) == -EAGAIN
    wanted = owner.memory.word(POOL_AT + POOL.wanted)
    owner.put(wanted)
    assert owner.call(ida_get_new_above, ROOT, POOL_AT, 0) == -EAGAIN
    assert {wanted, owner.memory.word(POOL_AT + POOL.wanted)} == {IDR_NODE.SIZE, IDA_BITMAP.SIZE}
    assert owner.call(ida_is_empty, ROOT) == 1
    owner.finish()


def test_six_nodes_and_a_bitmap_suffice_for_any_allocation(owner: Owner) -> None:
    """The worst case, from a lone leaf to the highest id, needs exactly IDA_PRELOAD_NODES and one bitmap."""
    owner.ask(ida_get_new_above, 0)
    for size in [IDR_NODE.SIZE] * IDA_PRELOAD_NODES + [IDA_BITMAP.SIZE]:
        owner.put(size)
    assert owner.call(ida_get_new_above, ROOT, POOL_AT, INT_MAX) == INT_MAX
    assert not owner.in_pool()


def test_I6_a_hole_under_a_full_node_is_found() -> None:
    """With 64 full bitmaps and more in use, what is freed in the middle is the next one given."""
    owner = make_ida("compiled")
    count = 64 * 1024 + 100
    for n in range(count):
        while owner.call(ida_get_new_above, ROOT, POOL_AT, 0) == -EAGAIN:
            owner.put(owner.memory.word(POOL_AT + POOL.wanted))
        assert owner.call(ida_exists, ROOT, n)
    owner.check()
    for hole in (0, 12_345, 65_535, 65_536):
        assert owner.call(ida_free, ROOT, hole) == 0
        owner.check()
        assert owner.ask(ida_get_new_above, 0) == hole
    assert owner.ask(ida_get_new_above, 0) == count
    owner.call(ida_destroy, ROOT)
    owner.finish()
