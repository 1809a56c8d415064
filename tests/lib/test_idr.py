"""The IDR's contract, line by line: the values that the kernel's own test expects, and ours beside them."""

from collections.abc import Callable
from errno import EAGAIN, EINVAL, ENOENT, ENOSPC

import pytest

from shmreclaim.lib.idr import (
    IDR_NODE,
    IDR_PRELOAD_NODES,
    INT_MAX,
    UINT_MAX,
    idr_alloc,
    idr_alloc_cyclic,
    idr_alloc_u32,
    idr_destroy,
    idr_find,
    idr_get_next,
    idr_get_next_ul,
    idr_is_empty,
    idr_remove,
    idr_replace,
    idr_set_cursor,
)
from tests.lib.owner import POOL_AT, ROOT, WORD, Owner, make_idr

ALLOCATING = {idr_alloc, idr_alloc_cyclic}
A, B = 4711, 4712
NULL = 0

Step = tuple[Callable[..., int], tuple[int, ...], int]

TABLE: dict[str, list[Step]] = {
    "the lowest free id comes first": [
        (idr_alloc, (A, 0, 0), 0),
        (idr_alloc, (A, 0, 0), 1),
        (idr_alloc, (A, 0, 0), 2),
    ],
    "a removed id is the next one given": [
        (idr_alloc, (A, 4, 5), 4),
        (idr_alloc, (A, 5, 6), 5),
        (idr_alloc, (A, 6, 7), 6),
        (idr_remove, (5,), A),
        (idr_alloc, (B, 4, 0), 5),
        (idr_find, (5,), B),
    ],
    "a cyclic allocation wraps at the end of its range": [
        (idr_set_cursor, (0x3FFE,), 0),
        (idr_alloc_cyclic, (A, 1, 0x4000), 0x3FFE),
        (idr_alloc_cyclic, (A, 1, 0x4000), 0x3FFF),
        (idr_alloc_cyclic, (A, 1, 0x4000), 1),
    ],
    "a cyclic allocation does not reuse at once": [
        (idr_alloc_cyclic, (A, 0, 0), 0),
        (idr_remove, (0,), A),
        (idr_alloc_cyclic, (A, 0, 0), 1),
        (idr_alloc, (A, 0, 0), 0),
    ],
    "a cyclic allocation past INT_MAX starts again": [
        (idr_set_cursor, (INT_MAX,), 0),
        (idr_alloc_cyclic, (A, 3, 0), INT_MAX),
        (idr_alloc_cyclic, (A, 3, 0), 3),
    ],
    "a cyclic allocation in a full range fails and keeps its cursor": [
        (idr_alloc_cyclic, (A, 0, 2), 0),
        (idr_alloc_cyclic, (A, 0, 2), 1),
        (idr_alloc_cyclic, (A, 0, 2), -ENOSPC),
        (idr_alloc_cyclic, (A, 0, 0), 2),
    ],
    "NULL is a value": [
        (idr_alloc, (NULL, 0, 0), 0),
        (idr_is_empty, (), 0),
        (idr_find, (0,), 0),
        (idr_alloc, (A, 0, 0), 1),
        (idr_get_next, (0,), 1),
        (idr_replace, (B, 0), NULL),
        (idr_find, (0,), B),
        (idr_replace, (NULL, 0), B),
        (idr_remove, (0,), 0),
        (idr_alloc, (A, 0, 0), 0),
    ],
    "replace answers with the old value, or -ENOENT": [
        (idr_replace, (A, 0), -ENOENT),
        (idr_alloc, (A, 10, 0), 10),
        (idr_replace, (B, 10), A),
        (idr_find, (10,), B),
        (idr_replace, (B, 11), -ENOENT),
        (idr_replace, (B, -1), -ENOENT),
        (idr_remove, (10,), B),
        (idr_replace, (B, 10), -ENOENT),
    ],
    "removing an absent id is harmless": [
        (idr_remove, (0,), 0),
        (idr_alloc, (A, 0, 0), 0),
        (idr_remove, (3,), 0),
        (idr_remove, (1 << 20,), 0),
        (idr_remove, (-1,), 0),
        (idr_find, (0,), A),
        (idr_remove, (0,), A),
        (idr_remove, (0,), 0),
        (idr_is_empty, (), 1),
    ],
    "ids end at INT_MAX": [
        (idr_alloc, (A, INT_MAX - 3, 0), INT_MAX - 3),
        (idr_alloc, (A, INT_MAX - 3, 0), INT_MAX - 2),
        (idr_alloc, (A, INT_MAX - 3, 0), INT_MAX - 1),
        (idr_alloc, (B, INT_MAX - 3, 0), INT_MAX),
        (idr_alloc, (A, INT_MAX - 3, 0), -ENOSPC),
        (idr_find, (INT_MAX,), B),
        (idr_find, (INT_MAX + 1,), 0),
    ],
    "an end of INT_MAX leaves INT_MAX out": [
        (idr_alloc, (A, INT_MAX - 1, INT_MAX), INT_MAX - 1),
        (idr_alloc, (A, INT_MAX - 1, INT_MAX), -ENOSPC),
    ],
    "a negative start is refused, an empty range is full": [
        (idr_alloc, (A, -1, 0), -EINVAL),
        (idr_alloc, (A, 5, 5), -ENOSPC),
        (idr_alloc, (A, 5, 3), -ENOSPC),
        (idr_is_empty, (), 1),
    ],
}


