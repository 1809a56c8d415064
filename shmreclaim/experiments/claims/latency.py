"""H24, H25 and H28: who waits for a scan that sleeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shmreclaim.designs import NAMES
from shmreclaim.experiments.claims.claim import CANNOT_TELL, HOLDS, REFUTED, Claim, Finding, worded
from shmreclaim.experiments.claims.lab import Lab
from shmreclaim.experiments.claims.workloads import Row, add, by_rows, idle, mkdir, mount, shrink, umount
from shmreclaim.result import RunRecord
from shmreclaim.workload.ops import Workload

UNDER_RWSEM = NAMES[:5]
WITHOUT_LOCK = NAMES[5:]
SLOW, OTHER = 0, 1
"""Superblocks: the one whose scans sleep, and one whose do not."""


def _ms(record: RunRecord, op: str) -> float:
    return record.ops[op].latency.max / 1e6


# --- H24 ---------------------------------------------------------------------------------------------

SCAN_MS, PASSES = 120.0, 80


def _stuck(writer: bool) -> Workload:
    """A scan sleeps; a registrar comes, or not; then another CPU runs passes over another memcg."""
    setup = [mkdir(1), mkdir(2), mount(SLOW, int(SCAN_MS * 1e6)), mount(OTHER), add(1, SLOW, 4), add(2, OTHER, 8)]
    registrar: list[Row] = [idle(20), mount(2)] if writer else [idle(20)]
    return by_rows("a stuck scan", setup, [shrink(1)], registrar, [idle(40), *([shrink(2, 12), idle(0.4)] * PASSES)])


def stuck_scan_rule(failed: Mapping[str, Mapping[str, float]]) -> Finding:
    """Holds if nearly all passes fail under shrinker_rwsem once a writer waits, and else hardly any does.

    `failed` is the part of the passes that found the lock taken, by design, "alone" and with a "writer". Nearly all is
    95 %, hardly any 5 %. Refuted if passes get in though a writer waits, or if they fail without a lock; where they
    fail without a writer too, something else was in the way, and nothing can be told.
    """
    alone = max(failed[design]["alone"] for design in NAMES)
    stopped = min(failed[design]["writer"] for design in UNDER_RWSEM)
    free = max(failed[design]["writer"] for design in WITHOUT_LOCK)
    why = (
        f"while a scan slept and a writer waited, {stopped:.0%} or more of the passes failed under shrinker_rwsem and "
        f"{free:.0%} at most in the designs without it; without a writer {alone:.0%} at most"
    )
    verdict = HOLDS if stopped >= 0.95 and free <= 0.05 else REFUTED
    return Finding(CANNOT_TELL if alone > 0.05 else verdict, why, {"passes that failed": dict(failed)})


def _h24(lab: Lab) -> Finding:
    failed: dict[str, dict[str, float]] = {design: {} for design in NAMES}
    for column, writer in (("alone", False), ("writer", True)):
        for design in NAMES:
            (record,) = lab.records(design, _stuck(writer))
            failed[design][column] = record.reclaim.trylock_failed / PASSES
    return stuck_scan_rule(failed)


# --- H25 ---------------------------------------------------------------------------------------------

SCANS_MS = (0.0, 2.0, 8.0, 24.0)
ONLINES = 7
COMPARED = ("v4_19", "v5_13", "v6_7")


def _onlining(scan_ms: float) -> Workload:
    """One CPU scans, with pauses in which a waiting writer gets in; another brings memcgs online."""
    scans = [add(1, SLOW, 4), shrink(1), idle(0.5)] if scan_ms else [idle(1)]
    length = scan_ms or 1
    onlines = [row for k in range(ONLINES) for row in (idle(length * 0.6 + 1), mkdir(2 + k))]
    setup = [mkdir(1), mount(SLOW, int(scan_ms * 1e6))]
    return by_rows("online beside scans", setup, scans * int((length + 1) * ONLINES * 2 / length), onlines)


def online_rule(p50_ms: Mapping[str, Mapping[float, float]]) -> Finding:
    """Refuted if online waits for scans where it takes the rwsem for write, and not where it does not.

    `p50_ms` is the median time of memcg_online by design and length of the scans. Visible harm is a median of more
    than a quarter of the longest scan in v5_13, where v4_19's and v6_7's is below a tenth of it. Holds if v5_13's is
    below a tenth too; anything between cannot be told.
    """
    longest = max(SCANS_MS)
    waits = {design: p50_ms[design][longest] / longest for design in COMPARED}
    why = "; ".join(f"{d}: {p50_ms[d][longest]:.3g} ms beside scans of {longest:g} ms" for d in COMPARED)
    table = {design: {f"scans of {ms:g} ms": p50_ms[design][ms] for ms in SCANS_MS} for design in COMPARED}
    figures: dict[str, object] = {"memcg_online p50, ms": table}
    if max(waits["v4_19"], waits["v6_7"]) > 0.1:
        return Finding(CANNOT_TELL, f"others waited as well: {why}", figures)
    if waits["v5_13"] > 0.25:
        return Finding(REFUTED, why, figures)
    return Finding(HOLDS if waits["v5_13"] < 0.1 else CANNOT_TELL, why, figures)


def _h25(lab: Lab) -> Finding:
    p50: dict[str, dict[float, float]] = {design: {} for design in COMPARED}
    for scan_ms in SCANS_MS:
        for design in COMPARED:
            (record,) = lab.records(design, _onlining(scan_ms))
            p50[design][scan_ms] = (record.ops["memcg_online"].latency.percentile(50) or 0) / 1e6
    return online_rule(p50)


# --- H28 ---------------------------------------------------------------------------------------------

LONG_MS, LATER_MS = 60.0, 15.0


def _unmounting(handle: int) -> Workload:
    """A scan of SLOW sleeps; meanwhile a superblock is unmounted."""
    setup = [mkdir(1), mount(SLOW, int(LONG_MS * 1e6)), mount(OTHER), add(1, SLOW, 4)]
    return by_rows("unmount beside a scan", setup, [shrink(1)], [idle(LATER_MS), umount(handle)])


def unregister_rule(waited_ms: Mapping[str, Sequence[float]]) -> Finding:
    """Holds if under every design but v6_7 unmounting one superblock waits for the scan of another.

    `waited_ms` is, by design, how long unmounting took while a scan of another superblock slept, and of its own. To
    wait is to take more than half of what is left of the scan, not to is to take less than a tenth. Holds if designs
    before v6_7 wait for either scan, and v6_7 for its own alone. Refuted if v6_7 waits for another's, or not for its
    own. If another design does not wait the scan was over too soon, and nothing can be told.
    """
    left = LONG_MS - LATER_MS
    others = [waited_ms[design][0] for design in NAMES[:-1]]
    another, own = waited_ms["v6_7"]
    why = (
        f"of a scan with {left:g} ms to go, unmounting another superblock took {another:.3g} ms under v6_7 and "
        f"{min(others):.3g} ms or more under the others; its own took v6_7 {own:.3g} ms"
    )
    table = {design: dict(zip(("another's scan", "its own"), both, strict=True)) for design, both in waited_ms.items()}
    figures: dict[str, object] = {"unmounting, ms": table}
    if min(others) < left / 2:
        return Finding(CANNOT_TELL, why, figures)
    return Finding(HOLDS if another < left / 10 and own > left / 2 else REFUTED, why, figures)


def _h28(lab: Lab) -> Finding:
    waited: dict[str, list[float]] = {design: [] for design in NAMES}
    for handle in (OTHER, SLOW):
        for design in NAMES:
            (record,) = lab.records(design, _unmounting(handle))
            waited[design].append(_ms(record, "unregister"))
    return unregister_rule(waited)


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "H24",
        "Shakeel Butt and Minchan Kim, of mounts stuck behind reclaim; the other side is ours",
        "a scan that sleeps and one queued writer stop all slab reclaim where walks take shrinker_rwsem, only there",
        f"A scan sleeps {SCAN_MS:g} ms; with and without a registrar that waits, another CPU runs {PASSES} passes "
        "over another memcg. All designs.",
        worded(stuck_scan_rule),
        _h24,
    ),
    Claim(
        "H25",
        "Yang Shi and Kirill Tkhai, 2021, of the series that became 5.13",
        "taking shrinker_rwsem for write in css_online does no visible harm",
        f"Memcgs come online beside scans of {', '.join(f'{ms:g}' for ms in SCANS_MS)} ms that follow each other. "
        f"{', '.join(COMPARED)}.",
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
