"""Progress on stderr: a bar where a person watches, one plain line a finished run elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from shmreclaim.cli import output
from shmreclaim.result import RunRecord

if TYPE_CHECKING:
    from shmreclaim.executions.stress import Snapshot


@contextmanager
def make_progress(stream: TextIO) -> Iterator[Lines | Bar]:
    """Choose by what `stream` is."""
    if not stream.isatty():
        yield Lines(stream)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:,.0f} of {task.total:,.0f}"))
    # No refresh of its own: that is a thread, and a signal that it took would not end a run at once.
    with Progress(
        *columns,
        TimeElapsedColumn(),
        console=Console(file=output.unheeding(stream)),
        auto_refresh=False,
        transient=True,
    ) as bar:
        yield Bar(bar)


class Lines:
    """One line a finished run."""

    def __init__(self, stream: TextIO) -> None:
        """Write to `stream`."""
        self._stream = stream
        self._runs = 0

    def compiling(self, done: int, total: int) -> None:
        """Say that it began, and every quarter: the first run of a version compiles for half a minute."""
        self.doing("compiling", done, total)

    def doing(self, what: str, done: int, total: int) -> None:
        """Say that it began, and every quarter."""
        if done == 1 or done * 4 // total > (done - 1) * 4 // total:
            self._say(f"{what}, {done} of {total}")

    def admitting(self, design: str, what: str) -> None:
        """Say it."""
        self._say(f"{design}: {what}")

    def started(self, design: str, run: int, runs: int) -> None:
        """Remember how many there are, and say that the first began."""
        self._runs = runs
        if run == 1:
            self._say(f"run 1 of {runs}, {design}: started")

    def advanced(self, done: int, total: int) -> None:
        """Say nothing: a log wants no moving figures."""

    def finished(self, design: str, run: int, record: RunRecord) -> None:
        """Say what the run took."""
        broken = len(record.invariants.violations)
        verdict = f"{broken} invariants broken" if broken else "no invariant broken"
        self._say(f"run {run} of {self._runs}, {design}: {record.wall_s:.2f} s, {verdict}")

    def stressing(self, design: str, snapshot: Snapshot) -> None:
        """Say nothing: see cli/live.py."""

    def judging(self, number: str, k: int, of: int) -> None:
        """Say nothing: the verdict comes soon."""

    def running(self, design: str) -> None:
        """Say nothing: a claim takes many runs."""

    def judged(self, number: str, verdict: str, seconds: float) -> None:
        """Say it."""
        self._say(f"{number}: {verdict}, {seconds:.1f} s")

    def recording(self, done_s: float, total_s: float, size: int) -> None:
        """Say that it began and how to end it."""
        if not size and not done_s:
            self._say(f"recording for {total_s:g} s; Ctrl-C ends it early and keeps what was recorded")

    def _say(self, line: str) -> None:
        with suppress(OSError):  # that nobody can be told is no reason to end a run
            self._stream.write(line + "\n")
            self._stream.flush()


class Bar:
    """One bar, which each run fills anew."""

    def __init__(self, bar: Progress) -> None:
        """Move `bar`."""
        self._bar = bar
        self._task = bar.add_task("starting", total=1)
        self._claim = ""

    def compiling(self, done: int, total: int) -> None:
        """Fill it with what is compiled."""
        self.doing("compiling", done, total)

    def doing(self, what: str, done: int, total: int) -> None:
        """Fill it with what is done."""
        self._bar.update(self._task, description=what, completed=done, total=total)
        self._bar.refresh()

    def admitting(self, design: str, what: str) -> None:
        """Say it beside an empty bar."""
        self._bar.reset(self._task, description=f"{design}: {what}", total=1)
        self._bar.refresh()

    def started(self, design: str, run: int, runs: int) -> None:
        """Empty the bar."""
        self._bar.reset(self._task, description=f"run {run} of {runs}: {design}", total=1)
        self._bar.refresh()

    def advanced(self, done: int, total: int) -> None:
        """Fill it as far as the run is."""
        self._bar.update(self._task, completed=done, total=max(total, 1))
        self._bar.refresh()

    def finished(self, design: str, run: int, record: RunRecord) -> None:
        """Nothing to add: the next run empties the bar, the table says the rest."""

    def stressing(self, design: str, snapshot: Snapshot) -> None:
        """Say nothing: see cli/live.py."""

    def judging(self, number: str, k: int, of: int) -> None:
        """Name the claim on the bar."""
        self._claim = f"{number}, claim {k} of {of}"
        self._bar.reset(self._task, description=self._claim, total=1)
        self._bar.refresh()

    def running(self, design: str) -> None:
        """Empty the bar."""
        self._bar.reset(self._task, description=f"{self._claim}: {design}", total=1)
        self._bar.refresh()

    def judged(self, number: str, verdict: str, seconds: float) -> None:
        """Nothing to add: the next claim empties the bar, the report says the rest."""

    def recording(self, done_s: float, total_s: float, size: int) -> None:
        """Fill it with the seconds that are over."""
        told = f"recording, Ctrl-C ends it: {size >> 10:,} KiB in"
        self._bar.update(self._task, description=told, completed=done_s, total=total_s)
        self._bar.refresh()
