"""H24, H25 and H28: who waits for a scan that sleeps.

Runs are read from their logs, on the clock of all CPUs: what did not fall into the sleep of a scan is not counted, and
where too little did, nothing can be told. So a machine that is late makes no verdict.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import NamedTuple

from shmreclaim.designs import NAMES
from shmreclaim.experiments.claims.claim import CANNOT_TELL, HOLDS, REFUTED, CannotTell, Claim, Finding, worded
from shmreclaim.experiments.claims.lab import Lab, below, spans
from shmreclaim.experiments.claims.workloads import Row, add, by_rows, idle, mkdir, mount, shrink, umount
from shmreclaim.result import RunRecord
from shmreclaim.workload.ops import Op, Workload

UNDER_RWSEM = NAMES[:5]
WITHOUT_LOCK = NAMES[5:]
SLOW, OTHER = 0, 1
"""Superblocks: the one whose scans sleep, and one whose do not."""
SCANNER, COMER, RECLAIMER = 0, 1, 2
"""CPUs: of the scan that sleeps, of who comes meanwhile, and of other passes."""


# --- H24 ---------------------------------------------------------------------------------------------

SCAN_MS, COMES_MS, BEGINS_MS = 120.0, 15.0, 35.0
SETTLED_MS = 5.0
"""How long after the registrar came passes count: by then it waits, if it has to."""
PASSES, LEAST = 80, 30
"""Passes that are planned, and of which at least so many must fall into the scan."""
HAUL = 8
"""Objects that are there for each pass."""


class Reclaimed(NamedTuple):
    """Passes over another memcg while a scan slept, its registrar there if one comes."""

    tried: int
    got_in: int
    freed: int
    """Objects."""
    waited: bool = False
    """Whether the registrar waited for the scan to end."""


def stuck(writer: bool) -> Workload:
    """A scan sleeps; a registrar comes, or not; then another CPU runs passes over another memcg, all of its objects."""
    setup = [mkdir(1), mkdir(2), mount(SLOW, int(SCAN_MS * 1e6)), mount(OTHER), add(1, SLOW, 4)]
    registrar: list[Row] = [idle(COMES_MS), mount(2)] if writer else [idle(COMES_MS)]
    passes = [idle(BEGINS_MS), *([add(2, OTHER, HAUL), shrink(2), idle(0.4)] * PASSES)]
    return by_rows("a stuck scan", setup, [shrink(1)], registrar, passes)


def reclaimed(record: RunRecord) -> Reclaimed:
    """Read a run of `stuck`."""
    (scan,) = spans(record, Op.SHRINK_SLAB, SCANNER)
    came = spans(record, Op.REGISTER, COMER)
    begin, end = (came[0].began if came else scan.began) + SETTLED_MS, scan.began + SCAN_MS
    meanwhile = [each for each in spans(record, Op.SHRINK_SLAB, RECLAIMER) if begin <= each.began and each.ended <= end]
    return Reclaimed(
        tried=len(meanwhile),
        got_in=sum("trylock_failed" not in each.events for each in meanwhile),
        freed=sum(each.events.get("objects_freed", 0) for each in meanwhile),
        waited=bool(came) and came[0].ended >= end,
    )


def stuck_scan_rule(alone: Mapping[str, Reclaimed], writer: Mapping[str, Reclaimed]) -> Finding:
    """Holds if with a writer that waits every pass fails under shrinker_rwsem and none without it.

    Counted are passes while the scan slept, `alone` and with a `writer` there. Refuted if a pass under shrinker_rwsem
    gets in though a writer waits, or if without it one fails or all free nothing. Nothing can be told if fewer than 30
    passes fell into a scan, if without a writer one failed too or all freed nothing, or if under shrinker_rwsem the
    writer did not wait.
    """
    fewest = min(each.tried for arm in (alone, writer) for each in arm.values())
    figures: dict[str, object] = {"a scan alone": _rows(alone), "a scan and a registrar": _rows(writer)}
    if fewest < LEAST:
        return Finding(CANNOT_TELL, f"a scan had only {fewest} passes beside it, of {PASSES}", figures)
    in_the_way = [d for d, each in alone.items() if each.got_in < each.tried or not each.freed]
    in_the_way += [d for d in UNDER_RWSEM if not writer[d].waited]
    if in_the_way:
        told = ", ".join(dict.fromkeys(in_the_way))
        return Finding(CANNOT_TELL, f"reclaim stood still without a writer, or none waited: {told}", figures)
    rwsem, free = (_sum(writer, designs) for designs in (UNDER_RWSEM, WITHOUT_LOCK))
    before = _sum(alone, UNDER_RWSEM)
    why = (
        f"while a scan slept and a writer waited, {rwsem.got_in} of {rwsem.tried} passes got in under shrinker_rwsem, "
        f"without a writer {before.got_in} of {before.tried}; in designs without that lock {free.got_in} of "
        f"{free.tried}, which freed {free.freed:,} objects"
    )
    unharmed = free.got_in == free.tried and all(writer[design].freed for design in WITHOUT_LOCK)
    return Finding(HOLDS if rwsem.got_in == 0 and unharmed else REFUTED, why, figures)


def _sum(arm: Mapping[str, Reclaimed], designs: Sequence[str]) -> Reclaimed:
    rows = [arm[design] for design in designs]
    return Reclaimed(sum(each.tried for each in rows), sum(each.got_in for each in rows), sum(r.freed for r in rows))


def _rows(arm: Mapping[str, Reclaimed]) -> dict[str, dict[str, object]]:
    names = {"tried": "passes", "got_in": "got in", "freed": "objects freed"}
    return {design: {names[name]: getattr(each, name) for name in names} for design, each in arm.items()}


def _h24(lab: Lab) -> Finding:
    arms = []
    for writer in (False, True):
        work = stuck(writer)
        arms.append({d: reclaimed(lab.logged(d, work, Op.SHRINK_SLAB, Op.REGISTER)) for d in NAMES})
    return stuck_scan_rule(*arms)


# --- H25 ---------------------------------------------------------------------------------------------

SCANS_MS = (0.0, 2.0, 8.0, 32.0)
LONGEST_MS = SCANS_MS[-1]
ONLINES, LEAST_ONLINES, REPEAT = 5, 3, 3
PAUSE_MS = 2.0
"""Between two scans: a writer that waits wakes up in it, or the next scan's trylock fails and it does not sleep."""
SPARE_MS = 100.0
"""How much longer scans go on than onlines should take."""
COMPARED = ("v4_19", "v5_13", "v6_7")

