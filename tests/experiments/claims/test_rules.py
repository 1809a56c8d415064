"""H17 to H19 and H23: every verdict of their rules can be reached, and the broken variants are seen to break."""

from collections.abc import Callable

import pytest

from shmreclaim.experiments.claims.bits import (
    VARIANTS,
    bits_lost,
    lost_rule,
    maps_used,
    offline_rule,
    race,
    used_after_offline,
)
from shmreclaim.experiments.claims.claim import CANNOT_TELL, HOLDS, REFUTED, CannotTell
from shmreclaim.experiments.claims.fairness import BAILS_OUT, GOES_ON, LEAST, Scans, share_rule
from shmreclaim.experiments.claims.lab import Outcome
from tests.experiments.claims.silent import lab

TRIES = 40
"""Races of which one must show what the switch does: so many that a miss of all is no bad luck."""


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
    [(10, 50, 9, HOLDS), (48, 50, 9, REFUTED), (30, 50, 9, CANNOT_TELL), (10, 30, 9, CANNOT_TELL),
     (10, 50, 0, CANNOT_TELL)],
)  # fmt: skip
def test_H23_is_judged_by_the_share_of_high_ids(bails_out: int, goes_on: int, left: int, verdict: str) -> None:
    """Where walks leave, against where they go on; so many of 100 scans."""
    assert share_rule(_scans(bails_out, goes_on, 100, left)).verdict == verdict


def test_H23_cannot_be_told_of_a_few_scans() -> None:
    """None of the upper half of none would be an unfair share."""
    assert share_rule(_scans(0, LEAST // 2, LEAST, 9)).verdict == HOLDS
    few = _scans(0, LEAST // 2, LEAST, 9) | {"v4_19": Scans(LEAST - 1, 0, 9)}
    assert share_rule(few).verdict == CANNOT_TELL
    assert share_rule(_scans(0, 0, 0, 9)).verdict == CANNOT_TELL


def _scans(bails_out: int, goes_on: int, of: int, left: int) -> dict[str, Scans]:
    """The same for both designs of each kind."""
    leave = dict.fromkeys(BAILS_OUT, Scans(of - bails_out, bails_out, left))
    return leave | dict.fromkeys(GOES_ON, Scans(of - goes_on, goes_on, left))


# --- in runs ------------------------------------------------------------------------------------------


@pytest.mark.stress
@pytest.mark.parametrize("switch", VARIANTS)
def test_each_way_to_lose_a_bit_is_seen_to_lose_one_and_the_design_is_not(switch: str) -> None:
    """A switch that did nothing would let H17 slide to cannot-tell, and nobody would ask why."""
    for seed in range(TRIES):
        assert race(lab(), "v6_7", range(seed, seed + 1))[0] == 0
        if race(lab(), f"v6_7+{switch}", range(seed, seed + 1))[0]:
            return
    pytest.fail(f"{switch} lost no bit in {TRIES} races")


@pytest.mark.stress
def test_maps_freed_at_offline_are_used_after_they_went() -> None:
    """And maps that stay are not: the switch does what H18 needs."""
    assert used_after_offline(lab(), "v4_19") == 0
    assert any(used_after_offline(lab(), "v4_19+free_maps_offline") for _ in range(TRIES))


@pytest.mark.parametrize("tell", [bits_lost, maps_used])
def test_a_run_that_hung_is_no_proof_that_nothing_was_lost(tell: Callable[[list[Outcome]], object]) -> None:
    """H17 to H19: what it would have broken is not known."""
    with pytest.raises(CannotTell, match="hung"):
        tell([Outcome("v6_7", None)])
