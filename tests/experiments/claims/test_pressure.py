"""H5 to H8: every verdict of their rules, and what memory does to mounts in runs."""

from dataclasses import replace

import pytest

from shmreclaim.experiments.claims.claim import CANNOT_TELL, HOLDS, REFUTED, CannotTell
from shmreclaim.experiments.claims.full_memory import (
    GROW,
    LEAST,
    LEAVES_IT,
    SHARES,
    STAY,
    TAKES_THE_LOCK,
    Sweep,
    Tried,
    at_the_edge,
    growing,
    kept_full,
    mounts_that_stay,
    tried,
)
from shmreclaim.experiments.claims.pressure import (
    NOTHING,
    PAGE_ONLY,
    insertion_rule,
    loss_rule,
    page_cache_rule,
    slab_rule,
    threshold,
)
from shmreclaim.workload.ops import Op
from tests.experiments.claims.silent import lab

SLAB = {"davydov": {1.0: 3}, "v4_19": {1.0: 2}, "v5_13": {1.0: 9}}
"""Failures as they were foretold: in slab, under the designs that allocate under the lock."""


def ids(failing: dict[str, dict[float, int]], idle: tuple[str, ...] = ()) -> Sweep:
    """A sweep of 1000 mounts each, of which so many failed; `idle` designs entered no reclaim under the lock."""
    return {
        design: {share: one(failing.get(design, {}).get(share, 0), design, idle) for share in SHARES}
        for design in (*TAKES_THE_LOCK, *LEAVES_IT)
    }


def maps(failing: dict[str, dict[float, int]] | None = None, idle: tuple[str, ...] = ()) -> Sweep:
    """The same of maps that grow."""
    lost = failing or {}
    return {d: {share: one(lost.get(d, {}).get(share, 0), d, idle) for share in SHARES} for d in GROW}


def one(failed: int, design: str, idle: tuple[str, ...] = ()) -> Tried:
    """So many of 1000 mounts, each of which entered reclaim; the idle did not, and yet may fail."""
    pressed = 0 if design in idle else 1000
    return Tried((failed,), (1000,), (pressed,), (min(failed, pressed),))


def test_the_threshold_is_the_first_share_with_more_than_one_in_a_hundred() -> None:
    """One is not more; None where there is none."""
    assert threshold({0.0: 0.0, 0.5: 1.0, 0.75: 1.1, 1.0: 50.0}) == 0.75
    assert threshold({0.0: 0.0, 1.0: 1.0}) is None


def test_what_counts_is_how_many_fail_of_those_that_were_pressed() -> None:
    """Most mounts find free memory: three that fail are few of them and half of those that had to reclaim."""
    few = Tried((5, 0), (500, 500), (10, 0), (5, 0))
    assert (few.percent, few.lost_percent, few.lost_percents) == (0.5, 50.0, [50.0])
    assert Tried((0, 0), (500, 500), (0, 0), (0, 0)).lost_percent == 0.0
    rare = ids({}) | {"v4_19": dict.fromkeys(SHARES, few)}
    assert page_cache_rule(rare, maps()).verdict == HOLDS
    assert "v4_19 50 % (b* 0% of what comes" in slab_rule(rare, maps()).why
    hidden = dict.fromkeys((*TAKES_THE_LOCK, *LEAVES_IT), Tried((0, 0), (10, 10), (10, 10), (0, 0)))
    pressed = hidden | {"v4_19": Tried((5, 5), (500, 500), (10, 10), (5, 5))}
    assert loss_rule(ids({}), hidden, 1.0).verdict == HOLDS
    assert loss_rule(ids({}), pressed, 1.0).verdict == REFUTED


def test_H6_is_refuted_only_where_reclaim_was_entered_and_nothing_failed() -> None:
    """In page cache; what fails in slab is another claim's."""
    assert page_cache_rule(ids(SLAB), maps()).verdict == REFUTED
    assert page_cache_rule(ids({"v4_19": {0.0: 11}}), maps()).verdict == HOLDS
    assert page_cache_rule(ids({}), maps({"v5_13": {0.0: 11}})).verdict == HOLDS


@pytest.mark.parametrize("design", TAKES_THE_LOCK)
def test_H6_cannot_be_told_of_a_design_that_never_reclaimed_under_the_lock(design: str) -> None:
    """That no mount failed says nothing then."""
    assert page_cache_rule(ids(SLAB, idle=(design,)), maps()).verdict == CANNOT_TELL


def test_H6_cannot_be_told_of_few_failures_or_of_maps_that_were_not_pressed() -> None:
    """Fewer than 1 %, but some."""
    assert page_cache_rule(ids({"v4_19": {0.0: 1}}), maps()).verdict == CANNOT_TELL
    assert page_cache_rule(ids({}), maps(idle=("v5_13",))).verdict == CANNOT_TELL


