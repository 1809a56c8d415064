"""H24, H25 and H28: every verdict of their rules, and that runs are read by when things happened."""

from collections.abc import Callable
from statistics import median

import pytest
from msgspec import structs

from shmreclaim.designs import NAMES
from shmreclaim.experiments.claims.claim import CANNOT_TELL, HOLDS, REFUTED, CannotTell
from shmreclaim.experiments.claims.latency import (
    COMER,
    COMPARED,
    LONGEST_MS,
    OTHER,
    RECLAIMER,
    SCAN_MS,
    SCANNER,
    SLOW,
    UNDER_RWSEM,
    Reclaimed,
    Unmount,
    online_rule,
    online_times,
    onlining,
    reclaimed,
    stuck,
    stuck_scan_rule,
    unmounted,
    unmounting,
    unregister_rule,
)
from shmreclaim.result import LoggedOp, RunRecord, WorkerSpan
from shmreclaim.workload.ops import Op
from tests.experiments.claims.silent import lab, shown
from tests.report.samples import make_run

MS = 1_000_000
STARTED_MS = {SCANNER: 1000, COMER: 1002, RECLAIMER: 1004}
"""Each CPU starts a little later than the one before."""


Done = tuple[Op, int, float, float, dict[str, int]]
"""An operation: what, on which CPU, when it began and ended in ms on the clock of all CPUs, and what it counted."""


def recorded(*ops: Done, scans_until: float = 2000) -> RunRecord:
    """Make a record of operations, and of when the scanning CPU ended."""
    log = [
        LoggedOp(
            op=op.label,
            cpu=cpu,
            at_ns=round((began - STARTED_MS[cpu]) * MS),
            ns=round((ended - began) * MS),
            cpu_ns=0,
            events=events,
        )
        for op, cpu, began, ended, events in ops
    ]
    ends = {SCANNER: scans_until, COMER: 2000, RECLAIMER: 2000}
    spans = [
        WorkerSpan(cpu=cpu, pid=100 + cpu, started_ns=at * MS, ended_ns=round(ends[cpu] * MS), ops=1)
        for cpu, at in STARTED_MS.items()
    ]
    return structs.replace(make_run(), log=log, workers=spans)


# --- H24 ---------------------------------------------------------------------------------------------

OPEN, SHUT = Reclaimed(80, 80, 640, waited=True), Reclaimed(80, 0, 0, waited=True)
ALONE = dict.fromkeys(NAMES, OPEN)
WRITER = {design: SHUT if design in UNDER_RWSEM else OPEN for design in NAMES}


def test_H24_holds_if_all_passes_fail_under_the_rwsem_and_none_without_it() -> None:
    """Of those that fell into the scan."""
    assert stuck_scan_rule(ALONE, WRITER).verdict == HOLDS


@pytest.mark.parametrize(
    ("design", "found"),
    [
        pytest.param("v4_19", Reclaimed(80, 1, 0, waited=True), id="one got in under the rwsem"),
        pytest.param("v6_7", Reclaimed(80, 79, 632), id="one failed without it"),
        pytest.param("v6_4_srcu", Reclaimed(80, 80, 0), id="all got in and freed nothing"),
    ],
)
def test_H24_is_refuted_by_one_design(design: str, found: Reclaimed) -> None:
    """Whichever it is, and by a single pass."""
    assert stuck_scan_rule(ALONE, {**WRITER, design: found}).verdict == REFUTED


@pytest.mark.parametrize(
    ("alone", "writer"),
    [
        pytest.param({"no_map": Reclaimed(29, 29, 232)}, {}, id="too few passes without a writer"),
        pytest.param({}, {"v6_7": Reclaimed(29, 29, 232)}, id="too few passes with one"),
        pytest.param({"v4_19": Reclaimed(80, 79, 632)}, {}, id="a pass failed without a writer"),
        pytest.param({"v6_7": Reclaimed(80, 80, 0)}, {}, id="nothing was freed without a writer"),
        pytest.param({}, {"davydov": SHUT._replace(waited=False)}, id="the writer did not wait"),
        pytest.param({}, {"davydov": OPEN._replace(waited=False)}, id="it did not, and passes got in"),
    ],
)
def test_H24_cannot_be_told_where_it_was_not_tried(alone: dict[str, Reclaimed], writer: dict[str, Reclaimed]) -> None:
    """Reclaim goes on without a writer, and the writer waits, or the passes say nothing."""
    assert stuck_scan_rule({**ALONE, **alone}, {**WRITER, **writer}).verdict == CANNOT_TELL


