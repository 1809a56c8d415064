"""A small emulated kernel in this process: boot it, play rows on it, look at its words, ask the oracles.

    with Emulated("davydov", "plain") as kernel:
        kernel.play([mount(1), mkdir(1), add(1, 1, 100), umount(1)])
        assert kernel.oracles() == []

`execution` is one of both.KINDS: plain runs the bodies over the segment's memoryview, compiled runs machine code at
its address. CPUs are named by their offsets, `cpus[0]` and on; nothing runs beside what is called, unless a
test starts processes (`Hands`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from shmreclaim import kernel as ops
from shmreclaim.executions.oracles import check_at_rest
from shmreclaim.lib.idr import IDR, IDR_NODE
from shmreclaim.machine.arena import Arena
from shmreclaim.machine.compile import link, plain
from shmreclaim.machine.cpu import CPU, MAX_KEPT_VIOLATIONS
from shmreclaim.machine.layout import HEADER, LAYOUTS
from shmreclaim.mm.boot import Machine, boot, init_design
from shmreclaim.mm.list_lru import LIST_LRU, LISTS_IN_ARRAYS, LRU_MEMCG, LRU_NODE, LRU_NODE_WORDS, LRU_ONE, OBJECT
from shmreclaim.mm.memcg import MEMCG, NODEINFO, NODEINFO_WORDS
from shmreclaim.mm.shrinker import SHRINKER
from shmreclaim.mm.shrinker_map import MAP, UNIT
from shmreclaim.mm.state import GFP_KERNEL, LINES_PER_PAGE, MM, Event, MapKind, Phase
from shmreclaim.mm.zone import ZONE
from shmreclaim.switches import parse_variant
from shmreclaim.sync.srcu import SRCU
from shmreclaim.workload.ops import OP_DTYPE, Op, make_stream
from tests.sync.crew import Crew

ROW_WORDS = OP_DTYPE.itemsize // 8
MAX_ROWS = 1024
SMALL = Machine(
    cpus=4,
    nodes=2,
    pages_per_node=256,
    watermark_min=8,
    watermark_low=16,
    watermark_high=24,
    max_memcgs=12,
    memcg_handles=64,
    shrinker_handles=320,
    extra_words=MAX_ROWS * ROW_WORDS + 512,
)
Row = tuple[int, ...]


# --- rows of a stream, as workload/ops.py describes them --------------------------------------------


def mount(handle: int, aware: int = 1) -> Row:
    """Mount superblock `handle`."""
    return (0, Op.REGISTER, 0, handle, 0, 0, aware)


def umount(handle: int) -> Row:
    """Unmount it."""
    return (0, Op.UNREGISTER, 0, handle, 0, 0, 0)


def mkdir(handle: int, parent: int = 0, limit: int = 0) -> Row:
    """Make memcg `handle` below `parent`, with a limit in pages."""
    return (0, Op.MEMCG_ONLINE, handle, 0, 0, limit, parent)


def rmdir(handle: int) -> Row:
    """Take it offline."""
    return (0, Op.MEMCG_OFFLINE, handle, 0, 0, 0, 0)


def add(memcg: int, sb: int, count: int, nid: int = 0, inodes: int = 0) -> Row:
    """Make objects."""
    return (0, Op.LRU_ADD, memcg, sb, nid, count, inodes)


def delete(memcg: int, sb: int, count: int, nid: int = 0, inodes: int = 0) -> Row:
    """Delete the oldest objects."""
    return (0, Op.LRU_DEL, memcg, sb, nid, count, inodes)


def touch(memcg: int, sb: int, count: int, nid: int = 0, inodes: int = 0) -> Row:
    """Use the oldest objects."""
    return (0, Op.TOUCH, memcg, sb, nid, count, inodes)


def cache(memcg: int, pages: int, nid: int = 0, gfp: int = GFP_KERNEL) -> Row:
    """Read pages into the page cache."""
    return (0, Op.CACHE_PAGES, memcg, 0, nid, pages, gfp)


def alloc(memcg: int, pages: int, nid: int = 0, gfp: int = GFP_KERNEL) -> Row:
    """Allocate pages for a moment."""
    return (0, Op.ALLOC, memcg, 0, nid, pages, gfp)


def shrink(memcg: int, priority: int = 0, nid: int = 0) -> Row:
    """One pass of reclaim over the slab of a memcg."""
    return (0, Op.SHRINK_SLAB, memcg, 0, nid, 0, priority)


def idle(ns: int) -> Row:
    """Sleep."""
    return (0, Op.IDLE, 0, 0, 0, ns, 0)


def drop() -> Row:
    """drop_caches."""
    return (0, Op.DROP_CACHES, 0, 0, 0, 0, 0)


# --- the kernel -------------------------------------------------------------------------------------


class Emulated:
    """One segment with a booted kernel and a design in it."""

    def __init__(self, variant: str, execution: str, machine: Machine = SMALL) -> None:
        """Boot it with a design, which may be followed by switches."""
        self.design, self.execution, self.machine = variant.partition("+")[0], execution, machine
        self.arena = Arena.create(machine.words())
        self.cpus = boot(self.arena, machine)
        self._rows = self.arena.allocate(MAX_ROWS * ROW_WORDS)
        self._bind()
        init_design(self.arena, parse_variant(variant), self.cpus[0])

    def __enter__(self) -> Self:
        """Use as a context manager."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Remove the segment."""
        self.arena.close()

    def _bind(self) -> None:
        ops.bind_design(self.design, compiled=self.execution == "compiled")

    def call(self, function: Callable[..., int], *args: int) -> int:
        """Call a function of the subset on this segment, the way of this execution."""
        self._bind()
        if self.execution == "plain":
            return int(plain(function)(self.arena.memory, *args))
        return int(function(self.arena.address, *args))

    def play(self, rows: list[Row], cpu: int = 0) -> list[int]:
        """Play rows on a CPU, up to the end; returns its counts of events."""
        for k in range(0, max(len(rows), 1), MAX_ROWS):
            part = rows[k : k + MAX_ROWS]
            self._put(part)
            assert self.call(ops.play, self.cpus[cpu], self._rows, len(part), 0) == len(part)
        return [self.word(self.cpus[cpu] + CPU.events + event) for event in Event]

    def play_one(self, row: Row, cpu: int = 0) -> None:
        """Play one row, also where the run is being stopped."""
        self._put([row])
        self.call(ops.play_one, self.cpus[cpu], self._rows, 0)

    def _put(self, rows: list[Row]) -> None:
        """Write rows to where they are played."""
        words = self.arena.view(self._rows, len(rows) * ROW_WORDS)
        words[:] = np.ascontiguousarray(make_stream(rows)).view(np.int64)

    def outcomes(self, op: Op, cpu: int = 0) -> dict[str, int]:
        """How the operations of a kind went on a CPU: done, skipped, failed_enomem, failed_enospc, failed_other."""
        at = self.cpus[cpu] + CPU.ops + op * ops.OP_WORDS
        names = [name for name in ops.OP_COUNTS._fields if name not in ("time", "SIZE")]
        return {name: self.word(at + getattr(ops.OP_COUNTS, name)) for name in names}

    def oracles(self) -> list[str]:
        """Free what waits for a grace period, then check everything; what does not hold."""
        for cpu in range(len(self.cpus)):
            self.play([], cpu)
        return check_at_rest(self.arena, self.cpus)[1]

    def allocate(self, words: int) -> int:
        """Words of the segment for a test's own use."""
        return self.arena.allocate(words)

    def check(self) -> None:
        """The oracles are content."""
        assert self.oracles() == []

    # --- looking ------------------------------------------------------------------------------------

    def word(self, i: int) -> int:
        """The word at `i`."""
        return int(self.arena.memory[i])

    def set_word(self, i: int, value: int) -> None:
        """Write the word at `i`."""
        self.arena.memory[i] = value

    def words(self, start: int, count: int) -> list[int]:
        """Copy words."""
        found: list[int] = self.arena.view(start, count).tolist()
        return found

    def entries(self, head: int) -> list[int]:
        """Entries of a list_head."""
        found, entry = [], self.word(head)
        while entry != head:
            found.append(entry)
            entry = self.word(entry)
        return found

    def event(self, which: Event) -> int:
        """One counter, all CPUs together."""
        return sum(self.word(cpu + CPU.events + which) for cpu in self.cpus)

    def violations(self, cpu: int = 0) -> list[int]:
        """Kinds of what a CPU wrote down as broken."""
        at, n = self.cpus[cpu] + CPU.violations, self.word(self.cpus[cpu] + CPU.nr_violations)
        return [self.word(at + 4 * k) for k in range(min(n, MAX_KEPT_VIOLATIONS))]

    def word_of_mm(self, offset: int) -> int:
        """Where a field of the root record is."""
        return self.word(HEADER.kernel) + offset

    def mm(self, field: str) -> int:
        """A field of the root record."""
        return self.word(self.word_of_mm(getattr(MM, field)))

    def memcg(self, handle: int) -> int:
        """The memcg of a handle, 0 if there is none."""
        return self.word(self.mm("memcg_table") + handle)

    def sb(self, handle: int) -> int:
        """The superblock of a handle, 0 if there is none."""
        return self.word(self.mm("shrinker_table") + handle)

    def id(self, handle: int) -> int:
        """The id of a superblock's shrinker."""
        return self.word(self.sb(handle) + SHRINKER.id)

    def memcgs(self) -> list[int]:
        """All memcgs there are, dying ones too, in the order of the list."""
        return [entry - MEMCG.list for entry in self.entries(self.word(HEADER.kernel) + MM.memcgs)]

    def lru_one(self, lru: int, nid: int, memcg: int) -> int:
        """Where the list of a memcg (its own, not its heir's) on a node is; 0 if it has none. Found without lru_one."""
        node = lru + LIST_LRU.nodes + nid * LRU_NODE_WORDS
        number, where = self.word(memcg + MEMCG.kmemcg_id), self.word(lru + LIST_LRU.memcg_aware)
        if number < 0 or not where:
            return node + LRU_NODE.root
        if where == LISTS_IN_ARRAYS:
            return self.word(node + LRU_NODE.lists) + number * LRU_ONE.SIZE
        block = self._in_idr(lru + LIST_LRU.xa, number)
        return block + LRU_MEMCG.lists + nid * LRU_ONE.SIZE if block else 0

    def _in_idr(self, idr: int, number: int) -> int:
        """What an IDR has for a number, six bits a level; 0 if nothing."""
        found, shift = self.word(idr + IDR.top), 6
        while found and shift:
            shift = self.word(found + IDR_NODE.shift)
            slot = number >> shift
            number -= slot << shift
            found = self.word(found + IDR_NODE.slots + slot) if slot < 64 else 0
        return found

    def items(self, one: int) -> list[int]:
        """Objects on one list, oldest first; none on one that is not there."""
        return [entry - OBJECT.link for entry in self.entries(one + LRU_ONE.head)] if one else []

    def map(self, memcg: int, nid: int = 0) -> list[int] | None:
        """The ids whose bits are set in the map of a memcg (a handle), None if it has no map."""
        block = self.map_block(memcg, nid)
        if not block:
            return None
        units = self.mm("map_kind") == MapKind.UNITS
        words = [self.word(block + MAP.bits + k) for k in range(-(-self.map_bits(memcg, nid) // 64))]
        words = [self.word(unit + UNIT.bits) for unit in words] if units else words
        return [k for k in range(self.map_bits(memcg, nid)) if words[k // 64] >> k % 64 & 1]

    def map_block(self, memcg: int, nid: int = 0) -> int:
        """Where the map of a memcg (a handle) is; 0 if it has none."""
        return self.word(self.memcg(memcg) + MEMCG.nodeinfo + nid * NODEINFO_WORDS + NODEINFO.map)

    def map_bits(self, memcg: int, nid: int = 0) -> int:
        """The length of that map."""
        return self.word(self.map_block(memcg, nid) + MAP.nr_bits)

    def field_of_design(self, field: str) -> int:
        """Where a field of the design's record is."""
        return self.mm("design") + self._fields_of_design()[field]

    def _fields_of_design(self) -> dict[str, int]:
        layout = LAYOUTS[self.design.upper()]
        return {field.name: offset for field, offset in zip(layout.fields, layout.offsets, strict=True)}

    # --- memory -------------------------------------------------------------------------------------

    def zone(self, nid: int = 0) -> int:
        """The budget of a node."""
        return self.mm("zones") + nid * ZONE.SIZE

    def free(self, nid: int = 0) -> int:
        """Lines free on a node."""
        return self.word(self.zone(nid) + ZONE.free)

    def spare(self, nid: int = 0) -> int:
        """Lines that anybody may take on a node."""
        return self.free(nid) - self.word(self.zone(nid) + ZONE.min)

    def leave(self, lines: int, nid: int = 0) -> None:
        """Make the node larger or smaller, so that so many lines more can be had, by GFP_KERNEL."""
        change = self.word(self.zone(nid) + ZONE.min) + lines - self.free(nid)
        for offset in (ZONE.free, ZONE.size):
            self.set_word(self.zone(nid) + offset, self.word(self.zone(nid) + offset) + change)

    def stop_reclaiming(self, *, yes: bool = True) -> None:
        """Let allocations fail at once instead of reclaiming, as those of a run that is being stopped; or not."""
        self.set_word(HEADER.phase, Phase.STOP if yes else Phase.BOOT)

    def usage(self, memcg: int) -> int:
        """Pages charged to a memcg (an offset) and below, rounded down."""
        return self.word(memcg + MEMCG.usage) // LINES_PER_PAGE

    def image(self) -> NDArray[np.int64]:
        """All words but those in which time is kept, and the addresses of nothing: to compare two executions."""
        words = self.arena.words[HEADER.brk :].copy()
        start = HEADER.brk
        for cpu in self.cpus:
            for name in ("op_since", "started", "ended", "wait_since", "held", "lockstats", "ops", "histograms"):
                layout = LAYOUTS["CPU"]
                k = [f.name for f in layout.fields].index(name)
                at = cpu + layout.offsets[k] - start
                words[at : at + layout.fields[k].words] = 0
        if "srcu" in self._fields_of_design():
            words[self.field_of_design("srcu") + SRCU.ended - start] = 0
        return words

    def counts(self) -> list[list[int]]:
        """Outcomes of every operation, by CPU: the part of its figures that is not time."""
        return [[*self.outcomes(op, cpu).values()] for op in Op for cpu in range(len(self.cpus))]


class Twins(Emulated):
    """The plain kernel, and beside it a compiled one to which the same is done: each result must be the same."""

    def __init__(self, design: str, machine: Machine = SMALL) -> None:
        """Boot both."""
        self.other = Emulated(design, "compiled", machine)
        super().__init__(design, "plain", machine)

    def __exit__(self, *exception: object) -> None:
        """Remove both segments."""
        self.other.arena.close()
        super().__exit__(*exception)

    def call(self, function: Callable[..., int], *args: int) -> int:
        """Call a function on both."""
        result = super().call(function, *args)
        assert self.other.call(function, *args) == result
        return result

    def _put(self, rows: list[Row]) -> None:
        self.other._put(rows)
        super()._put(rows)

    def set_word(self, i: int, value: int) -> None:
        """Write a word of both."""
        self.other.set_word(i, value)
        super().set_word(i, value)

    def allocate(self, words: int) -> int:
        """Words of both."""
        self.other.allocate(words)
        return super().allocate(words)

    def check(self) -> None:
        """The oracles are content with both, and there is no difference."""
        assert self.oracles() == []
        assert self.other.oracles() == []
        assert differences(self.image(), self.other.image()) == []


class Hands(Crew):
    """Processes that play CPUs of an emulated kernel, compiled; CPU n of the crew is `cpus[n - 1]` of the kernel."""

    def __init__(self, kernel: Emulated) -> None:
        """Use the kernel's segment; it stays the kernel's."""
        self.arena = kernel.arena
        self.cpus = [0, *kernel.cpus]
        self.results = self.arena.allocate(len(self.cpus))
        self._processes: dict[int, Any] = {}
        link()

    def __exit__(self, *exception: object) -> None:
        """End what still runs."""
        for process in self._processes.values():
            process.kill()
            process.join()


def differences(one: NDArray[np.int64], other: NDArray[np.int64]) -> list[tuple[int, int, int]]:
    """Where two images differ: (word, in one, in the other), the first few."""
    return [(int(k), int(one[k]), int(other[k])) for k in np.flatnonzero(one != other)[:10]]
