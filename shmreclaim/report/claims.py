"""The report of `claims`: each with who said it, what was run, the figures, and the verdict with its rule."""

import textwrap
from collections import Counter
from collections.abc import Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

from shmreclaim.report import units
from shmreclaim.report.heading import machine_line
from shmreclaim.report.style import Style, figures, line, paint
from shmreclaim.result import ClaimResult, ClaimsResult

COLOURS = {"holds": "bold green", "refuted": "bold red", "cannot-tell": "bold yellow"}
INDENT = "    "


def render(result: ClaimsResult, style: Style) -> str:
    """Give the whole report as text, verdicts once more at its end."""

    def draw(console: Console) -> None:
        line(console, f"shmreclaim {result.version}: claims, on {machine_line(result.machine)}", "bold")
        for number, claim in result.claims.items():
            console.print()
            _claim(console, number, claim, style.width)
        console.print()
        for number, claim in result.claims.items():
            _one(console, number, claim)
        line(console, _summary(result), "bold")

    return paint(style, draw)


def _claim(console: Console, number: str, claim: ClaimResult, width: int) -> None:
    line(console, f"{number}  {claim.claim}", "bold")
    for name, text in (("by", claim.by), ("ran", claim.ran), ("rule", claim.rule)):
        _wrapped(console, name, text, width)
    for figure in _figures(claim):
        console.print(figure)
    console.print(Text.assemble(f"{INDENT}verdict: ", (claim.verdict, COLOURS[claim.verdict])), soft_wrap=True)
    _wrapped(console, "why", claim.why, width)


def _wrapped(console: Console, name: str, text: str, width: int) -> None:
    for paragraph in text.splitlines():
        first, rest = f"{INDENT}{name}: ", INDENT + "  "
        for each in textwrap.wrap(paragraph, width, initial_indent=first, subsequent_indent=rest):
            line(console, each)
        name = " " * len(name)


def _figures(claim: ClaimResult) -> Iterator[Table | Text]:
    """Show tables as tables, everything else a line each."""
    for name, value in claim.figures.items():
        if isinstance(value, dict) and value and all(isinstance(row, dict) for row in value.values()):
            yield _table(name, value)
        elif isinstance(value, dict):
            told = ", ".join(f"{key} {_cell(each)}" for key, each in value.items())
            yield Text(f"{INDENT}{name}: {told}")
        elif isinstance(value, list):
            yield Text("\n".join([f"{INDENT}{name}:", *(f"{INDENT}  {each}" for each in value)]))
        else:
            yield Text(f"{INDENT}{name}: {_cell(value)}")


def _table(name: str, rows: dict[str, dict[str, object]]) -> Table:
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    table = figures(INDENT + name, columns, 28)
    for key, row in rows.items():
        table.add_row(Text(f"{INDENT}  {key}"), *(Text(_cell(row.get(column, ""))) for column in columns))
    return table


def _cell(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ", ".join(map(_cell, value)) if isinstance(value, list | tuple) else str(value)
    return units.count(value) if isinstance(value, int) else f"{value:,.4g}"


def _one(console: Console, number: str, claim: ClaimResult) -> None:
    verdict = (f"{claim.verdict:<12}", COLOURS[claim.verdict])
    said = f"{claim.seconds:6.1f} s  {claim.claim}"
    console.print(Text.assemble(f"{number:<4} ", verdict, said), soft_wrap=True)


def _summary(result: ClaimsResult) -> str:
    count = Counter(claim.verdict for claim in result.claims.values())
    told = ", ".join(f"{count[verdict]} {verdict}" for verdict in COLOURS if count[verdict])
    seconds = sum(claim.seconds for claim in result.claims.values())
    return f"end: {units.plural(len(result.claims), 'claim')} in {seconds:.0f} s: {told}"
