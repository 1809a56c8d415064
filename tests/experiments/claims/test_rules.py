"""H1 to H3, H5 to H8, H17 to H19, H23: every verdict of their rules can be reached, by outcomes made by hand."""

from dataclasses import replace

import pytest

from shmreclaim.executions.stall import Lock, Standing
from shmreclaim.experiments.claims.bits import lost_rule, offline_rule
from shmreclaim.experiments.claims.claim import CANNOT_TELL, HOLDS, REFUTED
from shmreclaim.experiments.claims.deadlock import deadlock_rule, skipping_rule, sleeping_rule
from shmreclaim.experiments.claims.fairness import share_rule
from shmreclaim.experiments.claims.lab import Lab, Outcome
from shmreclaim.experiments.claims.pressure import (
    SHARES,
    Tried,
    insertion_rule,
    loss_rule,
    page_cache_rule,
    slab_rule,
    threshold,
)
from shmreclaim.experiments.claims.workloads import by_rows, mkdir, mount
from tests.experiments.claims.silent import lab
from tests.report.samples import make_run

ENDED = Outcome("davydov", make_run())
STUCK = Outcome(
    "davydov", None, (Standing("CPU 0", False, "register", 1, (Lock("rwsem", "write", 1),), Lock("rwsem", "read", 1)),)
)
SLOW = replace(STUCK, standings=())


def test_H1_is_judged_by_hangs_where_reclaim_was_entered() -> None:
    """A hang decides; without reclaim under the lock nothing was tried."""
    assert sleeping_rule({"davydov": 0, "v4_19": 0}, {"davydov": 3, "v4_19": 1}).verdict == REFUTED
    assert sleeping_rule({"davydov": 0, "v4_19": 1}, {"davydov": 3, "v4_19": 1}).verdict == HOLDS
    assert sleeping_rule({"davydov": 0, "v4_19": 0}, {"davydov": 3, "v4_19": 0}).verdict == CANNOT_TELL


def test_H2_is_judged_by_deadlocks_that_the_experiment_can_see() -> None:
    """Those of the designs decide, if the ways that must deadlock did."""
    assert deadlock_rule([ENDED], [ENDED, STUCK], [STUCK], 5).verdict == REFUTED
    assert deadlock_rule([ENDED, STUCK], [STUCK], [STUCK], 5).verdict == HOLDS
    assert deadlock_rule([ENDED], [ENDED], [STUCK], 5).verdict == CANNOT_TELL
    assert deadlock_rule([ENDED], [STUCK], [SLOW], 5).verdict == CANNOT_TELL
    assert deadlock_rule([ENDED], [STUCK], [STUCK], 0).verdict == CANNOT_TELL


def test_H3_is_judged_by_what_is_freed_though_slab_is_skipped() -> None:
    """Nothing freed, or more than 1 % failed, refutes."""
    assert skipping_rule({"davydov": 9}, {"davydov": 5}, {"davydov": 0.5}).verdict == HOLDS
    assert skipping_rule({"davydov": 9}, {"davydov": 0}, {"davydov": 0}).verdict == REFUTED
    assert skipping_rule({"davydov": 9}, {"davydov": 5}, {"davydov": 1.5}).verdict == REFUTED
    assert skipping_rule({"davydov": 0}, {"davydov": 5}, {"davydov": 0}).verdict == CANNOT_TELL


def swept(**failing: dict[float, int]) -> dict[str, dict[float, Tried]]:
    """A sweep of 100 mounts each, of which so many failed by design and share; no others."""
    designs = ("tkhai_v1", "davydov", "v4_19", "v5_13", "v6_7")
    return {d: {share: Tried(failing.get(d, {}).get(share, 0), 100) for share in SHARES} for d in designs}


def test_the_threshold_is_the_first_share_with_more_than_one_in_a_hundred() -> None:
    """None where there is none."""
    assert threshold(swept(v5_13={0.75: 1, 0.9: 2, 1.0: 50})["v5_13"]) == 0.9
    assert threshold(swept()["v5_13"]) is None


