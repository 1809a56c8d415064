"""H4, H9 and H14: how often maps grow, for how long which lock is held then, and against whom."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

from shmreclaim.designs import NAMES
from shmreclaim.experiments.claims.claim import CANNOT_TELL, HOLDS, REFUTED, CannotTell, Claim, Finding, worded
from shmreclaim.experiments.claims.lab import Lab, Outcome, below
from shmreclaim.experiments.claims.workloads import SEED, Row, add, by_rows, idle, mkdir, mount, shrink, umount
from shmreclaim.result import RunRecord
from shmreclaim.workload.ops import Workload

MAPPED = NAMES[1:]
LIVE, TURNS = 200, 3000


def churning(live: int, turns: int) -> Workload:
    """So many mounts that live, one of them drawn and replaced again and again, on one CPU."""
    rng = random.Random(SEED)
    alive = list(range(live))
    rows: list[Row] = []
    for k in range(turns):
        at = rng.randrange(live)
        rows += [umount(alive[at]), mount(live + k)]
        alive[at] = live + k
    return by_rows("churn", [mkdir(1), mkdir(2), *(mount(k) for k in range(live))], rows)


# --- H4 ----------------------------------------------------------------------------------------------


def predicted(design: str, live: int) -> int:
    """Growths that hold so many ids: v1 doubles from 8, the others go by words of 64."""
    if design == "tkhai_v1":
        return 1 + max(0, (live - 1).bit_length() - 3)
    return -(-live // 64)


def growths_rule(growths: Mapping[str, int], control: Mapping[str, int]) -> Finding:
    """Holds if every design grows exactly as often as its peak of live ids needs, however many came and went.

    `growths` by design; predicted are 1 + log2(N / 8), rounded up, for v1 and N / 64 for the others. `control` has
    variants that give ids out in turn; they must grow on, or the workload could not have shown it.
    """
    wrong = {d: (n, predicted(d, LIVE)) for d, n in growths.items() if n != predicted(d, LIVE)}
    table = {design: {"growths": n, "predicted": predicted(design, LIVE)} for design, n in growths.items()}
    figures: dict[str, object] = {"smallest id first": table, "ids in turn": dict(control)}
    if not control or any(n <= predicted("v4_19", LIVE) for n in control.values()):
        return Finding(CANNOT_TELL, f"ids in turn did not grow on: {dict(control)}", figures)
    if wrong:
        return Finding(REFUTED, f"growths against prediction: {wrong}", figures)
    why = f"{TURNS:,} came and went among {LIVE}; growths stopped as predicted, with ids in turn there were {control}"
    return Finding(HOLDS, why, figures)


def _h4(lab: Lab) -> Finding:
    work = churning(LIVE, TURNS)
    growths = {d: lab.records(d, work)[0].growth.count for d in MAPPED if d != "v6_4_srcu"}
    growths["v6_4_srcu"] = lab.records("v6_4_srcu+srcu_gp_us=0", work)[0].growth.count
    control = {}
    for design in ("davydov+cyclic_ids", "v4_19+cyclic_ids"):
        (outcome,) = lab.run(design, work)  # it breaks I6, which is the point
        control[design] = outcome.record.growth.count if outcome.record else 0
    return growths_rule(growths, control)


# --- H9 ----------------------------------------------------------------------------------------------

MEMCGS, REPEATS = 600, 4
FULL, QUIET = 64, 40
"""Mounts that fill maps to the last bit; the one after these makes room for QUIET more under every design."""
OF_DESIGNS = ("shrinker_rwsem", "shrinker_mutex", "bitmap_rwsem", "map_mutex")


def _one_growth(memcgs: int) -> Workload:
    setup = [*(mkdir(1 + k) for k in range(memcgs)), *(mount(k) for k in range(64))]
    return by_rows("one growth", setup, [mount(64)])


def hold_rule(held: Mapping[str, Sequence[tuple[int, int, int]]]) -> Finding:
    """Holds if v1's longest hold of shrinker_rwsem for write is shorter than v4_19's in every run of a growth.

    `held` has (acquisitions, longest hold, all holds together; ns) of each run. Refuted if it is longer in every run;
    where runs overlap nothing can be told. How often v1 takes it, and how long in all, is told beside.
    """
    longest = {design: [run[1] for run in runs] for design, runs in held.items()}
    table = {
        design: {
            "taken": max(run[0] for run in runs),
            "longest hold, µs": max(run[1] for run in runs) / 1e3,
            "held in all, µs": max(run[2] for run in runs) / 1e3,
        }
        for design, runs in held.items()
    }
    v1, merged = table["tkhai_v1"], table["v4_19"]
    why = (
        f"growing the maps of {MEMCGS} memcgs v1 held it {v1['longest hold, µs']:.3g} µs at most, {v1['taken']} times, "
        f"{v1['held in all, µs']:.3g} µs in all; v4_19 {merged['longest hold, µs']:.3g} µs at most, "
        f"{merged['taken']} times"
    )
    figures: dict[str, object] = {"one growth": table}
    if below(longest["tkhai_v1"], longest["v4_19"]):
        return Finding(HOLDS, why, figures)
    return Finding(REFUTED if below(longest["v4_19"], longest["tkhai_v1"]) else CANNOT_TELL, why, figures)


def _holds(record: RunRecord) -> tuple[int, int, int]:
    use = record.locks["shrinker_rwsem"]["write"]
    return use.acquisitions, use.holdtime_ns.max, use.holdtime_ns.total


def growth_holds(lab: Lab) -> dict[str, list[tuple[int, int, int]]]:
    """What each run of one growth did with shrinker_rwsem; shared by H9, H10 and H15."""
    records = lab.measure(("tkhai_v1", "davydov", "v4_19", "v5_13"), _one_growth(MEMCGS), repeat=REPEATS)
    return {design: [_holds(record) for record in runs] for design, runs in records.items()}


def quiet_mounts(lab: Lab) -> dict[str, dict[str, float]]:
    """How often a mount takes which lock of the design for write where nothing grows; shared by H10 and H15."""
    setup = [mkdir(1), *(mount(k) for k in range(FULL + 1))]
    work = by_rows("mounts without growth", setup, [mount(FULL + 1 + k) for k in range(QUIET)])
    found = {}
    for design in ("tkhai_v1", "davydov", "v4_19", "v5_13", "v6_7"):
        (record,) = lab.records(design, work)
        taken = {name: uses["write"].acquisitions for name, uses in record.locks.items() if name in OF_DESIGNS}
        found[design] = {name: count / QUIET for name, count in taken.items() if count}
    return found


def _h9(lab: Lab) -> Finding:
    return hold_rule(lab.once(growth_holds))


# --- H14 ---------------------------------------------------------------------------------------------

RACES, BEFORE, ONLINES = 4, 50, 3000
WITH_MUTEX, ALTERNATIVE = ("davydov", "v4_19"), "v5_13"
SCAN_MS, WAITING = 1.0, 100
LISTS = "lists_on_demand=1"
"""Or so many memcgs and mounts would spend their time on making lists."""


def online_against_growth() -> Workload:
    """One growth, while another CPU brings memcgs online: a second one would make good what the first left short."""
    setup = [*(mkdir(1 + k) for k in range(BEFORE)), *(mount(k) for k in range(FULL))]
    mkdirs = [mkdir(1 + BEFORE + k) for k in range(ONLINES)]
    return by_rows("online against growth", setup, [idle(0.3), mount(FULL)], mkdirs)


def _online_against_scans() -> Workload:
    """Memcgs come online while another CPU reclaims by scans that sleep."""
    setup = [mkdir(1), mount(0, int(SCAN_MS * 1e6)), add(1, 0, 4000)]
    return by_rows("online against scans", setup, [shrink(1)] * WAITING, [mkdir(2 + k) for k in range(WAITING)])


def mutex_rule(short: Mapping[str, int], with_mutex: Mapping[str, int]) -> Finding:
    """Holds if without the mutex memcgs come online with maps too short for the ids there are, and with it never.

    By design, maps too short (I3, I10) that were found `short` without it, and `with_mutex`. Refuted if designs with
    it have them as well. Where none was found without it, the race was not seen.
    """
    figures: dict[str, object] = {
        "maps too short": {d: {"without the mutex": short[d], "with it": with_mutex[d]} for d in short}
    }
    why = f"maps too short for an id: {sum(short.values()):,} without the mutex, {sum(with_mutex.values()):,} with it"
    if any(with_mutex.values()):
        return Finding(REFUTED, why, figures)
    return Finding(HOLDS if all(short.values()) else CANNOT_TELL, why, figures)


def too_short(outcomes: Sequence[Outcome]) -> int:
    """Count maps that do not reach; raises CannotTell if anything else went wrong."""
    found = [text for outcome in outcomes for text in outcome.broken if "I3:" in text or "I10:" in text]
    for outcome in outcomes:
        others = [text for text in outcome.broken if text not in found]
        if outcome.hung or others:
            raise CannotTell(f"{outcome.design} {others[0] if others else 'hung'}: its maps mean nothing")
    return len(found)


def _h14(lab: Lab) -> Finding:
    work = online_against_growth()
    short = {d: too_short(lab.run(f"{d}+no_map_mutex+{LISTS}", work, repeat=RACES)) for d in WITH_MUTEX}
    finding = mutex_rule(short, {d: too_short(lab.run(f"{d}+{LISTS}", work, repeat=RACES)) for d in WITH_MUTEX})
    table = {}
    for design in ("v4_19", ALTERNATIVE):
        (record,) = lab.records(design, _online_against_scans())
        took = record.ops["memcg_online"].latency
        table[design] = {"p50, µs": round((took.percentile(50) or 0) / 1e3, 2), "max, µs": round(took.max / 1e3, 1)}
    finding.figures[f"online against scans of {SCAN_MS:g} ms"] = table
    slowest = ", ".join(f"{row['max, µs']:,} µs under {design}" for design, row in table.items())
    beside = (
        f"{ALTERNATIVE} orders them by shrinker_rwsem instead: the slowest of {WAITING} beside scans took {slowest}"
    )
    return replace(finding, why=f"{finding.why}; {beside}")


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "H4",
        "Vladimir Davydov, 27 and 28 March 2018",
        "growth is rare and bounded, since maps never shrink",
        f"{TURNS:,} unmounts and mounts among {LIVE} that live, under every design with maps; ids given out in turn "
        "beside.",
        worded(growths_rule),
        _h4,
    ),
    Claim(
        "H9",
        "Kirill Tkhai, 24 to 28 March 2018",
        "the first series holds shrinker_rwsem only briefly",
        f"One mount that makes the maps of {MEMCGS} memcgs grow, {REPEATS} times each under v1 and the others.",
        worded(hold_rule),
        _h9,
    ),
    Claim(
        "H14",
        "Vladimir Davydov, 27 and 28 March 2018",
        "a mutex for the maps is needed anyway, to order css_online against their growth",
        f"One growth against {ONLINES:,} memcgs that come online, {RACES} times with the mutex and without. Beside it, "
        f"coming online against long scans, with the mutex (v4_19) and with shrinker_rwsem instead ({ALTERNATIVE}).",
        worded(mutex_rule),
        _h14,
    ),
)
