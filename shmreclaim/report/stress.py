"""The report of `stress`: every figure of a comparison, how evenly it went, what was done to the workers, what broke.

Of mutants: which were caught, by what, after how long.
"""

from collections import Counter
from collections.abc import Iterator
from statistics import median

from rich.console import Console
from rich.text import Text

from shmreclaim.report import units
from shmreclaim.report.heading import machine_line
from shmreclaim.report.style import Style, figures, line, paint
from shmreclaim.report.table import draw_sections
from shmreclaim.result import MutantResult, StressResult

SHOWN_VIOLATIONS = 8
PACE = ("ops/s", "least", "most", "quiet points", "boots", "seeds")
CHAOS = ("stops", "kills", "recovered", "p50", "p99", "longest", "parent late", "stolen")


def render(result: StressResult, style: Style) -> str:
    """Give the whole report as text."""

    def draw(console: Console) -> None:
        what = result.again.removeprefix("shmreclaim ")
        line(console, f"shmreclaim {result.version}: {what}; on {machine_line(result.machine)}", "bold")
        for note in result.workload.notes:
            line(console, f"note: {note}")
        if result.designs:
            draw_sections(console, result)
            _pace(console, result)
            _chaos(console, result)
        if result.mutants:
            _mutants(console, result)
        console.print()
        for text in _failures(result):
            line(console, text)
        bad = any(design.failed for design in result.stressed.values())
        line(console, _last(result), "bold red" if bad else "bold")

    return paint(style, draw)


def _width(result: StressResult) -> int:
    return max(14, max(map(len, result.designs), default=0) + 2)


def _pace(console: Console, result: StressResult) -> None:
    table = figures("throughput", PACE, _width(result))
    for name, design in result.stressed.items():
        rates = [rate for boot in design.throughput_per_s for rate in boot]
        shown = (median(rates), min(rates), max(rates)) if rates else ()
        seeds = f"{design.seeds[0]}-{design.seeds[-1]}" if len(design.seeds) > 1 else f"{design.seeds[0]}"
        cells = (*(f"{rate:,.0f}" for rate in shown), units.count(design.quiet_points), str(design.runs), seeds)
        table.add_row(Text("  " + name), *map(Text, cells))
    console.print()
    console.print(table)
    for name, design in result.stressed.items():
        boots = "; ".join(" ".join(f"{rate / 1000:,.0f}" for rate in boot) for boot in design.throughput_per_s)
        line(console, f"  {name}, thousands a second: {boots}")


def _chaos(console: Console, result: StressResult) -> None:
    if not any(design.chaos.stops or design.chaos.kills for design in result.stressed.values()):
        return
    table = figures("chaos", CHAOS, _width(result))
    for name, design in result.stressed.items():
        done = design.chaos
        found = done.recovery_ns
        times = [units.duration(ns) for ns in ((found.p50, found.p99, found.max) if found else (None,) * 3)]
        row = (units.count(done.stops), units.count(done.kills), units.count(sum(done.recoveries.values())), *times)
        stalls = (units.duration(done.parent_late_ns), units.duration(done.stolen_ns))
        table.add_row(Text("  " + name), *map(Text, (*row, *stalls)))
    console.print()
    console.print(table)
    for name, design in result.stressed.items():
        for what, counted in (("killed in", design.chaos.recoveries), ("left behind", design.chaos.left)):
            if counted:
                line(console, f"  {name}, {what}: {', '.join(f'{kind} {n:,}' for kind, n in counted.items())}")
        if design.chaos.crash_points:
            line(console, f"  {name}, killed {_crash_points(design.chaos.crash_points)}")


def _crash_points(died_at: dict[str, int]) -> str:
    """How many of them were died at, in all and in each file."""
    files = Counter(point.partition(".")[0] for point in died_at)
    reached = Counter(point.partition(".")[0] for point, kills in died_at.items() if kills)
    each = ", ".join(f"{file} {reached[file]}/{points}" for file, points in files.items())
    return f"{sum(died_at.values()):,} times at {reached.total():,} of {files.total():,} crash points: {each}"


def _mutants(console: Console, result: StressResult) -> None:
    table = figures("mutant", ("design", "after", "caught by"), max(map(len, result.mutants)) + 2)
    table.columns[-1].justify = "left"
    for name, mutant in result.mutants.items():
        after = f"{mutant.seconds:.1f} s" if mutant.caught else units.NONE
        table.add_row(Text("  " + name), *map(Text, (mutant.design, after, _by(mutant))))
    console.print()
    console.print(table)


def _by(mutant: MutantResult) -> str:
    if mutant.caught:
        return mutant.by
    return f"for the checker: {mutant.checker}" if mutant.checker else f"NOT CAUGHT in {mutant.seconds:.0f} s"


def _failures(result: StressResult) -> Iterator[str]:
    for name, design in result.stressed.items():
        if design.failed:
            violations = design.invariants.violations
            yield f"{name} failed: {design.failed}"
            yield from (f"  {text}" for text in design.why.splitlines())
            yield from (f"  {text}" for text in violations[:SHOWN_VIOLATIONS])
            if len(violations) > SHOWN_VIOLATIONS:
                yield f"  and {len(violations) - SHOWN_VIOLATIONS} more"
            yield f"  report:  {design.report or 'it could not be written: no folder took it'}"
            yield f"  segment: /dev/shm/{design.segment}, kept: see shmreclaim inspect; shmreclaim clean removes it"
            yield f"  again:   {design.again}"


def _last(result: StressResult) -> str:
    if result.mutants:
        caught = sum(mutant.caught for mutant in result.mutants.values())
        checker = sum(bool(mutant.checker) for mutant in result.mutants.values())
        told = f"{caught} of {len(result.mutants)} mutants caught"
        return (
            f"end: {told}, {checker} are for the checker: {result.again}" if checker else f"end: {told}: {result.again}"
        )
    failed = [name for name, design in result.stressed.items() if design.failed]
    held = f"{units.plural(len(result.designs), 'design')} held" if not failed else f"{failed[0]} failed"
    return f"end, {'FAILURE' if failed else 'SUCCESS'}, {held}: {result.again}"
