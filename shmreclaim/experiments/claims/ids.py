"""H11 to H13 and H15: the start hint, the smallest id, retries, and an IDR against an IDA with an array.

H11 and part of H15 are questions about a loop: they run compiled in this process, the others in worker processes.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from shmreclaim.designs import NAMES
from shmreclaim.experiments.claims.claim import CANNOT_TELL, HOLDS, REFUTED, CannotTell, Claim, Finding, worded
from shmreclaim.experiments.claims.growth import MEMCGS, growth_holds, quiet_mounts
from shmreclaim.experiments.claims.lab import Lab, Outcome, below
from shmreclaim.experiments.claims.loops import MOST, ROOM, Registry, Tree, find_in_array, find_in_idr
from shmreclaim.experiments.claims.workloads import SEED, Row, by_rows, mkdir, mount, umount
from shmreclaim.machine.compile import link
from shmreclaim.workload.ops import Op, Workload

KIRILL, DAVYDOV = "Kirill Tkhai, 24 to 28 March 2018", "Vladimir Davydov, 27 and 28 March 2018"
THREAD = "the thread of 24 to 28 March 2018, nobody in particular"

# --- H11 ---------------------------------------------------------------------------------------------

WITH_HINT, WITHOUT = "tkhai_v1", "tkhai_v1+no_start_hint"
STEPS, REPEATS = 1500, 7
OCCUPANCY = (0, 25, 50, 75, 90, 99)
"""Of ROOM ids, in percent."""


class Searched(NamedTuple):
    """What registrations of one sequence came to."""

    ids: list[int]
    ns: list[float]
    """A registration, by repeat."""


def hint_rule(found: Mapping[int, tuple[Searched, Searched]]) -> Finding:
    """Holds if with the hint every repeat registers faster than every one without, at half of the occupancies or more.

    `found` has, by occupancy in percent, what came with the hint and without. Refuted if that is so at none of them.
    In between, or if the ids differ, so that the times are of different work, nothing can be told.
    """
    faster = [percent for percent, (hint, plain) in found.items() if below(hint.ns, plain.ns)]
    differ = [percent for percent, (hint, plain) in found.items() if hint.ids != plain.ids]
    table = {
        f"{percent} %": {
            "with hint, ns": round(statistics.median(hint.ns), 1),
            "without, ns": round(statistics.median(plain.ns), 1),
            "ids": "differ" if percent in differ else "the same",
        }
        for percent, (hint, plain) in found.items()
    }
    ids = sum(len(hint.ids) for hint, _ in found.values())
    figures: dict[str, object] = {"a registration, by occupancy": table}
    if differ:
        return Finding(CANNOT_TELL, f"the ids given differ at {differ} % occupancy", figures)
    why = (
        f"{ids:,} ids were the same with and without it; faster with it beyond the spread at {faster or 'no'} % of ids"
    )
    if not faster:
        return Finding(REFUTED, why, figures)
    return Finding(HOLDS if 2 * len(faster) >= len(found) else CANNOT_TELL, why, figures)


def random_plan(percent: int, steps: int) -> tuple[list[int], list[tuple[int, int]]]:
    """Which of ROOM are away so that `percent` of ids are in use, and steps that keep it so, drawn at random."""
    rng = random.Random(SEED + percent)
    handles = list(range(ROOM))
    rng.shuffle(handles)
    live, away = handles[: ROOM * percent // 100], handles[ROOM * percent // 100 :]
    gone, plan = list(away), []
    for _ in range(steps):
        comes = away.pop(rng.randrange(len(away)))
        live.append(comes)
        goes = live.pop(rng.randrange(len(live)))
        away.append(goes)
        plan.append((comes, goes))
    return gone, plan


def search(percent: int) -> tuple[Searched, Searched]:
    """Play one sequence with the hint and without, in turns."""
    steps = STEPS * (REPEATS + 1)
    away, plan = random_plan(percent, steps)
    registries = [Registry(variant, away, plan) for variant in (WITH_HINT, WITHOUT)]
    times: list[list[float]] = [[], []]
    try:
        for turn in range(REPEATS + 1):  # the first warms up
            for k in (0, 1) if turn % 2 else (1, 0):
                times[k].append(registries[k].play(STEPS * turn, STEPS))
        hint, plain = (Searched(r.ids(steps), ns[1:]) for r, ns in zip(registries, times, strict=True))
    finally:
        for registry in registries:
            registry.arena.close()
    return hint, plain


def _h11(_: Lab) -> Finding:
    link()
    return hint_rule({percent: search(percent) for percent in OCCUPANCY})


# --- H12 ---------------------------------------------------------------------------------------------

CHURNERS, OWN, TURNS = 4, 40, 800
WITH_IDS = tuple("v6_4_srcu+srcu_gp_us=0" if name == "v6_4_srcu" else name for name in NAMES[1:])
IN_TURN = tuple(f"{name}+cyclic_ids" for name in WITH_IDS if name != "tkhai_v1")
"""Controls; the IDA of v1 has no function for that."""


def mixed_churn(cpus: int, own: int, turns: int) -> Workload:
    """Every CPU mounts and unmounts `own` superblocks of its own, drawn at random."""
    streams: list[list[Row]] = []
    for cpu in range(cpus):
        rng, alive, rows = random.Random(SEED + cpu), set[int](), list[Row]()
        for _ in range(turns):
            handle = cpu * own + rng.randrange(own)
            rows.append(umount(handle) if handle in alive else mount(handle))
            alive ^= {handle}
        streams.append(rows)
    return by_rows("mixed churn", [mkdir(1)], *streams)


def small_ids_rule(ids: Mapping[str, tuple[int, int]], control: Mapping[str, tuple[int, int]]) -> Finding:
    """Holds if under every design the highest id ever given, plus 1, is at most as many as ever lived at once (I6).

    By design: the highest id, and the most that lived. Refuted if it is more under one. `control` has variants that
    give ids out in turn; they must exceed it, or the workload could not have shown it.
    """
    table = {d: {"highest id": high, "most alive": peak} for d, (high, peak) in {**ids, **control}.items()}
    figures: dict[str, object] = {"by design": table}
    large = [design for design, (high, peak) in ids.items() if high + 1 > peak]
    tame = [design for design, (high, peak) in control.items() if high + 1 <= peak]
    if large:
        return Finding(REFUTED, f"ids beyond the most that lived at once: {', '.join(large)}", figures)
    if tame or not control:
        return Finding(CANNOT_TELL, f"ids in turn stayed small as well: {', '.join(tame) or 'none tried'}", figures)
    why = (
        f"the highest id was {max(high for high, _ in ids.values()):,}, no more than lived at once under each design; "
        f"given out in turn they went to {min(high for high, _ in control.values()):,} or more"
    )
    return Finding(HOLDS, why, figures)


def _ids_of(outcome: Outcome) -> tuple[int, int]:
    if outcome.record is None:
        raise CannotTell(f"a run of {outcome.design} hung")
    return outcome.record.ids.max_id, outcome.record.ids.peak_live


def _h12(lab: Lab) -> Finding:
    work = mixed_churn(CHURNERS, OWN, TURNS)
    # Not lab.records: what breaks I6 is the outcome here.
    found = {design: _ids_of(lab.run(design, work)[0]) for design in (*WITH_IDS, *IN_TURN)}
    return small_ids_rule({d: found[d] for d in WITH_IDS}, {d: found[d] for d in IN_TURN})


# --- H13 ---------------------------------------------------------------------------------------------

AS_POSTED, LOOKED_AT = "tkhai_v1+ignore_preload", "tkhai_v1"
HANG_S = 2.0
ON_CPUS = (1, 2, 4, 8)
FULL_PAGES, STEPS_TO_FREE = 96, 120


def exhausted() -> Workload:
    """Memory full of objects that no scan frees; one CPU deletes them one by one, and mounts after each.

    So memory comes to where a superblock fits, but not what its id needs. The holder of the objects knows no memcg: the
    first id needs memory for sure.
    """
    holder = (0, Op.REGISTER, 0, 0, 0, -1, 0)
    fill = (0, Op.LRU_ADD, 0, 0, 0, FULL_PAGES * 4096 // 192, 0)
    one_less = (0, Op.LRU_DEL, 0, 0, 0, 1, 0)
    rows = [row for k in range(STEPS_TO_FREE) for row in (one_less, mount(1 + k), umount(1 + k))]
    return by_rows("memory exhausted", [holder, fill], [], rows, pages=FULL_PAGES)


def retry_rule(
    posted: Sequence[Sequence[str] | None], failed: Sequence[int | None], retries: Mapping[int, float]
) -> Finding:
    """Refuted if with memory exhausted a registration retries without end where the preload's result is ignored.

    As posted it is ignored: `posted` has who works without end in each run, None where it ended. Where it is looked at,
    `failed` has how many mounts failed; none may hang (None), and some must fail, or memory was not exhausted. Holds if
    those as posted end too. `retries` per allocation, by CPUs, are with memory to spare.
    """
    hung = [lines for lines in posted if lines is not None]
    figures: dict[str, object] = {
        "retries an allocation": {f"{n} CPU{'s'[: n > 1]}": {"retries": each} for n, each in retries.items()},
        "as posted": [line for lines in hung for line in lines] or "ended",
    }
    why = (
        f"memory exhausted: as posted {len(hung)} of {len(posted)} runs did not end, with the result looked at "
        f"{sum(each or 0 for each in failed)} mounts failed; else {max(retries.values()):.3g} retries an allocation "
        "at most"
    )
    if not all(failed) or not all(hung):
        return Finding(CANNOT_TELL, why, figures)
    return Finding(REFUTED if hung else HOLDS, why, figures)


def _retries(lab: Lab, cpus: int) -> float:
    (record,) = lab.records(LOOKED_AT, mixed_churn(cpus, OWN, TURNS))
    return record.events["id_retries"] / record.ops["register"].count


def _h13(lab: Lab) -> Finding:
    work = exhausted()
    posted = [o.livelock if o.hung else None for o in lab.run(AS_POSTED, work, timeout=HANG_S)]
    failed = [
        sum(o.record.ops["register"].failed.values()) if o.record else None
        for o in lab.run(LOOKED_AT, work, timeout=HANG_S)
    ]
    return retry_rule(posted, failed, {cpus: _retries(lab, cpus) for cpus in ON_CPUS})


# --- H15 ---------------------------------------------------------------------------------------------

LOOKUPS, SIZES = 100_000, (10, 100, 1000)


class Choice(NamedTuple):
    """What one way to find a shrinker by its id costs."""

    lookup_ns: dict[int, list[float]]
    """By ids in use, by repeat."""
    words: list[int]
    """For 1, 2, ... ids in use."""
    sections: int
    """Write sections of shrinker_rwsem that a mount takes more if maps grow, those for the maps left out."""


def choice_rule(idr: Choice, array: Choice) -> Finding:
    """Holds if the IDR is better in two of lookup, memory and growth at least, refuted if the IDA with an array is.

    Lookup: every repeat is faster, at each number of ids. Memory: the mean over 1 to 4,096 ids. Growth: write sections
    of shrinker_rwsem that a mount takes more when maps grow, those for the maps left out. Otherwise nothing is told.
    """
    idr_faster = all(below(idr.lookup_ns[n], array.lookup_ns[n]) for n in idr.lookup_ns)
    array_faster = all(below(array.lookup_ns[n], idr.lookup_ns[n]) for n in idr.lookup_ns)
    mean = {"IDR": statistics.fmean(idr.words) * 8, "IDA and array": statistics.fmean(array.words) * 8}
    less, more = mean["IDR"] < mean["IDA and array"], mean["IDR"] > mean["IDA and array"]
    for_idr = idr_faster + less + (idr.sections < array.sections)
    for_array = array_faster + more + (array.sections < idr.sections)
    figures: dict[str, object] = {"by choice": {"IDR": _row(idr), "IDA and array": _row(array)}}
    faster = "IDR" if idr_faster else "array" if array_faster else "neither"
    why = (
        f"faster to look up: {faster}; bytes, mean over 1 to {len(idr.words):,} ids: IDR {mean['IDR']:,.0f}, IDA and "
        f"array {mean['IDA and array']:,.0f}; extra write sections of a growth: {idr.sections} against {array.sections}"
    )
    if for_idr >= 2:
        return Finding(HOLDS, why, figures)
    return Finding(REFUTED if for_array >= 2 else CANNOT_TELL, why, figures)


def _row(choice: Choice) -> dict[str, float]:
    lookups = {f"lookup of {n}, ns": round(statistics.median(ns), 2) for n, ns in choice.lookup_ns.items()}
    return {
        **lookups,
        **{f"bytes for {n}": choice.words[n - 1] * 8 for n in SIZES},
        "extra sections": choice.sections,
    }


def _choices(lab: Lab) -> tuple[Choice, Choice]:
    link()
    trees = {name: Tree(name == "ida") for name in ("idr", "ida")}
    words: dict[str, list[int]] = {name: [] for name in trees}
    times: dict[str, dict[int, list[float]]] = {name: {n: [] for n in SIZES} for name in trees}
    loops = {"idr": find_in_idr, "ida": find_in_array}
    for live in range(1, MOST + 1):
        for name, tree in trees.items():
            words[name].append(tree.add())
        for turn in range(REPEATS + 1) if live in SIZES else ():
            for name, tree in trees.items():
                ns = loops[name](tree.mem, live, LOOKUPS) / LOOKUPS
                times[name][live] += [ns] if turn else []
    idr, ida = (Choice(times[name], words[name], extra) for name, extra in zip(trees, _extra(lab), strict=True))
    return idr, ida


def _extra(lab: Lab) -> tuple[int, int]:
    """Sections of a mount with growth beyond those of one without, of v4_19 and v1; of v1, one a map left out."""
    grown, quiet = lab.once(growth_holds), lab.once(quiet_mounts)
    v4_19, v1 = (grown[d][0][0] - round(quiet[d]["shrinker_rwsem"]) for d in ("v4_19", "tkhai_v1"))
    return v4_19, v1 - (MEMCGS + 1)  # the root has one, too


def _h15(lab: Lab) -> Finding:
    return choice_rule(*_choices(lab))


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "H11",
        KIRILL,
        "the start hint lets the allocator find ids faster",
        f"The same random sequence of registrations under {WITH_HINT} and {WITHOUT}, {OCCUPANCY[0]} to "
        f"{OCCUPANCY[-1]} % of {ROOM:,} ids in use; {REPEATS} repeats of {STEPS:,}, in turns, on one CPU.",
        worded(hint_rule),
        _h11,
    ),
    Claim(
        "H12",
        THREAD,
        "ids start at 0 and stay small",
        f"{CHURNERS} CPUs mount and unmount {OWN} superblocks each at random, under every design with ids; beside them "
        "variants that give ids out in turn.",
        worded(small_ids_rule),
        _h12,
    ),
    Claim(
        "H13",
        THREAD,
        "to retry after -EAGAIN, when somebody else used up what was preloaded for an id, is harmless",
        f"Mounts in memory full of what nobody can free, each time an object less, under {AS_POSTED} and {LOOKED_AT}; "
        f"and retries on {', '.join(map(str, ON_CPUS))} CPUs with memory to spare. Here a CPU's pool is its process's "
        "own, so that nobody else uses it up; and what retries without end is stopped by the timeout only.",
        worded(retry_rule),
        _h13,
    ),
    Claim(
        "H15",
        DAVYDOV,
        "an IDR is preferable to an IDA and an array of pointers",
        f"Compiled lookups with {', '.join(f'{n:,}' for n in SIZES)} ids in use; the memory for each number of ids to "
        f"{MOST:,}; the runs of H9 for write sections of a growth.",
        worded(choice_rule),
        _h15,
    ),
)
