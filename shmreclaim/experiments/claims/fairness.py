"""H23: whose shrinkers are asked when walks are cut short."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from shmreclaim.experiments.claims.claim import CANNOT_TELL, HOLDS, REFUTED, Claim, Finding, worded
from shmreclaim.experiments.claims.lab import Lab
from shmreclaim.experiments.claims.workloads import add, by_rows, mkdir, mount, shrink, umount
from shmreclaim.workload.ops import Workload

SHRINKERS, ROUNDS, SCAN_NS = 64, 120, 20_000
BAILS_OUT, GOES_ON = ("v4_19", "v5_13"), ("v6_4_srcu+srcu_gp_us=0", "v6_7")
RUN_S = 1.5
LEAST = 20
"""Scans of a run below which a share of them says nothing."""


def _cut_short() -> Workload:
    """Passes over one memcg whose shrinkers all have something to scan, while another CPU mounts and unmounts."""
    refill = [add(1, sb) for sb in range(SHRINKERS)]
    setup = [mkdir(1), *(mount(sb, SCAN_NS) for sb in range(SHRINKERS))]
    cycle = [mount(SHRINKERS), umount(SHRINKERS)]
    return by_rows("walks cut short", setup, [*refill, shrink(1)] * ROUNDS, cycle * 200_000, pages=32768)


class Scans(NamedTuple):
    """Scans of one run: of the lower and of the upper half of the ids; and how often walks left."""

    lower: int
    upper: int
    left: int

    @property
    def share(self) -> float:
        """What the upper half got."""
        return self.upper / max(1, self.lower + self.upper)


def share_rule(found: Mapping[str, Scans]) -> Finding:
    """Holds if the upper half of the ids gets less than a quarter of the scans where walks leave for a writer.

    And more than 40 % where they do not. Refuted if the upper half gets more than 40 % where walks leave as well; where
    no walk left, a run made fewer than 20 scans, the share is between, or less than 40 % where none leaves, nothing can
    be told.
    """
    table = {
        design: {
            "scans": lower + upper,
            "of the upper half, %": round(100 * found[design].share, 1),
            "walks left": left,
        }
        for design, (lower, upper, left) in found.items()
    }
    why = ", ".join(f"{design} {each.share:.0%}" for design, each in found.items())
    why = f"the upper half of the ids got of all scans: {why}"
    tried = all(found[design].left for design in BAILS_OUT) and all(n.lower + n.upper >= LEAST for n in found.values())
    if not tried or min(found[design].share for design in GOES_ON) <= 0.4:
        return Finding(CANNOT_TELL, why, {"scans": table})
    most = max(found[design].share for design in BAILS_OUT)
    return Finding(HOLDS if most < 0.25 else REFUTED if most > 0.4 else CANNOT_TELL, why, {"scans": table})


def _h23(lab: Lab) -> Finding:
    found = {}
    for design in (*BAILS_OUT, *GOES_ON):
        (record,) = lab.records(design, _cut_short(), seconds=RUN_S)
        scans = [record.scans.get(handle, 0) for handle in range(SHRINKERS)]
        half = SHRINKERS // 2
        found[design] = Scans(sum(scans[:half]), sum(scans[half:]), record.reclaim.bailed_out)
    return share_rule(found)


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "H23",
        "review of the bail-out of 4.16, and of the SRCU series",
        "leaving a walk when a writer waits is unfair: shrinkers with high ids starve under steady registration",
        f"{SHRINKERS} shrinkers of one memcg all have something to scan; passes over them while another CPU mounts and "
        f"unmounts: {', '.join((*BAILS_OUT, *GOES_ON))}.",
        worded(share_rule),
        _h23,
    ),
)
