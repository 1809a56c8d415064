"""The heap against a dict of blocks: nothing overlaps, nothing is lost, exhaustion is clean; plain and compiled."""

import pytest
from hypothesis import settings

from shmreclaim.machine.compile import plain
from shmreclaim.machine.cpu import Violation
from shmreclaim.mm.page_alloc import kmalloc
from shmreclaim.mm.slab import (
    BLOCK_WORDS,
    CHUNK_WORDS,
    HEAP,
    RUN,
    block_lines,
    kfree,
    kfree_rcu,
    size_index,
    slab_alloc,
    slab_free,
)
from shmreclaim.mm.state import GFP_KERNEL, GFP_NOWAIT, Event
from shmreclaim.sync.rcu import rcu_read_lock, rcu_read_unlock
from tests.both import KINDS
from tests.emulated import Emulated
from tests.mm.machines import SOME, SlabMachine, cost

TestSlab = SlabMachine.TestCase
TestSlab.settings = settings(SOME, max_examples=20, stateful_step_count=30)


@pytest.mark.parametrize("words", [1, 8, 9, 24, 88, 89, 256, 257, 512, 513, 1500])
def test_a_block_costs_the_next_size(execution: str, words: int) -> None:
    """Or whole chunks, from half a chunk on."""
    via = (lambda f: f) if execution == "compiled" else plain
    assert via(block_lines)(words) == cost(words)[1]
    assert (via(size_index)(words) == RUN) == (words > BLOCK_WORDS[-1])


@pytest.mark.parametrize("words", [8, 24, 168, 256, 512, 1200])
def test_an_exhausted_heap_gives_0_and_stays_sound(kernel: Emulated, words: int) -> None:
    """The budget is not touched by the one that failed; what is given back can be had again."""
    cpu = kernel.cpus[0]
    kernel.leave(1 << 30)
    blocks = []
    while block := kernel.call(kmalloc, cpu, 0, words, GFP_NOWAIT):
        blocks.append(block)
    assert kernel.event(Event.HEAP_EXHAUSTED) == 1
    assert len(blocks) >= (kernel.machine.heap_chunks - 16) // -(-words // CHUNK_WORDS) * (CHUNK_WORDS // words or 1)
    left = kernel.free()
    for block in blocks[1::2]:
        kernel.call(kfree, cpu, block)
    assert kernel.free() == left + cost(words)[1] * len(blocks[1::2])
    again = [kernel.call(kmalloc, cpu, 0, words, GFP_NOWAIT) for _ in blocks[1::2]]
    assert sorted(again) == sorted(blocks[1::2])
    for block in blocks:
        kernel.call(kfree, cpu, block)
    assert kernel.oracles() == []


def test_a_run_needs_neighbours(kernel: Emulated) -> None:
    """Free chunks that are not side by side are no use to it; once they are, they are."""
    cpu = kernel.cpus[0]
    chunks = []
    while chunk := kernel.call(slab_alloc, cpu, 0, CHUNK_WORDS):
        chunks.append(chunk)
    for chunk in chunks[::2]:
        kernel.call(slab_free, cpu, chunk)
    assert kernel.call(slab_alloc, cpu, 0, 2 * CHUNK_WORDS) == 0
    kernel.call(slab_free, cpu, chunks[11])
    assert kernel.call(slab_alloc, cpu, 0, 3 * CHUNK_WORDS) == chunks[10]


def test_a_chunk_goes_back_to_the_heap_when_another_has_room(kernel: Emulated) -> None:
    """The last one of a size stays, so that the next to come finds it."""
    cpu, used = kernel.cpus[0], kernel.mm("heaps") + HEAP.nr_used
    before = kernel.word(used)
    blocks = [kernel.call(slab_alloc, cpu, 0, 168) for _ in range(9)]
    assert kernel.word(used) == before + 3
    for block in blocks:
        kernel.call(slab_free, cpu, block)
    assert kernel.word(used) == before + 1


def test_freeing_nothing_does_nothing(kernel: Emulated) -> None:
    """NULL is no block."""
    free = kernel.free()
    kernel.call(kfree, kernel.cpus[0], 0)
    kernel.call(kfree_rcu, kernel.cpus[0], 0)
    assert kernel.free() == free


def test_more_blocks_back_than_were_given_out_is_found_on_line(kernel: Emulated) -> None:
    """A second free of the only block of a chunk."""
    block = kernel.call(slab_alloc, kernel.cpus[0], 0, 128)
    kernel.call(slab_free, kernel.cpus[0], block)
    kernel.call(slab_free, kernel.cpus[0], block)
    assert kernel.violations() == [Violation.DOUBLE_FREE]


def test_a_failing_allocation_first_takes_back_what_waited_for_a_grace_period(kernel: Emulated) -> None:
    """Not while a reader is inside, at once when it has left; no reclaim is needed for it."""
    cpu, reader = kernel.cpus[0], kernel.cpus[1]
    kernel.stop_reclaiming()
    block = kernel.call(kmalloc, cpu, 0, 256, GFP_KERNEL)
    kernel.leave(0)
    kernel.call(rcu_read_lock, reader)
    kernel.call(kfree_rcu, cpu, block)
    assert kernel.call(kmalloc, cpu, 0, 256, GFP_KERNEL) == 0
    kernel.call(rcu_read_unlock, reader)
    assert kernel.call(kmalloc, cpu, 0, 256, GFP_KERNEL) == block


@pytest.mark.parametrize("kind", KINDS)
def test_memory_of_another_node_comes_back_to_it(kind: str) -> None:
    """Whoever frees it."""
    with Emulated("no_map", kind) as kernel:
        before = kernel.free(0), kernel.free(1)
        block = kernel.call(kmalloc, kernel.cpus[0], 1, 64, GFP_KERNEL)
        assert kernel.free(0) == before[0]
        kernel.call(kfree, kernel.cpus[2], block)
        assert (kernel.free(0), kernel.free(1)) == before
