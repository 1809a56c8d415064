"""Fold the runs of one design into one result.

A count is the median of the runs (of an even number the lower one, so that it was really observed); percentiles
come from the histograms of all runs added up; a maximum is the largest and a minimum the least of any run; checks
of invariants are summed, and a violation in any run counts.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median, median_low
from typing import TypeVar

from shmreclaim.result import (
    DesignResult,
    Fairness,
    GrowthResult,
    Histogram,
    Invariants,
    LockUse,
    OpResult,
    OpRun,
    Range,
    Record,
    RunRecord,
    RunSummary,
    Spread,
)

RecordT = TypeVar("RecordT", bound=Record)


def combine(runs: Sequence[RunRecord]) -> DesignResult:
    """Fold the runs of one design into one result, by the rules at the head of this file."""
    if not runs:
        raise ValueError("there is no run to combine")
    return DesignResult(
        runs=len(runs),
        ops={op: _combine_op(op, runs) for op in _keys(run.ops for run in runs)},
        reclaim=_fold([run.reclaim for run in runs], _middle),
        growth=_combine_growth(runs),
        locks=_combine_locks([run.locks for run in runs]),
        fairness=_combine_fairness(runs),
        objects=_fold([_middle_run(runs).objects], max),
        ids=_fold([run.ids for run in runs], max),
        invariants=_combine_invariants(runs),
        wall_s=median(float(run.wall_s) for run in runs),
        per_run=[_summary(run) for run in runs],
    )


_NO_OPS = OpRun(count=0, latency=Histogram.merge(()))


def _combine_op(op: str, runs: Sequence[RunRecord]) -> OpResult:
    each = [run.ops.get(op, _NO_OPS) for run in runs]
    return OpResult(
        count=_middle(one.count for one in each),
        failed={name: _middle(one.failed.get(name, 0) for one in each) for name in _keys(one.failed for one in each)},
        skipped=_middle(one.skipped for one in each),
        latency_ns=Histogram.merge(one.latency for one in each).latency(),
        rate_per_s=_rate((one.count, run.wall_s) for one, run in zip(each, runs, strict=True)),
    )


def _combine_growth(runs: Sequence[RunRecord]) -> GrowthResult:
    return GrowthResult(
        count=_middle(run.growth.count for run in runs),
        latency_ns=Histogram.merge(run.growth for run in runs).latency(),
        rate_per_s=_rate((run.growth.count, run.wall_s) for run in runs),
    )


def _combine_locks(each: Sequence[dict[str, dict[str, LockUse]]]) -> dict[str, dict[str, LockUse]]:
    return {
        lock: {
            mode: _combine_uses([locks.get(lock, {}).get(mode, LockUse(acquisitions=0)) for locks in each])
            for mode in _keys(locks.get(lock, {}) for locks in each)
        }
        for lock in _keys(each)
    }


def _combine_uses(uses: Sequence[LockUse]) -> LockUse:
    return LockUse(
        acquisitions=_middle(use.acquisitions for use in uses),
        contentions=_middle(use.contentions for use in uses),
        trylock_failed=_middle(use.trylock_failed for use in uses),
        waittime_ns=_combine_ranges([use.waittime_ns for use in uses]),
        holdtime_ns=_combine_ranges([use.holdtime_ns for use in uses]),
    )


def _combine_ranges(ranges: Sequence[Range]) -> Range:
    # A run without the event says 0 for its least time, which is no time that was measured.
    measured = [each.min for each in ranges if each.max]
    return Range(
        min=int(min(measured, default=0)),
        max=int(max(each.max for each in ranges)),
        total=_middle(each.total for each in ranges),
    )


def _combine_fairness(runs: Sequence[RunRecord]) -> Fairness:
    return Fairness(
        jain={op: median(float(run.jain[op]) for run in runs if op in run.jain) for op in _keys(r.jain for r in runs)},
        longest_wait_ns=int(max(run.longest_wait_ns for run in runs)),
    )


def _combine_invariants(runs: Sequence[RunRecord]) -> Invariants:
    return Invariants(
        checked=sum(int(run.invariants.checked) for run in runs),
        violations=_keys(dict.fromkeys(run.invariants.violations) for run in runs),
    )


def _middle_run(runs: Sequence[RunRecord]) -> RunRecord:
    """Return the run with the median of freed objects: medians of each figure apart would not add up."""
    return sorted(runs, key=lambda run: run.objects.freed)[(len(runs) - 1) // 2]


def _summary(run: RunRecord) -> RunSummary:
    return RunSummary(
        wall_s=float(run.wall_s),
        ops={op: int(one.count) for op, one in run.ops.items()},
        failed={op: {name: int(n) for name, n in one.failed.items()} for op, one in run.ops.items() if one.failed},
        reclaim=_fold([run.reclaim], max),
        violations=list(run.invariants.violations),
        workers=[_fold([worker], max) for worker in run.workers],
    )


def _fold(records: Sequence[RecordT], choose: Callable[[Iterable[int]], int]) -> RecordT:
    """Combine records of numbers field by field; plain ints come out, whatever numpy integers went in."""
    fields = type(records[0]).__struct_fields__
    return type(records[0])(**{name: int(choose(getattr(each, name) for each in records)) for name in fields})


def _middle(values: Iterable[int]) -> int:
    return int(median_low(values))


def _rate(counts: Iterable[tuple[int, float]]) -> Spread:
    rates = [float(count / wall_s) if wall_s > 0 else 0.0 for count, wall_s in counts]
    return Spread(median=median(rates), min=min(rates), max=max(rates))


def _keys(mappings: Iterable[Mapping[str, object]]) -> list[str]:
    """Every key once, in the order of first appearance."""
    return list(dict.fromkeys(key for mapping in mappings for key in mapping))
