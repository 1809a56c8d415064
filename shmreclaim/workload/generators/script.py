"""What a generator writes with: handles for the whole workload, and one script for each role that a CPU plays.

A script is a list of ops without times. When the generator is done, every script gets planned times in its own stretch
of the run (as a Poisson process of that many arrivals, or evenly), and the scripts of one CPU are merged by time; so
with fewer CPUs than roles, the roles alternate on one CPU.

Each CPU draws from its own PCG64 stream, spawned from the seed; its scripts draw from streams spawned from that one, so
what one role draws never moves what another gets.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from shmreclaim.workload.ops import Gfp, Memory, Op, Stream, make_stream
from shmreclaim.workload.shape import Shape


@dataclass
class Handles:
    """The next free handle of memcgs and of shrinkers; none is ever used twice."""

    memcgs: int = 1
    shrinkers: int = 0

    def memcg(self) -> int:
        """Take a memcg handle."""
        self.memcgs += 1
        return self.memcgs - 1

    def shrinker(self) -> int:
        """Take a shrinker handle."""
        self.shrinkers += 1
        return self.shrinkers - 1


@dataclass
class Pile:
    """Objects of one kind on one list: the unit that a script adds to and deletes from."""

    shrinker: int
    memcg: int
    nid: int
    inodes: int
    count: int = 0
    """At most so many are there; reclaim may have freed some of them."""


_POOL = 1024


class _Row(NamedTuple):
    """One op without its time: the fields of `OP_DTYPE` after `when`, in its order."""

    op: Op
    memcg: int = 0
    shrinker: int = 0
    nid: int = 0
    amount: int = 0
    arg: int = 0


class Script:
    """Ops of one role on one CPU, in order, planned between `begin` and `end` (ns)."""

    def __init__(self, stage: "Stage", rng: np.random.Generator, begin: int, end: int) -> None:
        """Start with no op."""
        self._rng = rng
        self._pool: list[float] = []
        self._handles, self._nodes = stage.handles, stage.shape.nodes
        self._begin, self._end = begin, end
        self._rows: list[_Row] = []

    def __len__(self) -> int:
        """Count the ops so far."""
        return len(self._rows)

    def draw(self) -> float:
        """Draw a number from 0 to 1; from a pool, because numpy's cost is in the call."""
        if not self._pool:
            self._pool = self._rng.random(_POOL).tolist()
        return self._pool.pop()

    def below(self, n: int) -> int:
        """Draw a whole number from 0 to n - 1."""
        return int(self.draw() * n)

    def chance(self, p: float) -> bool:
        """Draw True with probability `p`."""
        return self.draw() < p

    def node(self) -> int:
        """Draw a node."""
        return self.below(self._nodes)

    def register(self, memcg: int = 0, aware: bool = True, scan_ns: int = 0) -> int:
        """Register a shrinker that `memcg` pays for; return its handle. Its scans sleep `scan_ns`, or give up (-1)."""
        shrinker = self._handles.shrinker()
        self._rows.append(_Row(Op.REGISTER, memcg=memcg, shrinker=shrinker, amount=scan_ns, arg=int(aware)))
        return shrinker

    def unregister(self, shrinker: int) -> None:
        """Unregister what this CPU registered."""
        self._rows.append(_Row(Op.UNREGISTER, shrinker=shrinker))

    def online(self, parent: int = 0, limit: int = 0) -> int:
        """Bring a memcg online, with a limit in pages or none (0); return its handle."""
        memcg = self._handles.memcg()
        self._rows.append(_Row(Op.MEMCG_ONLINE, memcg=memcg, amount=limit, arg=parent))
        return memcg

    def offline(self, memcg: int) -> None:
        """Take a memcg offline that this CPU brought online."""
        self._rows.append(_Row(Op.MEMCG_OFFLINE, memcg=memcg))

    def pile(self, shrinker: int, memcg: int) -> Pile:
        """Choose node and kind for objects of `memcg` in `shrinker`."""
        return Pile(shrinker, memcg, self.node(), self.below(2))

    def grow(self, pile: Pile, count: int) -> None:
        """Add objects; none is no op."""
        if count > 0:
            self._on_pile(Op.LRU_ADD, pile, count)
            pile.count += count

    def shrink(self, pile: Pile, count: int) -> None:
        """Delete objects, at most what could be there; none is no op."""
        count = min(count, pile.count)
        if count > 0:
            self._on_pile(Op.LRU_DEL, pile, count)
            pile.count -= count

    def touch(self, pile: Pile, count: int) -> None:
        """Mark objects as referenced, at most what could be there; none is no op."""
        if min(count, pile.count) > 0:
            self._on_pile(Op.TOUCH, pile, min(count, pile.count))

    def _on_pile(self, op: Op, pile: Pile, count: int) -> None:
        self._rows.append(_Row(op, pile.memcg, pile.shrinker, pile.nid, count, pile.inodes))

    def cache_pages(self, memcg: int, nid: int, pages: int, gfp: Gfp = Gfp.KERNEL) -> None:
        """Charge page cache; none is no op."""
        if pages > 0:
            self._rows.append(_Row(Op.CACHE_PAGES, memcg=memcg, nid=nid, amount=pages, arg=gfp))

    def alloc(self, memcg: int, nid: int, pages: int, gfp: Gfp) -> None:
        """Allocate pages, freed when the op ends."""
        self._rows.append(_Row(Op.ALLOC, memcg=memcg, nid=nid, amount=pages, arg=gfp))

    def shrink_slab(self, memcg: int, nid: int, priority: int) -> None:
        """Run one reclaim pass over the shrinkers of `memcg`."""
        self._rows.append(_Row(Op.SHRINK_SLAB, memcg=memcg, nid=nid, arg=priority))

    def drop_caches(self) -> None:
        """Drop slab caches of all memcgs."""
        self._rows.append(_Row(Op.DROP_CACHES))

    def idle(self, ns: int) -> None:
        """Do nothing for `ns`."""
        self._rows.append(_Row(Op.IDLE, amount=ns))

    def timed(self, evenly: bool = False) -> list[tuple[int, ...]]:
        """Return the rows with their planned times."""
        if evenly:
            times = np.linspace(self._begin, self._end, len(self), endpoint=False).astype(np.int64)
        else:
            times = np.sort(self._rng.integers(self._begin, self._end, len(self)))
        return [(when, *row) for when, row in zip(times.tolist(), self._rows, strict=True)]