def test_H6_cannot_be_told_where_mounts_fail_whoever_has_the_lock() -> None:
    """Then it is not for the lock that they fail."""
    assert page_cache_rule(ids({"v4_19": {0.0: 11}, "v6_7": {0.0: 1}}), maps()).verdict == CANNOT_TELL
    assert page_cache_rule(ids({}), maps({"v5_13": {0.0: 11}, "v6_7": {0.0: 11}})).verdict == CANNOT_TELL


def test_H7_is_judged_by_where_and_under_whom_mounts_fail() -> None:
    """In page cache, in slab; where reclaim can have the lock and where it cannot."""
    assert slab_rule(ids(SLAB), maps({"v5_13": {1.0: 100}})).verdict == HOLDS
    assert slab_rule(ids(SLAB | {"v4_19": {}}), maps()).verdict == REFUTED  # pressed, and none failed
    assert slab_rule(ids(SLAB | {"v4_19": {}}, idle=("v4_19",)), maps()).verdict == CANNOT_TELL
    assert slab_rule(ids(SLAB | {"tkhai_v1": {0.5: 1}}), maps()).verdict == CANNOT_TELL
    assert slab_rule(ids(SLAB), maps({"v6_7": {1.0: 1}})).verdict == CANNOT_TELL


def test_H7_is_refuted_in_page_cache_by_more_than_one_in_a_hundred_only() -> None:
    """A few can be chance, and are no proof that none can."""
    assert slab_rule(ids(SLAB | {"v4_19": {0.0: 11, 1.0: 2}}), maps()).verdict == REFUTED
    assert slab_rule(ids(SLAB | {"v4_19": {0.0: 10, 1.0: 2}}), maps()).verdict == CANNOT_TELL
    assert slab_rule(ids(SLAB), maps({"v5_13": {0.0: 11}})).verdict == REFUTED
    assert slab_rule(ids(SLAB), maps({"v5_13": {0.0: 10}})).verdict == CANNOT_TELL
    assert slab_rule(ids(SLAB | {"tkhai_v1": {0.0: 500}}), maps()).verdict == CANNOT_TELL


def crowd(idle: tuple[str, ...] = (), **failed: tuple[int, ...]) -> dict[str, Tried]:
    """Two runs of 1000 mounts where two CPUs mount, each of which entered reclaim."""
    designs = (*TAKES_THE_LOCK, *LEAVES_IT)
    lost = {d: failed.get(d, (0, 0)) for d in designs}
    return {d: Tried(lost[d], (1000, 1000), (0 if d in idle else 1000,) * 2, lost[d]) for d in designs}


def test_H5_is_judged_by_failures_that_are_more_in_every_run() -> None:
    """More than under the worst design whose reclaim can have the lock."""
    assert loss_rule(ids(SLAB), crowd(v4_19=(5, 9)), 1.0).verdict == HOLDS
    assert loss_rule(ids(SLAB), crowd(v4_19=(30, 40)), 1.0).verdict == REFUTED
    assert loss_rule(ids(SLAB), crowd(v4_19=(30, 0)), 1.0).verdict == CANNOT_TELL
    assert loss_rule(ids(SLAB), crowd(v4_19=(30, 40), tkhai_v1=(35, 35)), 1.0).verdict == HOLDS
    assert loss_rule(ids({"davydov": {0.25: 30}}), crowd(), 1.0).verdict == REFUTED


def test_H5_counts_the_part_of_ids_that_need_a_node() -> None:
    """The others allocate nothing under the lock."""
    assert loss_rule(ids(SLAB), crowd(v4_19=(300, 400)), 1 / 64).verdict == HOLDS
    assert loss_rule(ids(SLAB), crowd(v4_19=(700, 800)), 1 / 64).verdict == REFUTED


def test_H5_leaves_out_shares_that_are_not_plausible_and_needs_reclaim_to_be_entered() -> None:
    """More than half slab is no machine that somebody runs."""
    assert loss_rule(ids({"v4_19": {0.75: 900, 1.0: 900}}), crowd(), 1.0).verdict == HOLDS
    idle = ("davydov",)
    assert loss_rule(ids(SLAB, idle=idle), crowd(idle), 1.0).verdict == CANNOT_TELL
    assert loss_rule(ids({"davydov": {0.25: 900}}, idle=idle), crowd(idle), 1.0).verdict == CANNOT_TELL


