"""What `conform` found, as plain data: the fields of its JSON."""

from typing import Any

from shmreclaim.result import Record

CONFORM_SCHEMA_VERSION = 1


class Mismatch(Record, frozen=True, kw_only=True):
    """A figure of one call that the formula does not give."""

    figure: str
    """`delta`, `total_scan` or `carry`; carry is the tracepoint's "new scan count"."""
    expected: int
    found: int
    time_ns: int
    """When the call began, on the trace's clock."""
    pid: int
    function: str
    shrinker: str
    inputs: dict[str, int]
    """What the formulas were given: the trace's own figures, and the seeks and batch that were inferred."""


class EraFit(Record, frozen=True, kw_only=True):
    """How many calls one era's formulas give."""

    matched: int
    """Calls of which all three figures match."""
    delta: int
    total_scan: int
    carry: int
    """Calls whose counter is the carry, or the carry and what concurrent calls are seen to have left in it."""
    carry_with_others: int
    """Those of the latter kind."""


class Inferred(Record, frozen=True, kw_only=True):
    """A value of seeks (and of batch, where the era's delta depends on it) that was inferred for shrinkers."""

    function: str
    seeks: int
    batch: int | None
    """None where delta does not depend on it."""
    shrinkers: int
    alternatives: list[int]
    """Other values of seeks that fit every one of these rows: that it is not one of them is assumed, not shown."""
    rows: int
    telling: int
    """Rows each of which, by itself, leaves its shrinker no other value than all its rows together do."""


class Conformance(Record, frozen=True, kw_only=True):
    """Everything that `conform` found."""

    schema_version: int = CONFORM_SCHEMA_VERSION
    version: str
    """Of shmreclaim."""
    parameters: dict[str, Any]
    trace: str
    era: str
    """The era that fits best; of several that fit as well, the latest."""
    ambiguous: list[str]
    """All eras that fit equally well, where there is more than one."""
    rows: int
    matched: int
    mismatched: int
    mismatches: list[Mismatch]
    """The first of them, at most as many as `--mismatches` says."""
    mismatched_figures: int
    """How many there are in all: a row may have three."""
    eras: dict[str, EraFit]
    inferred: list[Inferred]
    starts: int
    ends: int
    unused: dict[str, int]
    """By reason: starts and ends that make no row."""
    unread: dict[str, int]
    """By reason: other lines that were not used."""
    remarks: list[str]
    drop_caches_calls: list[int]
    """Shrinker calls of each drop_caches, as far as the trace lets one tell them."""
