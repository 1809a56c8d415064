"""H1 to H3: what may be allocated under shrinker_rwsem, and what reclaim does when it meets its own lock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median, quantiles

from shmreclaim.experiments.claims.claim import CANNOT_TELL, HOLDS, REFUTED, Claim, Finding, worded
from shmreclaim.experiments.claims.lab import Lab, Outcome
from shmreclaim.experiments.claims.workloads import by_rows, mkdir, mount, registering_at_the_edge
from shmreclaim.mm.state import LINES_PER_PAGE
from shmreclaim.result import RunRecord
from shmreclaim.workload.ops import Op, Workload

SLEEPERS = ("davydov", "v4_19", "v5_13")
"""Designs that allocate with GFP_KERNEL while shrinker_rwsem is held for write."""
RUNS, RUN_S, HANG_S, TRIES = 5, 0.6, 2.0, 4


def _sleeping_under_the_rwsem(lab: Lab) -> dict[str, list[Outcome]]:
    """Mounts that allocate under the lock while memory is full of page cache; shared by H1 to H3."""
    return lab.turns(SLEEPERS, registering_at_the_edge(pages=1024), repeat=RUNS, timeout=HANG_S + 3, seconds=RUN_S)


def _reclaims(outcomes: Mapping[str, Sequence[Outcome]]) -> dict[str, int]:
    """How many reclaims were entered under the lock, by design."""
    records = {design: [outcome.record for outcome in each if outcome.record] for design, each in outcomes.items()}
    return {design: sum(record.events["reclaims_under_write"] for record in each) for design, each in records.items()}


# --- H1 ----------------------------------------------------------------------------------------------


def sleeping_rule(hangs: Mapping[str, int], reclaims: Mapping[str, int]) -> Finding:
    """Refuted if designs that allocate with GFP_KERNEL under shrinker_rwsem never hang though reclaim is entered there.

    `hangs` counts runs that hung or broke an invariant by design, `reclaims` the reclaims that a holder of the lock
    entered. Holds if there was any of the former. Where a design entered no reclaim, nothing was tried.
    """
    why = "; ".join(f"{design}: {reclaims[design]:,} reclaims entered under the lock" for design in reclaims)
    figures = {"by design": {d: {"runs that hung": hangs[d], "reclaims under the lock": reclaims[d]} for d in hangs}}
    if any(hangs.values()):
        return Finding(HOLDS, f"{sum(hangs.values())} runs hung or broke an invariant; {why}", dict(figures))
    if not all(reclaims.values()):
        return Finding(CANNOT_TELL, f"some never reclaimed under the lock: {why}", dict(figures))
    return Finding(REFUTED, f"no run hung; {why}", dict(figures))


def _h1(lab: Lab) -> Finding:
    outcomes = lab.once(_sleeping_under_the_rwsem)
    hangs = {design: sum(outcome.hung or bool(outcome.broken) for outcome in each) for design, each in outcomes.items()}
    return sleeping_rule(hangs, _reclaims(outcomes))


# --- H2 ----------------------------------------------------------------------------------------------


def deadlock_rule(
    tried: Sequence[Outcome], blocking: Sequence[Outcome], nested: Sequence[Outcome], reclaims: Mapping[str, int]
) -> Finding:
    """Refuted if reclaim that tries the lock never deadlocks, while both ways to make it do are seen to.

    `tried` are runs of the designs as they are, `blocking` those in which reclaim waits for the lock instead, `nested`
    those in which growth takes for write what registration holds already. Holds if a run of the designs as they are
    deadlocked. Where one hung without a circle, or no run of one of the other two deadlocked, the experiment could not
    have seen it; where a design never entered reclaim under the lock, nothing was tried.
    """
    dead = [line for outcome in tried for line in outcome.deadlock]
    seen = {"blocking": [o.deadlock for o in blocking], "nested": [o.deadlock for o in nested]}
    figures: dict[str, object] = {
        "reclaims under the lock, tried": dict(reclaims),
        "deadlocks, as they are": dead or "none",
        "where reclaim blocks": [line for each in seen["blocking"] for line in each] or "none",
        "where growth nests": [line for each in seen["nested"] for line in each] or "none",
    }
    if dead:
        return Finding(HOLDS, "a design as it is deadlocked", figures)
    if any(outcome.hung for outcome in tried):
        return Finding(CANNOT_TELL, "a design as it is hung, and nobody waited in a circle", figures)
    if not all(reclaims.values()) or not all(any(each) for each in seen.values()):
        return Finding(CANNOT_TELL, "the ways that must deadlock did not, or reclaim was not entered", figures)
    told = ", ".join(f"{design} {n:,}" for design, n in reclaims.items())
    why = f"no run hung in reclaims under the lock: {told}; where reclaim waits, or growth nests, runs did"
    return Finding(REFUTED, why, figures)


def _until_it_hangs(lab: Lab, design: str, work: Workload) -> list[Outcome]:
    """Run until a run hangs, a few times at most: whether reclaim is entered under the lock is chance."""
    outcomes: list[Outcome] = []
    while len(outcomes) < TRIES and not any(outcome.hung for outcome in outcomes):
        outcomes += lab.run(design, work, timeout=HANG_S)
    return outcomes


def _h2(lab: Lab) -> Finding:
    tried = lab.once(_sleeping_under_the_rwsem)
    edge = registering_at_the_edge(pages=1024)
    blocking = [outcome for d in SLEEPERS for outcome in _until_it_hangs(lab, f"{d}+blocking_reclaim", edge)]
    plenty = by_rows("growth with plenty of memory", [mkdir(1)], [mount(0)], [mount(1)])
    nested = lab.run("v4_19+nested_write", plenty, timeout=HANG_S)
    runs = [outcome for each in tried.values() for outcome in each]
    return deadlock_rule(runs, blocking, nested, _reclaims(tried))


# --- H3 ----------------------------------------------------------------------------------------------


STALL_RUNS, ROUNDS, LEAST = 4, 30_000, 5


@dataclass(frozen=True)
class Skipped:
    """What one run shows of reclaims entered under the lock."""

    passes: int
    """Over slab, that ended at once because the lock was taken."""
    pages: int
    """That reclaims entered under the lock freed all the same."""
    failed: float
    """Registrations, in percent."""
    skipping_us: Sequence[float]
    """Mounts in which such a reclaim skipped slab: how long the CPU was busy with each."""
    whole_us: Sequence[float]
    """The same of mounts that reclaimed and skipped nothing."""
    repeated: int = 0
    """Mounts that reclaimed more than once under the lock: what was freed did not suffice, or was taken."""

    @property
    def tried(self) -> bool:
        """Whether there were enough of both kinds."""
        return self.passes > 0 and min(len(self.skipping_us), len(self.whole_us)) >= LEAST

    @property
    def stalls(self) -> bool:
        """Whether a mount that skips takes longer than the others by more than their spread."""
        return median(self.skipping_us) > quantiles(self.whole_us, n=4)[2]


def skipping_rule(found: Mapping[str, Sequence[Skipped]]) -> Finding:
    """Holds if reclaim under the lock frees page cache though slab is skipped, and nothing fails or stalls for it.

    Nothing fails: 1 % of the mounts at most. Nothing stalls: the median mount whose reclaim skips slab keeps its CPU
    busy no longer than the upper quartile of those whose reclaim skips nothing, in the same run. Refuted if under a
    design no page is freed, more fail, or every run stalls; where only some runs do, or one has fewer than 5 mounts of
    either kind, nothing can be told. Time asleep does not count: that reclaim never blocks is I9, checked at each lock.
    """
    figures: dict[str, object] = {"by design": {design: _skipped_row(runs) for design, runs in found.items()}}
    few = [design for design, runs in found.items() if not all(run.tried for run in runs)]
    if few:
        return Finding(CANNOT_TELL, f"too few mounts skipped slab, or too few did not: {', '.join(few)}", figures)
    least = min(sum(run.pages for run in runs) for runs in found.values())
    most = max(run.failed for runs in found.values() for run in runs)
    told = ", ".join(f"{design} {sum(run.stalls for run in runs)} of {len(runs)}" for design, runs in found.items())
    why = (
        f"reclaims under the lock freed {least:,} pages or more of page cache; {most:.2g} % of mounts failed at most; "
        f"runs in which mounts that skip slab took longer: {told}"
    )
    if least == 0 or most > 1 or any(all(run.stalls for run in runs) for runs in found.values()):
        return Finding(REFUTED, why, figures)
    return Finding(CANNOT_TELL if any(run.stalls for runs in found.values() for run in runs) else HOLDS, why, figures)


def _skipped_row(runs: Sequence[Skipped]) -> dict[str, object]:
    skipping = [us for run in runs for us in run.skipping_us]
    whole = [us for run in runs for us in run.whole_us]
    row: dict[str, object] = {
        "passes skipped": sum(run.passes for run in runs),
        "pages freed": sum(run.pages for run in runs),
        "failed, %": round(max(run.failed for run in runs), 3),
        "mounts that skipped": len(skipping),
        "more than once": sum(run.repeated for run in runs),
        "that did not": len(whole),
    }
    if min(len(skipping), len(whole)) >= LEAST:
        times = {"skipping, median, µs": median(skipping), "whole, median, µs": median(whole)}
        times["whole, upper quartile, µs"] = quantiles(whole, n=4)[2]
        row |= {name: round(us, 1) for name, us in times.items()}
    return row


def skipped(record: RunRecord) -> Skipped:
    """Sum up a run whose registrations were logged."""
    reclaimed = [op for op in record.log if op.events.get("direct_reclaims")]
    skipping = [op for op in reclaimed if op.events.get("reclaims_under_write") and op.events.get("trylock_failed")]
    whole = [op for op in reclaimed if not op.events.get("trylock_failed")]
    return Skipped(
        record.reclaim.trylock_failed,
        record.events["reclaimed_under_write"] // LINES_PER_PAGE,
        _failed_percent([record]),
        [op.cpu_ns / 1e3 for op in skipping],
        [op.cpu_ns / 1e3 for op in whole],
        sum(op.events["reclaims_under_write"] > 1 for op in skipping),
    )


def _failed_percent(records: Sequence[RunRecord]) -> float:
    failed = sum(sum(record.ops["register"].failed.values()) for record in records)
    return 100 * failed / max(1, failed + sum(record.ops["register"].count for record in records))


def _h3(lab: Lab) -> Finding:
    work = registering_at_the_edge(pages=1024, rounds=ROUNDS, cpus=2)  # on as many cores, so that few are preempted
    found: dict[str, list[Skipped]] = {design: [] for design in SLEEPERS}
    for _ in range(STALL_RUNS):
        for design in SLEEPERS:
            found[design].append(skipped(lab.logged(design, work, Op.REGISTER)))
    return skipping_rule(found)


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "H1",
        "Kirill Tkhai, 24 to 28 March 2018",
        "sharing shrinker_rwsem with the ids forces allocations that do not sleep",
        f"Mounts whose ids need memory under the lock, which is full of page cache: {RUNS} runs of {RUN_S:g} s of "
        f"{', '.join(SLEEPERS)}, which allocate there with GFP_KERNEL.",
        worded(sleeping_rule),
        _h1,
    ),
    Claim(
        "H2",
        "Kirill Tkhai, 24 to 28 March 2018",
        "an allocation under shrinker_rwsem, held for write, deadlocks with the reclaim that it enters",
        "The runs of H1; the same where reclaim waits for the lock instead of trying it; and a first growth, with "
        "plenty of memory, that takes the lock for write again.",
        worded(deadlock_rule),
        _h2,
    ),
    Claim(
        "H3",
        "Vladimir Davydov, 24 to 28 March 2018",
        "with the trylock the only effect is that slab is skipped",
        f"A CPU mounts so that each id needs memory, another adds page cache and objects: {STALL_RUNS} runs of each "
        "design of H1, every mount logged. What reclaims under the lock freed, whether mounts failed, and how long.",
        worded(skipping_rule),
        _h3,
    ),
)