def play(owner: Owner, steps: list[Step]) -> None:
    """Do each step and see its result."""
    for function, args, expected in steps:
        found = owner.ask(function, *args) if function in ALLOCATING else owner.call(function, ROOT, *args)
        assert found == expected, f"{getattr(function, '__name__', function)}{args}"
        owner.check()


@pytest.mark.parametrize("line", TABLE)
def test_the_contract(line: str, execution: str) -> None:
    """Each line of the table, and nothing is left after destruction."""
    owner = make_idr(execution)
    play(owner, TABLE[line])
    owner.call(idr_destroy, ROOT)
    owner.finish()


@pytest.fixture(params=["plain", "compiled"])
def ten_thousand(request: pytest.FixtureRequest) -> Owner:
    """An IDR with the ids 0..9999."""
    owner = make_idr(request.param)
    assert [owner.ask(idr_alloc, A + n, 0, 0) for n in range(10_000)] == list(range(10_000))
    return owner


def test_a_full_range_gives_ENOSPC(ten_thousand: Owner) -> None:
    """With 0..9999 in use there is nothing in 5..29, and the next one is 10000."""
    assert ten_thousand.ask(idr_alloc, A, 5, 30) == -ENOSPC
    assert ten_thousand.ask(idr_alloc, A, 0, 0) == 10_000


def test_I6_five_removed_of_ten_thousand_is_given_next(ten_thousand: Owner) -> None:
    """A hole deep under two full levels is found again."""
    ten_thousand.check()
    assert ten_thousand.call(idr_remove, ROOT, 5) == A + 5
    assert ten_thousand.ask(idr_alloc, B, 0, 0) == 5
    assert ten_thousand.call(idr_find, ROOT, 5) == B


def test_destroying_twice_leaves_it_empty(ten_thousand: Owner) -> None:
    """The first half removed, destroyed, destroyed again: empty, no block lost, usable."""
    for n in range(5_000):
        assert ten_thousand.call(idr_remove, ROOT, n) == A + n
    assert ten_thousand.call(idr_get_next, ROOT, 0) == 5_000
    for _ in range(2):
        ten_thousand.call(idr_destroy, ROOT)
        assert ten_thousand.call(idr_is_empty, ROOT) == 1
    ten_thousand.finish()
    assert ten_thousand.ask(idr_alloc, A, 0, 0) == 0


@pytest.mark.parametrize("start", [0, 1, 4])
def test_get_next_visits_each_id_once_in_order(start: int, execution: str) -> None:
    """From 0, 1 or 4, over ids that lie leaves and levels apart; NULL is not populated."""
    owner, wanted = make_idr(execution), [4, 7, 9, 15, 65, 128, 1000, 99_999]
    for n in wanted:
        assert owner.ask(idr_alloc, A, n, n + 1) == n
    assert owner.ask(idr_alloc, NULL, 500, 501) == 500
    found = []
    n = owner.call(idr_get_next, ROOT, start)
    while n >= 0:
        found.append(n)
        n = owner.call(idr_get_next, ROOT, n + 1)
    assert n == -ENOENT
    assert found == wanted