def test_passes_count_while_the_scan_sleeps_and_the_registrar_is_there() -> None:
    """Not those before he came, in the first ms after, or when the scan is over; CPUs start at times of their own."""
    failed, done = {"reclaim_passes": 1, "trylock_failed": 1}, {"reclaim_passes": 1, "objects_freed": 8}
    scan: Done = (Op.SHRINK_SLAB, SCANNER, 1010.0, 1011 + SCAN_MS, {"objects_freed": 4})
    registrar: Done = (Op.REGISTER, COMER, 1030.0, 1012 + SCAN_MS, {})
    at = [(1020, done), (1033, done), (1036, failed), (1100, failed), (1110, done), (1009.9 + SCAN_MS, done)]
    passes: list[Done] = [(Op.SHRINK_SLAB, RECLAIMER, ms, ms + 0.2, events) for ms, events in at]
    assert reclaimed(recorded(scan, registrar, *passes)) == Reclaimed(3, 1, 8, waited=True)
    assert reclaimed(recorded(scan, *passes)) == Reclaimed(5, 3, 24, waited=False)
    soon: Done = (Op.REGISTER, COMER, 1030.0, 1030.1, {})
    assert not reclaimed(recorded(scan, soon, *passes)).waited


@pytest.mark.stress
@pytest.mark.parametrize("design", ["v4_19", "v6_7"])
def test_a_writer_that_waits_stops_reclaim_only_under_the_rwsem(design: str) -> None:
    """Without him it goes on under either."""

    def look() -> bool:
        alone, writer = (
            reclaimed(lab().logged(design, stuck(each), Op.SHRINK_SLAB, Op.REGISTER)) for each in (False, True)
        )
        assert alone.got_in == alone.tried
        goes_on = 0 if design == "v4_19" else writer.tried
        return alone.tried > 0 < writer.tried and (writer.got_in, writer.waited) == (goes_on, design == "v4_19")

    assert shown(look)


@pytest.mark.stress
def test_figures_of_reclaim_that_waits_for_the_rwsem_are_refused() -> None:
    """The broken variant: an oracle catches it (I9), and the claim has no figures then."""
    with pytest.raises(CannotTell, match=r"broke an invariant.* I9: reclaim blocked"):
        lab().logged("v4_19+blocking_reclaim", stuck(True), Op.SHRINK_SLAB, Op.REGISTER)


# --- H25 ---------------------------------------------------------------------------------------------


def medians(awake: float, *longest: float) -> dict[float, list[float]]:
    """Give medians by the length of scans, those beside the longest run by run."""
    return {0.0: [awake] * len(longest), LONGEST_MS: list(longest)}


@pytest.mark.parametrize(
    ("v5_13", "verdict"),
    [
        pytest.param(medians(0.01, 8.1, 12, 30), REFUTED, id="it waits in every run"),
        pytest.param(medians(0.01, 0.1, 0.2, 3.1), HOLDS, id="it does not in any"),
        pytest.param(medians(0.01, 0.1, 12, 12), CANNOT_TELL, id="it does in some runs"),
        pytest.param(medians(0.01, 7.9, 7.9, 7.9), CANNOT_TELL, id="for a time between"),
        pytest.param(medians(12.0, 12, 12, 12), CANNOT_TELL, id="beside scans that do not sleep as well"),
    ],
)
def test_H25_is_judged_by_every_run_beside_the_longest_scans(v5_13: dict[float, list[float]], verdict: str) -> None:
    """Against those beside scans that do not sleep."""
    quick = medians(0.01, 0.02, 0.02, 0.02)
    assert online_rule({"v4_19": quick, "v5_13": v5_13, "v6_7": quick}).verdict == verdict


@pytest.mark.parametrize("design", ["v4_19", "v6_7"])
def test_H25_cannot_be_told_if_others_wait_as_well(design: str) -> None:
    """In one run even."""
    p50 = {**dict.fromkeys(COMPARED, medians(0.01, 0.02, 0.02, 0.02)), "v5_13": medians(0.01, 12, 12, 12)}
    assert online_rule(p50).verdict == REFUTED
    assert online_rule({**p50, design: medians(0.01, 0.02, 0.02, 3.2)}).verdict == CANNOT_TELL


