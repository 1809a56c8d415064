"""Results as plain data: what one run recorded, and what a user reads of all the runs of a design.

`RunRecord` is one execution of one design, histograms and all. `experiments.combine` folds the runs of a
design into a `DesignResult`, and a `Result` of those is what reports print and what `--json` writes, field by
field. Times are ns unless the name says `_s`.
"""

from collections.abc import Iterable
from typing import Any, Self

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

SCHEMA_VERSION = 1
CLAIMS_SCHEMA_VERSION = 1

SUB_BITS = 5
"""Each power of two is cut into 2**SUB_BITS buckets: a bucket is at most 1/32 (3.1 %) as wide as it is high,
and its midpoint at most half of that from any value in it."""
N_BUCKETS = 1216
"""Enough for 2**42 ns, 73 minutes; longer ones count in the last bucket."""


def bucket_of(values: ArrayLike) -> NDArray[np.int64]:
    """Index of the bucket that counts each of `values` (>= 0)."""
    v = np.asarray(values, np.int64)
    e = np.frexp(np.minimum(v, 1 << 50).astype(np.float64))[1].astype(np.int64) - 1
    shift = np.maximum(e - SUB_BITS, 0)
    # Below 64 the shift is 0 and the value is its own index: the two rules meet without a case.
    return np.minimum((shift << SUB_BITS) + (v >> shift), N_BUCKETS - 1)


def bucket_bounds(index: int) -> tuple[int, int]:
    """Return the least and the greatest value that bucket `index` counts."""
    if index < 2 << SUB_BITS:
        return index, index
    shift = (index >> SUB_BITS) - 1
    low = (index - (shift << SUB_BITS)) << shift
    return low, low + (1 << shift) - 1


