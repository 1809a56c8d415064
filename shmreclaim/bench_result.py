"""What benches found, as plain data: the fields of their JSON.

A figure is a plain number, so that a reader of the JSON takes `ops_per_s` as it is. Its interval, which holds the true
median with 95 % confidence, stands beside it under its name with `_ci`: [low, high]. `bench diff` compares every
number that has such an interval, found by the names that lead to it; so figures hang in dicts, never in lists.

Each bench derives its result from `BenchResult`, gives `bench` its name, and adds what it found:

    class LockWait(Record, frozen=True, kw_only=True):
        p50: float
        p50_ci: Interval

    class LocksResult(BenchResult, frozen=True, kw_only=True):
        bench: str = "locks"
        locks: dict[str, ...]

    LocksResult(**about(parameters), locks=...)         # experiments.bench.about: version, time, machine
    LockWait(**Figure.of(samples).named("p50"))         # experiments.bench.turns
"""

from typing import Any

from msgspec import field

from shmreclaim.result import Machine, Record

BENCH_SCHEMA_VERSION = 1

Interval = tuple[float, float]
"""From and to: the true median lies between with 95 % confidence."""


class BenchResult(Record, frozen=True, kw_only=True):
    """What every bench says of itself; `to_builtins` of it is the JSON."""

    schema_version: int = BENCH_SCHEMA_VERSION
    bench: str
    """Which one: the word after `shmreclaim bench`."""
    version: str
    """Of shmreclaim."""
    started: str
    """When, as ISO 8601 with the zone."""
    parameters: dict[str, Any]
    """Of the command, by the option's name."""
    machine: Machine
    peers: dict[str, str] = field(default_factory=dict)
    """Versions of the packages that were measured beside ours, by package."""
    not_installed: list[str] = field(default_factory=list)
    """Packages that would have been measured as well."""


class Verdict(Record, frozen=True, kw_only=True):
    """What became of a --threshold, for one of those it is about."""

    threshold: str
    subject: str
    found: float | None
    """None: it could not be had, and so did not pass."""
    passed: bool


class Cost(Record, frozen=True, kw_only=True):
    """Nanoseconds for each of something."""

    ns: float
    ns_ci: Interval


class IdsResult(BenchResult, frozen=True, kw_only=True):
    """What `bench ids` found."""

    bench: str = "ids"
    processes: int
    """How many were measured in, one after the other; a figure is the median of theirs, or of the samples of one."""
    kinds: dict[str, str]
    """What exactly was measured, by name."""
    ids: dict[str, dict[str, dict[int, Cost]]]
    """By kind, by operation (`find`, `alloc`, `remove`), by how many ids are in use."""


class Growth(Record, frozen=True, kw_only=True):
    """What something costs by size, the line through it, and what kind of growth that is."""

    costs: dict[int, Cost]
    fixed_ns: float
    each_ns: float
    """Of the line fixed + each * size."""
    off: float
    """How far the worst point is from the line, as a part of its own value."""
    growth: float
    """The cost at the largest size over that at the smallest."""
    verdict: str
    """`flat`, `linear` or `neither flat nor linear`."""


class Axis(Record, frozen=True, kw_only=True):
    """One thing measured against sizes, by design."""

    title: str
    unit: str
    """What there is more and more of."""
    designs: dict[str, Growth]


class ReclaimResult(BenchResult, frozen=True, kw_only=True):
    """What `bench reclaim` found."""

    bench: str = "reclaim"
    processes: int
    """As of `bench ids`."""
    axes: dict[str, Axis]
    each: dict[str, dict[str, Cost]]
    """By what is done once, by design."""


class Side(Record, frozen=True, kw_only=True):
    """One of two results that are compared: what it says of itself."""

    file: str
    version: str
    started: str
    parameters: dict[str, Any]
    machine: Machine
    peers: dict[str, str]


class Change(Record, frozen=True, kw_only=True):
    """A figure in two runs."""

    figure: str
    """The names that lead to it, joined with slashes."""
    old: float
    old_ci: Interval
    new: float
    new_ci: Interval
    ratio: float | None
    """New over old; None where one of them is not above 0."""
    ratio_ci: Interval | None
    told_apart: bool
    """Whether the interval of the ratio leaves out 1."""
    better: bool | None
    """None where no change was told apart, or the figure's name does not say what is better."""


class Turn(Record, frozen=True, kw_only=True):
    """A verdict that is another one now."""

    figure: str
    old: bool | str
    new: bool | str


class DiffResult(Record, frozen=True, kw_only=True):
    """What `bench diff` found."""

    schema_version: int = BENCH_SCHEMA_VERSION
    version: str
    bench: str
    """That both are of."""
    old: Side
    new: Side
    differences: list[str]
    """Of machine, versions and parameters."""
    changes: list[Change]
    """Those told apart first, the largest first."""
    turned: list[Turn]
    only_old: list[str]
    only_new: list[str]