Medians = Mapping[float, Sequence[float]]
"""By the length of the scans, the median of memcg_online in each run, in ms."""


def onlining(scan_ms: float) -> Workload:
    """One CPU scans, with pauses in which a waiting writer gets in; another brings memcgs online."""
    scans = math.ceil((ONLINES * (1.2 * scan_ms + 1) + SPARE_MS) / (scan_ms + PAUSE_MS))
    onlines = [row for k in range(ONLINES) for row in (idle(scan_ms * 0.6 + 1), mkdir(2 + k))]
    setup = [mkdir(1), mount(SLOW, int(scan_ms * 1e6))]
    return by_rows("online beside scans", setup, [add(1, SLOW, 4), shrink(1), idle(PAUSE_MS)] * scans, onlines)


def online_rule(p50_ms: Mapping[str, Medians]) -> Finding:
    """Refuted if online visibly waits for scans in v5_13, which takes the rwsem for write, and not in v4_19 and v6_7.

    `p50_ms` is the median time of memcg_online in each run, by design and length of the scans. It visibly waits if in
    every run the median beside the longest scans is more than a quarter of one, and more than in any run with scans
    that do not sleep. It does not if in every run it is less than a tenth of one. Holds if it does not in v5_13
    either; anything else cannot be told.
    """
    highest = {design: max(p50_ms[design][LONGEST_MS]) for design in COMPARED}
    told = ", ".join(f"{d} {median(p50_ms[d][LONGEST_MS]):.3g} ms ({median(p50_ms[d][0.0]):.3g} ms)" for d in COMPARED)
    why = f"median of online beside scans of {LONGEST_MS:g} ms (beside scans that do not sleep): {told}"
    if max(highest["v4_19"], highest["v6_7"]) >= LONGEST_MS / 10:
        return Finding(CANNOT_TELL, f"others waited as well; {why}")
    here = p50_ms["v5_13"]
    if min(here[LONGEST_MS]) > LONGEST_MS / 4 and below(here[0.0], here[LONGEST_MS]):
        return Finding(REFUTED, why)
    return Finding(HOLDS if highest["v5_13"] < LONGEST_MS / 10 else CANNOT_TELL, why)


def _h25(lab: Lab) -> Finding:
    p50: dict[str, dict[float, list[float]]] = {d: {ms: [] for ms in SCANS_MS} for d in COMPARED}
    longest: dict[str, dict[str, float]] = {d: dict.fromkeys(map(_column, SCANS_MS), 0.0) for d in COMPARED}
    for scan_ms in SCANS_MS * REPEAT:
        for design in COMPARED:
            times = online_times(lab.logged(design, onlining(scan_ms), Op.MEMCG_ONLINE))
            p50[design][scan_ms].append(median(times))
            longest[design][_column(scan_ms)] = max(longest[design][_column(scan_ms)], *times)
    finding = online_rule(p50)
    halves = {design: {_column(ms): median(p50[design][ms]) for ms in SCANS_MS} for design in COMPARED}
    return Finding(finding.verdict, finding.why, {"memcg_online p50, ms": halves, "memcg_online max, ms": longest})


def online_times(record: RunRecord) -> list[float]:
    """Give the times of memcg_online in a run of `onlining` while scans went on, ms; CannotTell if they are too few."""
    last_scan = next(worker.ended_ns for worker in record.workers if worker.cpu == SCANNER) / 1e6
    beside = [each for each in spans(record, Op.MEMCG_ONLINE, COMER) if each.ended <= last_scan]
    if len(beside) < LEAST_ONLINES:
        raise CannotTell(f"only {len(beside)} of {ONLINES} memcgs came online beside scans: the machine was too busy")
    return [each.ended - each.began for each in beside]


