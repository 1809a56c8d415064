"""H17 to H19 and H23: every verdict of their rules can be reached, by outcomes made by hand."""

import pytest

from shmreclaim.experiments.claims.bits import lost_rule, offline_rule
from shmreclaim.experiments.claims.claim import CANNOT_TELL, HOLDS, REFUTED
from shmreclaim.experiments.claims.fairness import share_rule


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