@pytest.mark.parametrize("number", [10, 0x7FFFFFFF, 0x80000000, 0x80000001, 0xFFE00000, 0xFFFFFFFF])
def test_an_unsigned_id_can_be_asked_for(number: int, execution: str) -> None:
    """Exactly that one, once; the word says it only when it was given."""
    owner = make_idr(execution)
    owner.memory.set_word(WORD, number)
    assert owner.ask(idr_alloc_u32, A, WORD, number) == 0
    assert owner.memory.word(WORD) == number
    assert owner.ask(idr_alloc_u32, B, WORD, number) == -ENOSPC
    assert owner.memory.word(WORD) == number
    assert owner.call(idr_find, ROOT, number) == A
    assert owner.call(idr_get_next, ROOT, 0) == (number if number <= INT_MAX else -ENOENT)
    assert owner.call(idr_get_next_ul, ROOT, 0) == number
    assert owner.call(idr_remove, ROOT, number) == A
    assert owner.call(idr_is_empty, ROOT) == 1
    owner.finish()


@pytest.mark.parametrize(("start", "highest"), [(-1, 5), (0, UINT_MAX + 1), (0, -1)])
def test_ids_beyond_unsigned_are_refused(start: int, highest: int, execution: str) -> None:
    """-EINVAL, and the word keeps what it held."""
    owner = make_idr(execution)
    owner.memory.set_word(WORD, start)
    assert owner.ask(idr_alloc_u32, A, WORD, highest) == -EINVAL
    assert owner.memory.word(WORD) == start


@pytest.mark.parametrize("start", [0, 63, 64, 1 << 12, INT_MAX])
def test_without_memory_it_stays_empty(start: int, execution: str) -> None:
    """-EAGAIN names the size of a node, and nothing else has changed."""
    owner = make_idr(execution)
    assert owner.call(idr_alloc, ROOT, POOL_AT, A, start, 0) == -EAGAIN
    assert owner.memory.word(POOL_AT + 3) == IDR_NODE.SIZE == 72
    assert owner.call(idr_is_empty, ROOT) == 1
    owner.finish()


def test_ten_nodes_suffice_for_any_allocation(execution: str) -> None:
    """The worst case, from a lone leaf to the highest id, needs exactly IDR_PRELOAD_NODES."""
    owner = make_idr(execution)
    assert owner.ask(idr_alloc, A, 0, 0) == 0
    for _ in range(IDR_PRELOAD_NODES):
        owner.put(IDR_NODE.SIZE)
    assert owner.call(idr_alloc, ROOT, POOL_AT, A, INT_MAX, 0) == INT_MAX
    assert not owner.in_pool()
    owner.check()


def test_the_tree_becomes_low_again(execution: str) -> None:
    """When the high id goes, so do the levels that only it needed; the low one stays to be found."""
    owner = make_idr(execution)
    owner.ask(idr_alloc, A, 0, 0)
    low = owner.in_tree()
    owner.ask(idr_alloc, B, INT_MAX, 0)
    assert len(owner.in_tree()) == 11
    owner.call(idr_remove, ROOT, INT_MAX)
    assert owner.in_tree() == low
    assert owner.call(idr_find, ROOT, 0) == A


def test_a_reader_inside_a_retired_node_still_finds_its_way(execution: str) -> None:
    """I15: a top that was retired for being needless leads to the leaf below, an emptied leaf to nothing."""
    owner = make_idr(execution)
    owner.ask(idr_alloc, A, 3, 4)
    owner.ask(idr_alloc, B, 100, 101)
    top = owner.memory.word(ROOT)
    leaf_of_a, leaf_of_b = (owner.memory.word(top + IDR_NODE.slots + k) for k in (0, 1))
    owner.call(idr_remove, ROOT, 100)
    assert owner.memory.word(ROOT) == leaf_of_a
    owner.take_retired()
    assert set(owner.waiting) == {top, leaf_of_b}
    assert owner.memory.word(top + IDR_NODE.slots) == leaf_of_a
    assert owner.memory.word(top + IDR_NODE.slots + 1) == 0
    assert not any(owner.memory.words(leaf_of_b + IDR_NODE.slots, leaf_of_b + IDR_NODE.SIZE))
    owner.grace_period()