def test_H5_and_H7_are_not_judged_by_a_handful_of_mounts() -> None:
    """One of one that fails is 100 %, and two of two that do not are none."""
    few = {"v4_19": Tried((9, 10), (500, 500), (LEAST - 1, LEAST), (9, 0))}
    assert loss_rule(ids({}), crowd() | few, 1.0).verdict == HOLDS
    unseen = ids({}) | {"v4_19": dict.fromkeys(SHARES, Tried((9,), (500,), (LEAST - 1,), (9,)))}
    assert loss_rule(unseen, crowd(idle=("v4_19",)), 1.0).verdict == CANNOT_TELL
    none = {"v4_19": dict.fromkeys(SHARES, Tried((0,), (500,), (LEAST - 1,), (0,)))}
    assert slab_rule(ids(SLAB) | none, maps()).verdict == CANNOT_TELL


def test_H5_cannot_be_told_where_no_id_needed_a_node() -> None:
    """Nothing times a loss is no loss."""
    assert loss_rule(ids({"davydov": {0.25: 900}}), crowd(), 0.0).verdict == CANNOT_TELL


def test_H8_is_judged_by_what_fails_with_each_kind_of_reclaim() -> None:
    """Far fewer with than without."""
    stay = Tried((0,), (128,), (0,), (0,), nodes=2)

    def verdict(full: int, pages: int, none: int, reclaimed: int = 5) -> str:
        kinds = {"full": full, "pages only": pages, "none": none}
        found = {kind: Tried((n,), (100,), (reclaimed,), (0,)) for kind, n in kinds.items()}
        return insertion_rule(found, stay).verdict

    assert verdict(0, 0, 7) == HOLDS
    assert verdict(1, 2, 7) == HOLDS
    assert verdict(0, 8, 7) == REFUTED
    assert verdict(0, 4, 7) == CANNOT_TELL
    assert verdict(0, 0, 0) == CANNOT_TELL
    assert verdict(0, 0, 7, reclaimed=0) == CANNOT_TELL


# --- in runs ------------------------------------------------------------------------------------------


def test_one_id_in_64_needs_a_node_and_64_nodes_one_above_them() -> None:
    """One CPU, so that the count is exact."""
    assert mounts_that_stay(lab()).nodes == -(-STAY // 64) + 1


@pytest.mark.stress
def test_without_reclaim_ids_fail_in_page_cache_and_with_it_they_do_not() -> None:
    """The switch makes the loss that page cache alone prevents."""
    found = kept_full(lab(), (PAGE_ONLY, NOTHING), at_the_edge(0.0))
    assert sum(found[PAGE_ONLY].pressed) > 0
    assert sum(found[PAGE_ONLY].failed) == 0
    assert sum(found[NOTHING].failed) > 0
    assert sum(found[NOTHING].pressed) == 0


def test_a_run_in_which_a_cpu_ends_early_is_refused() -> None:
    """Memory that nobody keeps full says nothing of full memory."""
    work = at_the_edge(0.0)
    short = replace(work, streams=(work.streams[0], work.streams[1][:100]))
    with pytest.raises(CannotTell, match="v6_7 a CPU had nothing left to do"):
        kept_full(lab(), ("v6_7",), short)


@pytest.mark.stress
def test_only_designs_that_hold_the_lock_enter_reclaim_under_it() -> None:
    """Or H5 to H7 and H16 compare nothing."""
    found = lab().measure((*TAKES_THE_LOCK, *LEAVES_IT), at_the_edge(0.5), repeat=2, seconds=0.3)
    entered = {d: sum(record.events["reclaims_under_write"] for record in runs) for d, runs in found.items()}
    assert min(entered[design] for design in TAKES_THE_LOCK) > 0
    assert [entered[design] for design in LEAVES_IT] == [0] * len(LEAVES_IT)


@pytest.mark.stress
def test_a_mount_that_fails_in_slab_counts_once_however_often_it_tried_to_reclaim() -> None:
    """An allocation gives up after 16 reclaims that free nothing: of those, few would seem to fail."""
    found = kept_full(lab(), TAKES_THE_LOCK, at_the_edge(1.0))
    for each in found.values():
        assert 0 < sum(each.lost) <= sum(each.failed)
        assert each.lost_percent > 50


@pytest.mark.stress
def test_in_slab_growth_under_the_lock_fails_and_growth_beside_it_does_not() -> None:
    """The maps of 5.13 and 6.7 are of one size."""
    variants = [f"{design}+lists_on_demand=1" for design in GROW]
    runs = lab().measure_logged(variants, growing(1.0), Op.REGISTER, repeat=2)
    under, beside = (tried(variant, runs[variant], 1) for variant in variants)
    assert min(under.failed) > 0
    assert sum(under.pressed) > 0
    assert sum(beside.failed) == 0
