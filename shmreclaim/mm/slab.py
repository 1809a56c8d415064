"""Where records live: blocks of a few sizes cut from chunks, and runs of chunks for large ones.

Model: SLUB (mm/slub.c) without per-CPU slabs. Each node has a heap of chunks of 512 words. A chunk is free,
part of a run, or cut into blocks of one size; a size has a list of its chunks that have a free block.
The page budget is mm/zone.py's: this is where the words are; kfree() gives back both.

Lock order: a cache's lock, then the heap's. Both are spinlocks.
Limits: blocks of more than half a chunk take whole chunks. A heap that is fragmented can lack a
run although chunks are free; the caller sees that as memory being exhausted.
"""

from typing import Any

from shmreclaim.lib.bitmap import clear_bit, find_next_bit, find_next_zero_bit, set_bit
from shmreclaim.lib.list_head import list_add, list_del_init, list_empty, list_next
from shmreclaim.machine.atomics import read_once, write_once
from shmreclaim.machine.compile import compiled, out_of_line
from shmreclaim.machine.cpu import Violation, violation
from shmreclaim.machine.layout import LINE, Field, record
from shmreclaim.mm.state import MM, mm_state
from shmreclaim.mm.zone import zone_give
from shmreclaim.sync.rcu import call_rcu, rcu_next_done
from shmreclaim.sync.spinlock import spin_lock, spin_unlock

CHUNK_WORDS = 512
BLOCK_WORDS = (8, 16, 24, 32, 48, 64, 72, 88, 128, 168, 256)
N_SIZES = len(BLOCK_WORDS)
RUN = N_SIZES
"""`size` of a chunk that is the first of a run."""

POISON_FREE = 0x6B6B6B6B
"""What the third word of a free block is (kernel: the same name): behind an rcu_head, or the link of an object."""

CACHE = record(
    "CACHE",
    Field("lock", "a spinlock"),
    Field("partial", "under lock; a list_head of chunks with a free block", 2),
)
HEAP = record(
    "HEAP",
    Field("lock", "a spinlock"),
    Field("hint", "under lock; no chunk below it is free"),
    Field("nr_used", "under lock; chunks in use"),
    Field("first_chunk", "read-only after boot; where the chunks begin", line=True),
    Field("nr_chunks", "read-only after boot"),
    Field("used", "read-only after boot; a bitmap of the chunks in use, under lock"),
    Field("chunks", "read-only after boot; CHUNK records"),
    Field("caches", "read-only after boot; CACHE records, one a size"),
)
CHUNK = record(
    "CHUNK",
    Field("link", "under its cache's lock; on CACHE.partial", 2),
    Field("size", "under its cache's lock; index into BLOCK_WORDS, or RUN"),
    Field("free", "under its cache's lock; first free block, linked by their first words"),
    Field("fresh", "under its cache's lock; blocks from this number on were never given out"),
    Field("inuse", "under its cache's lock; blocks given out, or chunks of a run"),
)


@compiled
def size_index(words: int) -> int:
    """Index of the smallest size that holds `words`; RUN if only whole chunks do."""
    for k in range(N_SIZES):
        if words <= BLOCK_WORDS[k]:
            return k
    return RUN


@compiled
def block_lines(words: int) -> int:
    """Lines of memory that a block for `words` costs."""
    k = size_index(words)
    if k == RUN:
        return (words + CHUNK_WORDS - 1) // CHUNK_WORDS * (CHUNK_WORDS // LINE)
    return BLOCK_WORDS[k] // LINE


@compiled
def heap_of(mem: Any, nid: int) -> int:
    """The heap of a node."""
    return read_once(mem, mm_state(mem) + MM.heaps) + nid * HEAP.SIZE


@compiled
def block_node(mem: Any, block: int) -> int:
    """The node whose heap a block is in."""
    mm = mm_state(mem)
    nid = read_once(mem, mm + MM.nr_nodes) - 1
    while nid > 0 and block < read_once(mem, heap_of(mem, nid) + HEAP.first_chunk):
        nid -= 1
    return nid


