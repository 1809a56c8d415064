"""H26 and H30: who pays for what a shrinker could not scan.

One CPU, so that every count is exact. The last pass of a run is read from its log, and is what the formulas of the
design's era say, or nothing can be told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from shmreclaim.designs import NAMES
from shmreclaim.experiments.claims.claim import CANNOT_TELL, HOLDS, REFUTED, Claim, Finding, worded
from shmreclaim.experiments.claims.lab import Lab, spans
from shmreclaim.experiments.claims.workloads import add, by_rows, mkdir, mount, shrink, umount
from shmreclaim.machine.compile import plain
from shmreclaim.mm.shrinker import DEFAULT_SEEKS, Arithmetic, scan_carry, scan_delta, scan_target
from shmreclaim.mm.superblock import SUPERBLOCK_BATCH
from shmreclaim.workload.ops import Gfp, Op, Workload

SHARED = NAMES[:4]
"""Designs in which all memcgs share what a shrinker owes."""
PER_MEMCG = NAMES[4:]
OBJECTS, PRIORITY = 10_000, 3
GUILTY, INNOCENT = 1, 2

Table = Mapping[str, Mapping[str, int]]
"""Objects that the last pass freed, by design and column."""

_delta, _target, _carry = plain(scan_delta), plain(scan_target), plain(scan_carry)


def era_of(design: str) -> Arithmetic:
    """Which formulas a design has."""
    if design in PER_MEMCG:
        return Arithmetic.V5_13
    return Arithmetic.V4_19 if design == "v4_19" else Arithmetic.V4_16


def owed_after(design: str, passes: int) -> int:
    """What passes that scan nothing leave to be scanned."""
    owed, era = 0, era_of(design)
    delta = _delta(era, OBJECTS, PRIORITY, DEFAULT_SEEKS, SUPERBLOCK_BATCH)
    for _ in range(passes):
        owed = _carry(era, OBJECTS, owed, delta, 0)
    return owed


def asked_for(design: str, owed: int) -> int:
    """How many objects a pass is to scan that finds so much owed."""
    era = era_of(design)
    delta = _delta(era, OBJECTS, PRIORITY, DEFAULT_SEEKS, SUPERBLOCK_BATCH)
    return _target(era, OBJECTS, owed, delta, PRIORITY)


def scanned(design: str, owed: int) -> int:
    """How many such a pass does scan: full batches, since what is left is less than there are objects."""
    return asked_for(design, owed) // SUPERBLOCK_BATCH * SUPERBLOCK_BATCH


def last_pass(lab: Lab, design: str, workload: Workload) -> int:
    """What the last pass of a run freed; everything it scanned, since nothing is in use."""
    return spans(lab.logged(design, workload, Op.SHRINK_SLAB), Op.SHRINK_SLAB, 0)[-1].events.get("objects_freed", 0)


def _freed(lab: Lab, make: Callable[[str], Workload], columns: Sequence[str]) -> Table:
    return {design: {column: last_pass(lab, design, make(column)) for column in columns} for design in NAMES}


def _figures(freed: Table, formulas: Table) -> dict[str, object]:
    return {"objects freed": dict(freed), "objects freed, by the formulas": dict(formulas)}


def _finding(is_refuted: bool, why: str, freed: Table, formulas: Table) -> Finding:
    """Refuted, or holds, which takes that every figure is what the formulas give."""
    wrong = "" if is_refuted else _against(freed, formulas)
    verdict = REFUTED if is_refuted else CANNOT_TELL if wrong else HOLDS
    return Finding(verdict, wrong or why, _figures(freed, formulas))


def _against(freed: Table, formulas: Table) -> str:
    """Where the formulas say otherwise, in words; empty where nowhere."""
    return ", ".join(
        f"{design} freed {n:,} {column}, by the formulas {formulas[design][column]:,}"
        for design, row in freed.items()
        for column, n in row.items()
        if n != formulas[design][column]
    )


# --- H26 ---------------------------------------------------------------------------------------------

DEFERRED = 2
"""Passes that defer."""
NO_DEBT, ANOTHERS, ITS_OWN = "without debt", "with another's debt", "with its own debt"


def deferring(column: str) -> Workload:
    """Passes over one memcg that may not enter the file system, so that nothing is scanned; then one that may."""
    setup = [mkdir(GUILTY), mkdir(INNOCENT), mount(0), add(GUILTY, 0, OBJECTS), add(INNOCENT, 0, OBJECTS)]
    before = [shrink(GUILTY, PRIORITY, Gfp.FS)] * (0 if column == NO_DEBT else DEFERRED)
    asked = GUILTY if column == ITS_OWN else INNOCENT
    return by_rows("deferred for another", setup, [*before, shrink(asked, PRIORITY)])


def by_formulas(design: str) -> dict[str, int]:
    """What the last pass of `deferring` frees, by column."""
    owed = owed_after(design, DEFERRED)
    others = owed if design in SHARED else 0
    return {NO_DEBT: scanned(design, 0), ANOTHERS: scanned(design, others), ITS_OWN: scanned(design, owed)}


def innocent_rule(freed: Table, formulas: Table) -> Finding:
    """Holds if another memcg's debt makes a pass free more where the count is shared, and nothing more where it is not.

    `freed` is what one pass frees, by design: without debt, with another memcg's debt, and with its own. Refuted if a
    design that shares the count frees no more with another's, or one that keeps it for each memcg does. Nothing can be
    told if a design frees no more with its own either, so that nothing was deferred, or if a figure is not what the
    formulas of do_shrink_slab give.
    """
    undeferred = [design for design in NAMES if freed[design][ITS_OWN] <= freed[design][NO_DEBT]]
    if undeferred:
        return Finding(CANNOT_TELL, f"nothing was deferred by {', '.join(undeferred)}", _figures(freed, formulas))
    paid = {design: freed[design][ANOTHERS] - freed[design][NO_DEBT] for design in NAMES}
    least, most = min(paid[design] for design in SHARED), max(abs(paid[design]) for design in PER_MEMCG)
    why = f"the innocent memcg lost {least:,} objects or more to another's debt before 5.13, and {most:,} at most since"
    return _finding(least <= 0 or most > 0, why, freed, formulas)


def _h26(lab: Lab) -> Finding:
    freed = _freed(lab, deferring, (NO_DEBT, ANOTHERS, ITS_OWN))
    return innocent_rule(freed, {design: by_formulas(design) for design in NAMES})


# --- H30 ---------------------------------------------------------------------------------------------

GIVEN_UP = 12
"""Passes over the first owner: more than what may be owed, 2f."""
PAID_OFF, OWED, OTHER_ID = "without debt", "with the last owner's", "the same, other id"
"""The third is the control: somebody else gets the id, the next superblock another one."""


def reusing(column: str) -> Workload:
    """A superblock whose scans give up owes, or not, and goes; the next has its id, or not, and is asked once."""
    before = [shrink(GUILTY, PRIORITY)] * (0 if column == PAID_OFF else GIVEN_UP)
    between = [mount(2)] if column == OTHER_ID else []
    rows = [mount(0, -1), add(GUILTY, 0, OBJECTS), *before, umount(0), *between, mount(1), add(GUILTY, 1, OBJECTS)]
    return by_rows("an id used again", [mkdir(GUILTY)], [*rows, shrink(GUILTY, PRIORITY)])


BOUND = asked_for(PER_MEMCG[0], 2 * OBJECTS)
"""The most that a debt, itself 2f at most, can make one pass scan."""


def after_reuse(design: str) -> dict[str, int]:
    """What the first pass over the next owner frees by the formulas, if from 5.13 on the debt stays with the id."""
    kept = owed_after(design, GIVEN_UP) if design in PER_MEMCG else 0
    return {PAID_OFF: scanned(design, 0), OWED: scanned(design, kept), OTHER_ID: scanned(design, 0)}


def reuse_rule(freed: Table, formulas: Table) -> Finding:
    """Holds if the next owner of an id pays for the last one since 5.13, within the bound, and did not before.

    `freed` is what the first pass over the new owner frees, by design, where the last one owed and where not. The
    bound is min((d >> p) + delta, 2f). Refuted if a design since 5.13 frees no more with the debt, or more than the
    bound, or one before 5.13 frees more with it. Nothing can be told if one frees more under another id too, so that
    the id is not the reason, or if a figure is not what the formulas of do_shrink_slab give.
    """
    paid = {design: row[OWED] - row[PAID_OFF] for design, row in freed.items()}
    also = [design for design, row in freed.items() if row[OTHER_ID] != row[PAID_OFF]]
    if also:
        told = f"the next owner paid under another id as well: {', '.join(also)}"
        return Finding(CANNOT_TELL, told, _figures(freed, formulas))
    before, since = max(abs(paid[design]) for design in SHARED), min(paid[design] for design in PER_MEMCG)
    most = max(freed[design][OWED] for design in PER_MEMCG)
    why = (
        f"the new owner lost {since:,} objects or more to the old one's debt since 5.13, {before:,} at most before, "
        f"and none under another id; {most:,} freed at most, the bound is {BOUND:,}"
    )
    return _finding(since <= 0 or before > 0 or most > BOUND, why, freed, formulas)


def _h30(lab: Lab) -> Finding:
    freed = _freed(lab, reusing, (PAID_OFF, OWED, OTHER_ID))
    return reuse_rule(freed, {design: after_reuse(design) for design in NAMES})


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "H26",
        "Yang Shi, 2020 and 2021, of the series that became 5.13",
        "one nr_deferred for all memcgs makes innocent ones pay for what others deferred; one for each memcg does not",
        f"{DEFERRED} passes over one memcg of {OBJECTS:,} objects without GFP_FS, which scan nothing and defer; then "
        "one over another memcg that has as many objects of the same superblock, or over the same. All designs.",
        worded(innocent_rule),
        _h26,
    ),
    Claim(
        "H30",
        "ours, read from the code of 5.13 to 6.7",
        "what a shrinker owed survives the reuse of its id since 5.13: the next owner pays for it, within a bound",
        f"A superblock whose scans give up is asked {GIVEN_UP} times and unmounted; the next one gets its id and is "
        "asked once. The same where somebody else gets the id. All designs.",
        worded(reuse_rule),
        _h30,
    ),
)
