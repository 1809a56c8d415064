"""H4, H9 and H14: every verdict of their rules, and that the broken variants break."""

import pytest

from shmreclaim.experiments.claims.claim import CANNOT_TELL, HOLDS, REFUTED, CannotTell
from shmreclaim.experiments.claims.growth import (
    LISTS,
    LIVE,
    churning,
    growths_rule,
    hold_rule,
    mutex_rule,
    online_against_growth,
    predicted,
    too_short,
)
from shmreclaim.experiments.claims.lab import Outcome
from tests.experiments.claims.silent import lab

ON = {"v4_19+cyclic_ids": 50}


def test_growths_are_predicted_by_doubling_or_by_words() -> None:
    """From 8 under v1, from nothing under the others."""
    assert [predicted("tkhai_v1", live) for live in (1, 8, 9, 16, 17, 200)] == [1, 1, 2, 2, 3, 6]
    assert [predicted("v4_19", live) for live in (1, 64, 65, 128, 200)] == [1, 1, 2, 2, 4]


def test_H4_is_judged_by_growths_and_its_control() -> None:
    """One growth too many refutes; a control that stops as well tells nothing."""
    exact = {design: predicted(design, LIVE) for design in ("tkhai_v1", "v4_19")}
    assert growths_rule(exact, ON).verdict == HOLDS
    assert growths_rule({**exact, "v4_19": 5}, ON).verdict == REFUTED
    assert growths_rule(exact, {"v4_19+cyclic_ids": 4}).verdict == CANNOT_TELL


def test_H9_is_judged_by_the_longest_hold_of_every_run() -> None:
    """The number of acquisitions and their sum do not decide."""
    short, long, between = [(600, 1, 900), (600, 2, 900)], [(2, 3, 4), (2, 5, 6)], [(2, 2, 4), (2, 5, 6)]
    assert hold_rule({"tkhai_v1": short, "v4_19": long}).verdict == HOLDS
    assert hold_rule({"tkhai_v1": long, "v4_19": short}).verdict == REFUTED
    assert hold_rule({"tkhai_v1": short, "v4_19": between}).verdict == CANNOT_TELL


def test_H14_is_judged_by_maps_too_short_with_and_without() -> None:
    """Each design must show them without, none with."""
    assert mutex_rule({"davydov": 1, "v4_19": 2}, {"davydov": 0, "v4_19": 0}).verdict == HOLDS
    assert mutex_rule({"davydov": 1, "v4_19": 2}, {"davydov": 0, "v4_19": 1}).verdict == REFUTED
    assert mutex_rule({"davydov": 1, "v4_19": 0}, {"davydov": 0, "v4_19": 0}).verdict == CANNOT_TELL


def test_a_run_that_hung_says_nothing_of_maps() -> None:
    """Whatever broke in it."""
    with pytest.raises(CannotTell, match="v4_19 hung"):
        too_short([Outcome("v4_19", broken=("I3: memcg 1 has a map of 64 bits, id 64 is live",))])


@pytest.mark.stress
@pytest.mark.parametrize("design", ["davydov", "v4_19"])
def test_maps_fall_short_without_the_map_mutex_and_never_with_it(design: str) -> None:
    """I3, in the one growth that a run has; on a busy machine few runs show the race."""
    work = online_against_growth()
    assert any(too_short(lab().run(f"{design}+no_map_mutex+{LISTS}", work)) for _ in range(40))
    assert too_short(lab().run(f"{design}+{LISTS}", work, repeat=4)) == 0


@pytest.mark.parametrize("design", ["tkhai_v1", "davydov", "v4_19", "v5_13", "v6_7"])
def test_growth_stops_at_the_peak_however_many_come_and_go(design: str) -> None:
    """One CPU, so that the count is exact."""
    (record,) = lab().records(design, churning(70, 300))
    assert record.growth.count == predicted(design, 70)


def test_with_ids_in_turn_growth_goes_on() -> None:
    """The control of H4."""
    (outcome,) = lab().run("v4_19+cyclic_ids", churning(70, 300))
    assert outcome.record is not None
    assert outcome.record.growth.count > predicted("v4_19", 70)
