"""A radix tree of 64-slot nodes in shared words that knows where its first free slot is; idr.py and ida.py share it.

Model: lib/radix-tree.c with the tag IDR_FREE, by its behaviour. Each node says in one word, `free`, under which
of its slots an id is free, so that the smallest free index at or after any other is found in O(depth).

    root.top -> node of shift 12         slot k leads to indices k << 12 ...
                  -> node of shift 6     slot k leads to indices k << 6 ...
                       -> leaf, shift 0  slot k belongs to one index

Nothing here allocates or locks. Callers serialise writers; tree_leaf() needs only an RCU read section. Nodes come
from a POOL that the caller fills. A call that lacks one says in `pool.wanted` how many words it needs, and
has changed nothing. Nodes that fall out are chained to `root.retired`, to be freed after a grace period.

I13  while no writer is at work, or has died at it: bit k of `free` is clear if and only if no id under slot k is
     free; bit k of `children` is set if and only if slot k leads to a node (of an IDA: to a node or a bitmap).
I14  no node of the tree is empty, and a top above a leaf leads to more than its slot 0; so a tree is empty if
     and only if `top` is 0.
I15  nothing but the first two words of a retired node changes (and `children`, in destruction): it leads readers
     who are inside to what was there when they entered, or to 0.

An allocation takes effect when the leaf's bit of `free` is cleared, a removal when it is set; ancestors' bits
are cleared after the one and set before the other, and bits of `children` cover more than the slots. So a writer
that dies at any step leaves bits too many, which cost searches some steps and the tree some nodes, never
a bit too few, which would lose an id.

P10  a node is filled, then stored with release into a slot or into `top`; a value's record is filled, then
     stored with release into its slot. tree_leaf(), idr_find() and idr_get_next_ul() load each with acquire:

        writer                             reader
        fill the node                      node = top or slot   (acquire)
        top or slot = node   (release)     read the node

     Forbidden: the reader sees the node and not what it was filled with.
     (real processes: test_P10_readers_see_only_values_that_were_stored_for_that_id)

Progress: tree_leaf() is wait-free, one step a level. Limits: none of its own.
"""

from typing import Any

from shmreclaim.lib.bitmap import bitmap_fill
from shmreclaim.machine.atomics import load_acquire, lowest_bit, read_once, store_release, write_once
from shmreclaim.machine.compile import compiled, out_of_line
from shmreclaim.machine.layout import Field, record

NODE_SHIFT = 6
NODE_SLOTS = 64
NODE_MASK = NODE_SLOTS - 1

IDR = record(
    "IDR",
    Field("top", "RCU; written by writers, whom the caller serialises"),
    Field("next", "writers; where idr_alloc_cyclic() goes on", line=True),
    Field("retired", "writers; chain of nodes that left the tree"),
)

IDR_NODE = record(
    "IDR_NODE",
    Field("rcu_head", "writers; chain in a pool, among the retired and of call_rcu: no reader looks", 2),
    Field("shift", "read-only after publication; bits of an id below this node's"),
    Field("parent", "writers; undefined in the top"),
    Field("offset", "writers; which slot of the parent"),
    Field("children", "RCU; bit k: slot k leads to a node or a bitmap"),
    Field("free", "RCU; bit k: an id under slot k is free"),
    Field("slots", "RCU; nodes, in a leaf values", NODE_SLOTS, line=True),
)

POOL = record(
    "POOL",
    Field("nodes", "its owner; chain of spare nodes through their first word"),
    Field("nr_nodes", "its owner; how many at least"),
    Field("bitmaps", "its owner; chain of spare IDA bitmaps through their first word"),
    Field("wanted", "its owner; words of the block that the last -EAGAIN was about"),
)


# --- the pool ----------------------------------------------------------------------------------------


@compiled
def pool_init(mem: Any, pool: int) -> int:
    """Make a pool that holds nothing."""
    return bitmap_fill(mem, pool, POOL.SIZE, 0)


