"""The table of a comparison: one row a design in each section, so that designs are read down a column.

The sections are those of the argument: what registration, growth and bringing a memcg online cost; what reclaim
got done; how long locks were held and waited for; who was served how evenly, and whether any invariant broke. A
design that broke one keeps its rows, marked REFUSED, without a figure. First and last line name every parameter and
the machine. Readable from 80 columns; cells wrap between a figure and its spread where it is narrow.
"""

from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from shmreclaim.report import heading, units
from shmreclaim.report.style import Style, figures, line, paint
from shmreclaim.report.summary import sentences
from shmreclaim.result import DesignResult, GrowthResult, OpResult, Result

TIMED = ("register", "unregister", "memcg_online", "memcg_offline", "shrink_slab", "drop_caches")
"""Operations with a section of their own, where the workload has them; all others are in the JSON."""

TIMING = ("    rate/s", "    p50", "    p99", "  p99.9", "    max", "count", "  failed")
"""Padded to a width that most figures have, so that the columns of these sections stand below each other."""

Cells = Callable[[DesignResult], Sequence[str] | None]
"""A design's figures in a section; None where it has no row there."""


def render(result: Result, style: Style) -> str:
    """Give the whole report as text."""

    def draw(console: Console) -> None:
        line(console, heading.first(result), "bold")
        for note in (*_how_combined(result), *result.workload.notes):
            line(console, f"note: {note}")
        draw_sections(console, result)
        console.print()
        for text in (*_violations(result), *sentences(result)):
            line(console, text)
        line(console, heading.last(result), "bold red" if result.refused else "bold")

    return paint(style, draw)


def draw_sections(console: Console, result: Result) -> None:
    """Print every section, a blank line before each."""
    for title, head, cells in _sections(result):
        console.print()
        console.print(_section(result, title, head, cells))


def _how_combined(result: Result) -> list[str]:
    runs = max((design.runs for design in result.designs.values()), default=0)
    return [f"medians of {runs} runs; ± is how far the farthest run was from the median"] if runs > 1 else []


def _sections(result: Result) -> list[tuple[str, Sequence[str], Cells]]:
    operations = [(op, _op(op)) for op in TIMED if op in result.workload.ops]
    timed: list[tuple[str, Cells]] = [*operations[:1], ("growth", _growth), *operations[1:]]
    return [
        *((title, TIMING, cells) for title, cells in timed),
        ("reclaim", ("passes", "trylock failed", "bailed out", "shrinker calls", "freed objects", "pages"), _reclaim),
        *((title, ("taken", "held", "held max", "waited", "waited max"), _lock(*key)) for title, key in _locks(result)),
        ("oracles", ("fairness (Jain)", "longest wait", "checked", "violated", "run takes"), _oracles),
    ]


def _section(result: Result, title: str, head: Sequence[str], cells: Cells) -> Table:
    names = max(map(len, result.designs), default=0)
    table = figures(title, head, max(14, names + 2))
    for name, design in result.designs.items():
        row: Sequence[str] | None = ("REFUSED",) if design.refused else cells(design)
        if row is not None:
            table.add_row(Text("  " + name), *map(Text, row))
    return table


def _op(op: str) -> Cells:
    def cells(design: DesignResult) -> Sequence[str] | None:
        found = design.ops.get(op)
        if found is None:
            return None
        return (*_timing(found, design.runs), units.count(found.count), _failures(found, design, op))

    return cells


def _growth(design: DesignResult) -> Sequence[str]:
    return (*_timing(design.growth, design.runs), units.count(design.growth.count))


def _timing(found: OpResult | GrowthResult, runs: int) -> tuple[str, ...]:
    speed, latency = found.rate_per_s, found.latency_ns
    apart = units.spread((speed.min, speed.max), speed.median) if runs > 1 else ""
    return (
        units.rate(speed.median) + apart,
        *(units.duration(ns) for ns in (latency.p50, latency.p99, latency.p99_9, latency.max)),
    )


def _failures(found: OpResult, design: DesignResult, op: str) -> str:
    """Say how many failed and why; a failure that most runs did not have is said with how many did."""
    told = []
    for name, failed in found.failed.items():
        runs = sum(1 for run in design.per_run if run.failed.get(op, {}).get(name))
        often = "" if failed or not runs else f" in {runs} of {design.runs} runs"
        told.append(f"{units.count(failed)} {name}" if failed else f"{name}{often}")
    if found.skipped:
        told.append(f"{units.count(found.skipped)} skipped")
    return ", ".join(told) or "0"


def _reclaim(design: DesignResult) -> Sequence[str]:
    fields = ("passes", "trylock_failed", "bailed_out", "shrinker_calls", "objects_freed", "pages_freed")

    def cell(field: str) -> str:
        middle = getattr(design.reclaim, field)
        return units.count(middle) + units.spread([getattr(run.reclaim, field) for run in design.per_run], middle)

    return [cell(field) for field in fields]


def _locks(result: Result) -> list[tuple[str, tuple[str, str]]]:
    """Locks in the modes worth a section: shrinker_rwsem for write, and whatever anyone waited for."""
    shown = {("shrinker_rwsem", "write"): None}
    for design in result.designs.values():
        for lock, modes in design.locks.items():
            shown |= {(lock, mode): None for mode, use in modes.items() if use.contentions}
    present = [key for key in shown if any(key[1] in d.locks.get(key[0], {}) for d in result.designs.values())]
    return [(f"{lock}, {mode}", (lock, mode)) for lock, mode in present]


def _lock(lock: str, mode: str) -> Cells:
    def cells(design: DesignResult) -> Sequence[str] | None:
        use = design.locks.get(lock, {}).get(mode)
        if use is None:
            return None
        times = (use.holdtime_ns.total, use.holdtime_ns.max, use.waittime_ns.total, use.waittime_ns.max)
        return (units.count(use.acquisitions), *map(units.duration, times))

    return cells


def _oracles(design: DesignResult) -> Sequence[str]:
    walls = [run.wall_s for run in design.per_run]
    return (
        _least_fair(design.fairness.jain),
        units.duration(design.fairness.longest_wait_ns),
        units.count(design.invariants.checked),
        units.count(len(design.invariants.violations)),
        units.duration(design.wall_s * 1e9) + units.spread(walls, design.wall_s),
    )


def _least_fair(jain: dict[str, float]) -> str:
    """Name the class of operation that was served least evenly."""
    if not jain:
        return units.NONE
    op = min(jain, key=lambda each: jain[each])
    return f"{jain[op]:.3f} {op}"


def _violations(result: Result) -> list[str]:
    return [
        line
        for name in result.refused
        for line in (
            f"{name} is refused: {units.plural(len(result.designs[name].invariants.violations), 'invariant')} broken",
            *(f"  {violation}" for violation in result.designs[name].invariants.violations),
        )
    ]
