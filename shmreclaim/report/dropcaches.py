"""The report of `dropcaches`: each pass of each design, what later passes are to those without maps, the sweep."""

from collections.abc import Callable, Sequence
from math import log

from rich.console import Console
from rich.table import Table
from rich.text import Text

from shmreclaim.drop_passes import BASELINE, DesignPasses, DropPass, DropsAtSize, DropsResult
from shmreclaim.report import heading, units
from shmreclaim.report.style import Style, figures, line, paint
from shmreclaim.result import Spread

SHOWN = 5
"""Passes with a column of their own; all are in the JSON."""

BUSY = 1.2
"""Of time by the clock to CPU time, above which it is told."""

PER_PASS: tuple[tuple[str, Callable[[DropPass], str]], ...] = (
    ("CPU time", lambda each: units.duration(each.seconds * 1e9)),
    ("shrinker calls", lambda each: units.count(each.shrinker_calls)),
    ("objects freed", lambda each: units.count(each.objects_freed)),
)
SWEPT: tuple[tuple[str, Callable[[DesignPasses], float], Callable[[float], str]], ...] = (
    ("first pass", lambda design: design.passes[0].seconds * 1e9, units.duration),
    ("later pass", lambda design: _later(design) * 1e9, units.duration),
    ("its calls", lambda design: design.passes[-1].shrinker_calls, units.count),
)
Cells = Sequence[str]


def _later(design: DesignPasses) -> float:
    """Seconds of a later pass; of the only one, if there are no others."""
    return design.later_s.median if design.later_s else design.passes[0].seconds


def render(result: DropsResult, style: Style) -> str:
    """Give the whole report as text."""

    def draw(console: Console) -> None:
        line(console, f"shmreclaim {result.version}: {_what(result)}", "bold")
        for note in _notes(result):
            line(console, f"note: {note}")
        for table in _tables(result):
            console.print()
            console.print(table)
        console.print()
        for text in _sentences(result):
            line(console, text)
        line(console, _verdict(result), "bold" if result.is_sound else "bold red")

    return paint(style, draw)


def _what(result: DropsResult) -> str:
    return f"{heading.command('dropcaches', result.parameters)}; {heading.machine_line(result.machine)}"


def _notes(result: DropsResult) -> list[str]:
    n, objects = result.parameters["containers"], 2 * result.parameters["objects"]
    made = f"{units.plural(n, 'memcg')}, {units.plural(n, 'mount')}, {objects} objects in each container"
    notes = [f"{made}; a segment of {units.count(result.segment_bytes / 2**20)} MiB"]
    runs = result.parameters["repeat"]
    if runs > 1:
        notes.append(f"medians of {runs} runs; ± is how far the farthest run was from the median")
    slowed = max(_slowed(design) for design in result.designs.values())
    if slowed > BUSY:
        notes.append(f"the machine was busy: by the clock the passes took up to {units.ratio(slowed)} times as long")
    shown = len(_a_design(result).passes)
    if shown > SHOWN:
        notes.append(f"{shown - SHOWN} more passes are in the JSON")
    return notes


def _slowed(design: DesignPasses) -> float:
    """How many times as long as they ran all passes took."""
    return sum(each.elapsed_s for each in design.passes) / sum(each.seconds for each in design.passes)


def _a_design(result: DropsResult) -> DesignPasses:
    return next(iter(result.designs.values()))


# --- tables ------------------------------------------------------------------------------------------


def _tables(result: DropsResult) -> list[Table]:
    shown = min(SHOWN, len(_a_design(result).passes))
    head = [f"pass {k + 1}" for k in range(shown)]
    passes = [_table(result, title, head, _passes(cell)) for title, cell in PER_PASS]
    ratios = _table(result, f"times less than {BASELINE}", ("first pass", "later passes", "a later pass"), _ratios)
    return [passes[0], ratios, *passes[1:], *_sweep(result)]


def _table(result: DropsResult, title: str, head: Sequence[str], cells: Callable[[DesignPasses], Cells]) -> Table:
    table = figures(title, head, max(14, *(len(name) + 2 for name in result.designs)))
    for name, design in result.designs.items():
        table.add_row(Text("  " + name), *map(Text, ("REFUSED",) if design.refused else cells(design)))
    return table


def _passes(cell: Callable[[DropPass], str]) -> Callable[[DesignPasses], Cells]:
    return lambda design: [cell(each) for each in design.passes[:SHOWN]]


def _ratios(design: DesignPasses) -> Cells:
    return (
        _ratio(design.ratio_first),
        _ratio(design.ratio_later),
        _spread(design.later_s, lambda seconds: units.duration(seconds * 1e9)),
    )


def _ratio(ratio: Spread | None) -> str:
    return _spread(ratio, units.ratio)


def _spread(figure: Spread | None, show: Callable[[float], str]) -> str:
    if figure is None:
        return units.NONE
    return show(figure.median) + units.spread((figure.min, figure.max), figure.median)


def _sweep(result: DropsResult) -> list[Table]:
    """For each figure, designs by sizes."""
    if len(result.sweep) < 2:
        return []
    head = [*(units.count(size.containers) for size in result.sweep), "grows as"]
    tables = []
    for title, figure, show in SWEPT:
        table = figures(f"{title}, by containers", head, max(14, *(len(name) + 2 for name in result.designs)))
        for name in result.designs:
            cells = _row(result.sweep, [size.designs[name] for size in result.sweep], figure, show)
            table.add_row(Text("  " + name), *map(Text, cells))
        tables.append(table)
    return tables


def _row(
    sweep: list[DropsAtSize],
    designs: list[DesignPasses],
    figure: Callable[[DesignPasses], float],
    show: Callable[[float], str],
) -> Cells:
    if any(design.refused for design in designs):
        return ("REFUSED",)
    values = [figure(design) for design in designs]
    return [*map(show, values), _power([size.containers for size in sweep], values)]


def _power(sizes: Sequence[int], values: Sequence[float]) -> str:
    """The power of N by which the figure grew over the last two doublings."""
    k = max(0, len(sizes) - 3)
    if min(values[k], values[-1]) <= 0:
        return units.NONE
    return f"N^{log(values[-1] / values[k]) / log(sizes[-1] / sizes[k]):.1f}"


# --- sentences ---------------------------------------------------------------------------------------


def _sentences(result: DropsResult) -> list[str]:
    """Name every violation, and say for each size whether all designs did the same work."""
    told = []
    for size in _sizes(result):
        where = f"{units.plural(size.containers, 'container')}: "
        for name, design in size.designs.items():
            told += [f"{where}{name}: {text}" for text in design.invariants.violations]
        told.append(where + _freed(size))
    return told


def _sizes(result: DropsResult) -> list[DropsAtSize]:
    return result.sweep or [result.at_size]


def _freed(size: DropsAtSize) -> str:
    if len(size.freed) == 1:
        return f"every design freed the same {units.plural(next(iter(size.freed)), 'object')}"
    by_count = (f"{', '.join(names)} {units.count(count)}" for count, names in size.freed.items())
    return f"objects freed differ: {'; '.join(by_count)}"


def _verdict(result: DropsResult) -> str:
    sizes = _sizes(result)
    broken = sum(len(design.invariants.violations) for size in sizes for design in size.designs.values())
    checked = sum(design.invariants.checked for size in sizes for design in size.designs.values())
    verdict = "SUCCESS" if result.is_sound else "FAILURE"
    return f"end, {verdict}, {units.count(checked)} checks, {units.plural(broken, 'invariant')} broken: {_what(result)}"
