"""The caller's part of the bargain: hands out raw blocks, calls again on -EAGAIN, waits for grace periods, frees.

Blocks are poisoned before they are handed out and after they are freed, so that whatever lib/ does with
memory that is not its own, or not initialised, shows.
"""

from collections.abc import Callable
from errno import EAGAIN

from shmreclaim.lib.ida import IDA_BITMAP, ida_init, ida_take_retired_bitmap, ida_take_retired_node
from shmreclaim.lib.idr import (
    IDR,
    IDR_NODE,
    POOL,
    idr_init,
    idr_take_retired,
    pool_init,
    pool_put_bitmap,
    pool_put_node,
    pool_take_bitmap,
    pool_take_node,
)
from tests.both import Memory

ROOT, POOL_AT, WORD = 64, 128, 192
FIRST_BLOCK = 256
POISON = 0x5A5A5A5A5A5A5A5A


class Supply:
    """Blocks of words: which are out, which are free."""

    def __init__(self, memory: Memory) -> None:
        """All that follows FIRST_BLOCK is still to be had."""
        self.memory = memory
        self.end = FIRST_BLOCK
        self.out: dict[int, int] = {}
        self._free: list[tuple[int, int]] = []

    def take(self, size: int) -> int:
        """Hand out a block full of poison."""
        fitting = next((k for k, (_, words) in enumerate(self._free) if words == size), -1)
        block = self._free.pop(fitting)[0] if fitting >= 0 else self.end
        self.end = max(self.end, block + size)
        assert self.end <= self.memory.size, "the test's memory is too small"
        self.memory.fill(block, size, POISON)
        self.out[block] = size
        return block

    def give(self, block: int) -> None:
        """Take a block back, poison it."""
        size = self.out.pop(block)
        self.memory.fill(block, size, POISON)
        self._free.append((block, size))


