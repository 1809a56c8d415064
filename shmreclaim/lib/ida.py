"""Ids without values, smallest free id first: a radix tree of bitmaps of 1024 bits.

Model: the contract of the kernel's IDA (KERNEL.md 10), the old interface (ida_get_new_above() with
preloading, through 4.18) and the new one (ida_alloc_range(), from 4.19). Slot k of a leaf leads to the bitmap
of ids k << 10 ...; its bit in `free` is clear while that bitmap is full. An IDA begins with an IDR record.

Nothing here allocates or locks; callers serialise everything, ida_exists() too. Nodes and bitmaps come from a
POOL as in idr.py: -EAGAIN says in `pool.wanted` what it lacks and has changed nothing. What falls out is
handed back by ida_take_retired_node() and ida_take_retired_bitmap(), and may be freed at once.

I6   the id given is the smallest free one of its range: no caller needs a hint where to search.
I13, I14 as in radix_tree.py, and no bitmap of the tree is empty.

An allocation takes effect when the bit is set in its bitmap, a removal when it is cleared; bits of `free` are
cleared after the one and set before the other, so that one that a dying writer left is a bit too many.
Limits: ids to INT_MAX. The kernel of that time kept the lowest 62 bits of a first leaf in its slot; here it
has a bitmap.
"""

from errno import EAGAIN, ENOENT, ENOSPC
from typing import Any

from shmreclaim.lib.bitmap import bitmap_fill, find_next_bit, find_next_zero_bit, test_bit
from shmreclaim.lib.idr import INT_MAX, idr_find, idr_get_next, idr_take_retired
from shmreclaim.lib.radix_tree import (
    IDR,
    NODE_MASK,
    POOL,
    chain_pop,
    chain_push,
    clear_bit_once,
    pool_take_bitmap,
    set_bit_once,
    tree_clear_slot,
    tree_destroy,
    tree_fill_slot,
    tree_leaf,
    tree_mark_free,
    tree_mark_used,
    tree_next_free,
    tree_prune,
    tree_reach,
)
from shmreclaim.machine.atomics import read_once, write_once
from shmreclaim.machine.compile import compiled, out_of_line
from shmreclaim.machine.layout import Field, record

BITMAP_SHIFT = 10
BITMAP_BITS = 1 << BITMAP_SHIFT
BITMAP_MASK = BITMAP_BITS - 1
IDA_PRELOAD_NODES = 6
"""Nodes in the pool that suffice, with one bitmap, for any one allocation."""

IDA = record(
    "IDA",
    Field("idr", "writers; the tree, whose values are bitmaps", IDR.SIZE),
    Field("retired", "writers; chain of bitmaps that left the tree"),
)