def test_H5_to_H7_are_judged_by_where_registrations_fail() -> None:
    """In page cache, in slab, and under whom."""
    nowhere, in_slab = swept(), swept(v5_13={1.0: 40}, v4_19={1.0: 5})
    everywhere = swept(v4_19={0.0: 9, 0.5: 9, 1.0: 9}, tkhai_v1={1.0: 9})
    few = swept(v4_19={0.0: 1})
    assert [page_cache_rule(s).verdict for s in (in_slab, everywhere, few)] == [REFUTED, HOLDS, CANNOT_TELL]
    assert [slab_rule(s).verdict for s in (in_slab, nowhere, everywhere)] == [HOLDS, REFUTED, REFUTED]
    assert [loss_rule(s).verdict for s in (in_slab, everywhere)] == [HOLDS, REFUTED]


def test_H8_is_judged_by_what_fails_with_each_kind_of_reclaim() -> None:
    """Far fewer with than without."""

    def kinds(full: int, pages: int, none: int) -> dict[str, Tried]:
        return {"full": Tried(full, 100), "pages only": Tried(pages, 100), "none": Tried(none, 100)}

    assert insertion_rule(kinds(0, 0, 7)).verdict == HOLDS
    assert insertion_rule(kinds(1, 2, 7)).verdict == HOLDS
    assert insertion_rule(kinds(0, 8, 7)).verdict == REFUTED
    assert insertion_rule(kinds(0, 4, 7)).verdict == CANNOT_TELL
    assert insertion_rule(kinds(0, 0, 0)).verdict == CANNOT_TELL


def test_H17_and_H19_are_judged_by_lost_bits() -> None:
    """Those of the design refute; each variant must show some."""
    assert lost_rule({"as it is": 0, "a": 3}, {"as it is": 9, "a": 9}).verdict == HOLDS
    assert lost_rule({"as it is": 1, "a": 3}, {"as it is": 9, "a": 9}).verdict == REFUTED
    assert lost_rule({"as it is": 0, "a": 0}, {"as it is": 9, "a": 9}).verdict == CANNOT_TELL
    assert lost_rule({"as it is": 0, "a": 3}, {"as it is": 0, "a": 9}).verdict == CANNOT_TELL


def test_H18_is_judged_by_maps_used_after_they_went() -> None:
    """Only where offline frees them."""
    assert offline_rule({"v4_19": 0, "v4_19+free_maps_offline": 2}).verdict == HOLDS
    assert offline_rule({"v4_19": 1, "v4_19+free_maps_offline": 2}).verdict == REFUTED
    assert offline_rule({"v4_19": 0, "v4_19+free_maps_offline": 0}).verdict == CANNOT_TELL


@pytest.mark.parametrize(
    ("bails_out", "goes_on", "left", "verdict"),
    [(0.1, 0.5, 9, HOLDS), (0.48, 0.5, 9, REFUTED), (0.3, 0.5, 9, CANNOT_TELL), (0.1, 0.3, 9, CANNOT_TELL),
     (0.1, 0.5, 0, CANNOT_TELL)],
)  # fmt: skip
def test_H23_is_judged_by_the_share_of_high_ids(bails_out: float, goes_on: float, left: int, verdict: str) -> None:
    """Where walks leave, against where they go on."""
    upper = {"v4_19": bails_out, "v5_13": bails_out, "v6_4_srcu+srcu_gp_us=0": goes_on, "v6_7": goes_on}
    assert share_rule(upper, dict.fromkeys(upper, left)).verdict == verdict


# --- the broken variants, really run ------------------------------------------------------------------


@pytest.fixture
def silent() -> Lab:
    """A lab of real runs."""
    return lab()


def test_growth_that_takes_the_lock_again_is_caught_and_named(silent: Lab) -> None:
    """It waits for itself, and says so."""
    plenty = by_rows("growth", [mkdir(1)], [mount(0)])
    (outcome,) = silent.run("v4_19+nested_write", plenty, timeout=1.0)
    assert outcome.hung
    assert len(outcome.deadlock) == 1
    assert "holds shrinker_rwsem" in outcome.deadlock[0]
    assert "waits for shrinker_rwsem" in outcome.deadlock[0]
    (outcome,) = silent.run("v4_19", plenty)
    assert not outcome.hung
    assert outcome.broken == ()
