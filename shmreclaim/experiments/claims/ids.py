"""H11 to H13 and H15: the start hint, the smallest id, retries, and an IDR against an IDA with an array.

H11 and part of H15 are questions about a loop: they run compiled in this process, the others in worker processes.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Mapping, Sequence
from errno import EAGAIN
from typing import Any, NamedTuple

import numpy as np

from shmreclaim import kernel
from shmreclaim.designs import NAMES
from shmreclaim.experiments.claims.claim import CANNOT_TELL, HOLDS, REFUTED, CannotTell, Claim, Finding, worded
from shmreclaim.experiments.claims.growth import MEMCGS, growth_holds, quiet_mounts
from shmreclaim.experiments.claims.lab import Lab, Outcome, below
from shmreclaim.experiments.claims.workloads import SEED, Row, by_rows, mkdir, mount, umount
from shmreclaim.lib.ida import IDA_BITMAP, ida_alloc_range, ida_init
from shmreclaim.lib.idr import IDR_NODE, INT_MAX, POOL, idr_alloc, idr_find, idr_init, pool_init
from shmreclaim.lib.radix_tree import pool_put_bitmap, pool_put_node
from shmreclaim.machine.arena import Arena
from shmreclaim.machine.atomics import clock_ns, read_once, write_once
from shmreclaim.machine.compile import compiled, link
from shmreclaim.machine.upcall import upcall
from shmreclaim.mm.boot import Machine, boot, init_design
from shmreclaim.mm.shrinker import SHRINKER
from shmreclaim.mm.state import MM, Upcall, mm_state
from shmreclaim.switches import parse_variant
from shmreclaim.workload.ops import Op, Workload

KIRILL, DAVYDOV = "Kirill Tkhai, 24 to 28 March 2018", "Vladimir Davydov, 27 and 28 March 2018"
THREAD = "the thread of 24 to 28 March 2018, nobody in particular"

# --- H11 ---------------------------------------------------------------------------------------------

WITH_HINT, WITHOUT = "tkhai_v1", "tkhai_v1+no_start_hint"
ROOM, STEPS, REPEATS = 1024, 1500, 7
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


@compiled
def register_and_unregister(mem: Any, cpu: int, plan: int, count: int) -> int:
    """Register one of `plan` and unregister another, `count` times; ns of the registrations, -1 if one failed.

    A step of the plan is three words: handle to register, handle to unregister, and where the id goes.
    """
    table = read_once(mem, mm_state(mem) + MM.shrinker_table)
    took = 0
    failed = 0
    for k in range(count):
        at = plan + 3 * k
        begin = clock_ns()
        failed += upcall(Upcall.REGISTER_SHRINKER, mem, cpu, read_once(mem, table + read_once(mem, at)), 0, 0, 0)
        took += clock_ns() - begin
        write_once(mem, at + 2, read_once(mem, read_once(mem, table + read_once(mem, at)) + SHRINKER.id))
        upcall(Upcall.UNREGISTER_SHRINKER, mem, cpu, read_once(mem, table + read_once(mem, at + 1)), 0, 0, 0)
        kernel.quiescent(mem, cpu)
    return -1 if failed else took


@compiled
def mount_and_leave(mem: Any, cpu: int, room: int, away: int, gone: int) -> int:
    """Mount `room` superblocks, then unregister the shrinkers of the `gone` handles at `away`; 0, or what failed."""
    failed = 0
    for handle in range(room):
        failed += kernel.op_register(mem, cpu, handle, 1, 0)
    table = read_once(mem, mm_state(mem) + MM.shrinker_table)
    for k in range(gone):
        sb = read_once(mem, table + read_once(mem, away + k))
        upcall(Upcall.UNREGISTER_SHRINKER, mem, cpu, sb, 0, 0, 0)
    kernel.quiescent(mem, cpu)
    return failed


class Registry:
    """A kernel of one CPU in this process, some of whose shrinkers are registered; close it."""

    def __init__(self, variant: str, away: Sequence[int], plan: Sequence[tuple[int, int]]) -> None:
        """Boot it, mount ROOM superblocks, unregister those `away`, and keep a plan of steps."""
        self.variant = parse_variant(variant)
        machine = Machine(1, 1, 2048 + 2 * ROOM, 16, 20, 24, 1, 1, ROOM, extra_words=3 * len(plan) + 2 * ROOM)
        self.arena = Arena.create(machine.words())
        self.arena.remove()  # its name: the memory goes with this process
        (self.cpu,) = boot(self.arena, machine)
        self.plan, gone = self.arena.allocate(3 * len(plan)), self.arena.allocate(ROOM)
        words = self.arena.view(self.plan, 3 * len(plan)).reshape(-1, 3)
        words[:, :2] = plan
        self.arena.view(gone, ROOM)[: len(away)] = away
        self.bind()
        init_design(self.arena, self.variant, self.cpu)
        if mount_and_leave(self.arena.address, self.cpu, ROOM, gone, len(away)):
            raise CannotTell(f"{variant}: {ROOM} mounts did not fit into memory")

    def bind(self) -> None:
        """Make the upcalls of this process those of its design."""
        kernel.bind_design(self.variant.design)

    def play(self, first: int, steps: int) -> float:
        """Play some steps of the plan; ns a registration."""
        self.bind()
        took = register_and_unregister(self.arena.address, self.cpu, self.plan + 3 * first, steps)
        if took < 0:
            raise CannotTell(f"{self.variant.design}: a registration failed")
        return took / steps

    def ids(self, steps: int) -> list[int]:
        """Which ids the steps got."""
        ids: list[int] = self.arena.view(self.plan, 3 * steps).reshape(-1, 3)[:, 2].tolist()
        return ids


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


def retry_rule(posted: Sequence[Outcome], looked_at: Sequence[Outcome], retries: Mapping[int, float]) -> Finding:
    """Refuted if with memory exhausted a registration retries without end where the preload's result is ignored.

    As posted it is ignored, `posted`; where it is `looked_at`, the same runs must end and some mounts fail, or memory
    was not exhausted. Holds if those as posted end too. `retries` per allocation, by CPUs, are with memory to spare.
    """
    endless = [line for outcome in posted for line in outcome.livelock]
    failed = [sum(o.record.ops["register"].failed.values()) if o.record else 0 for o in looked_at]
    figures: dict[str, object] = {
        "retries an allocation, by CPUs": {
            f"{cpus} CPUs" if cpus > 1 else "1 CPU": {"retries": value} for cpus, value in retries.items()
        },
        "as posted": endless or "ended",
        "where the result is looked at, mounts that failed": sum(failed),
    }
    why = (
        f"memory exhausted: as posted {sum(o.hung for o in posted)} of {len(posted)} runs did not end, with the result "
        f"looked at {sum(failed)} mounts failed; else {max(retries.values()):.3g} retries an allocation at most"
    )
    if any(outcome.hung for outcome in looked_at) or not all(failed):
        return Finding(CANNOT_TELL, why, figures)
    if any(outcome.hung for outcome in posted):
        return Finding(REFUTED if endless else CANNOT_TELL, why, figures)
    return Finding(HOLDS, why, figures)


def _retries(lab: Lab, cpus: int) -> float:
    (record,) = lab.records(LOOKED_AT, mixed_churn(cpus, OWN, TURNS))
    return record.events["id_retries"] / record.ops["register"].count


def _h13(lab: Lab) -> Finding:
    work = exhausted()
    posted, looked_at = (lab.run(design, work, timeout=HANG_S) for design in (AS_POSTED, LOOKED_AT))
    return retry_rule(posted, looked_at, {cpus: _retries(lab, cpus) for cpus in ON_CPUS})


# --- H15 ---------------------------------------------------------------------------------------------

MOST, LOOKUPS, SIZES = 4096, 100_000, (10, 100, 1000)
TREE, POOL_AT, POINTER, FIRST = 64, 128, 192, 256
MIN_SLOTS = 8


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


@compiled
def find_in_idr(mem: Any, live: int, count: int) -> int:
    """Look ids up in an IDR, each where the last value led; ns for all, -1 if one was missed.

    All values are 1. The next id depends on the last, so that lookups do not overlap.
    """
    id_ = 0
    missed = 0
    step = live // 3 + 1
    begin = clock_ns()
    for _ in range(count):
        found = idr_find(mem, TREE, id_)
        missed += 1 - found
        id_ += step * found
        id_ = id_ - live if id_ >= live else id_
    return clock_ns() - begin if missed == 0 else -1


@compiled
def find_in_array(mem: Any, live: int, count: int) -> int:
    """Look the same ids up in an array that may be replaced: its length, where it is, the slot."""
    id_ = 0
    missed = 0
    step = live // 3 + 1
    begin = clock_ns()
    for _ in range(count):
        found = 0
        if id_ < read_once(mem, POINTER + 1):
            found = read_once(mem, read_once(mem, POINTER) + id_)
        missed += 1 - found
        id_ += step * found
        id_ = id_ - live if id_ >= live else id_
    return clock_ns() - begin if missed == 0 else -1


class Tree:
    """An IDR, or an IDA beside an array, in plain memory of this process; `words` it takes."""

    def __init__(self, ida: bool) -> None:
        """Begin with no id."""
        self.ida = ida
        self.memory = np.zeros(FIRST + 3 * MOST + (MOST // 32 + 64) * IDR_NODE.SIZE, np.int64)
        self.mem, self._brk = int(self.memory.ctypes.data), FIRST
        (ida_init if ida else idr_init)(self.mem, TREE)
        pool_init(self.mem, POOL_AT)
        self._slots = 0

    def add(self) -> int:
        """Give out the next id; how many words it all takes then."""
        number = -EAGAIN
        while number == -EAGAIN:
            number = self._alloc()
            if number == -EAGAIN:
                self._put(int(self.memory[POOL_AT + POOL.wanted]))
        if self.ida:
            self._store(number)
        return self._brk - FIRST + self._slots

    def _alloc(self) -> int:
        if self.ida:
            return ida_alloc_range(self.mem, TREE, POOL_AT, 0, INT_MAX)
        return idr_alloc(self.mem, TREE, POOL_AT, 1, 0, 0)

    def _put(self, size: int) -> None:
        (pool_put_bitmap if size == IDA_BITMAP.SIZE else pool_put_node)(self.mem, POOL_AT, self._brk)
        self._brk += size

    def _store(self, number: int) -> None:
        """Fill the slot of an id, in an array that doubles as v1's does; it is at the end of memory."""
        while number >= self._slots:
            self._slots = max(2 * self._slots, MIN_SLOTS)
        at = len(self.memory) - MOST
        self.memory[at + number], self.memory[POINTER], self.memory[POINTER + 1] = 1, at, self._slots


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
