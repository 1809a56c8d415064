"""The report of `bench locks`: compiled loops and Python apart, our own locks first in each; then who survives what.

A lock that is taken for read has a line for that, -R, and one for write, -W, as in /proc/lock_stat; what has no figure
is a dash.
"""

from collections.abc import Callable, Sequence

from shmreclaim.bench_result import Interval, Verdict
from shmreclaim.lock_figures import SUFFIX, LockFigures, LocksResult, ModeFigures, Ratio, StreamFigures, Survival
from shmreclaim.report import units
from shmreclaim.report.rows import Rows, View, not_installed, opening

HEADLINE = "shmreclaim.Mutex (compiled)"
CALLED = {"compiled": "compiled loops", "python": "from Python"}
WAITS = ("p50", "p99", "p99.9", "max")
MOST_TOLD = 10.0
"""How many times itself an interval may reach from a figure and still be told."""
LEGEND = (
    "-R: taken for read, -W: for write",
    "uncontended: a pair of acquire and release that nobody else wants",
    "ops/s: of all processes that take it so, while all contend; Jain: how evenly",
    "bypass: grants, at most, to others that asked later, during one wait",
    "hand-off: from a release to the grant of one who slept",
    "killed: whether a fresh process got it within 2 s of its holder's SIGKILL, how soon",
    "stream: 3 readers that hold it for 2 ms each and take it again at once; a writer's wait",
)
Cells = Callable[[ModeFigures], Sequence[str]]


def view(result: LocksResult) -> View:
    """Make it ready to be shown."""
    return View(
        opening=(opening(result), *_notes(result)),
        tables=[*_tables(result), _deaths(result), *_streams(result), *_ratios(result), *_verdicts(result)],
        closing=[*LEGEND, _floor(result), *not_installed(result), *_unserved(result), *_refused(result), _end(result)],
        figures=_figures(result),
        headline=_headline(result),
    )


def _headline(result: LocksResult) -> float:
    """Operations a second of our mutex, compiled; nan where it was refused."""
    lock = result.locks.get(HEADLINE)
    return lock.exclusive.ops_per_s if lock is not None and lock.exclusive is not None else float("nan")


def _notes(result: LocksResult) -> list[str]:
    readers, writers = units.plural(result.readers, "reader"), units.plural(result.writers, "writer")
    who = f"{units.plural(result.processes, 'process')[:-1]}es contend: {readers} and {writers}, or all exclusively"
    notes = [f"note: {who}; {result.loop} loop where waits are measured"]
    if result.processes > result.machine.cores:
        notes[0] += f"; on {units.plural(result.machine.cores, 'core')} the scheduler is measured too"
    if result.loop != "closed":
        notes.append("note: waits count from the planned arrival, the waking up for it included")
    return notes


def _tables(result: LocksResult) -> list[Rows]:
    tables = []
    for called, title in CALLED.items():
        locks = {name: lock for name, lock in result.locks.items() if lock.called == called}
        if locks:
            tables += [
                Rows(title, ("lock", "uncontended", "ops/s"), _body(locks, _cost)),
                Rows(f"{title}: fairness", ("lock", "Jain", "bypass", "hand-off"), _body(locks, _fairness)),
                Rows(f"{title}: waits", ("lock", *WAITS), _body(locks, _waits)),
            ]
    return tables


def _body(locks: dict[str, LockFigures], cells: Cells) -> list[Sequence[object]]:
    return [
        (short(name) + SUFFIX[mode], *cells(figures))
        for name, lock in locks.items()
        for mode, figures in lock.modes.items()
    ]


def short(name: str) -> str:
    """The name below a title that says how it was called."""
    return name.removesuffix(" (compiled)")


def _cost(figures: ModeFigures) -> Sequence[str]:
    return (
        _duration(figures.uncontended_ns, figures.uncontended_ns_ci),
        units.rate(figures.ops_per_s) + _spread(figures.ops_per_s_ci, figures.ops_per_s),
    )


def _fairness(figures: ModeFigures) -> Sequence[str]:
    slept = _duration(figures.handoff_ns, figures.handoff_ns_ci)
    return f"{figures.jain:.3f}", units.count(figures.longest_bypass), slept


def _waits(figures: ModeFigures) -> Sequence[str]:
    found = figures.wait_ns
    if found is None:
        return (units.NONE,) * len(WAITS)
    return [units.duration(ns) for ns in (found.p50, found.p99, found.p99_9, found.max)]


def _duration(ns: float | None, interval: Interval | None) -> str:
    if ns is None or interval is None:
        return units.NONE
    told = f"{ns:.1f} ns" if ns < 99.95 else units.duration(ns)
    return told + _spread(interval, ns)


def _spread(interval: Interval, value: float) -> str:
    """How far the interval reaches; that it is no use where it reaches too far."""
    wide = value > 0 and max(abs(end - value) for end in interval) > MOST_TOLD * value
    return " ±>999%" if wide else units.spread(interval, value)


# --- what does not depend on how often ---------------------------------------------------------------------


def _deaths(result: LocksResult) -> Rows:
    body = [(name, *_fate(lock.survives_kill)) for name, lock in result.locks.items()]
    return Rows("survives", ("lock", "killed reader", "killed writer"), body)


