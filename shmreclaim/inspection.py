"""What `list`, `clean`, `inspect` and `top` found of segments, as plain data: the fields of their JSON.

Times are ns unless the name says `_s`; memory of the emulated kernel is in pages of 4096 bytes.
"""

import msgspec

SEGMENTS_SCHEMA_VERSION = 1


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """As that of result.py, which needs numpy: `list` is to answer at once."""


class Segment(Record, frozen=True, kw_only=True):
    """One segment, by its name and its header."""

    name: str
    kind: str
    """`run`: of a command that plays workloads; `locks`: a program's; `named lock`; `unknown`."""
    owner: str
    """The user's name, or number."""
    pid: int | None
    """Who made it, by its name; None for a named lock, which is nobody's."""
    state: str
    """`alive`: who made it runs. `in use`: that one does not, or it is nobody's, and a process has it mapped. `dead`,
    or for a named lock `unused`: nobody has. `unknown`: it is no segment, or its name is none that shmreclaim gives."""
    age_s: float
    cpus: int | None
    """CPU slots of a run."""
    size: int
    """Bytes."""
    note: str = ""
    """What is unusual about it."""


class Segments(Record, frozen=True, kw_only=True):
    """All of the machine."""

    schema_version: int = SEGMENTS_SCHEMA_VERSION
    version: str
    segments: list[Segment]


class Cleaned(Record, frozen=True, kw_only=True):
    """What became of one segment, and why."""

    segment: Segment
    removed: bool
    """Or would have been, in a dry run."""
    why: str


class Cleaning(Record, frozen=True, kw_only=True):
    """What `clean` did."""

    schema_version: int = SEGMENTS_SCHEMA_VERSION
    version: str
    dry_run: bool
    segments: list[Cleaned]


class Use(Record, frozen=True, kw_only=True):
    """One who holds a lock, or waits for it."""

    cpu: str
    mode: str
    ns: int | None
    """For how long; None where nobody notes that: holders of a program's locks."""


class LockLook(Record, frozen=True, kw_only=True):
    """A lock: who holds it and who waits, first to be served first."""

    name: str
    at: int
    kind: str
    holders: list[Use]
    waiters: list[Use]
    handoff: bool
    """Whether it is promised to the first waiter."""
    died: bool
    """Whether a holder died with it and nobody was told yet."""
    count: int | None = None
    """Of a semaphore or completion."""


class Held(Record, frozen=True, kw_only=True):
    """A lock that a CPU holds, or waits for."""

    lock: str
    mode: str
    ns: int | None
    """For how long; None where nobody notes that."""


class CpuLook(Record, frozen=True, kw_only=True):
    """A CPU, or a task of a program."""

    name: str
    pid: int
    process: str
    """`alive`, `stopped` or `dead`."""
    state: str
    op: str
    """The operation that it is in; empty for none."""
    op_ns: int
    ops_done: int
    holds: list[Held]
    waits: Held | None
    in_rcu: bool
    in_srcu: bool
    reclaiming: bool


class NodeLook(Record, frozen=True, kw_only=True):
    """Memory of one node."""

    pages: float
    free: float
    min: float
    low: float
    high: float
    kswapd_runs: bool
    heap_chunks: int
    heap_used: int


class Map(Record, frozen=True, kw_only=True):
    """A memcg's map of one node."""

    bits: int
    set: list[int]


class MemcgLook(Record, frozen=True, kw_only=True):
    """A memcg."""

    handle: int
    parent: int | None
    online: bool
    usage: float
    limit: float | None
    references: int
    cache_pages: list[int]
    """By node."""
    maps: list[Map | None]
    """By node; None where it has none."""


class ShrinkerLook(Record, frozen=True, kw_only=True):
    """A mounted superblock, which is a shrinker."""

    handle: int
    id: int
    scans: int
    dentries: list[int]
    """On lists, by node."""
    inodes: list[int]


class Ids(Record, frozen=True, kw_only=True):
    """The ids of memcg-aware shrinkers."""

    live: int
    peak: int
    highest: int
    """-1 for none yet."""


class KernelLook(Record, frozen=True, kw_only=True):
    """The emulated kernel of a run."""

    phase: str
    map_kind: str
    nodes: list[NodeLook]
    ids: Ids
    objects: int
    memcgs: list[MemcgLook]
    shrinkers: list[ShrinkerLook]
    events: dict[str, int]
    """Of all CPUs together."""


class Inspection(Record, frozen=True, kw_only=True):
    """A look at one segment, while whoever uses it goes on: its parts may be of different moments."""

    schema_version: int = SEGMENTS_SCHEMA_VERSION
    version: str
    segment: Segment
    seen_at_ns: int
    """On the clock that the segment's times are of."""
    cpus: list[CpuLook]
    locks: list[LockLook]
    kernel: KernelLook | None
    violations: list[str]
    """Invariants that CPUs found broken on line."""
    damage: list[str]
    """What could not be read because its words lead astray, or changed under the look."""
