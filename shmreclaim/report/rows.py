"""Rows under headings, as a table for people, as CSV or as Markdown; and what a bench shows in each form.

A bench's report makes a `View` of a result; `show` prints it in the form that was asked for.
"""

import csv
import io
from collections.abc import Sequence
from typing import NamedTuple

from rich.console import Console
from rich.text import Text

from shmreclaim.bench_result import BenchResult
from shmreclaim.report import heading, units
from shmreclaim.report.style import Style, figures, line, paint

FORMS = ("table", "csv", "markdown", "simple")


class Rows(NamedTuple):
    """Rows under headings; the first column names the rows. A cell that is None is empty."""

    title: str
    head: Sequence[str]
    body: Sequence[Sequence[object]]


class View(NamedTuple):
    """A result, ready to be shown in any form."""

    opening: Sequence[str]
    """Lines before the tables: what was measured, where."""
    tables: Sequence[Rows]
    """For people: cells are text."""
    closing: Sequence[str]
    """Lines after them."""
    figures: Rows
    """For programs: one row for each figure, plain numbers."""
    headline: float
    """The one number of `--format simple`."""


def show(view: View, form: str, style: Style) -> str:
    """Give a result as text in one of FORMS."""
    if form == "csv":
        return as_csv(view.figures)
    if form == "simple":
        return f"{view.headline:.6g}\n"
    return _as_markdown(view) if form == "markdown" else _as_tables(view, style)


def as_csv(rows: Rows) -> str:
    """A line of headings, then the rows; a cell with a comma, a quote or a line break is quoted (RFC 4180)."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(rows.head)
    writer.writerows([_number(cell) for cell in cells] for cells in rows.body)
    return text.getvalue()


def _number(value: object) -> object:
    """Ten digits of a number are more than were measured, and fewer than binary fractions come to."""
    return f"{value:.10g}" if isinstance(value, float) else value


def as_markdown(rows: Rows) -> str:
    """A table as GitHub reads it: numbers to the right, all columns but the first."""
    ruler = ["---", *("---:" for _ in rows.head[1:])]
    return "".join(f"| {' | '.join(map(_cell, cells))} |\n" for cells in (rows.head, ruler, *rows.body))


def _cell(value: object) -> str:
    return _text(value).replace("|", "\\|").replace("\n", " ")


def figure(value: float, interval: tuple[float, float]) -> str:
    """Three digits of a median, and how far the farther end of its interval is from it: `12.3 ±4%`."""
    return (f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:.3g}") + units.spread(interval, value)


def opening(result: BenchResult) -> str:
    """Say what was measured where: the first line."""
    command = heading.command(f"bench {result.bench}", result.parameters)
    return f"shmreclaim {result.version}: {command}; {heading.machine_line(result.machine)}"


def sampled(processes: int) -> str:
    """Say what the figures are medians of, and so what their intervals know."""
    if processes == 1:
        return "quick: in one process; what differs from process to process is in no interval"
    return f"medians of {processes} processes, one after the other; ± is how far the 95 % confidence interval reaches"


def not_installed(result: BenchResult) -> list[str]:
    """Name the peers that were left out, and say how to have them."""
    if not result.not_installed:
        return []
    names = ", ".join(result.not_installed)
    return [f"not installed, left out: {names} (pip install 'shmreclaim[bench]')"]


def _as_markdown(view: View) -> str:
    tables = [f"**{rows.title}**\n\n{as_markdown(rows).rstrip()}" for rows in view.tables]
    return "\n\n".join([*view.opening, *tables, *view.closing]) + "\n"


def _as_tables(view: View, style: Style) -> str:
    def draw(console: Console) -> None:
        for k, text in enumerate(view.opening):
            line(console, text, "" if k else "bold")
        for rows in view.tables:
            console.print()
            line(console, rows.title, "bold")
            table = figures(f"  {rows.head[0]}", rows.head[1:], 12)
            for cells in rows.body:
                table.add_row(*(Text(("" if k else "  ") + _text(cell)) for k, cell in enumerate(cells)))
            console.print(table)
        if view.closing:
            console.print()
        for text in view.closing:
            line(console, text)

    return paint(style, draw)


def _text(value: object) -> str:
    return "" if value is None else str(value)
