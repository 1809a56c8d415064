"""Arrays of lists are looked at all at once, and still nothing that is wrong with one of them is missed."""

from collections.abc import Iterator

import pytest

from shmreclaim.executions.oracles import check_at_rest
from shmreclaim.lib.radix_tree import IDR, IDR_NODE
from shmreclaim.mm.list_lru import LIST_LRU, LRU_NODE, LRU_NODE_WORDS, LRU_ONE
from shmreclaim.mm.superblock import SUPERBLOCK
from tests.emulated import SMALL, Emulated, add, mkdir, mount

NODE = 1


@pytest.fixture
def kernel() -> Iterator[Emulated]:
    """A kernel of before 5.18 with two memcgs and a mount, a few objects on one of its lists."""
    with Emulated("v4_19", "plain") as emulated:
        emulated.play([mkdir(1), mkdir(2), mount(0), add(1, 0, 3)])
        yield emulated


def _array(kernel: Emulated) -> int:
    """The array of the inodes' lists on a node where nobody has any."""
    lru = kernel.sb(0) + SUPERBLOCK.inodes
    return kernel.word(lru + LIST_LRU.nodes + NODE * LRU_NODE_WORDS + LRU_NODE.lists)


def test_empty_lists_are_checked_and_counted(kernel: Emulated) -> None:
    """Each list of each memcg that there could be counts as a check."""
    checked, violations = check_at_rest(kernel.arena, kernel.cpus)
    assert violations == []
    assert checked > 2 * 2 * SMALL.max_memcgs


@pytest.mark.parametrize("number", [0, 5, SMALL.max_memcgs - 1])
@pytest.mark.parametrize(
    ("field", "value"),
    [
        (LRU_ONE.nr_items, 1),
        (LRU_ONE.nr_items, -1),
        (LRU_ONE.head, 0),
        (LRU_ONE.head, 1 << 40),
        (LRU_ONE.head + 1, 0),
        (LRU_ONE.head + 1, 8),
    ],
)
def test_whatever_is_wrong_with_an_empty_list_is_found(kernel: Emulated, number: int, field: int, value: int) -> None:
    """A count without objects, or a head that does not point to itself, of the first, the last, any."""
    kernel.set_word(_array(kernel) + number * LRU_ONE.SIZE + field, value)
    assert any(message.startswith("I12") for message in kernel.oracles())


@pytest.mark.parametrize("shift", [6, 12, 30])
def test_a_node_that_is_below_itself_is_found(shift: int) -> None:
    """In the IDR that has the lists since 5.18: whoever follows it would not come to an end."""
    with Emulated("v6_7", "plain") as kernel:
        kernel.play([mkdir(1), mount(0), add(1, 0, 3)])
        node = kernel.word(kernel.sb(0) + SUPERBLOCK.dentries + LIST_LRU.xa + IDR.top)
        kernel.set_word(node + IDR_NODE.shift, shift)
        kernel.set_word(node + IDR_NODE.slots, node)
        found = check_at_rest(kernel.arena, kernel.cpus)[1]
    assert any(f"node {node} of an IDR has shift {shift}, not {shift - 6}" in message for message in found), found


def test_a_list_that_claims_the_objects_of_another_is_found(kernel: Emulated) -> None:
    """An empty list's head in place of that with objects: the objects are on no list any more."""
    node = kernel.sb(0) + SUPERBLOCK.dentries + LIST_LRU.nodes
    full = kernel.word(node + LRU_NODE.lists)
    for offset, value in ((0, full), (1, full), (LRU_ONE.nr_items, 0)):
        kernel.set_word(full + offset, value)
    assert any("not conserved" in message for message in kernel.oracles())