def _fate(found: Survival | None) -> Sequence[str]:
    if found is None:
        return units.NONE, units.NONE
    return _survived(found.reader, found.reader_ns), _survived(found.writer, found.writer_ns)


def _streams(result: LocksResult) -> list[Rows]:
    body = [(name, *_stream(lock, lock.stream)) for name, lock in result.locks.items() if lock.stream is not None]
    return [Rows("a writer in the stream", ("lock", "p50", "p99.9", "max"), body)] if body else []


def _stream(lock: LockFigures, found: StreamFigures) -> Sequence[str]:
    if lock.writer_starved:
        return "STARVED", units.NONE, f"over {units.duration(found.max)}"
    return [units.duration(ns) for ns in (found.p50, found.p99_9, found.max)]


def _survived(survived: bool | None, ns: int | None) -> str:
    if survived is None:
        return units.NONE
    return f"yes, {units.duration(ns)}" if survived else "STUCK"


def _floor(result: LocksResult) -> str:
    took = _duration(result.floor_ns, result.floor_ns_ci)
    return f"two atomic additions take {took} in the same loop: less no lock can cost"


# --- verdicts ----------------------------------------------------------------------------------------------


def _ratios(result: LocksResult) -> list[Rows]:
    body = [(each.what, units.ratio(each.found), f"{each.sign} {each.wanted:g}", _how(each)) for each in result.ratios]
    return [Rows("what the design asks for", ("ratio", "found", "wanted", ""), body)] if body else []


def _how(ratio: Ratio) -> str:
    """Say whether it is met, or by how much it is not."""
    if ratio.met:
        return "met"
    worse = ratio.found / ratio.wanted if ratio.sign == "<=" else ratio.wanted / ratio.found
    return f"×{worse:.2f} off"


def _verdicts(result: LocksResult) -> list[Rows]:
    body = [
        (each.threshold, each.subject, _found(each), "passed" if each.passed else "FAILED")
        for each in result.thresholds
    ]
    return [Rows("thresholds", ("threshold", "lock", "found", ""), body)] if body else []


def _unserved(result: LocksResult) -> list[str]:
    """Name those that could not keep up with planned arrivals."""
    late = {
        name + SUFFIX[mode]: figures.unserved
        for name, lock in result.locks.items()
        for mode, figures in lock.modes.items()
        if figures.unserved
    }
    told = ", ".join(f"{name} {units.count(number)}" for name, number in late.items())
    return [f"planned arrivals that were not served by the end: {told}"] if late else []


def _refused(result: LocksResult) -> list[str]:
    return [
        *(f"{name} is refused: exclusion broken: {what}" for name, what in result.broken.items()),
        *(f"{name} is refused: {what}" for name, what in result.failed.items()),
    ]


def _end(result: LocksResult) -> str:
    """Sum up; the last line."""
    refused = len(result.broken) + len(result.failed)
    told = [f"end: {units.plural(len(result.locks), 'lock')} measured, {refused} refused"]
    for name, verdicts in (
        ("ratios met", [each.met for each in result.ratios]),
        ("thresholds passed", [each.passed for each in result.thresholds]),
    ):
        if verdicts:
            told.append(f"{sum(verdicts)} of {len(verdicts)} {name}")
    return ", ".join(told)


def _found(verdict: Verdict) -> str:
    if verdict.found is None:
        return units.NONE
    name = verdict.threshold.rpartition(":")[2]
    timed = any(f".{time}" in name for time in (*WAITS, "uncontended", "handoff"))
    return units.duration(verdict.found) if timed else f"{verdict.found:,.4g}"


# --- for programs --------------------------------------------------------------------------------------------

SAMPLED = ("uncontended_ns", "ops_per_s", "pair_ops_per_s", "jain", "handoff_ns")
PERCENTILES = ("p50", "p99", "p99_9")
PLAIN = ("max_wait_ns", "longest_bypass", "unserved", "survives_kill", "writer_starved")


def _figures(result: LocksResult) -> Rows:
    sampled = [name for each in (*SAMPLED, *(f"wait_{p}_ns" for p in PERCENTILES)) for name in _with_ends(each)]
    body = [
        (name, lock.called, mode, *_plain(lock, mode, figures))
        for name, lock in result.locks.items()
        for mode, figures in lock.modes.items()
    ]
    return Rows("", ("lock", "called", "mode", *sampled, *PLAIN), body)


def _with_ends(name: str) -> tuple[str, str, str]:
    return name, f"{name}_low", f"{name}_high"


def _plain(lock: LockFigures, mode: str, figures: ModeFigures) -> list[object]:
    cells: list[object] = []
    for holder, names in ((figures, SAMPLED), (figures.wait_ns, PERCENTILES)):
        for name in names:
            cells += [getattr(holder, name, None), *(getattr(holder, f"{name}_ci", None) or (None, None))]
    killed = (
        None if lock.survives_kill is None else getattr(lock.survives_kill, "reader" if mode == "read" else "writer")
    )
    longest = None if figures.wait_ns is None else figures.wait_ns.max
    starved = lock.writer_starved if mode == "write" else None
    return [*cells, longest, figures.longest_bypass, figures.unserved, _flag(killed), _flag(starved)]


def _flag(value: bool | None) -> int | None:
    return None if value is None else int(value)