@compiled
def chain_push(mem: Any, head: int, block: int) -> int:
    """Put a block on a chain through first words."""
    write_once(mem, block, read_once(mem, head))
    return write_once(mem, head, block)


@compiled
def chain_pop(mem: Any, head: int) -> int:
    """Take the block off a chain that was put there last; 0 if there is none."""
    block = read_once(mem, head)
    if block:
        write_once(mem, head, read_once(mem, block))
    return block


@compiled
def pool_put_node(mem: Any, pool: int, node: int) -> int:
    """Add a spare node: IDR_NODE.SIZE words, whatever they contain."""
    chain_push(mem, pool + POOL.nodes, node)
    return write_once(mem, pool + POOL.nr_nodes, read_once(mem, pool + POOL.nr_nodes) + 1)


@compiled
def pool_put_bitmap(mem: Any, pool: int, bitmap: int) -> int:
    """Add a spare bitmap: IDA_BITMAP.SIZE words, whatever they contain."""
    return chain_push(mem, pool + POOL.bitmaps, bitmap)


@compiled
def pool_take_node(mem: Any, pool: int) -> int:
    """Take a spare node out; 0 if there is none."""
    spare = read_once(mem, pool + POOL.nr_nodes)
    if not spare:
        return 0
    write_once(mem, pool + POOL.nr_nodes, spare - 1)
    return chain_pop(mem, pool + POOL.nodes)


@compiled
def pool_take_bitmap(mem: Any, pool: int) -> int:
    """Take a spare bitmap out; 0 if there is none."""
    return chain_pop(mem, pool + POOL.bitmaps)


# --- the tree ----------------------------------------------------------------------------------------


@compiled
def set_bit_once(mem: Any, word: int, bit: int) -> int:
    """Set one bit of a word that nobody else writes; readers see it before or after (kernel: __set_bit)."""
    return write_once(mem, word, read_once(mem, word) | (1 << bit))


@compiled
def clear_bit_once(mem: Any, word: int, bit: int) -> int:
    """Clear one bit of a word that nobody else writes (kernel: __clear_bit)."""
    return write_once(mem, word, read_once(mem, word) & ~(1 << bit))


@compiled
def tree_covers(mem: Any, top: int, index: int) -> int:
    """Whether the tree under `top` is high enough to have a slot for `index`."""
    return 1 if top and index >> read_once(mem, top + IDR_NODE.shift) >> NODE_SHIFT == 0 else 0


@compiled
def tree_leaf(mem: Any, idr: int, index: int) -> int:
    """The leaf that has the slot of `index`; 0 if there is none."""
    node = load_acquire(mem, idr + IDR.top)  # P10: pairs with _grow()
    if not node:
        return 0
    shift = read_once(mem, node + IDR_NODE.shift)
    if index >> shift >> NODE_SHIFT:
        return 0
    while shift and node:
        at = node + IDR_NODE.slots + ((index >> shift) & NODE_MASK)
        node = load_acquire(mem, at)  # P10: pairs with tree_fill_slot()
        shift -= NODE_SHIFT
    return node


@compiled
def tree_after(index: int, shift: int) -> int:
    """The first index of the next block of 1 << shift."""
    return ((index >> shift) + 1) << shift


@compiled
def slots_ahead(word: int, index: int, shift: int) -> int:
    """The bits of a node's word for `index` and what comes after it in that node."""
    return word & (-1 << (index >> shift & NODE_MASK))


@compiled
def first_under(ahead: int, index: int, shift: int) -> int:
    """The first index not below `index` under the lowest slot of `ahead`, which is not empty."""
    at = lowest_bit(ahead)
    return index if at == index >> shift & NODE_MASK else ((index >> shift) & ~NODE_MASK | at) << shift


