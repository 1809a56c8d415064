"""H23: whose shrinkers are asked when walks are cut short."""

from __future__ import annotations

from collections.abc import Mapping

from shmreclaim.experiments.claims.claim import CANNOT_TELL, HOLDS, REFUTED, Claim, Finding, worded
from shmreclaim.experiments.claims.lab import Lab
from shmreclaim.experiments.claims.workloads import add, by_rows, mkdir, mount, shrink, umount
from shmreclaim.workload.ops import Workload

SHRINKERS, ROUNDS, SCAN_NS = 64, 120, 20_000
BAILS_OUT, GOES_ON = ("v4_19", "v5_13"), ("v6_4_srcu+srcu_gp_us=0", "v6_7")
RUN_S = 1.5


def _cut_short() -> Workload:
    """Passes over one memcg whose shrinkers all have something to scan, while another CPU mounts and unmounts."""
    refill = [add(1, sb) for sb in range(SHRINKERS)]
    setup = [mkdir(1), *(mount(sb, SCAN_NS) for sb in range(SHRINKERS))]
    cycle = [mount(SHRINKERS), umount(SHRINKERS)]
    return by_rows("walks cut short", setup, [*refill, shrink(1)] * ROUNDS, cycle * 200_000, pages=32768)


def share_rule(upper: Mapping[str, float], left: Mapping[str, int]) -> Finding:
    """Holds if the upper half of the ids gets less than a quarter of the scans where walks leave for a writer.

    And more than 40 % where they do not. `upper` is that share by design, `left` how often walks left. Refuted if the
    upper half gets more than 40 % where walks leave as well; where no walk left, or the share is between, or less than
    40 % where none leaves, nothing can be told.
    """
    figures: dict[str, object] = {
        "scans": {d: {"of the upper half of ids, %": round(100 * upper[d], 1), "walks left": left[d]} for d in upper}
    }
    why = ", ".join(f"{design} {share:.0%}" for design, share in upper.items())
    why = f"the upper half of the ids got of all scans: {why}"
    tried = all(left[design] for design in BAILS_OUT) and min(upper[design] for design in GOES_ON) > 0.4
    if not tried:
        return Finding(CANNOT_TELL, why, figures)
    most = max(upper[design] for design in BAILS_OUT)
    return Finding(HOLDS if most < 0.25 else REFUTED if most > 0.4 else CANNOT_TELL, why, figures)


def _h23(lab: Lab) -> Finding:
    upper, left = {}, {}
    for design in (*BAILS_OUT, *GOES_ON):
        (record,) = lab.records(design, _cut_short(), seconds=RUN_S)
        scans = {handle: n for handle, n in record.scans.items() if handle < SHRINKERS}
        high = sum(n for handle, n in scans.items() if handle >= SHRINKERS // 2)
        upper[design] = high / max(1, sum(scans.values()))
        left[design] = record.reclaim.bailed_out
    return share_rule(upper, left)


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