class Owner:
    """One IDR or IDA, its pool, and what it owes and is owed."""

    def __init__(self, kind: str, words: int = 1 << 16, *, ida: bool = False) -> None:
        """Make it, empty."""
        self.memory = Memory(kind, words)
        self.supply = Supply(self.memory)
        self.ida = ida
        self.waiting: dict[int, list[int]] = {}
        """Retired nodes in their grace period, and what they contained when they were retired."""
        self.memory.fill(ROOT, FIRST_BLOCK - ROOT, POISON)
        self.memory.call(ida_init if ida else idr_init, ROOT)
        self.memory.call(pool_init, POOL_AT)

    def call(self, function: Callable[..., int], *args: int) -> int:
        """Call a function of the subset."""
        return self.memory.call(function, *args)

    def ask(self, function: Callable[..., int], *args: int) -> int:
        """Call an allocating function; as often as it lacks a block, see that nothing changed, and put one in."""
        while True:
            before = self.memory.image(self.supply.end)
            wanted = self.memory.word(POOL_AT + POOL.wanted)
            result = self.call(function, ROOT, POOL_AT, *args)
            if result != -EAGAIN:
                return result
            size = self.memory.word(POOL_AT + POOL.wanted)
            self.memory.set_word(POOL_AT + POOL.wanted, wanted)
            assert self.memory.image(self.supply.end) == before, "-EAGAIN left something changed"
            self.put(size)

    def put(self, size: int) -> None:
        """Put one block of that size into the pool."""
        assert size in {IDR_NODE.SIZE, IDA_BITMAP.SIZE}
        self.call(pool_put_node if size == IDR_NODE.SIZE else pool_put_bitmap, POOL_AT, self.supply.take(size))

    def drain(self) -> None:
        """Take everything out of the pool."""
        for take in (pool_take_node, pool_take_bitmap):
            while block := self.call(take, POOL_AT):
                self.supply.give(block)
        assert self.memory.word(POOL_AT + POOL.nr_nodes) == 0

    def take_retired(self) -> None:
        """Collect what fell out: nodes of an IDR wait for a grace period, an IDA's blocks are freed at once."""
        while node := self.call(ida_take_retired_node if self.ida else idr_take_retired, ROOT):
            if self.ida:
                self.supply.give(node)
            else:
                self.waiting[node] = self.memory.words(node + 2, node + IDR_NODE.SIZE)
                self.memory.fill(node, 2, POISON)
        while self.ida and (bitmap := self.call(ida_take_retired_bitmap, ROOT)):
            self.supply.give(bitmap)

    def grace_period(self) -> None:
        """Free what was retired before; I15: nothing that a reader reads has changed meanwhile."""
        for node, content in self.waiting.items():
            assert self.memory.words(node + 2, node + IDR_NODE.SIZE) == content, "I15: a retired node changed"
            self.supply.give(node)
        self.waiting.clear()

    def in_tree(self) -> set[int]:
        """The blocks that the tree holds; fails unless the tree is as I13 and I14 want it."""
        top = self.memory.word(ROOT + IDR.top)
        blocks: set[int] = set()
        if top:
            words = self.memory.words()
            alone = words[top + IDR_NODE.shift] and words[top + IDR_NODE.children] == 1
            assert not alone, "I14: the top leads to slot 0 alone"
            self._walk(words, top, blocks)
        return blocks

    def _walk(self, words: list[int], node: int, blocks: set[int]) -> bool:
        """Check the subtree of a node, note its blocks; returns whether an id under it is free."""
        blocks.add(node)
        shift, children, free = (words[node + getattr(IDR_NODE, name)] for name in ("shift", "children", "free"))
        assert shift % 6 == 0
        assert children or ~free, "I14: an empty node"
        for k, child in enumerate(words[node + IDR_NODE.slots : node + IDR_NODE.SIZE]):
            is_free = bool(free >> k & 1)
            if not shift and not self.ida:
                assert not (is_free and child), "I13: a value under an id that is free"
                continue
            assert bool(children >> k & 1) == bool(child), "I13: children does not say what the slots hold"
            assert is_free == (self._child(words, node, k, blocks) if child else True), "I13: free is wrong"
        return bool(free)

    def _child(self, words: list[int], node: int, k: int, blocks: set[int]) -> bool:
        """Check what slot k leads to; returns whether an id under it is free."""
        child, shift = words[node + IDR_NODE.slots + k], words[node + IDR_NODE.shift]
        if shift:
            found = (words[child + IDR_NODE.parent], words[child + IDR_NODE.offset], words[child + IDR_NODE.shift])
            assert found == (node, k, shift - 6), "parent, offset or shift of a node is wrong"
            return self._walk(words, child, blocks)
        blocks.add(child)
        bits = words[child : child + IDA_BITMAP.SIZE]
        assert any(bits), "I14: an empty bitmap"
        return any(~word for word in bits)

    def in_pool(self) -> set[int]:
        """The blocks that wait in the pool."""
        blocks = set()
        for field in (POOL.nodes, POOL.bitmaps):
            block = self.memory.word(POOL_AT + field)
            while block:
                blocks.add(block)
                block = self.memory.word(block)
        return blocks

    def check(self) -> None:
        """See that the tree is sound and that every block handed out is in the tree, the pool, or a grace period."""
        self.take_retired()
        tree, pool = self.in_tree(), self.in_pool()
        assert tree | pool | set(self.waiting) == set(self.supply.out), "blocks were lost or invented"
        assert len(tree) + len(pool) + len(self.waiting) == len(self.supply.out), "a block is in two places"

    def finish(self) -> None:
        """See that nothing is left when everything is given back."""
        self.check()
        self.drain()
        self.grace_period()
        assert not self.supply.out, "blocks leaked"


def make_idr(kind: str, words: int = 1 << 16) -> Owner:
    """An empty IDR."""
    return Owner(kind, words)


def make_ida(kind: str, words: int = 1 << 16) -> Owner:
    """An empty IDA."""
    return Owner(kind, words, ida=True)
