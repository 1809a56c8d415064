"""Op streams: what each CPU does, and when, decided before the run starts.

A stream is a numpy array of `OP_DTYPE`, one row of eight 64-bit words an operation, so that it can be
copied into shared memory as it is. Memcgs and shrinkers are named by *handles*: small numbers
that mean the same in every design and every run. Handle 0 of the memcgs is the root; it always exists.

| op | memcg | shrinker | nid | count | arg |
|---|---|---|---|---|---|
| register | memcg that pays | handle to make | - | ns a scan sleeps; -1: it gives up | 1 if memcg-aware, else 0 |
| unregister | - | handle | - | - | - |
| memcg_online | handle to make | - | - | limit in pages, 0 for none | handle of the parent |
| memcg_offline | handle | - | - | - | - |
| lru_add | owner | handle | node | objects to make | 1: inodes, 0: dentries |
| lru_del | owner | handle | node | objects to delete | 1: inodes, 0: dentries |
| touch | owner | handle | node | objects to mark referenced | 1: inodes, 0: dentries |
| cache_pages | memcg charged | - | node | pages of page cache | gfp |
| alloc | memcg charged | - | node | pages, freed when the op ends | gfp |
| shrink_slab | memcg to reclaim | - | node | bits that its gfp, GFP_KERNEL, lacks | priority 12..0 |
| drop_caches | - | - | - | - | - |
| idle | - | - | - | nanoseconds | - |
"""

import enum
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

OP_DTYPE = np.dtype([(name, np.int64) for name in ("when", "op", "memcg", "shrinker", "nid", "count", "arg", "spare")])
"""One operation: `when` is its planned start in ns from the run's start; the rest is in the table above."""


class Op(enum.IntEnum):
    """The operations a CPU can be asked for; the values are stored in streams."""

    REGISTER = 0
    UNREGISTER = 1
    MEMCG_ONLINE = 2
    MEMCG_OFFLINE = 3
    LRU_ADD = 4
    LRU_DEL = 5
    TOUCH = 6
    CACHE_PAGES = 7
    ALLOC = 8
    SHRINK_SLAB = 9
    DROP_CACHES = 10
    IDLE = 11

    @property
    def label(self) -> str:
        """The name that scenarios, tables and JSON use: `register`, `shrink_slab`, ..."""
        return self.name.lower()


class Gfp(enum.IntFlag):
    """How an allocation may get its memory (include/linux/gfp.h, the part that reclaim looks at)."""

    DIRECT_RECLAIM = 1
    FS = 2
    IO = 4
    HIGH = 8
    KERNEL = DIRECT_RECLAIM | FS | IO
    NOFS = DIRECT_RECLAIM | IO
    NOWAIT = 0
    ATOMIC = HIGH


@dataclass(frozen=True)
class Memory:
    """The emulated machine's memory: sizes in pages of 4096 bytes, for each node."""

    pages_per_node: int
    watermark_min: int
    watermark_low: int
    watermark_high: int


Stream = NDArray[np.void]


@dataclass(frozen=True)
class Workload:
    """Everything that every design gets alike: one stream a CPU, and what was there before they start."""

    kind: str
    """`trace` or `scenario`."""
    name: str
    seed: int
    nodes: int
    memory: Memory
    n_memcgs: int
    """Number of memcg handles, the root included; the highest handle is one less."""
    n_shrinkers: int
    setup: Stream
    """Played by one CPU before the others are released and not measured: what existed before."""
    streams: tuple[Stream, ...]
    parameters: dict[str, object] = field(default_factory=dict)
    """What the workload was made from, for the record: a preset's parameters, a trace's counts."""
    notes: tuple[str, ...] = ()
    """What the user must know: lines of a trace that could not be used, clamped values."""

    @property
    def cpus(self) -> int:
        """How many CPUs play it."""
        return len(self.streams)

    def planned(self) -> dict[str, int]:
        """Count the planned operations by label, `setup` left out; the same for every design."""
        counts = np.zeros(len(Op), np.int64)
        for stream in self.streams:
            counts += np.bincount(stream["op"], minlength=len(Op))
        return {op.label: int(counts[op]) for op in Op if counts[op]}


def make_stream(rows: list[tuple[int, ...]]) -> Stream:
    """Turn rows `(when, op, memcg, shrinker, nid, count, arg)` into a stream."""
    stream = np.zeros(len(rows), OP_DTYPE)
    if rows:
        stream.view(np.int64).reshape(len(rows), -1)[:, :-1] = rows
    return stream
