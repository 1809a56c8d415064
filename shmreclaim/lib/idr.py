"""Ids for values, smallest free id first.

Model: the contract of the kernel's IDR after 4.16 (KERNEL.md 10), over radix_tree.py: slot k of a leaf holds the value
of one id. A stored NULL is a value like any other to allocation and removal; lookups do not see it.

Callers serialise writers; idr_find(), idr_get_next(), and idr_replace() of an id that stays need only an RCU
read section. Nothing allocates: an allocation that lacks a node in the caller's POOL gives -EAGAIN, says in
`pool.wanted` how many words it needs, and has changed nothing. Put one in and call again. Nodes that fall
out are handed over by idr_take_retired(), to be freed after a grace period, since readers may be inside.

I6   the id given is the smallest free one of its range, unless the cyclic function gave it.
I13 to I15 as in radix_tree.py.
P10  values are stored with release and loaded with acquire, as radix_tree.py shows.

Progress: idr_find() is wait-free, at most six levels. Limits: ids to INT_MAX, by idr_alloc_u32() to UINT_MAX. Unlike in
the kernel, a lone id also costs a node. idr_for_each is a loop of idr_get_next() and idr_find(): compiled
functions take no functions.
"""

from errno import EAGAIN, EINVAL, ENOENT, ENOSPC
from typing import Any

from shmreclaim.lib.bitmap import bitmap_fill, test_bit
from shmreclaim.lib.radix_tree import (
    IDR,
    IDR_NODE,
    NODE_MASK,
    NODE_SHIFT,
    POOL,
    chain_pop,
    first_under,
    pool_init,
    pool_put_bitmap,
    pool_put_node,
    pool_take_bitmap,
    pool_take_node,
    slots_ahead,
    tree_after,
    tree_covers,
    tree_destroy,
    tree_leaf,
    tree_mark_free,
    tree_mark_used,
    tree_next_free,
    tree_occupied,
    tree_prune,
    tree_reach,
)
from shmreclaim.machine.atomics import load_acquire, read_once, store_release, write_once, xchg
from shmreclaim.machine.compile import compiled, out_of_line

INT_MAX = (1 << 31) - 1
UINT_MAX = (1 << 32) - 1
IDR_PRELOAD_NODES = 10
"""Nodes in the pool that suffice for any one allocation: five tops above a lone leaf, five nodes below the last."""

__all__ = [
    "IDR",
    "IDR_NODE",
    "IDR_PRELOAD_NODES",
    "INT_MAX",
    "POOL",
    "UINT_MAX",
    "idr_alloc",
    "idr_alloc_cyclic",
    "idr_alloc_u32",
    "idr_destroy",
    "idr_find",
    "idr_get_cursor",
    "idr_get_next",
    "idr_get_next_ul",
    "idr_init",
    "idr_is_empty",
    "idr_remove",
    "idr_replace",
    "idr_set_cursor",
    "idr_take_retired",
    "pool_init",
    "pool_put_bitmap",
    "pool_put_node",
    "pool_take_bitmap",
    "pool_take_node",
]


@compiled
def idr_init(mem: Any, idr: int) -> int:
    """Make an IDR with no ids."""
    return bitmap_fill(mem, idr, IDR.SIZE, 0)


@compiled
def idr_is_empty(mem: Any, idr: int) -> int:
    """Whether no id is in use; one with NULL stored is in use."""
    return 0 if read_once(mem, idr + IDR.top) else 1


@out_of_line
def _reserve(mem: Any, idr: int, pool: int, lowest: int, highest: int) -> int:
    """Find the smallest free id of lowest..highest and make its slot; or -ENOSPC, -EAGAIN."""
    id_ = tree_next_free(mem, idr, lowest)
    if id_ > highest:
        return -ENOSPC
    return id_ if tree_leaf(mem, idr, id_) or tree_reach(mem, idr, pool, id_) else -EAGAIN


@compiled
def _publish(mem: Any, idr: int, id_: int, value: int) -> int:
    """Store the value of a reserved id, which is in use from now on."""
    leaf = tree_leaf(mem, idr, id_)
    store_release(mem, leaf + IDR_NODE.slots + (id_ & NODE_MASK), value)  # P10: pairs with idr_find()
    return tree_mark_used(mem, idr, leaf, id_ & NODE_MASK)


@compiled
def _highest(end: int) -> int:
    """The last id of a range that ends before `end`, which is 0 or less for no end."""
    return end - 1 if 0 < end <= INT_MAX else INT_MAX


@out_of_line
def idr_alloc(mem: Any, idr: int, pool: int, value: int, start: int, end: int) -> int:
    """Give `value` the smallest free id of [start, end), up to INT_MAX if end <= 0.

    Returns the id; -EINVAL if start < 0; -ENOSPC; -EAGAIN if the pool lacks a block.
    """
    if start < 0:
        return -EINVAL
    id_ = _reserve(mem, idr, pool, start, _highest(end))
    if id_ >= 0:
        _publish(mem, idr, id_, value)
    return id_


