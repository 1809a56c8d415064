"""`stress --live`: a table of the designs while they are stressed; one line a second where nobody watches."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from rich.console import Console
from rich.live import Live
from rich.table import Table

from shmreclaim.cli.progress import Lines
from shmreclaim.report.style import figures
from shmreclaim.result import RunRecord

if TYPE_CHECKING:
    from shmreclaim.executions.stress import Snapshot

EVERY_S = 1.0


@contextmanager
def make_live(stream: TextIO) -> Iterator[Lines]:
    """Choose by what `stream` is."""
    if not stream.isatty():
        yield LiveLines(stream)
        return
    # No refresh of its own, as in cli/progress.py.
    with Live(console=Console(file=stream), auto_refresh=False) as live:
        yield LiveTable(stream, live)


class LiveLines(Lines):
    """As `Lines`, and how a run goes, once a second."""

    def __init__(self, stream: TextIO) -> None:
        """Write to `stream`."""
        super().__init__(stream)
        self._said = 0.0

    def stressing(self, design: str, snapshot: Snapshot) -> None:
        """Say it if it was not said just now."""
        now = time.monotonic()
        if now - self._said >= EVERY_S:
            self._said = now
            self._say(f"{design}: {', '.join(f'{value} {name}' for name, value in _cells(snapshot).items())}")


class LiveTable(Lines):
    """A row for each design, refreshed."""

    def __init__(self, stream: TextIO, live: Live) -> None:
        """Show it in `live`; what comes before the runs is said as `Lines` does."""
        super().__init__(stream)
        self._live = live
        self._rows: dict[str, dict[str, str]] = {}
        self._ended: dict[str, str] = {}

    def started(self, _design: str, _run: int, _runs: int) -> None:
        """Say nothing: the row comes soon."""

    def stressing(self, design: str, snapshot: Snapshot) -> None:
        """Refresh its row."""
        self._rows[design] = _cells(snapshot)
        self._show()

    def finished(self, design: str, _run: int, record: RunRecord) -> None:
        """Say in its row whether it held."""
        self._ended[design] = f"{len(record.invariants.violations)} violations"
        self._show()

    def _show(self) -> None:
        head = [*next(iter(self._rows.values()), {}), "oracles"]
        table: Table = figures("stress", head, 16)
        for design, cells in self._rows.items():
            table.add_row(f"  {design}", *cells.values(), self._ended.get(design, "0 violations so far"))
        self._live.update(table, refresh=True)


def _cells(snapshot: Snapshot) -> dict[str, str]:
    return {
        "s": f"{snapshot.elapsed_s:.0f}",
        "ops": f"{snapshot.ops:,}",
        "ops/s": f"{snapshot.ops_per_s:,.0f}",
        "quiet points": f"{snapshot.quiet_points:,}",
        "stops": f"{snapshot.chaos.stops:,}",
        "kills": f"{snapshot.chaos.kills:,}",
    }