class Histogram:
    """Latencies in ns, counted in log-linear buckets: exact below 64 ns, within 1.6 % above.

    Immutable; made from the counters of a run, or from values. `max` is exact, `total` the exact sum.
    """

    __slots__ = ("counts", "max", "total")

    def __init__(self, counts: ArrayLike, max_value: int, total: int) -> None:
        """Keep a copy of the bucket counters, with the greatest value and the sum of all."""
        self.counts = np.array(counts, np.int64)
        if self.counts.shape != (N_BUCKETS,):
            raise ValueError(f"a histogram has {N_BUCKETS} buckets, got an array of shape {self.counts.shape}")
        self.counts.setflags(write=False)
        self.max = int(max_value)
        self.total = int(total)

    @classmethod
    def from_counts(cls, counts: ArrayLike, max_value: int, total: int = 0) -> Self:
        """Make one from what a CPU counted in shared memory."""
        return cls(counts, max_value, total)

    @classmethod
    def of(cls, values: ArrayLike) -> Self:
        """Make one that has counted `values`."""
        v = np.asarray(values, np.int64)
        if v.size == 0:
            return cls.merge(())
        return cls(np.bincount(bucket_of(v), minlength=N_BUCKETS), int(v.max()), int(v.sum()))

    @classmethod
    def merge(cls, histograms: "Iterable[Histogram]") -> Self:
        """Add up any number of histograms; of none, the empty one."""
        counts, highest, total = np.zeros(N_BUCKETS, np.int64), 0, 0
        for each in histograms:
            counts += each.counts
            highest, total = max(highest, each.max), total + each.total
        return cls(counts, highest, total)

    @property
    def count(self) -> int:
        """How many values were counted."""
        return int(self.counts.sum())

    def percentile(self, p: float) -> int | None:
        """Value below or at which `p` percent of the values lie (nearest rank); None of an empty histogram.

        The midpoint of the bucket of that rank, but never above the greatest value counted.
        """
        count = self.count
        if count == 0:
            return None
        # Rounded first: 1000 * 99.9 / 100 is a little more than 999 in floating point.
        rank = max(1, int(np.ceil(round(count * p / 100, 6))))
        if rank >= count:
            return self.max
        low, high = bucket_bounds(int(np.searchsorted(np.cumsum(self.counts), rank)))
        return min((low + high) // 2, self.max)

    def latency(self) -> "Latency":
        """The percentiles that a report shows."""
        p50, p90, p99, p99_9 = (self.percentile(p) for p in (50, 90, 99, 99.9))
        return Latency(p50=p50, p90=p90, p99=p99, p99_9=p99_9, max=self.max if self.count else None)


def jain(shares: Iterable[float]) -> float:
    """Jain's fairness index of what each CPU got: 1 if all got the same, 1/n if one of n got everything.

    1 where nobody got anything: nobody was preferred.
    """
    x = np.asarray(list(shares), np.float64)
    squares = float(x.size * np.sum(x * x))
    return float(np.sum(x)) ** 2 / squares if squares else 1.0


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all records of a result: immutable, made with keywords, equal by value."""


class Latency(Record, frozen=True, kw_only=True):
    """Percentiles in ns; None where nothing was measured."""

    p50: int | None
    p90: int | None
    p99: int | None
    p99_9: int | None
    max: int | None


class Spread(Record, frozen=True, kw_only=True):
    """A figure over the runs: the median, and how far the runs were apart."""

    median: float
    min: float
    max: float


class Range(Record, frozen=True, kw_only=True):
    """Times of one kind of event, as lock_stat prints them: 0 where there was none."""

    min: int = 0
    max: int = 0
    total: int = 0


class LockUse(Record, frozen=True, kw_only=True):
    """One lock taken in one mode: lock_stat's columns, and the trylocks that failed."""

    acquisitions: int
    contentions: int = 0
    trylock_failed: int = 0
    waittime_ns: Range = Range()
    holdtime_ns: Range = Range()


class Reclaim(Record, frozen=True, kw_only=True):
    """What reclaim did. A pass is one call of shrink_slab."""

    passes: int
    trylock_failed: int
    """Passes that ended at once because the lock could not be had."""
    bailed_out: int
    """Passes that left early because a writer was waiting."""
    shrinker_calls: int
    """Calls of do_shrink_slab."""
    objects_freed: int
    pages_freed: int


class Objects(Record, frozen=True, kw_only=True):
    """Where the objects went: added = deleted + freed + remaining."""

    added: int
    deleted: int
    freed: int
    remaining: int


class Ids(Record, frozen=True, kw_only=True):
    """Shrinker ids: the most that lived at once, and the highest ever given (-1 where none was)."""

    peak_live: int
    max_id: int


class Invariants(Record, frozen=True, kw_only=True):
    """How often an invariant was checked, and the message of each that did not hold."""

    checked: int
    violations: list[str]


class WorkerSpan(Record, frozen=True, kw_only=True):
    """One process that played a CPU: when its stream began and ended, on the clock common to all of them."""

    cpu: int
    pid: int
    started_ns: int
    ended_ns: int
    ops: int


class LoggedOp(Record, frozen=True, kw_only=True):
    """One operation of a kind that was logged: when it began, from its CPU's start on, and what was counted in it."""

    op: str
    """Its `Op.label`."""
    cpu: int
    at_ns: int
    ns: int
    cpu_ns: int
    """How much of it the CPU's process ran: sleep and preemption are left out."""
    events: dict[str, int]
    """By event, in lower case; those that were counted at all."""


class OpRun(Record, frozen=True, kw_only=True):
    """One class of operation in one run: done, failed by errno name, skipped, and how long the done ones took."""

    count: int
    latency: Histogram
    failed: dict[str, int] = {}
    skipped: int = 0


class RunRecord(Record, frozen=True, kw_only=True):
    """What one execution of one design produced."""

    wall_s: float
    ops: dict[str, OpRun]
    """By `Op.label`."""
    reclaim: Reclaim
    growth: Histogram
    """How long each growth of the maps took; their number is the number of growths."""
    locks: dict[str, dict[str, LockUse]]
    """By the lock's name, then by mode: `read` or `write`; a mutex has only `write`."""
    jain: dict[str, float]
    """Jain's index over the CPUs, by class of operation."""
    longest_wait_ns: int
    objects: Objects
    ids: Ids
    invariants: Invariants
    workers: list[WorkerSpan]
    events: dict[str, int] = {}
    """Everything that CPUs count, by the name of `mm.state.Event` in lower case."""
    scans: dict[int, int] = {}
    """How often each shrinker that is mounted at the end was scanned, the setup included; by its handle."""
    log: list[LoggedOp] = []
    """What `RunSettings.log_ops` asked for, CPU by CPU, in the order in which it was done."""


class OpResult(Record, frozen=True, kw_only=True):
    """One class of operation over the runs."""

    count: int
    failed: dict[str, int]
    """By errno name. A name whose median is 0 failed in fewer than half of the runs; see `per_run`."""
    skipped: int
    latency_ns: Latency
    rate_per_s: Spread


class GrowthResult(Record, frozen=True, kw_only=True):
    """Growths of the maps over the runs."""

    count: int
    latency_ns: Latency
    rate_per_s: Spread


class Fairness(Record, frozen=True, kw_only=True):
    """How evenly the CPUs were served: Jain's index by class of operation, and the longest wait of any."""

    jain: dict[str, float]
    longest_wait_ns: int


class RunSummary(Record, frozen=True, kw_only=True):
    """One run by itself: the proof of parallelism is in `workers` (distinct pids, overlapping times)."""

    wall_s: float
    ops: dict[str, int]
    failed: dict[str, dict[str, int]]
    reclaim: Reclaim
    violations: list[str]
    workers: list[WorkerSpan]


class DesignResult(Record, frozen=True, kw_only=True):
    """One design over all its runs."""

    runs: int
    ops: dict[str, OpResult]
    reclaim: Reclaim
    growth: GrowthResult
    locks: dict[str, dict[str, LockUse]]
    fairness: Fairness
    objects: Objects
    ids: Ids
    invariants: Invariants
    wall_s: float
    per_run: list[RunSummary]

    @property
    def refused(self) -> bool:
        """Whether an oracle failed, so that no figure of this design means anything."""
        return bool(self.invariants.violations)


class ChaosDone(Record, frozen=True, kw_only=True):
    """What was done to the workers of a run, and what they recovered from."""

    kills: int = 0
    stops: int = 0
    recoveries: dict[str, int] = {}
    """By the operation that was half done; `between operations` for none."""
    left: dict[str, int] = {}
    """By what a killed worker left: locks held, read sections open, an access to memory in doubt; or it was asleep."""
    crash_points: dict[str, int] = {}
    """How many were killed there, 0 where nobody was; `file.function:line` of the statement that came next."""
    longest_recovery_ns: int = 0
    """From a kill until another process was where the killed one had been."""
    recovery_ns: Latency | None = None
    """The same of all kills; None if nobody was killed."""
    parent_late_ns: int = 0
    """How late the parent was at most, who sleeps 10 ms at a time: that much of a recovery may be the machine's."""
    stolen_ns: int = 0
    """How long cores waited, all together, for the machine below this virtual one; counted in steps of 10 ms."""


class Evidence(Record, frozen=True, kw_only=True):
    """What is left of a run that went wrong, read from its segment as it was found."""

    failed: str
    """`violation`, `hang` or `crash`."""
    what: str
    """In a line or some."""
    violations: list[str]
    standings: list[str]
    """Who held what and waited for what, a line each."""
    recent: list[str]
    """What all CPUs did last, in order of time."""
    segment: str


class StressedDesign(DesignResult, frozen=True, kw_only=True):
    """One design that was stressed; its runs are boots, each of a fresh machine."""

    chaos: ChaosDone
    throughput_per_s: list[list[int]]
    """Of each boot: operations a second from one quiet point to the next, time at rest left out."""
    quiet_points: int
    seeds: list[int]
    """Of each boot."""
    failed: str = ""
    """`violation`, `hang` or `crash`; empty where everything held."""
    why: str = ""
    """Of a hang or a crash: what there is to say."""
    report: str = ""
    """The file that tells more."""
    segment: str = ""
    """What was kept to be looked at."""
    again: str = ""
    """The command that runs the boot that failed again."""


class MutantResult(Record, frozen=True, kw_only=True):
    """A variant that is broken on purpose, and whether that was found out."""

    broken: str
    """What is."""
    design: str
    expected: str
    """What should catch it, said before."""
    caught: bool
    by: str
    """`hang`, `crash`, or the first violation."""
    seconds: float
    """From the start of its first run to that; of one that was not caught, how long it was tried."""
    checker: str = ""
    """Why no stress can show it: it is for the model checker."""


class Machine(Record, frozen=True, kw_only=True):
    """Where it was measured."""

    cores: int
    """Cores that this process may run on."""
    cpu: str
    architecture: str
    kernel: str
    python: str
    libraries: dict[str, str]
    """Versions of what the figures depend on: numba, numpy, ..."""


class WorkloadSummary(Record, frozen=True, kw_only=True):
    """What every design was given; `ops` is the planned number of each operation."""

    kind: str
    name: str
    cpus: int
    seed: int
    ops: dict[str, int]
    nodes: int
    parameters: dict[str, Any]
    notes: list[str]


class DesignFile(Record, frozen=True, kw_only=True):
    """Where a design that is not built in came from, and what was in the file when it was read."""

    path: str
    sha256: str


class Measured(Record, frozen=True, kw_only=True):
    """What the result of each command begins with that measures: by whom, when, how and where."""

    schema_version: int
    version: str
    """Of shmreclaim."""
    started: str
    """When, as ISO 8601 with the zone."""
    parameters: dict[str, Any]
    """Of the command, by the option's name."""
    machine: Machine


class Result(Measured, frozen=True, kw_only=True):
    """Everything that one comparison found; `to_builtins` of it is the JSON."""

    schema_version: int = SCHEMA_VERSION
    workload: WorkloadSummary
    designs: dict[str, DesignResult]
    design_files: dict[str, DesignFile] = {}
    """Of users' designs, by name."""

    @property
    def refused(self) -> list[str]:
        """Names of the designs that broke an invariant."""
        return [name for name, design in self.designs.items() if design.refused]


class StressResult(Result, frozen=True, kw_only=True):
    """Everything that one stress found; `designs` are `StressedDesign`s."""

    mutants: dict[str, MutantResult] = {}
    """By name, where mutants were asked for."""
    again: str = ""
    """The command that does the same."""

    @property
    def stressed(self) -> dict[str, StressedDesign]:
        """The designs."""
        return {name: design for name, design in self.designs.items() if isinstance(design, StressedDesign)}


class ClaimResult(Record, frozen=True, kw_only=True):
    """One claim: who made it, what was run, and what it came to."""

    claim: str
    by: str
    ran: str
    rule: str
    """What decides, fixed before the run, in words."""
    verdict: str
    """`holds`, `refuted` or `cannot-tell`."""
    why: str
    figures: dict[str, Any]
    """By name: a number, a text, a list of texts, or a table {row: {column: figure}}."""
    seconds: float
    """How long it took; what claims share counts where it was first needed."""


class ClaimsResult(Measured, frozen=True, kw_only=True):
    """Every claim that was tried; `to_builtins` of it is the JSON."""

    schema_version: int = CLAIMS_SCHEMA_VERSION
    claims: dict[str, ClaimResult]