@out_of_line
def tree_next_free(mem: Any, idr: int, start: int) -> int:
    """The smallest index not below `start` under which an id is free; it may lie beyond the tree."""
    index = start
    top = read_once(mem, idr + IDR.top)
    node = top
    while tree_covers(mem, top, index):
        shift = read_once(mem, node + IDR_NODE.shift)
        ahead = slots_ahead(read_once(mem, node + IDR_NODE.free), index, shift)
        if ahead:
            index = first_under(ahead, index, shift)
            node = read_once(mem, node + IDR_NODE.slots + (index >> shift & NODE_MASK))
            if shift == 0 or node == 0:
                return index
        else:
            index = tree_after(index, shift + NODE_SHIFT)
            node = top
    return index


@compiled
def _missing(mem: Any, idr: int, index: int) -> int:
    """How many nodes must be added before `index` has a slot."""
    top = read_once(mem, idr + IDR.top)
    needed = _top_shift(index) // NODE_SHIFT
    if not top:
        return 1 + needed
    shift = read_once(mem, top + IDR_NODE.shift)
    if index >> shift >> NODE_SHIFT:
        return needed - shift // NODE_SHIFT + needed
    node = top
    while shift:
        node = read_once(mem, node + IDR_NODE.slots + (index >> shift & NODE_MASK))
        if not node:
            return shift // NODE_SHIFT
        shift -= NODE_SHIFT
    return 0


@compiled
def _top_shift(index: int) -> int:
    """The shift of the lowest top that covers `index`."""
    shift = 0
    while index >> shift >> NODE_SHIFT:
        shift += NODE_SHIFT
    return shift


@compiled
def _new_node(mem: Any, pool: int, shift: int) -> int:
    """Take a node from the pool, which has one, and make it empty."""
    node = pool_take_node(mem, pool)
    write_once(mem, node + IDR_NODE.shift, shift)
    write_once(mem, node + IDR_NODE.offset, 0)
    write_once(mem, node + IDR_NODE.children, 0)
    write_once(mem, node + IDR_NODE.free, -1)
    bitmap_fill(mem, node + IDR_NODE.slots, NODE_SLOTS, 0)
    return node


@compiled
def _grow(mem: Any, idr: int, pool: int, shift: int) -> int:
    """Put tops above the top until its shift is `shift`; an empty tree gets that one node."""
    top = read_once(mem, idr + IDR.top)
    if not top:
        return store_release(mem, idr + IDR.top, _new_node(mem, pool, shift))  # P10: pairs with tree_leaf()
    while read_once(mem, top + IDR_NODE.shift) < shift:
        node = _new_node(mem, pool, read_once(mem, top + IDR_NODE.shift) + NODE_SHIFT)
        write_once(mem, node + IDR_NODE.slots, top)
        write_once(mem, node + IDR_NODE.children, 1)
        if not read_once(mem, top + IDR_NODE.free):
            clear_bit_once(mem, node + IDR_NODE.free, 0)
        write_once(mem, top + IDR_NODE.parent, node)
        store_release(mem, idr + IDR.top, node)  # P10: pairs with tree_leaf()
        top = node
    return 0


@compiled
def tree_fill_slot(mem: Any, node: int, offset: int, child: int) -> int:
    """Publish a filled node or bitmap in an empty slot."""
    set_bit_once(mem, node + IDR_NODE.children, offset)
    return store_release(mem, node + IDR_NODE.slots + offset, child)  # P10: pairs with tree_leaf()


@compiled
def tree_clear_slot(mem: Any, node: int, offset: int) -> int:
    """Unpublish what a slot leads to."""
    write_once(mem, node + IDR_NODE.slots + offset, 0)
    return clear_bit_once(mem, node + IDR_NODE.children, offset)