IDA_BITMAP = record(
    "IDA_BITMAP",
    Field("bits", "writers; in a pool and among the retired, the first word is the chain", BITMAP_BITS // 64),
)


@compiled
def ida_init(mem: Any, ida: int) -> int:
    """Make an IDA with no ids."""
    return bitmap_fill(mem, ida, IDA.SIZE, 0)


@compiled
def ida_is_empty(mem: Any, ida: int) -> int:
    """Whether no id is in use."""
    return 0 if read_once(mem, ida + IDR.top) else 1


@compiled
def ida_exists(mem: Any, ida: int, id_: int) -> int:
    """Whether an id is in use; not while a writer runs."""
    bitmap = idr_find(mem, ida, id_ >> BITMAP_SHIFT)
    return test_bit(mem, bitmap, id_ & BITMAP_MASK) if bitmap else 0


@compiled
def _first_free(mem: Any, ida: int, start: int) -> int:
    """The smallest free id not below `start`."""
    index = tree_next_free(mem, ida, start >> BITMAP_SHIFT)
    bit = start & BITMAP_MASK if index == start >> BITMAP_SHIFT else 0
    bitmap = idr_find(mem, ida, index)
    while bitmap:
        bit = find_next_zero_bit(mem, bitmap, BITMAP_BITS, bit)
        if bit < BITMAP_BITS:
            break
        index = tree_next_free(mem, ida, index + 1)
        bit = 0
        bitmap = idr_find(mem, ida, index)
    return index << BITMAP_SHIFT | bit


@compiled
def _reach_bitmap(mem: Any, ida: int, pool: int, index: int) -> int:
    """The bitmap of that index, added with all above it; 0, and nothing done, if the pool lacks a block."""
    bitmap = idr_find(mem, ida, index)
    if bitmap:
        return bitmap
    if not read_once(mem, pool + POOL.bitmaps):
        write_once(mem, pool + POOL.wanted, IDA_BITMAP.SIZE)
        return 0
    leaf = tree_reach(mem, ida, pool, index)
    if not leaf:
        return 0
    bitmap = pool_take_bitmap(mem, pool)
    bitmap_fill(mem, bitmap, IDA_BITMAP.SIZE, 0)
    tree_fill_slot(mem, leaf, index & NODE_MASK, bitmap)
    return bitmap


@out_of_line
def ida_alloc_range(mem: Any, ida: int, pool: int, lowest: int, highest: int) -> int:
    """Give the smallest free id of lowest..highest, both included; a highest that is no int means INT_MAX.

    Returns the id; -ENOSPC; -EAGAIN if the pool lacks a block.
    """
    last = highest if 0 <= highest <= INT_MAX else INT_MAX
    id_ = _first_free(mem, ida, lowest) if lowest >= 0 else -1
    if id_ < 0 or id_ > last:
        return -ENOSPC
    bitmap = _reach_bitmap(mem, ida, pool, id_ >> BITMAP_SHIFT)
    if not bitmap:
        return -EAGAIN
    bit = id_ & BITMAP_MASK
    set_bit_once(mem, bitmap + (bit >> 6), bit & 63)
    if find_next_zero_bit(mem, bitmap, BITMAP_BITS, 0) == BITMAP_BITS:
        tree_mark_used(mem, ida, tree_leaf(mem, ida, id_ >> BITMAP_SHIFT), id_ >> BITMAP_SHIFT & NODE_MASK)
    return id_


@compiled
def ida_get_new_above(mem: Any, ida: int, pool: int, start: int) -> int:
    """Give the smallest free id not below `start` (old interface); as ida_alloc_range()."""
    return ida_alloc_range(mem, ida, pool, start, INT_MAX)


@out_of_line
def ida_free(mem: Any, ida: int, id_: int) -> int:
    """Take an id out of use; -ENOENT, and nothing done, if it was not in use (the kernel warns)."""
    if not ida_exists(mem, ida, id_):
        return -ENOENT
    index = id_ >> BITMAP_SHIFT
    leaf = tree_leaf(mem, ida, index)
    bitmap = idr_find(mem, ida, index)
    tree_mark_free(mem, ida, leaf, index & NODE_MASK)
    bit = id_ & BITMAP_MASK
    clear_bit_once(mem, bitmap + (bit >> 6), bit & 63)
    if find_next_bit(mem, bitmap, BITMAP_BITS, 0) == BITMAP_BITS:
        tree_clear_slot(mem, leaf, index & NODE_MASK)
        chain_push(mem, ida + IDA.retired, bitmap)
        tree_prune(mem, ida, leaf)
    return 0


@compiled
def ida_remove(mem: Any, ida: int, id_: int) -> int:
    """Take an id out of use (old interface); as ida_free()."""
    return ida_free(mem, ida, id_)


@out_of_line
def ida_destroy(mem: Any, ida: int) -> int:
    """Take all ids out of use and retire every node and bitmap. Twice is harmless."""
    index = idr_get_next(mem, ida, 0)
    while index >= 0:
        chain_push(mem, ida + IDA.retired, idr_find(mem, ida, index))
        index = idr_get_next(mem, ida, index + 1)
    return tree_destroy(mem, ida)


@compiled
def ida_take_retired_node(mem: Any, ida: int) -> int:
    """Take a node (IDR_NODE.SIZE words) that left the tree, to be freed; 0 if there is none."""
    return idr_take_retired(mem, ida)


@compiled
def ida_take_retired_bitmap(mem: Any, ida: int) -> int:
    """Take a bitmap (IDA_BITMAP.SIZE words) that left the tree, to be freed; 0 if there is none."""
    return chain_pop(mem, ida + IDA.retired)
