"""H1 to H3: what may be allocated under shrinker_rwsem, and what reclaim does when it meets its own lock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shmreclaim.experiments.claims.claim import CANNOT_TELL, HOLDS, REFUTED, Claim, Finding, worded
from shmreclaim.experiments.claims.lab import Lab, Outcome
from shmreclaim.experiments.claims.workloads import by_rows, mkdir, mount, registering_at_the_edge
from shmreclaim.result import RunRecord
from shmreclaim.workload.ops import Workload

SLEEPERS = ("davydov", "v4_19", "v5_13")
"""Designs that allocate with GFP_KERNEL while shrinker_rwsem is held for write."""
RUNS, RUN_S, HANG_S, TRIES = 5, 0.6, 2.0, 4


def _sleeping_under_the_rwsem(lab: Lab) -> dict[str, list[Outcome]]:
    """Mounts that allocate under the lock while memory is full of page cache; shared by H1 to H3."""
    return lab.turns(SLEEPERS, registering_at_the_edge(pages=1024), repeat=RUNS, timeout=HANG_S + 3, seconds=RUN_S)


def _events(outcomes: Sequence[Outcome], name: str) -> int:
    return sum(outcome.record.events[name] for outcome in outcomes if outcome.record)


# --- H1 ----------------------------------------------------------------------------------------------


def sleeping_rule(hangs: Mapping[str, int], reclaims: Mapping[str, int]) -> Finding:
    """Refuted if designs that allocate with GFP_KERNEL under shrinker_rwsem never hang though reclaim is entered there.

    `hangs` counts runs that hung by design, `reclaims` the reclaims that a holder of the lock entered. Holds if any
    hung. Where a design entered none, nothing was tried.
    """
    why = "; ".join(f"{design}: {reclaims[design]:,} reclaims entered under the lock" for design in reclaims)
    figures = {"by design": {d: {"runs that hung": hangs[d], "reclaims under the lock": reclaims[d]} for d in hangs}}
    if any(hangs.values()):
        return Finding(HOLDS, f"{sum(hangs.values())} runs hung; {why}", dict(figures))
    if not all(reclaims.values()):
        return Finding(CANNOT_TELL, f"some never reclaimed under the lock: {why}", dict(figures))
    return Finding(REFUTED, f"no run hung; {why}", dict(figures))


def _h1(lab: Lab) -> Finding:
    outcomes = lab.once(_sleeping_under_the_rwsem)
    hangs = {design: sum(outcome.hung for outcome in each) for design, each in outcomes.items()}
    return sleeping_rule(hangs, {d: _events(each, "reclaims_under_write") for d, each in outcomes.items()})


# --- H2 ----------------------------------------------------------------------------------------------


def deadlock_rule(
    tried: Sequence[Outcome], blocking: Sequence[Outcome], nested: Sequence[Outcome], reclaims: int
) -> Finding:
    """Refuted if reclaim that tries the lock never deadlocks, while both ways to make it do are seen to.

    `tried` are runs of the designs as they are, `blocking` those in which reclaim waits for the lock instead, `nested`
    those in which growth takes for write what registration holds already. Holds if a run of the designs as they are
    deadlocked. Where no run of one of the other two did, the experiment could not have seen it; where reclaim was never
    entered under the lock, nothing was tried.
    """
    dead = [line for outcome in tried for line in outcome.deadlock]
    seen = {"blocking": [o.deadlock for o in blocking], "nested": [o.deadlock for o in nested]}
    figures: dict[str, object] = {
        "reclaims under the lock, tried": reclaims,
        "deadlocks, as they are": dead or "none",
        "where reclaim blocks": [line for each in seen["blocking"] for line in each] or "none",
        "where growth nests": [line for each in seen["nested"] for line in each] or "none",
    }
    if dead or any(outcome.hung for outcome in tried):
        return Finding(HOLDS, "a design as it is hung", figures)
    if not reclaims or not all(any(each) for each in seen.values()):
        return Finding(CANNOT_TELL, "the ways that must deadlock did not, or reclaim was not entered", figures)
    why = f"no run hung in {reclaims:,} reclaims under the lock; where reclaim waits, or growth nests, runs did"
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
    return deadlock_rule(runs, blocking, nested, _events(runs, "reclaims_under_write"))


# --- H3 ----------------------------------------------------------------------------------------------


def skipping_rule(skipped: Mapping[str, int], pages: Mapping[str, int], failed: Mapping[str, float]) -> Finding:
    """Holds if reclaim under the lock frees page cache though slab is skipped, and registrations do not fail for it.

    By design: passes over slab that were `skipped` because the lock was taken, `pages` that reclaims entered under the
    lock freed all the same, registrations that `failed`, in percent. Refuted if one frees nothing there, or more than
    1 % fail; where no pass was skipped, nothing can be told. Other stalls are not looked for: on so few cores they
    cannot be told from those of the scheduler.
    """
    table = {
        d: {"passes skipped": skipped[d], "pages freed": pages[d], "registrations failed, %": round(failed[d], 3)}
        for d in skipped
    }
    figures: dict[str, object] = {"by design": table}
    least, most = min(pages.values()), max(failed.values())
    why = f"reclaims under the lock freed {least:,} pages or more of page cache; {most:.2g} % of mounts failed at most"
    if not all(skipped.values()):
        return Finding(CANNOT_TELL, f"no pass was skipped under a design; {why}", figures)
    return Finding(HOLDS if least > 0 and most <= 1 else REFUTED, why, figures)


def _failed_percent(records: Sequence[RunRecord]) -> float:
    failed = sum(sum(record.ops["register"].failed.values()) for record in records)
    return 100 * failed / max(1, failed + sum(record.ops["register"].count for record in records))


def _h3(lab: Lab) -> Finding:
    outcomes = lab.once(_sleeping_under_the_rwsem)
    records = {design: [o.record for o in each if o.record] for design, each in outcomes.items()}
    lines = {design: _events(each, "reclaimed_under_write") for design, each in outcomes.items()}
    return skipping_rule(
        {design: sum(r.reclaim.trylock_failed for r in each) for design, each in records.items()},
        {design: freed // 64 for design, freed in lines.items()},
        {design: _failed_percent(each) for design, each in records.items()},
    )


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
        "The runs of H1: what reclaims entered under the lock freed, and whether a registration failed.",
        worded(skipping_rule),
        _h3,
    ),
)