@compiled
def _chunk_of(mem: Any, heap: int, block: int) -> int:
    index = (block - read_once(mem, heap + HEAP.first_chunk)) // CHUNK_WORDS
    return read_once(mem, heap + HEAP.chunks) + index * CHUNK.SIZE


@compiled
def _chunk_words(mem: Any, heap: int, chunk: int) -> int:
    index = (chunk - read_once(mem, heap + HEAP.chunks)) // CHUNK.SIZE
    return read_once(mem, heap + HEAP.first_chunk) + index * CHUNK_WORDS


@compiled
def allocated_lines(mem: Any, block: int) -> int:
    """Lines of memory that a block given out costs."""
    chunk = _chunk_of(mem, heap_of(mem, block_node(mem, block)), block)
    size = read_once(mem, chunk + CHUNK.size)
    if size == RUN:
        return read_once(mem, chunk + CHUNK.inuse) * (CHUNK_WORDS // LINE)
    return BLOCK_WORDS[size] // LINE


# --- chunks -------------------------------------------------------------------------------------


@out_of_line
def _take_run(mem: Any, cpu: int, heap: int, count: int) -> int:
    """Take `count` neighbouring chunks, lowest first; the first one's CHUNK, or 0."""
    spin_lock(mem, cpu, heap + HEAP.lock)
    total = read_once(mem, heap + HEAP.nr_chunks)
    used = read_once(mem, heap + HEAP.used)
    first = find_next_zero_bit(mem, used, total, read_once(mem, heap + HEAP.hint))
    write_once(mem, heap + HEAP.hint, first)
    while first + count <= total:
        end = find_next_bit(mem, used, first + count, first)
        if end >= first + count:
            break
        first = find_next_zero_bit(mem, used, total, end)
    found = 0
    if first + count <= total:
        for k in range(count):
            set_bit(mem, used, first + k)
        write_once(mem, heap + HEAP.nr_used, read_once(mem, heap + HEAP.nr_used) + count)
        found = read_once(mem, heap + HEAP.chunks) + first * CHUNK.SIZE
    spin_unlock(mem, cpu, heap + HEAP.lock)
    return found


@out_of_line
def _give_run(mem: Any, cpu: int, heap: int, chunk: int, count: int) -> int:
    first = (chunk - read_once(mem, heap + HEAP.chunks)) // CHUNK.SIZE
    spin_lock(mem, cpu, heap + HEAP.lock)
    for k in range(count):
        clear_bit(mem, read_once(mem, heap + HEAP.used), first + k)
    if first < read_once(mem, heap + HEAP.hint):
        write_once(mem, heap + HEAP.hint, first)
    write_once(mem, heap + HEAP.nr_used, read_once(mem, heap + HEAP.nr_used) - count)
    return spin_unlock(mem, cpu, heap + HEAP.lock)


# --- blocks -------------------------------------------------------------------------------------


@out_of_line
def slab_alloc(mem: Any, cpu: int, nid: int, words: int) -> int:
    """Give a block of at least `words` words, contents undefined; 0 if the heap has none."""
    heap = heap_of(mem, nid)
    size = size_index(words)
    if size == RUN:
        count = (words + CHUNK_WORDS - 1) // CHUNK_WORDS
        chunk = _take_run(mem, cpu, heap, count)
        if chunk == 0:
            return 0
        write_once(mem, chunk + CHUNK.size, RUN)
        write_once(mem, chunk + CHUNK.inuse, count)
        return _chunk_words(mem, heap, chunk)
    cache = read_once(mem, heap + HEAP.caches) + size * CACHE.SIZE
    spin_lock(mem, cpu, cache + CACHE.lock)
    block = 0
    if not list_empty(mem, cache + CACHE.partial) or _add_chunk(mem, cpu, heap, cache, size):
        block = _pop_block(mem, heap, cache)
    spin_unlock(mem, cpu, cache + CACHE.lock)
    return block


@compiled
def _add_chunk(mem: Any, cpu: int, heap: int, cache: int, size: int) -> int:
    """Cut one more chunk into blocks; the cache's lock is held. Returns whether there was one."""
    chunk = _take_run(mem, cpu, heap, 1)
    if chunk == 0:
        return 0
    write_once(mem, chunk + CHUNK.size, size)
    write_once(mem, chunk + CHUNK.free, 0)
    write_once(mem, chunk + CHUNK.fresh, 0)
    write_once(mem, chunk + CHUNK.inuse, 0)
    list_add(mem, chunk + CHUNK.link, cache + CACHE.partial)
    return 1


@compiled
def _pop_block(mem: Any, heap: int, cache: int) -> int:
    """Take a block of the first chunk that has one; the cache's lock is held."""
    chunk = list_next(mem, cache + CACHE.partial) - CHUNK.link
    words = BLOCK_WORDS[read_once(mem, chunk + CHUNK.size)]
    block = read_once(mem, chunk + CHUNK.free)
    if block:
        write_once(mem, chunk + CHUNK.free, read_once(mem, block))
    else:
        fresh = read_once(mem, chunk + CHUNK.fresh)
        block = _chunk_words(mem, heap, chunk) + fresh * words
        write_once(mem, chunk + CHUNK.fresh, fresh + 1)
    inuse = read_once(mem, chunk + CHUNK.inuse) + 1
    write_once(mem, chunk + CHUNK.inuse, inuse)
    if inuse == CHUNK_WORDS // words:
        list_del_init(mem, chunk + CHUNK.link)
    return block


@out_of_line
def slab_free(mem: Any, cpu: int, block: int) -> int:
    """Take a block back; nothing may point to it any more."""
    heap = heap_of(mem, block_node(mem, block))
    chunk = _chunk_of(mem, heap, block)
    size = read_once(mem, chunk + CHUNK.size)
    write_once(mem, block + 2, POISON_FREE)
    if size == RUN:
        return _give_run(mem, cpu, heap, chunk, read_once(mem, chunk + CHUNK.inuse))
    cache = read_once(mem, heap + HEAP.caches) + size * CACHE.SIZE
    spin_lock(mem, cpu, cache + CACHE.lock)
    empty = _push_block(mem, cpu, cache, chunk, block)
    spin_unlock(mem, cpu, cache + CACHE.lock)
    return _give_run(mem, cpu, heap, chunk, 1) if empty else 0


@compiled
def _push_block(mem: Any, cpu: int, cache: int, chunk: int, block: int) -> int:
    """Put a block back into its chunk; return whether the chunk goes back to the heap. The lock is held."""
    inuse = read_once(mem, chunk + CHUNK.inuse) - 1
    if inuse < 0:
        violation(mem, cpu, Violation.DOUBLE_FREE, block, chunk, inuse)
        return 0
    full = CHUNK_WORDS // BLOCK_WORDS[read_once(mem, chunk + CHUNK.size)]
    write_once(mem, block, read_once(mem, chunk + CHUNK.free))
    write_once(mem, chunk + CHUNK.free, block)
    write_once(mem, chunk + CHUNK.inuse, inuse)
    if inuse + 1 == full:
        list_add(mem, chunk + CHUNK.link, cache + CACHE.partial)
    if inuse == 0 and list_next(mem, list_next(mem, cache + CACHE.partial)) != cache + CACHE.partial:
        list_del_init(mem, chunk + CHUNK.link)  # not the only one: the last stays for the next to come
        return 1
    return 0


# --- giving memory back --------------------------------------------------------------------------


@compiled
def kfree(mem: Any, cpu: int, block: int) -> int:
    """Give a block back to its heap and its lines to the budget; of NULL, do nothing."""
    if block == 0:
        return 0
    nid = block_node(mem, block)
    lines = allocated_lines(mem, block)
    slab_free(mem, cpu, block)
    return zone_give(mem, cpu, nid, lines)


@compiled
def kfree_rcu(mem: Any, cpu: int, block: int) -> int:
    """Give a block back after a grace period; it begins with an rcu_head. Done at the next rcu_do_batch()."""
    return call_rcu(mem, cpu, block) if block else 0


@out_of_line
def rcu_do_batch(mem: Any, cpu: int) -> int:
    """Free what this CPU handed to kfree_rcu() and no reader can see any more; returns how many."""
    n = 0
    head = rcu_next_done(mem, cpu)
    while head:
        kfree(mem, cpu, head)
        n += 1
        head = rcu_next_done(mem, cpu)
    return n
