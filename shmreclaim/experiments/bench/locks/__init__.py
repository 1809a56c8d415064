"""What locks cost and what they are worth: ours beside every lock that a Python program can use between processes.

Plays of all candidates take turns, so that a slow moment of the machine is everybody's. What takes its time by sleeping
comes first: holders that are killed, all at once; then, one lock after the other, a writer beside endless readers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shmreclaim.bench_result import Verdict
from shmreclaim.experiments.bench import Progress, about
from shmreclaim.experiments.bench.locks.candidates import Candidate, choose, versions
from shmreclaim.experiments.bench.locks.fold import by_name, kinds, ratios
from shmreclaim.experiments.bench.locks.options import LockOptions
from shmreclaim.experiments.bench.locks.session import Session, make_ready
from shmreclaim.experiments.bench.thresholds import Threshold, expect_subjects, judge, parse
from shmreclaim.lock_figures import MODES, LockFigures, LocksResult


def bench_locks(options: LockOptions, progress: Progress, candidates: Sequence[Candidate] | None = None) -> LocksResult:
    """Measure; `candidates` instead of those that the options name. What broke or failed is in the result."""
    chosen = choose(options.peers) if candidates is None else list(candidates)
    present = [each for each in chosen if each.installed]
    thresholds = [parse(text, kinds(MODES)) for text in options.thresholds]
    expect_subjects(thresholds, {each.name: tuple(kinds(each.modes)) for each in present})
    session = Session(options, present, progress)
    opening = about(session.parameters())
    make_ready(progress)
    locks = session.measure()
    return LocksResult(
        **opening,
        **session.conditions(),
        peers=versions(present),
        not_installed=list(dict.fromkeys(each.package or each.family for each in chosen if not each.installed)),
        locks=locks,
        broken=session.broken,
        failed=session.failed,
        ratios=ratios(locks),
        thresholds=[verdict for each in thresholds for verdict in _judge(each, present, locks)],
    )


def _judge(threshold: Threshold, present: Sequence[Candidate], locks: Mapping[str, LockFigures]) -> list[Verdict]:
    default = [each.name for each in present if each.ours and threshold.figure in kinds(each.modes)]
    return judge(threshold, {name: by_name(lock) for name, lock in locks.items()}, default)