@dataclass
class Stage:
    """What a generator gets: the shape of the run, its memory and length; and what it fills."""

    shape: Shape
    memory: Memory
    duration: int
    """ns over which open-loop times are spread."""
    handles: Handles = field(default_factory=Handles)

    def __post_init__(self) -> None:
        """Spawn one random stream a CPU, and one for the setup."""
        *cpus, setup = np.random.SeedSequence(self.shape.seed).spawn(self.shape.cpus + 1)
        self._seeds = cpus
        self._parts: list[list[Script]] = [[] for _ in cpus]
        self.setup = Script(self, _generator(setup), 0, 1)
        self._even: set[Script] = set()

    def script(self, cpu: int, part: tuple[float, float] = (0.0, 1.0), evenly: bool = False) -> Script:
        """Open a script for `cpu`, planned in `part` of the run (fractions of its length)."""
        begin, end = (int(self.duration * fraction) for fraction in part)
        script = Script(self, _generator(self._seeds[cpu].spawn(1)[0]), begin, max(begin + 1, end))
        self._parts[cpu].append(script)
        if evenly:
            self._even.add(script)
        return script

    def setup_stream(self) -> Stream:
        """Return what one CPU plays before the others start: all at time 0."""
        return make_stream(self.setup.timed(evenly=True))

    def streams(self) -> tuple[Stream, ...]:
        """Merge the scripts of each CPU by planned time, equal times in the order the scripts were opened."""
        merged = ([row for script in part for row in script.timed(script in self._even)] for part in self._parts)
        return tuple(make_stream(sorted(rows, key=lambda row: row[0])) for rows in merged)


def _generator(seed: np.random.SeedSequence) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def split_cpus(cpus: int, share: float) -> tuple[list[int], list[int]]:
    """Deal CPUs to two roles, `share` of them to the first, at least one each; a single CPU plays both."""
    if cpus == 1:
        return [0], [0]
    first = min(cpus - 1, max(1, round(cpus * share)))
    return list(range(first)), list(range(first, cpus))


def divide(total: int, parts: int) -> list[int]:
    """Divide `total` into `parts` whole numbers that differ by at most one."""
    return [total // parts + (i < total % parts) for i in range(parts)]