def test_memcgs_that_come_online_after_the_last_scan_do_not_count() -> None:
    """And where three did not come before, nothing can be told."""
    onlines: list[Done] = [(Op.MEMCG_ONLINE, COMER, 1010.0 + 10 * k, 1011.0 + 10 * k, {}) for k in range(5)]
    assert online_times(recorded(*onlines)) == pytest.approx([1.0] * 5)
    assert len(online_times(recorded(*onlines, scans_until=1031))) == 3
    with pytest.raises(CannotTell, match="only 2 of 5 memcgs"):
        online_times(recorded(*onlines, scans_until=1030))


@pytest.mark.stress
def test_online_waits_for_a_scan_in_5_13_alone() -> None:
    """Half of its onlines for a part of one that no scheduler makes."""

    def look() -> bool:
        v4_19, v5_13 = (online_times(lab().logged(d, onlining(32), Op.MEMCG_ONLINE)) for d in ("v4_19", "v5_13"))
        return median(v5_13) > 8 * median(v4_19)

    assert shown(look)


# --- H28 ---------------------------------------------------------------------------------------------

WAITED, PASSED, BETWEEN = Unmount(45, 45.1, 0), Unmount(45, 0.1, 0), Unmount(45, 20, 0)
ANOTHER = {**dict.fromkeys(NAMES, WAITED), "v6_7": PASSED}
OWN = dict.fromkeys(NAMES, WAITED)


def test_H28_holds_if_6_7_alone_does_not_wait_for_anothers_scan() -> None:
    """And waits for its own."""
    assert unregister_rule(ANOTHER, OWN).verdict == HOLDS


@pytest.mark.parametrize(
    ("another", "own", "verdict"),
    [
        pytest.param({"v6_7": WAITED}, {}, REFUTED, id="6.7 waits for another's"),
        pytest.param({}, {"v6_7": PASSED}, REFUTED, id="6.7 does not wait for its own"),
        pytest.param({"v6_4_srcu": PASSED}, {}, REFUTED, id="one before does not wait"),
        pytest.param({"v6_7": BETWEEN}, {}, CANNOT_TELL, id="6.7 takes a while"),
        pytest.param({"v4_19": BETWEEN}, {}, CANNOT_TELL, id="one before waits a while only"),
        pytest.param({}, {"v6_7": BETWEEN}, CANNOT_TELL, id="6.7 waits a while for its own"),
        pytest.param({"v6_7": Unmount(20, 0.1, 0)}, {}, CANNOT_TELL, id="the scan was nearly over"),
        pytest.param({}, {"no_map": Unmount(-3, 0.1, 0)}, CANNOT_TELL, id="the scan was over"),
    ],
)
def test_H28_is_judged_by_whose_scan_is_waited_for(
    another: dict[str, Unmount], own: dict[str, Unmount], verdict: str
) -> None:
    """Where enough of the scan was left."""
    assert unregister_rule({**ANOTHER, **another}, {**OWN, **own}).verdict == verdict


def test_what_was_left_of_a_scan_is_read_from_the_log() -> None:
    """From when unmounting began, on the clock of both CPUs."""
    scan: Done = (Op.SHRINK_SLAB, SCANNER, 1010.0, 1070.0, {})
    found = unmounted(recorded(scan, (Op.UNREGISTER, COMER, 1025.0, 1071.0, {})))
    assert (found.left, found.took) == pytest.approx((45, 46))


@pytest.mark.stress
@pytest.mark.parametrize(
    ("design", "handle", "check"),
    [
        ("v5_13", OTHER, lambda found: found.waited),
        ("v6_7", OTHER, lambda found: found.passed),
        ("v6_7", SLOW, lambda found: found.waited and found.s_umount > 0),
    ],
)
def test_unmounting_waits_for_a_scan(design: str, handle: int, check: Callable[[Unmount], bool]) -> None:
    """Of any superblock in 5.13, of its own in 6.7, and there for its s_umount."""
    work = unmounting(handle)
    assert shown(lambda: check(unmounted(lab().logged(design, work, Op.SHRINK_SLAB, Op.UNREGISTER))))
