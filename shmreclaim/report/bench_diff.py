"""The report of `bench diff`: what changed and how surely, what cannot be told, what one run lacks."""

from collections.abc import Iterator, Sequence

from shmreclaim.bench_result import Change, DiffResult, Interval
from shmreclaim.report import units
from shmreclaim.report.rows import Rows, View, figure

ONE_IN = 20
"""How often an interval of 95 % misses."""
WORDS = {True: "better", False: "worse", None: ""}


def view(result: DiffResult) -> View:
    """Make it ready to be shown."""
    told = [change for change in result.changes if change.told_apart]
    untold = [change for change in result.changes if not change.told_apart]
    tables = [_table("changed", told), _table("no change told apart", untold)]
    return View(
        opening=[*_opening(result)],
        tables=[table for table in tables if table.body],
        closing=[*_closing(result, told)],
        figures=Rows("", _COLUMNS, [_figures(change) for change in result.changes]),
        headline=len(told),
    )


def _opening(result: DiffResult) -> Iterator[str]:
    old, new = result.old, result.new
    yield (
        f"shmreclaim {result.version}: bench diff of bench {result.bench}, "
        f"{old.file} ({old.started}) → {new.file} ({new.started})"
    )
    if result.differences:
        yield f"not only time lies between them: {'; '.join(result.differences)}"


def _table(title: str, changes: Sequence[Change]) -> Rows:
    body = [
        (
            change.figure,
            figure(change.old, change.old_ci),
            figure(change.new, change.new_ci),
            units.NONE if change.ratio is None else _percent(change.ratio),
            _interval(change.ratio_ci),
            WORDS[change.better],
        )
        for change in changes
    ]
    return Rows(
        f"{title}: {units.plural(len(changes), 'figure')}", ("figure", "old", "new", "change", "95 %", ""), body
    )


def _percent(ratio: float) -> str:
    """A ratio as what was added or taken; factors where it is more than three times as much or less."""
    return f"{ratio - 1:+.1%}" if 1 / 3 < ratio < 3 else f"×{ratio:.3g}"


def _interval(interval: Interval | None) -> str:
    return units.NONE if interval is None else f"{_percent(interval[0])} to {_percent(interval[1])}"


def _closing(result: DiffResult, told: Sequence[Change]) -> Iterator[str]:
    for turn in result.turned:
        yield f"{turn.figure}: {_word(turn.old)} → {_word(turn.new)}"
    for names, which in ((result.only_old, result.old), (result.only_new, result.new)):
        if names:
            yield f"only in {which.file}: {', '.join(names)}"
    better, worse = (sum(change.better is word for change in told) for word in (True, False))
    yield (
        f"end: {units.plural(len(result.changes), 'figure')} in both, {len(told)} changed: {better} better, "
        f"{worse} worse; of those that did not change, one in {ONE_IN} is told apart by chance"
    )


def _word(verdict: bool | str) -> str:
    return verdict if isinstance(verdict, str) else "yes" if verdict else "no"


_COLUMNS = ("figure", "old", "old_low", "old_high", "new", "new_low", "new_high", "ratio", "ratio_low", "ratio_high")


def _figures(change: Change) -> tuple[object, ...]:
    interval = change.ratio_ci or (None, None)
    return change.figure, change.old, *change.old_ci, change.new, *change.new_ci, change.ratio, *interval
