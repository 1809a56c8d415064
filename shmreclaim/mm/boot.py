"""Boot: lay out a segment for a workload and bring up an emulated kernel in it, before anyone else attaches.

Runs in the creating process only, on the plain bodies, so that nothing needs to be compiled for it.
"""

from __future__ import annotations

from dataclasses import dataclass

from shmreclaim.lib.bitmap import bitmap_words
from shmreclaim.lib.ida import ida_init
from shmreclaim.lib.list_head import list_init
from shmreclaim.machine.arena import Arena
from shmreclaim.machine.compile import plain
from shmreclaim.machine.cpu import CPU, make_cpus
from shmreclaim.machine.layout import HEADER, LINE
from shmreclaim.machine.upcall import upcall
from shmreclaim.mm.memcg import MEMCG, memcg_init
from shmreclaim.mm.slab import CACHE, CHUNK, CHUNK_WORDS, HEAP, N_SIZES
from shmreclaim.mm.state import LINES_PER_PAGE, MAX_NODES, MM, Upcall
from shmreclaim.mm.zone import ZONE
from shmreclaim.switches import Variant
from shmreclaim.sync.lockdep import LockClass
from shmreclaim.sync.mutex import mutex_init

HEAP_SLACK = 1.25
"""Chunks of heap for each page of budget: blocks of one size cannot use the free ones of another."""
HEAP_MIN_CHUNKS = 128


@dataclass(frozen=True)
class Machine:
    """What to emulate. Memory in pages of 4096 bytes, for each node."""

    cpus: int
    nodes: int
    pages_per_node: int
    watermark_min: int
    watermark_low: int
    watermark_high: int
    max_memcgs: int
    """Memcgs online at a time; every list_lru has as many lists on each node."""
    memcg_handles: int
    shrinker_handles: int
    extra_words: int = 0
    """Room for what the caller allocates beside: op streams."""

    @property
    def heap_chunks(self) -> int:
        """Chunks of one node's heap."""
        return int(self.pages_per_node * HEAP_SLACK) + HEAP_MIN_CHUNKS

    def words(self) -> int:
        """Size of the segment it needs."""
        heap = self.heap_chunks * (CHUNK_WORDS + CHUNK.SIZE) + bitmap_words(self.heap_chunks)
        heap += HEAP.SIZE + ZONE.SIZE + N_SIZES * CACHE.SIZE + CHUNK_WORDS + 8 * LINE
        tables = self.memcg_handles + self.shrinker_handles + MM.SIZE + MEMCG.SIZE + 8 * LINE
        return HEADER.SIZE + self.cpus * CPU.SIZE + self.nodes * heap + tables + self.extra_words + 64 * LINE


def boot(arena: Arena, machine: Machine) -> list[int]:
    """Bring the kernel up in a new arena, no design in it yet; returns the CPU slots."""
    assert 1 <= machine.nodes <= MAX_NODES, machine.nodes
    cpus = make_cpus(arena, machine.cpus, machine.nodes)
    mm = arena.allocate(MM.SIZE)
    arena.memory[HEADER.kernel] = mm
    _boot_locks(arena, mm)
    for offset, value in {
        MM.nr_nodes: machine.nodes,
        MM.max_memcgs: machine.max_memcgs,
        MM.max_id: -1,
        MM.srcu_gp_ns: -1,
        MM.nr_memcg_handles: machine.memcg_handles,
        MM.nr_shrinker_handles: machine.shrinker_handles,
        MM.memcg_table: arena.allocate(machine.memcg_handles),
        MM.shrinker_table: arena.allocate(machine.shrinker_handles),
        MM.zones: arena.allocate(machine.nodes * ZONE.SIZE),
        MM.heaps: arena.allocate(machine.nodes * HEAP.SIZE),
    }.items():
        arena.memory[mm + offset] = value
    for nid in range(machine.nodes):
        _boot_zone(arena, arena.memory[mm + MM.zones] + nid * ZONE.SIZE, machine)
        _boot_heap(arena, arena.memory[mm + MM.heaps] + nid * HEAP.SIZE, machine)
    _boot_root_memcg(arena, mm)
    return cpus


def init_design(arena: Arena, variant: Variant, cpu: int) -> None:
    """Let the bound design make its record, on plain bodies; what the variant sets of the root record wins."""
    mm = arena.memory[HEADER.kernel]
    arena.memory[mm + MM.switches] = variant.switches
    _set_words(arena, variant)  # init may read them
    upcall(Upcall.INIT, arena.memory, cpu, 0, 0, 0, 0)
    _set_words(arena, variant)  # or write them


def _set_words(arena: Arena, variant: Variant) -> None:
    for field, value in variant.words.items():
        arena.memory[arena.memory[HEADER.kernel] + getattr(MM, field)] = value


def _boot_locks(arena: Arena, mm: int) -> None:
    memory = arena.memory
    plain(mutex_init)(memory, mm + MM.cgroup_mutex, LockClass.CGROUP_MUTEX)
    plain(mutex_init)(memory, mm + MM.list_lrus_mutex, LockClass.LIST_LRUS_MUTEX)
    for head in (MM.list_lrus, MM.memcgs, MM.superblocks):
        plain(list_init)(memory, mm + head)
    plain(ida_init)(memory, mm + MM.memcg_ids)


def _boot_zone(arena: Arena, zone: int, machine: Machine) -> None:
    pages = {
        ZONE.free: machine.pages_per_node,
        ZONE.size: machine.pages_per_node,
        ZONE.min: machine.watermark_min,
        ZONE.low: machine.watermark_low,
        ZONE.high: machine.watermark_high,
    }
    for offset, count in pages.items():
        arena.memory[zone + offset] = count * LINES_PER_PAGE


def _boot_heap(arena: Arena, heap: int, machine: Machine) -> None:
    memory = arena.memory
    chunks = machine.heap_chunks
    memory[heap + HEAP.nr_chunks] = chunks
    memory[heap + HEAP.used] = arena.allocate(bitmap_words(chunks))
    memory[heap + HEAP.chunks] = arena.allocate(chunks * CHUNK.SIZE)
    caches = arena.allocate(N_SIZES * CACHE.SIZE)
    memory[heap + HEAP.caches] = caches
    for k in range(N_SIZES):
        plain(list_init)(memory, caches + k * CACHE.SIZE + CACHE.partial)
    memory[heap + HEAP.first_chunk] = arena.allocate(chunks * CHUNK_WORDS)


def _boot_root_memcg(arena: Arena, mm: int) -> None:
    """The root lives outside the heap: it is never freed, and nothing is charged for it."""
    root = arena.allocate(MEMCG.SIZE)
    plain(memcg_init)(arena.memory, root, 0, 0, 0)
    arena.memory[root + MEMCG.online] = 1
    arena.memory[mm + MM.root_memcg] = root
    arena.memory[arena.memory[mm + MM.memcg_table]] = root
    arena.memory[mm + MM.nr_memcgs] = 1
    head = mm + MM.memcgs
    for a, b in ((head, root + MEMCG.list), (root + MEMCG.list, head)):
        arena.memory[a] = b
        arena.memory[b + 1] = a
