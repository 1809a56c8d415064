"""The reports of `list` and `clean`: a line for each segment."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from shmreclaim.inspection import Cleaning, Segment, Segments
from shmreclaim.report import units
from shmreclaim.report.style import Style, figures, line, paint

COLOURS = {"alive": "green", "in use": "green", "dead": "red", "unused": "yellow"}


def render_list(found: Segments, style: Style) -> str:
    """Give the table as text; where there is no segment, one line that says so."""

    def draw(console: Console) -> None:
        if not found.segments:
            line(console, "no segment of shmreclaim is in shared memory")
            return
        console.print(_table(found.segments))
        dead = sum(segment.state == "dead" for segment in found.segments)
        if dead:
            line(console, f"{units.plural(dead, 'segment')} of the dead: shmreclaim clean", "bold")

    return paint(style, draw)


def _table(segments: list[Segment]) -> Table:
    noted = any(segment.note for segment in segments)
    table = figures("name", ("kind", "owner", "pid", "state", "age", "CPUs", "size"), 0)
    if noted:
        table.add_column(Text("note"), overflow="fold")
    for each in segments:
        cells = [
            Text(each.kind),
            Text(printable(each.owner)),
            Text(units.NONE if each.pid is None else str(each.pid)),
            Text(each.state, style=COLOURS.get(each.state, "")),
            Text(age(each.age_s)),
            Text(units.NONE if each.cpus is None else str(each.cpus)),
            Text(size(each.size)),
        ]
        table.add_row(Text(printable(each.name)), *cells, *([Text(each.note)] if noted else []))
    return table


def render_cleaning(done: Cleaning, style: Style) -> str:
    """Give a line for each segment: what became of it and why; then how many went."""
    gone = [each.segment for each in done.segments if each.removed]
    verb = "would be removed" if done.dry_run else "removed"

    def draw(console: Console) -> None:
        for each in done.segments:
            what = verb if each.removed else "left"
            line(console, f"{what}: {printable(each.segment.name)}, {size(each.segment.size)}: {each.why}")
        freed = size(sum(segment.size for segment in gone))
        line(console, f"{units.plural(len(gone), 'segment')} {verb}, {freed}", "bold")

    return paint(style, draw)


def printable(name: str) -> str:
    """A name without what would move a terminal's cursor, or break its line."""
    return "".join(each if each.isprintable() or "\udc80" <= each <= "\udcff" else "?" for each in name)


def age(seconds: float) -> str:
    """In the largest unit that fits, rounded down: `3 h`."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length:.0f} {unit}"
    return f"{seconds:.0f} s"


def size(number: int) -> str:
    """Bytes in the unit that fits: `64.0 MiB`."""
    value, unit = float(number), "B"
    for larger in ("KiB", "MiB", "GiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
