"""H26 and H30: who pays for what a shrinker could not scan."""

from __future__ import annotations

from collections.abc import Mapping

from shmreclaim.designs import NAMES
from shmreclaim.experiments.claims.claim import CANNOT_TELL, HOLDS, REFUTED, Claim, Finding, worded
from shmreclaim.experiments.claims.lab import Lab
from shmreclaim.experiments.claims.workloads import add, by_rows, mkdir, mount, shrink, umount
from shmreclaim.workload.ops import Gfp, Workload

SHARED = NAMES[:4]
"""Designs in which all memcgs share what a shrinker owes."""
PER_MEMCG = NAMES[4:]
OBJECTS, PRIORITY, PASSES = 4000, 3, 12
DELTA = (OBJECTS >> PRIORITY) * 4 // 2
"""What one pass owes by itself: fewer than the batch of 1024, so that it waits for more."""
GUILTY, INNOCENT = 1, 2


def _innocent(debt: bool) -> Workload:
    """Passes over one memcg that may not enter the file system, so that nothing is scanned; then one over another."""
    setup = [mkdir(GUILTY), mkdir(INNOCENT), mount(0), add(GUILTY, 0, OBJECTS), add(INNOCENT, 0, OBJECTS)]
    deferring = [shrink(GUILTY, PRIORITY, Gfp.FS)] * (PASSES if debt else 0)
    return by_rows("deferred for another", setup, [*deferring, shrink(INNOCENT, PRIORITY)])


def innocent_rule(freed: Mapping[str, Mapping[str, int]]) -> Finding:
    """Holds if another memcg's debt makes a pass free more where the count is shared, and nothing more where it is not.

    `freed` is what one pass over the innocent memcg frees, by design, with that debt and without. Refuted if a design
    that shares the count frees no more with it, or one that keeps it for each memcg does.
    """
    paid = {design: freed[design]["with debt"] - freed[design]["without"] for design in NAMES}
    least, most = min(paid[design] for design in SHARED), max(paid[design] for design in PER_MEMCG)
    why = f"the innocent memcg lost {least:,} objects or more to another's debt before 5.13, and {most:,} at most since"
    return Finding(HOLDS if least > 0 and most == 0 else REFUTED, why, {"objects freed": dict(freed)})


def _h26(lab: Lab) -> Finding:
    freed: dict[str, dict[str, int]] = {design: {} for design in NAMES}
    for column, debt in (("without", False), ("with debt", True)):
        for design in NAMES:
            (record,) = lab.records(design, _innocent(debt))
            freed[design][column] = record.reclaim.objects_freed
    return innocent_rule(freed)


# --- H30 ---------------------------------------------------------------------------------------------


def _reuse(debt: bool) -> Workload:
    """A superblock whose scans give up owes, or not, and goes; the next has its id, and is asked once."""
    before = [shrink(GUILTY, PRIORITY)] * (PASSES if debt else 0)
    rows = [mount(0, -1), add(GUILTY, 0, OBJECTS), *before, umount(0), mount(1), add(GUILTY, 1, OBJECTS)]
    return by_rows("an id used again", [mkdir(GUILTY)], [*rows, shrink(GUILTY, PRIORITY)])


BOUND = min((2 * OBJECTS >> PRIORITY) + DELTA, 2 * OBJECTS)
"""The most that a debt, itself 2f at most, can make one pass scan."""


def reuse_rule(freed: Mapping[str, Mapping[str, int]]) -> Finding:
    """Holds if the next owner of an id pays for the last one since 5.13, within the bound, and did not before.

    `freed` is what the first pass over the new owner frees, by design, with what the last one owed and without. The
    bound is min((d >> p) + delta, 2f). Refuted if no design since 5.13 frees more with it, or one before does; more
    than the bound would be a fault of the emulation, so that nothing can be told.
    """
    paid = {design: freed[design]["with debt"] - freed[design]["without"] for design in NAMES}
    before, since = max(abs(paid[design]) for design in SHARED), min(paid[design] for design in PER_MEMCG)
    most = max(freed[design]["with debt"] for design in PER_MEMCG)
    why = (
        f"the new owner lost {since:,} objects or more to the old one's debt since 5.13, {before:,} at most before; "
        f"{most:,} freed at most, the bound is {BOUND:,}"
    )
    if most > BOUND:
        return Finding(CANNOT_TELL, why, {"objects freed": dict(freed)})
    return Finding(HOLDS if since > 0 and before == 0 else REFUTED, why, {"objects freed": dict(freed)})


def _h30(lab: Lab) -> Finding:
    freed: dict[str, dict[str, int]] = {design: {} for design in NAMES}
    for column, debt in (("without", False), ("with debt", True)):
        for design in NAMES:
            (record,) = lab.records(design, _reuse(debt))
            freed[design][column] = record.reclaim.objects_freed
    return reuse_rule(freed)


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "H26",
        "Yang Shi, 2020 and 2021, of the series that became 5.13",
        "one nr_deferred for all memcgs makes innocent ones pay for what others deferred; one for each memcg does not",
        f"{PASSES} passes over one memcg without GFP_FS, which scan nothing and defer; then one over another memcg "
        "that has objects of the same superblock. All designs.",
        worded(innocent_rule),
        _h26,
    ),
    Claim(
        "H30",
        "ours, read from the code of 5.13 to 6.7",
        "what a shrinker owed survives the reuse of its id since 5.13: the next owner pays for it, within a bound",
        f"A superblock whose scans give up is asked {PASSES} times and unmounted; the next one gets its id and is "
        "asked once. All designs.",
        worded(reuse_rule),
        _h30,
    ),
)
