"""The report of `conform`: the verdict, what each era's formulas give, what was inferred, the first mismatches."""

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

from shmreclaim.conformance import Conformance, Mismatch
from shmreclaim.report import units
from shmreclaim.report.style import Style, figures, line, paint


def render(result: Conformance, style: Style) -> str:
    """Give the whole report as text."""

    def draw(console: Console) -> None:
        line(console, f"shmreclaim {result.version}: conform {result.parameters['file']}", "bold")
        for note in _notes(result):
            line(console, f"note: {note}")
        console.print()
        console.print(_eras(result))
        console.print()
        console.print(_inferred(result))
        if result.mismatches:
            console.print()
        for text in _mismatches(result):
            line(console, text)
        console.print()
        line(console, _verdict(result), "bold red" if result.mismatched else "bold")

    return paint(style, draw)


def _notes(result: Conformance) -> Iterator[str]:
    yield from result.remarks
    for reasons in (result.unused, result.unread):
        yield from (f"{units.count(count)} {reason}" for reason, count in reasons.items())
    if result.drop_caches_calls:
        each = ", ".join(map(units.count, result.drop_caches_calls))
        yield f"shrinker calls of {units.plural(len(result.drop_caches_calls), 'drop_caches write')}: {each}"


def _eras(result: Conformance) -> Table:
    names = ("all match", "delta", "total_scan", "carry", "with others")
    table = figures(f"of {units.plural(result.rows, 'call')}", names, 20)
    for name, fit in result.eras.items():
        cells = (fit.matched, fit.delta, fit.total_scan, fit.carry, fit.carry_with_others)
        table.add_row(Text("  " + name), *map(units.count, cells))
    return table


def _inferred(result: Conformance) -> Table:
    batch = any(each.batch is not None for each in result.inferred)
    head = ["seeks", *(["batch"] if batch else []), "shrinkers", "calls", "that tell", "other seeks that fit"]
    table = figures(f"inferred for {result.era}", head, 28)
    for each in result.inferred:
        cells = [str(each.seeks), *([str(each.batch)] if batch else [])]
        cells += [units.count(number) for number in (each.shrinkers, each.rows, each.telling)]
        table.add_row(Text("  " + each.function), *cells, ", ".join(map(str, each.alternatives)) or "none")
    return table


def _mismatches(result: Conformance) -> Iterator[str]:
    for each in result.mismatches:
        yield _mismatch(each)
    hidden = result.mismatched_figures - len(result.mismatches)
    if hidden and result.mismatches:
        yield f"and {units.plural(hidden, 'more figure')} that {'does' if hidden == 1 else 'do'} not match"


def _mismatch(each: Mismatch) -> str:
    inputs = " ".join(f"{name} {value}" for name, value in each.inputs.items())
    where = f"{each.time_ns // 1_000_000_000}.{each.time_ns % 1_000_000_000 // 1000:06d}: task {each.pid}"
    return (
        f"{where}, {each.function} {each.shrinker}: {each.figure} is {each.found}, expected {each.expected} ({inputs})"
    )


def _verdict(result: Conformance) -> str:
    share = f"{units.count(result.matched)} of {units.plural(result.rows, 'call')} match"
    if result.ambiguous:
        return f"end, {_word(result)}: {share}; these eras fit equally well: {', '.join(result.ambiguous)}"
    return f"end, {_word(result)}: {share} {result.era}, which fits best"


def _word(result: Conformance) -> str:
    return "FAILURE" if result.mismatched else "SUCCESS"