def _column(scan_ms: float) -> str:
    return f"scans of {scan_ms:g} ms"


# --- H28 ---------------------------------------------------------------------------------------------

LONG_MS, LATER_MS = 60.0, 15.0


class Unmount(NamedTuple):
    """An unmount while a scan slept, in ms."""

    left: float
    """Of the scan, when unmounting began."""
    took: float
    s_umount: float
    """How much of it was waiting for the superblock's own s_umount."""

    @property
    def waited(self) -> bool:
        """Whether it took nearly all that was left of the scan, or longer."""
        return self.took > 0.8 * self.left

    @property
    def passed(self) -> bool:
        """Whether it took hardly any of it."""
        return self.took < 0.1 * self.left


def unmounting(handle: int) -> Workload:
    """A scan of SLOW sleeps; meanwhile a superblock is unmounted."""
    setup = [mkdir(1), mount(SLOW, int(LONG_MS * 1e6)), mount(OTHER), add(1, SLOW, 4)]
    return by_rows("unmount beside a scan", setup, [shrink(1)], [idle(LATER_MS), umount(handle)])


def unmounted(record: RunRecord) -> Unmount:
    """Read a run of `unmounting`."""
    (scan,) = spans(record, Op.SHRINK_SLAB, SCANNER)
    (unmount,) = spans(record, Op.UNREGISTER, COMER)
    uses = record.locks.get("s_umount", {})
    waited = uses["write"].waittime_ns.max / 1e6 if "write" in uses else 0.0
    return Unmount(scan.ended - unmount.began, unmount.ended - unmount.began, waited)


def unregister_rule(another: Mapping[str, Unmount], own: Mapping[str, Unmount]) -> Finding:
    """Holds if unmounting waits for the scan of another superblock in every design but v6_7, there for its own alone.

    To wait is to take more than 80 % of what was left of the scan, not to is to take less than 10 %. Refuted if v6_7
    waits for another's scan or does not for its own, or if a design before it does not wait for another's. Nothing can
    be told if less than half of what should have been left of a scan was, or if something between came out.
    """
    planned = LONG_MS - LATER_MS
    figures: dict[str, object] = {"another's scan, ms": _unmounts(another), "its own scan, ms": _unmounts(own)}
    least = min(each.left for arm in (another, own) for each in arm.values())
    if least < planned / 2:
        return Finding(CANNOT_TELL, f"unmounting began when only {least:.3g} ms of a scan were left", figures)
    new, old = NAMES[-1], NAMES[:-1]
    why = (
        f"of a scan with {planned:g} ms to go, unmounting another superblock took {another[new].took:.3g} ms under "
        f"{new} and {min(another[d].took for d in old):.3g} ms or more under the others; its own took {new} "
        f"{own[new].took:.3g} ms, {own[new].s_umount:.3g} of them for s_umount"
    )
    if another[new].waited or own[new].passed or any(another[design].passed for design in old):
        return Finding(REFUTED, why, figures)
    clear = another[new].passed and own[new].waited and all(another[design].waited for design in old)
    return Finding(HOLDS if clear else CANNOT_TELL, why, figures)


def _unmounts(arm: Mapping[str, Unmount]) -> dict[str, dict[str, float]]:
    return {d: {"was left": each.left, "took": each.took, "for s_umount": each.s_umount} for d, each in arm.items()}


def _h28(lab: Lab) -> Finding:
    arms = []
    for handle in (OTHER, SLOW):
        work = unmounting(handle)
        arms.append({d: unmounted(lab.logged(d, work, Op.SHRINK_SLAB, Op.UNREGISTER)) for d in NAMES})
    return unregister_rule(*arms)


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "H24",
        "Shakeel Butt and Minchan Kim, of mounts stuck behind reclaim; the other side is ours",
        "a scan that sleeps and one queued writer stop all slab reclaim where walks take shrinker_rwsem, only there",
        f"A scan sleeps {SCAN_MS:g} ms; with and without a registrar that waits, another CPU runs {PASSES} passes "
        f"over another memcg, {HAUL} new objects for each. All designs.",
        worded(stuck_scan_rule),
        _h24,
    ),
    Claim(
        "H25",
        "Yang Shi and Kirill Tkhai, 2021, of the series that became 5.13",
        "taking shrinker_rwsem for write in css_online does no visible harm",
        f"{ONLINES} memcgs come online beside scans of {', '.join(f'{ms:g}' for ms in SCANS_MS)} ms that follow each "
        f"other, each 0.6 of a scan and 1 ms after the one before, so that most find one with less than half to go; "
        f"{REPEAT} times. {', '.join(COMPARED)}.",
        worded(online_rule),
        _h25,
    ),
    Claim(
        "H28",
        "Qi Zheng, 2023, of the series that became 6.7",
        "with references, unregistering depends on the users of the same shrinker alone",
        f"A scan sleeps {LONG_MS:g} ms; {LATER_MS:g} ms later another superblock, or its own, is unmounted. "
        "All designs.",
        worded(unregister_rule),
        _h28,
    ),
)
