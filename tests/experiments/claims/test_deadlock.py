"""H1 to H3: every verdict of their rules, and that what must deadlock does and is named."""

from dataclasses import replace

import pytest

from shmreclaim.executions.stall import Lock, Standing
from shmreclaim.experiments.claims.claim import CANNOT_TELL, HOLDS, REFUTED
from shmreclaim.experiments.claims.deadlock import (
    SLEEPERS,
    Skipped,
    deadlock_rule,
    skipped,
    skipping_rule,
    sleeping_rule,
)
from shmreclaim.experiments.claims.lab import Outcome
from shmreclaim.experiments.claims.workloads import by_rows, mkdir, mount, registering_at_the_edge
from shmreclaim.workload.ops import Op
from tests.experiments.claims.silent import lab
from tests.report.samples import make_run

ENDED = Outcome("davydov", make_run())
STUCK = Outcome(
    "davydov", None, (Standing("CPU 0", False, "register", 1, (Lock("rwsem", "write", 1),), Lock("rwsem", "read", 1)),)
)
RACES = 10
"""Runs of which one must show what is looked for: on a busy machine not each does."""
TRIED = {"davydov": 5, "v4_19": 1}
"""Reclaims under the lock."""
SLOW = replace(STUCK, standings=())
CALM = Skipped(passes=90, pages=64, failed=0.5, skipping_us=[4, 5, 6, 5, 4], whole_us=[8, 9, 10, 9, 8])
STALLED = replace(CALM, skipping_us=[190, 200, 4, 195, 210])


def test_H1_is_judged_by_hangs_where_reclaim_was_entered() -> None:
    """A hang decides; without reclaim under the lock nothing was tried."""
    assert sleeping_rule({"davydov": 0, "v4_19": 0}, {"davydov": 3, "v4_19": 1}).verdict == REFUTED
    assert sleeping_rule({"davydov": 0, "v4_19": 1}, {"davydov": 3, "v4_19": 1}).verdict == HOLDS
    assert sleeping_rule({"davydov": 0, "v4_19": 0}, {"davydov": 3, "v4_19": 0}).verdict == CANNOT_TELL


def test_H2_is_judged_by_deadlocks_that_the_experiment_can_see() -> None:
    """Those of the designs decide, if the ways that must deadlock did."""
    assert deadlock_rule([ENDED], [ENDED, STUCK], [STUCK], TRIED).verdict == REFUTED
    assert deadlock_rule([ENDED, STUCK], [STUCK], [STUCK], TRIED).verdict == HOLDS
    assert deadlock_rule([ENDED], [ENDED], [STUCK], TRIED).verdict == CANNOT_TELL
    assert deadlock_rule([ENDED], [STUCK], [SLOW], TRIED).verdict == CANNOT_TELL


def test_H2_cannot_be_told_of_a_hang_without_a_circle_or_a_design_that_never_reclaimed() -> None:
    """A machine that is too slow looks like that; and each design is to have tried."""
    assert deadlock_rule([ENDED, SLOW], [STUCK], [STUCK], TRIED).verdict == CANNOT_TELL
    assert deadlock_rule([ENDED], [STUCK], [STUCK], TRIED | {"davydov": 0}).verdict == CANNOT_TELL


def test_H3_holds_if_pages_are_freed_and_nothing_fails_or_stalls() -> None:
    """Under every design, in every run."""
    assert skipping_rule({"davydov": [CALM, CALM], "v5_13": [CALM]}).verdict == HOLDS


@pytest.mark.parametrize(
    "runs",
    [[replace(CALM, pages=0)] * 2, [CALM, replace(CALM, failed=1.5)], [STALLED, STALLED]],
    ids=["frees nothing", "fails", "stalls in every run"],
)
def test_H3_is_refuted_by_any_other_effect(runs: list[Skipped]) -> None:
    """Under one design alone."""
    assert skipping_rule({"davydov": [CALM], "v5_13": runs}).verdict == REFUTED


@pytest.mark.parametrize(
    "runs",
    [[CALM, STALLED], [CALM, replace(CALM, passes=0)], [replace(CALM, skipping_us=[4.0] * 4)],
     [replace(CALM, whole_us=[])]],
    ids=["stalls in some runs", "skips nothing", "too few skip", "none to compare with"],
)  # fmt: skip
def test_H3_cannot_be_told_of_runs_that_differ_or_try_too_little(runs: list[Skipped]) -> None:
    """Nothing is a verdict by default."""
    assert skipping_rule({"davydov": [CALM], "v5_13": runs}).verdict == CANNOT_TELL


@pytest.mark.stress
def test_a_mount_counts_as_skipping_only_if_its_own_reclaim_was_under_the_lock() -> None:
    """Counted from the log of a real run, the first that has both kinds."""
    work = registering_at_the_edge(pages=512, rounds=20_000, cpus=2)
    for _ in range(RACES):
        record = lab().logged("v5_13", work, Op.REGISTER)
        under = [op for op in record.log if op.events.get("reclaims_under_write")]
        whole = [op for op in record.log if op.events.get("direct_reclaims") and not op.events.get("trylock_failed")]
        if under and whole:
            break
    assert under
    assert whole
    found = skipped(record)
    assert len(found.skipping_us) == len(under)
    assert len(found.whole_us) == len(whole)
    assert all(op.events["trylock_failed"] for op in under)


# --- the broken variants, really run ------------------------------------------------------------------


def test_growth_that_takes_the_lock_again_is_caught_and_named() -> None:
    """It waits for itself, and says so."""
    plenty = by_rows("growth", [mkdir(1)], [mount(0)])
    (outcome,) = lab().run("v4_19+nested_write", plenty, timeout=1.0)
    assert outcome.hung
    assert len(outcome.deadlock) == 1
    assert "holds shrinker_rwsem" in outcome.deadlock[0]
    assert "waits for shrinker_rwsem" in outcome.deadlock[0]
    (outcome,) = lab().run("v4_19", plenty)
    assert not outcome.hung
    assert outcome.broken == ()


@pytest.mark.stress
@pytest.mark.parametrize("design", SLEEPERS)
def test_reclaim_that_waits_for_the_lock_its_own_cpu_holds_is_caught_and_named(design: str) -> None:
    """As soon as it is entered there; as designed it tries the lock, and the same mounts end."""
    work = registering_at_the_edge(pages=512, rounds=20_000, cpus=2)
    runs = (lab().run(f"{design}+blocking_reclaim", work, timeout=3.0)[0] for _ in range(RACES))
    hung = next((outcome for outcome in runs if outcome.hung), ENDED)
    assert any(
        "holds shrinker_rwsem" in line and "(write)" in line and "waits for shrinker_rwsem" in line
        for line in hung.deadlock
    )
    entered = 0
    for _ in range(RACES):
        (outcome,) = lab().run(design, work, timeout=10.0)
        assert outcome.record is not None
        assert outcome.broken == ()
        entered += outcome.record.events["reclaims_under_write"]
        if entered:
            break
    assert entered
