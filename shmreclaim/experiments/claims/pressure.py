"""H5 to H8: what registration can allocate when memory is full, and of what it may be full.

Memory is filled with page cache and with slab, in shares that a sweep goes through, and kept full by more of both in
the same shares. Slab is objects that only shrinkers free, page cache is what reclaim frees without one. Two things may
need memory then under the lock that a design registers with: the node of an id, and longer maps for every memcg.

Limits: a share is of what comes, not of what stays. Each era's arithmetic frees slab as fast as it does, and whoever
cannot have the lock frees page cache only; how much of memory was slab in the end is told beside.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shmreclaim.experiments.claims.claim import CANNOT_TELL, HOLDS, REFUTED, Claim, Finding, worded
from shmreclaim.experiments.claims.lab import Lab
from shmreclaim.experiments.claims.workloads import EDGE, SEED, Row, add, by_rows, cache, delete, mkdir, mount, umount
from shmreclaim.mm.state import LINES_PER_PAGE
from shmreclaim.result import RunRecord
from shmreclaim.workload.ops import Workload

STEP = 0.25
SHARES = tuple(STEP * k for k in range(5))
"""Of what memory is filled with, slab; the rest is page cache."""
PERCENT = 1.0
"""Registrations that fail, of all, from which on they count as failing."""
TAKES_THE_LOCK = ("davydov", "v4_19", "v5_13")
"""Designs that allocate for an id while reclaim cannot have the lock of the shrinkers."""
LEAVES_IT = ("tkhai_v1", "v6_4_srcu+srcu_gp_us=0", "v6_7")
"""Designs that allocate for an id while it can."""
PLAUSIBLE = 0.5
"""The share of slab taken to be the most that comes, in the long run, to a machine that somebody runs."""
GROW = ("v5_13", "v6_7")
"""Maps of the same size, of which the first's are allocated under the lock and the second's are not."""
HOLDERS = 4
"""Memcgs, and superblocks that stay, which hold the slab."""
_DENTRY_LINES = 3


@dataclass(frozen=True)
class Tried:
    """What became of the mounts of some runs under pressure; `failed` and `tried` by run."""

    failed: tuple[int, ...]
    tried: tuple[int, ...]
    reclaims: int = 0
    """Reclaims entered with shrinker_rwsem held for write."""
    nodes: int = 0
    """Nodes that were allocated for ids."""
    slab: float = 0.0
    """How much of memory was slab in the end, in percent; the mean of the runs."""

    @property
    def percent(self) -> float:
        """How many failed, of a hundred."""
        return 100 * sum(self.failed) / sum(self.tried)

    @property
    def percents(self) -> list[float]:
        """The same of each run."""
        return [100 * failed / tried for failed, tried in zip(self.failed, self.tried, strict=True)]


def tried(records: Sequence[RunRecord], pages: int) -> Tried:
    """Sum up runs in a memory of so many pages."""
    failed = tuple(sum(record.ops["register"].failed.values()) for record in records)
    slab = [record.objects.remaining * _DENTRY_LINES / LINES_PER_PAGE / pages for record in records]
    return Tried(
        failed,
        tuple(lost + record.ops["register"].count for lost, record in zip(failed, records, strict=True)),
        sum(record.events["reclaims_under_write"] for record in records),
        sum(record.events["id_nodes"] for record in records),
        100 * sum(slab) / len(slab),
    )


Sweep = Mapping[str, Mapping[float, Tried]]
"""By design, then by the share of slab."""


def _holders(mounts: int, pages: int, slab: float, memcgs: int = HOLDERS) -> list[Row]:
    """What is there before: memcgs, mounts, and `pages` of memory, `slab` of it dentries."""
    first = range(1, 1 + HOLDERS)
    fill = [cache(k, int(pages * (1 - slab)) // HOLDERS) for k in first]
    fill += [add(k, k - 1, _dentries(pages * slab) // HOLDERS) for k in first]
    return [*(mkdir(1 + k) for k in range(memcgs)), *(mount(k) for k in range(mounts)), *(r for r in fill if r[5])]


def _dentries(pages: float) -> int:
    return int(pages * LINES_PER_PAGE / _DENTRY_LINES)


def _more(slab: float, count: int, seed: int) -> list[Row]:
    """What keeps memory full: a page or two at a time, of page cache or of dentries."""
    rng = random.Random(seed)
    rows = []
    for _ in range(count):
        memcg, pages = 1 + rng.randrange(HOLDERS), 1 + rng.randrange(2)
        rows.append(add(memcg, memcg - 1, _dentries(pages)) if rng.random() < slab else cache(memcg, pages))
    return rows


# --- the node of an id -------------------------------------------------------------------------------

PAGES, RUNS, RUN_S = 512, 2, 0.3
MOUNTS, FILLS = 30_000, 150_000
"""More than a run has time for, so that memory is kept full to its end."""


def at_the_edge(slab: float, mounting: int = 1) -> Workload:
    """Mounts whose ids each need memory, in memory that another CPU keeps full.

    One CPU mounts: where several do, reclaim also fails its trylock for a writer that waits, under every design with
    an rwsem, and that is another matter than the lock one holds oneself.
    """
    mounts = [_cycles(EDGE + cpu) for cpu in range(mounting)]
    more = _more(slab, 1000, SEED) * (FILLS // 1000)
    return by_rows(f"ids, {slab:.0%} slab", _holders(EDGE, PAGES, slab), *mounts, more, pages=PAGES)


def _cycles(handle: int) -> list[Row]:
    """Mounts and unmounts; a few dentries come and go with each, or all would find memory equally far from empty."""
    rng = random.Random(SEED)
    few = [rng.randrange(1, 22) for _ in range(100)]
    rows = [row for n in few for row in (add(1, 0, n), mount(handle), umount(handle), delete(1, 0, n))]
    return rows * (MOUNTS // len(few))


def sweep_ids(lab: Lab) -> Sweep:
    """Try every design with every share of slab while ids need nodes; shared by H5 to H7."""
    found: dict[str, dict[float, Tried]] = {design: {} for design in (*TAKES_THE_LOCK, *LEAVES_IT)}
    for slab in SHARES:
        for design, records in lab.measure(tuple(found), at_the_edge(slab), repeat=RUNS, seconds=RUN_S).items():
            found[design][slab] = tried(records, PAGES)
    return found


def sweep_crowd(lab: Lab) -> dict[str, Tried]:
    """Try every design where two CPUs mount and half of what comes is slab; shared by H5 and H7."""
    designs = (*TAKES_THE_LOCK, *LEAVES_IT)
    records = lab.measure(designs, at_the_edge(PLAUSIBLE, 2), repeat=RUNS, seconds=RUN_S)
    return {design: tried(each, PAGES) for design, each in records.items()}


# --- longer maps -------------------------------------------------------------------------------------

MACHINE, MEMCGS, GROWING = 4096, 3000, 20


def growing(slab: float) -> Workload:
    """Mounts that stay, the third of which makes the maps of many memcgs grow, in memory that is kept full."""
    more = _more(slab, 10 * GROWING, SEED)
    setup = [*_holders(EDGE - 2, MACHINE, slab, MEMCGS), *more]
    rows = [row for k in range(GROWING) for row in (*more[10 * k : 10 * k + 10], mount(EDGE - 2 + k))]
    return by_rows(f"maps, {slab:.0%} slab", setup, rows, pages=MACHINE)


def sweep_maps(lab: Lab) -> Sweep:
    """Try growth with every share of slab; shared by H6 and H7."""
    found: dict[str, dict[float, Tried]] = {design: {} for design in GROW}
    for slab in SHARES:
        # Lists on demand, or arrays of lists for so many memcgs would fill memory instead.
        for design in GROW:
            records = lab.records(f"{design}+lists_on_demand=1", growing(slab), repeat=2)
            found[design][slab] = tried(records, MACHINE)
    return found


# --- tables ------------------------------------------------------------------------------------------


def threshold(by_share: Mapping[float, Tried]) -> float | None:
    """Give b*: the least share of slab with which registrations fail, None if they never do."""
    return min((slab for slab, each in by_share.items() if each.percent > PERCENT), default=None)


def _star(by_share: Mapping[float, Tried]) -> str:
    found = threshold(by_share)
    return "none" if found is None else f"{found:.0%}"


def _tables(kind: str, found: Sweep) -> dict[str, object]:
    """What failed, with b*; what was tried for it; and what it did to memory."""
    failed = {d: _row(shares, "percent", 2) | {"b*": _star(shares)} for d, shares in found.items()}
    reclaims = {d: _row(found[d], "reclaims", 0) for d in found if d in TAKES_THE_LOCK}
    left = {d: _row(shares, "slab", 0) for d, shares in found.items()}
    return {
        f"{kind}: failed, %, by slab": failed,
        f"{kind}: reclaims under the lock, by slab": reclaims,
        f"{kind}: slab in the end, % of memory": left,
    }


def _row(by_share: Mapping[float, Tried], name: str, digits: int) -> dict[str, object]:
    return {f"{slab:.0%}": round(getattr(each, name), digits or None) for slab, each in by_share.items()}


# --- H6, H7 ------------------------------------------------------------------------------------------


def page_cache_rule(ids: Sweep, maps: Sweep) -> Finding:
    """Refuted if no registration fails in memory full of page cache, though reclaim was entered under the lock there.

    That is: under each design that allocates under the lock, while ids need nodes, and under v5_13 while maps grow too.
    Holds if in one of these more than 1 % fail. If some fail, but fewer, or one never entered reclaim, nothing can be
    told.
    """
    cases = {design: ids[design][0.0] for design in TAKES_THE_LOCK} | {f"{GROW[0]}, maps": maps[GROW[0]][0.0]}
    told = ", ".join(f"{name} {each.percent:.3g} % ({each.reclaims:,} reclaims)" for name, each in cases.items())
    figures = _tables("ids", ids) | _tables("maps", maps)
    if max(each.percent for each in cases.values()) > PERCENT:
        return Finding(HOLDS, f"failed in memory full of page cache: {told}", figures)
    tried_all = all(each.reclaims and not any(each.failed) for each in cases.values())
    return Finding(REFUTED if tried_all else CANNOT_TELL, f"failed in memory full of page cache: {told}", figures)


def _h6(lab: Lab) -> Finding:
    return page_cache_rule(lab.once(sweep_ids), lab.once(sweep_maps))


def slab_rule(ids: Sweep, maps: Sweep) -> Finding:
    """Holds if registrations fail in memory full of slab, only there and only where reclaim cannot have the lock.

    That is: in page cache none fails under any design; where all that comes is slab some fail under each design that
    allocates under the lock; under the others none fails with any share. Refuted if some fail in page cache, or a
    design enters reclaim under the lock in slab and nothing fails for it. Where it enters none, or the others fail as
    well, nothing can be told. Reported is b*, the first share, in steps of a quarter, with which more than 1 % fail.
    """
    in_cache = sum(sum(shares[0.0].failed) for found in (ids, maps) for shares in found.values())
    in_slab = {design: ids[design][1.0] for design in TAKES_THE_LOCK}
    apart = [maps[GROW[1]], *(ids[design] for design in LEAVES_IT)]
    others = sum(sum(each.failed) for shares in apart for each in shares.values())
    told = ", ".join(f"{design} {each.percent:.2g} % (b* {_star(ids[design])})" for design, each in in_slab.items())
    why = (
        f"ids in page cache: {in_cache} failed; in slab: {told}; where reclaim can have the lock: {others} failed with "
        f"any share; growth of maps: b* {_star(maps[GROW[0]])} under {GROW[0]}, {_star(maps[GROW[1]])} under {GROW[1]}"
    )
    figures = _tables("ids", ids) | _tables("maps", maps)
    if in_cache or any(each.reclaims and not any(each.failed) for each in in_slab.values()):
        return Finding(REFUTED, why, figures)
    seen = not others and all(any(each.failed) for each in in_slab.values())
    return Finding(HOLDS if seen else CANNOT_TELL, why, figures)


def _h7(lab: Lab) -> Finding:
    finding = slab_rule(lab.once(sweep_ids), lab.once(sweep_maps))
    finding.figures["where two CPUs mount, 50% slab"] = _crowd(lab.once(sweep_crowd))
    return finding


def _crowd(crowd: Mapping[str, Tried]) -> dict[str, object]:
    return {d: {"failed, %": round(t.percent, 3), "reclaims under the lock": t.reclaims} for d, t in crowd.items()}


# --- H5, H8 ------------------------------------------------------------------------------------------

STAY = 1000


def mounts_that_stay(lab: Lab) -> Tried:
    """Mount with plenty of memory, for how many ids need a node; shared by H5 and H8."""
    work = by_rows("mounts that stay", [mkdir(1)], [mount(k) for k in range(STAY)])
    return tried(lab.records(PAGE_ONLY, work), work.memory.pages_per_node)


def loss_rule(ids: Sweep, crowd: Mapping[str, Tried], needed: float) -> Finding:
    """Holds if at most 1 of 100 mounts more fails where reclaim cannot have the lock, with up to 50 % slab.

    More than under the worst of the designs where it can. Tried are mounts whose ids all need a node, by one CPU and by
    two; of mounts that stay only a part of the ids, `needed`, does, and the others allocate nothing under the lock. So
    that part of the failures counts. Refuted if it is more in every run of a design and share; where it is in some of
    them only, or a design entered no reclaim under the lock, nothing can be told.
    """
    shares = [slab for slab in SHARES if 0 < slab <= PLAUSIBLE]
    cases = [{design: ids[design][slab] for design in ids} for slab in shares] + [dict(crowd)]
    runs = [each for case in cases for each in _more_failed(case)]
    reclaims = {d: sum(case[d].reclaims for case in cases) for d in TAKES_THE_LOCK}
    one, two = (max(max(run) for case in part for run in _more_failed(case)) for part in (cases[:-1], cases[-1:]))
    scaled = [[percent * needed for percent in run] for run in runs]
    why = (
        f"of ids that need a node {one:.2g} % more failed at most where one CPU mounts and {two:.2g} % where two do; "
        f"with {needed:.4f} nodes an id {max(map(max, scaled)):.2g} % of all mounts; reclaims entered under the lock: "
        f"{sum(reclaims.values()):,}"
    )
    figures = {"where two CPUs mount, 50% slab": _crowd(crowd), "nodes an id": round(needed, 4)} | _tables("ids", ids)
    if any(min(run) > PERCENT for run in scaled):
        return Finding(REFUTED, why, figures)
    told = all(reclaims.values()) and max(map(max, scaled)) <= PERCENT
    return Finding(HOLDS if told else CANNOT_TELL, why, figures)


def _more_failed(case: Mapping[str, Tried]) -> list[list[float]]:
    """By design that takes the lock: how many more failed in each run than under the worst that leaves it."""
    base = max(case[design].percent for design in LEAVES_IT)
    return [[max(0.0, percent - base) for percent in case[design].percents] for design in TAKES_THE_LOCK]


def _h5(lab: Lab) -> Finding:
    return loss_rule(lab.once(sweep_ids), lab.once(sweep_crowd), _needed(lab.once(mounts_that_stay)))


def _needed(stay: Tried) -> float:
    return stay.nodes / sum(stay.tried)


PAGE_ONLY, NOTHING, FULL = "v4_19", "v4_19+ids_nowait", "v6_7"


def insertion_rule(kinds: Mapping[str, Tried], stay: Tried) -> Finding:
    """Holds if ids that need a page get one by reclaim, where more would fail without.

    `kinds` are mounts whose id needs a node while memory is full of page cache, by the reclaim that the insertion may
    enter: "full", "pages only" and "none". Holds if with either kind of reclaim at most a third as many fail, of a
    hundred, as without. Refuted if with page cache only as many fail as without. Anything between, or none failing
    without, cannot be told: then the insertion was not pressed. How many nodes ids need is told of mounts that `stay`.
    """
    table = {
        kind: {"tried": sum(t.tried), "failed": sum(t.failed), "nodes": t.nodes, "reclaims under the lock": t.reclaims}
        for kind, t in kinds.items()
    }
    why = ", ".join(f"{sum(t.failed):,} of {sum(t.tried):,} failed with {kind}" for kind, t in kinds.items())
    why += f"; {_needed(stay):.4f} nodes an id that stays"
    figures: dict[str, object] = {"by reclaim": table, "nodes an id": round(_needed(stay), 4)}
    without, reclaimed = kinds["none"].percent, max(kinds["pages only"].percent, kinds["full"].percent)
    if without == 0:
        return Finding(CANNOT_TELL, why, figures)
    if kinds["pages only"].percent >= without:
        return Finding(REFUTED, why, figures)
    return Finding(HOLDS if reclaimed <= without / 3 else CANNOT_TELL, why, figures)


def _h8(lab: Lab) -> Finding:
    designs = {"full": FULL, "pages only": PAGE_ONLY, "none": NOTHING}
    records = lab.measure(tuple(designs.values()), at_the_edge(0.0), repeat=RUNS, seconds=RUN_S)
    kinds = {kind: tried(records[design], PAGES) for kind, design in designs.items()}
    return insertion_rule(kinds, lab.once(mounts_that_stay))


_SHARES = ", ".join(f"{share:.0%}" for share in SHARES)
_IDS = (
    f"A CPU mounts and unmounts so that each id needs a node, another keeps {PAGES} pages full, {_SHARES} of what "
    f"comes slab and the rest page cache: {RUNS} runs of {RUN_S:g} s each of "
    f"{', '.join((*TAKES_THE_LOCK, *LEAVES_IT))}."
)
_CROWD = " Beside it two CPUs that mount, half of what comes slab."
_MAPS = (
    f" Beside it the maps of {MEMCGS:,} memcgs grow in {MACHINE:,} pages, far more memcgs than such a machine would "
    f"have: {GROWING} mounts that stay, under {' and '.join(GROW)}."
)

CLAIMS: tuple[Claim, ...] = (
    Claim(
        "H5",
        "Vladimir Davydov, 27 and 28 March 2018",
        "that small allocations lose the reclaim of slab does not matter",
        f"{_IDS}{_CROWD} Nodes are counted in {STAY:,} mounts that stay.",
        worded(loss_rule),
        _h5,
    ),
    Claim(
        "H6",
        "Kirill Tkhai, 24 to 28 March 2018",
        "mounts will then fail when memory is full, and memory full of page cache is common",
        _IDS + _MAPS,
        worded(page_cache_rule),
        _h6,
    ),
    Claim(
        "H7",
        "Vladimir Davydov, 27 and 28 March 2018",
        "what is blocked is the reclaim of slab alone, so mounts can fail only where slab fills memory",
        _IDS + _MAPS + _CROWD,
        worded(slab_rule),
        _h7,
    ),
    Claim(
        "H8",
        "Kirill Tkhai, 24 to 28 March 2018",
        "an insertion into the IDR may need a page, and gets it after a quick reclaim if reclaim is allowed",
        f"Mounts whose ids each need a node, in memory full of page cache: {FULL} (full reclaim), {PAGE_ONLY} (page "
        f"cache only), {NOTHING} (none), {RUNS} runs each; nodes are counted in {STAY:,} mounts that stay.",
        worded(insertion_rule),
        _h8,
    ),
)