@out_of_line
def tree_reach(mem: Any, idr: int, pool: int, index: int) -> int:
    """The leaf that has the slot of `index`, added with all above it; 0, and nothing done, if the pool lacks nodes."""
    if read_once(mem, pool + POOL.nr_nodes) < _missing(mem, idr, index):
        write_once(mem, pool + POOL.wanted, IDR_NODE.SIZE)
        return 0
    _grow(mem, idr, pool, _top_shift(index))
    node = read_once(mem, idr + IDR.top)
    shift = read_once(mem, node + IDR_NODE.shift)
    while shift:
        offset = index >> shift & NODE_MASK
        shift -= NODE_SHIFT
        child = read_once(mem, node + IDR_NODE.slots + offset)
        if not child:
            child = _new_node(mem, pool, shift)
            write_once(mem, child + IDR_NODE.parent, node)
            write_once(mem, child + IDR_NODE.offset, offset)
            tree_fill_slot(mem, node, offset, child)
        node = child
    return node


@compiled
def tree_mark_used(mem: Any, idr: int, leaf: int, offset: int) -> int:
    """Note that no id under a slot of a leaf is free any more; this is what makes an allocation (I13)."""
    top = read_once(mem, idr + IDR.top)
    node = leaf
    clear_bit_once(mem, node + IDR_NODE.free, offset)
    while node != top and not read_once(mem, node + IDR_NODE.free):
        above = read_once(mem, node + IDR_NODE.offset)
        node = read_once(mem, node + IDR_NODE.parent)
        clear_bit_once(mem, node + IDR_NODE.free, above)
    return 0


@compiled
def tree_mark_free(mem: Any, idr: int, leaf: int, offset: int) -> int:
    """Note that an id under a slot of a leaf is free; the leaf's bit, last, is what makes it so (I13)."""
    top = read_once(mem, idr + IDR.top)
    node = leaf
    while node != top:
        above = read_once(mem, node + IDR_NODE.offset)
        node = read_once(mem, node + IDR_NODE.parent)
        set_bit_once(mem, node + IDR_NODE.free, above)
    return set_bit_once(mem, leaf + IDR_NODE.free, offset)


@compiled
def tree_occupied(mem: Any, node: int) -> int:
    """Bit k: slot k leads to something, or is an id that is in use."""
    return read_once(mem, node + IDR_NODE.children) | ~read_once(mem, node + IDR_NODE.free)


@compiled
def _lower_top(mem: Any, idr: int) -> int:
    """Retire tops that lead to their slot 0 alone."""
    top = read_once(mem, idr + IDR.top)
    while read_once(mem, top + IDR_NODE.shift) and read_once(mem, top + IDR_NODE.children) == 1:
        below = read_once(mem, top + IDR_NODE.slots)
        if not below:  # a writer died before it filled the slot
            return 0
        store_release(mem, idr + IDR.top, below)  # P10: pairs with tree_leaf()
        chain_push(mem, idr + IDR.retired, top)
        top = below
    return 0


@out_of_line
def tree_prune(mem: Any, idr: int, leaf: int) -> int:
    """Retire a leaf and what is above it, as far as they are empty, then needless tops (I14)."""
    top = read_once(mem, idr + IDR.top)
    node = leaf
    while node and not tree_occupied(mem, node):
        above = read_once(mem, node + IDR_NODE.parent) if node != top else 0
        if above:
            tree_clear_slot(mem, above, read_once(mem, node + IDR_NODE.offset))
        else:
            write_once(mem, idr + IDR.top, 0)
        chain_push(mem, idr + IDR.retired, node)
        node = above
    return _lower_top(mem, idr) if node else 0


@out_of_line
def tree_destroy(mem: Any, idr: int) -> int:
    """Retire every node."""
    top = read_once(mem, idr + IDR.top)
    write_once(mem, idr + IDR.top, 0)
    node = top
    while node:
        children = read_once(mem, node + IDR_NODE.children)
        if children and read_once(mem, node + IDR_NODE.shift):
            offset = lowest_bit(children)
            clear_bit_once(mem, node + IDR_NODE.children, offset)
            below = read_once(mem, node + IDR_NODE.slots + offset)
            node = below if below else node
        else:
            above = 0 if node == top else read_once(mem, node + IDR_NODE.parent)
            chain_push(mem, idr + IDR.retired, node)
            node = above
    return 0