@out_of_line
def idr_alloc_u32(mem: Any, idr: int, pool: int, value: int, nextid: int, highest: int) -> int:
    """Give `value` the smallest free id from the one in the word at `nextid` to `highest`, that included.

    The id is written to `nextid` before a reader can find it. Returns 0; -EINVAL outside 0..UINT_MAX; -ENOSPC;
    -EAGAIN. On an error the word keeps what it held.
    """
    lowest = read_once(mem, nextid)
    if lowest < 0 or highest < 0 or highest > UINT_MAX:
        return -EINVAL
    id_ = _reserve(mem, idr, pool, lowest, highest)
    if id_ < 0:
        return id_
    write_once(mem, nextid, id_)
    return _publish(mem, idr, id_, value)


@out_of_line
def idr_alloc_cyclic(mem: Any, idr: int, pool: int, value: int, start: int, end: int) -> int:
    """Give `value` the first free id of [start, end) after the one given last, else the smallest; as idr_alloc()."""
    if start < 0:
        return -EINVAL
    cursor = max(start, read_once(mem, idr + IDR.next))
    id_ = _reserve(mem, idr, pool, cursor, _highest(end))
    if id_ == -ENOSPC and cursor > start:
        id_ = _reserve(mem, idr, pool, start, _highest(end))
    if id_ >= 0:
        write_once(mem, idr + IDR.next, id_ + 1)
        _publish(mem, idr, id_, value)
    return id_


@compiled
def idr_get_cursor(mem: Any, idr: int) -> int:
    """Where idr_alloc_cyclic() will go on."""
    return read_once(mem, idr + IDR.next)


@compiled
def idr_set_cursor(mem: Any, idr: int, id_: int) -> int:
    """Let idr_alloc_cyclic() go on from `id_`."""
    return write_once(mem, idr + IDR.next, id_)


@compiled
def idr_find(mem: Any, idr: int, id_: int) -> int:
    """The value of an id; 0 if it is not in use or NULL was stored. Under RCU."""
    leaf = tree_leaf(mem, idr, id_)
    if not leaf:
        return 0
    return load_acquire(mem, leaf + IDR_NODE.slots + (id_ & NODE_MASK))  # P10: pairs with _publish()


@compiled
def _leaf_of_used(mem: Any, idr: int, id_: int) -> int:
    """The leaf of an id that is in use; 0 if it is not."""
    leaf = tree_leaf(mem, idr, id_)
    return leaf if leaf and not test_bit(mem, leaf + IDR_NODE.free, id_ & NODE_MASK) else 0


@out_of_line
def idr_replace(mem: Any, idr: int, value: int, id_: int) -> int:
    """Give an id another value and return the old one; -ENOENT if it is not in use.

    Under RCU, also while other ids come and go.
    """
    leaf = _leaf_of_used(mem, idr, id_)
    if not leaf:
        return -ENOENT
    return xchg(mem, leaf + IDR_NODE.slots + (id_ & NODE_MASK), value)  # P10: pairs with idr_find()


@out_of_line
def idr_remove(mem: Any, idr: int, id_: int) -> int:
    """Take an id out of use, free at once for the next; return its value, 0 if it was not in use."""
    leaf = _leaf_of_used(mem, idr, id_)
    if not leaf:
        return 0
    at = leaf + IDR_NODE.slots + (id_ & NODE_MASK)
    value = read_once(mem, at)
    write_once(mem, at, 0)
    tree_mark_free(mem, idr, leaf, id_ & NODE_MASK)
    tree_prune(mem, idr, leaf)
    return value


@out_of_line
def idr_get_next_ul(mem: Any, idr: int, start: int) -> int:
    """The smallest id not below `start` whose value is not NULL; -ENOENT if there is none. Under RCU."""
    index = start
    top = load_acquire(mem, idr + IDR.top)  # P10: pairs with _grow()
    node = top
    while tree_covers(mem, top, index):
        shift = read_once(mem, node + IDR_NODE.shift)
        ahead = slots_ahead(tree_occupied(mem, node), index, shift)
        if ahead:
            index = first_under(ahead, index, shift)
            at = node + IDR_NODE.slots + (index >> shift & NODE_MASK)
            node = load_acquire(mem, at)  # P10: pairs with tree_fill_slot(), _publish()
            if shift == 0 and node:
                return index
        else:
            node = 0
            shift += NODE_SHIFT
        if not node:  # nothing here, or NULL, or a writer was faster: go on after it, from the top that we saw
            index = tree_after(index, shift)
            node = top
    return -ENOENT


@compiled
def idr_get_next(mem: Any, idr: int, start: int) -> int:
    """The smallest id from `start` to INT_MAX whose value is not NULL; -ENOENT if there is none. Under RCU."""
    id_ = idr_get_next_ul(mem, idr, start)
    return id_ if id_ <= INT_MAX else -ENOENT


@compiled
def idr_destroy(mem: Any, idr: int) -> int:
    """Take all ids out of use and retire every node; the cyclic cursor stays. Twice is harmless."""
    return tree_destroy(mem, idr)


@compiled
def idr_take_retired(mem: Any, idr: int) -> int:
    """Take a node that left the tree, to be freed after a grace period; 0 if there is none."""
    return chain_pop(mem, idr + IDR.retired)
