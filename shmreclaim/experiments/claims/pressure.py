"""H5 to H8: whether mounts fail where they must allocate under the lock, by what memory is full of.

What counts is how many fail of the mounts that entered reclaim under the lock, not of all: most mounts of a sweep find
free memory, and would hide any loss. Nor of reclaims: an allocation that fails has tried 16 of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shmreclaim.experiments.claims.claim import CANNOT_TELL, HOLDS, REFUTED, Claim, Finding, worded
from shmreclaim.experiments.claims.full_memory import (
    GROW,
    GROWING,
    LEAST,
    LEAVES_IT,
    MACHINE,
    MEMCGS,
    PAGES,
    PLAUSIBLE,
    RUN_S,
    RUNS,
    SHARES,
    STAY,
    TAKES_THE_LOCK,
    Sweep,
    Tried,
    at_the_edge,
    kept_full,
    mounts_that_stay,
    nodes_an_id,
    sweep_crowd,
    sweep_ids,
    sweep_maps,
)
from shmreclaim.experiments.claims.lab import Lab

PERCENT = 1.0
"""Of a hundred mounts that entered reclaim under the lock, how many may fail before they count as failing."""

PAGE_ONLY, NOTHING, FULL = "v4_19", "v4_19+ids_nowait", "v6_7"


# --- tables ------------------------------------------------------------------------------------------


def threshold(by_share: Mapping[float, float]) -> float | None:
    """Give b*: the least share of slab with which more than 1 % fail, None if they never do."""
    return min((slab for slab, failed in by_share.items() if failed > PERCENT), default=None)


def _lost(by_share: Mapping[float, Tried]) -> dict[float, float]:
    return {slab: each.lost_percent for slab, each in by_share.items()}


def _mounts(by_share: Mapping[float, Tried]) -> dict[float, float]:
    return {slab: each.percent for slab, each in by_share.items()}


def _star(failed: Mapping[float, float], by_share: Mapping[float, Tried]) -> str:
    """Say b* of a design, and how much of memory was slab then."""
    found = threshold(failed)
    return "none" if found is None else f"{found:.0%} of what comes, {by_share[found].slab:.0f} % of memory"


def _row(by_share: Mapping[float, float], digits: int = 2) -> dict[str, object]:
    return {f"{slab:.0%}": round(figure, digits or None) for slab, figure in by_share.items()}


def _id_tables(found: Sweep) -> dict[str, object]:
    """What failed, with b*; what was tried for it; and what it did to memory."""
    takes = {design: found[design] for design in TAKES_THE_LOCK}
    stars = {d: _row(_lost(shares), 1) | {"b*": _star(_lost(shares), shares)} for d, shares in takes.items()}
    pressed = {d: _row({s: sum(each.pressed) for s, each in shares.items()}, 0) for d, shares in takes.items()}
    return {
        "ids: failed, % of mounts that reclaimed under the lock, by slab": stars,
        "ids: mounts that reclaimed under the lock, by slab": pressed,
        "ids: failed, % of mounts, by slab": {design: _row(_mounts(shares)) for design, shares in found.items()},
        "ids: slab in the end, % of memory": _left(found),
    }


def _map_tables(found: Sweep) -> dict[str, object]:
    """The same of growth, which every mount needs: so all of them count."""
    stars = {d: _row(_mounts(shares)) | {"b*": _star(_mounts(shares), shares)} for d, shares in found.items()}
    return {"maps: failed, % of mounts, by slab": stars, "maps: slab in the end, % of memory": _left(found)}


def _left(found: Sweep) -> dict[str, object]:
    return {design: _row({s: each.slab for s, each in shares.items()}, 0) for design, shares in found.items()}


# --- H6, H7 ------------------------------------------------------------------------------------------


def _in_page_cache(ids: Sweep, maps: Sweep) -> dict[str, float]:
    """How many fail in memory full of page cache, in %: ids of mounts that reclaim under the lock, growth of all."""
    return {design: ids[design][0.0].lost_percent for design in TAKES_THE_LOCK} | {"maps": maps[GROW[0]][0.0].percent}


def page_cache_rule(ids: Sweep, maps: Sweep) -> Finding:
    """Refuted if no registration fails in memory full of page cache, though reclaim was entered under the lock there.

    That is: under each design that allocates under the lock, while ids need nodes, and under v5_13 while maps grow too.
    Holds if in one of these more than 1 % fail, while ids need nodes of the mounts that reclaim under the lock, while
    maps grow of all. If some fail, but fewer, or one never entered reclaim, or some fail too where reclaim can have the
    lock, nothing can be told.
    """
    cases = {design: ids[design][0.0] for design in TAKES_THE_LOCK} | {f"{GROW[0]}, maps": maps[GROW[0]][0.0]}
    others = sum(sum(each.failed) for each in (*(ids[d][0.0] for d in LEAVES_IT), maps[GROW[1]][0.0]))
    told = ", ".join(f"{name} {sum(t.failed):,} (reclaimed: {sum(t.pressed):,})" for name, t in cases.items())
    why = f"mounts that failed in memory full of page cache: {told}; where reclaim can have the lock {others:,}"
    figures = _id_tables(ids) | _map_tables(maps)
    if others:
        return Finding(CANNOT_TELL, why, figures)
    if max(_in_page_cache(ids, maps).values()) > PERCENT:
        return Finding(HOLDS, why, figures)
    tried_all = all(any(each.pressed) and not any(each.failed) for each in cases.values())
    return Finding(REFUTED if tried_all else CANNOT_TELL, why, figures)


def _h6(lab: Lab) -> Finding:
    return page_cache_rule(lab.once(sweep_ids), lab.once(sweep_maps))


def slab_rule(ids: Sweep, maps: Sweep) -> Finding:
    """Holds if registrations fail in slab, not in page cache, and only where reclaim cannot have the lock.

    That is: in page cache none fails under any design; where all that comes is slab some fail under each design that
    allocates under the lock; under the others none fails with any share. Refuted if in page cache more than 1 % fail
    under one that does, or 10 mounts of it enter reclaim under the lock in slab and none fails. Where some fail in page
    cache, but fewer, none do in slab, or the others fail as well, nothing can be told. Reported is b*, the
    first share of what comes, in steps of a quarter, with which more than 1 % fail; and how much of memory that was.
    Percentages: while ids need nodes of the mounts that reclaim under the lock, while maps grow of all.
    """
    in_cache = sum(sum(shares[0.0].failed) for found in (ids, maps) for shares in found.values())
    in_slab = {design: ids[design][1.0] for design in TAKES_THE_LOCK}
    apart = [maps[GROW[1]], *(ids[design] for design in LEAVES_IT)]
    others = sum(sum(each.failed) for shares in apart for each in shares.values())
    stars = {design: _star(_lost(ids[design]), ids[design]) for design in TAKES_THE_LOCK}
    told = ", ".join(f"{design} {each.lost_percent:.3g} % (b* {stars[design]})" for design, each in in_slab.items())
    grown = ", ".join(f"{_star(_mounts(shares), shares)} under {design}" for design, shares in maps.items())
    why = (
        f"in page cache: {in_cache} failed; ids in slab, of mounts that reclaim under the lock: {told}; where reclaim "
        f"can have the lock: {others} failed with any share; growth of maps: b* {grown}"
    )
    figures = _id_tables(ids) | _map_tables(maps)
    harmless = any(sum(each.pressed) >= LEAST and not any(each.failed) for each in in_slab.values())
    if harmless or max(_in_page_cache(ids, maps).values()) > PERCENT:
        return Finding(REFUTED, why, figures)
    seen = not others and not in_cache and all(any(each.failed) for each in in_slab.values())
    return Finding(HOLDS if seen else CANNOT_TELL, why, figures)


def _h7(lab: Lab) -> Finding:
    finding = slab_rule(lab.once(sweep_ids), lab.once(sweep_maps))
    finding.figures["where two CPUs mount, 50% slab"] = crowd_table(lab.once(sweep_crowd))
    return finding


def crowd_table(crowd: Mapping[str, Tried]) -> dict[str, object]:
    """What failed where two CPUs mount."""
    columns = ("mounts", "failed", "reclaimed", "failed of these")
    totals = {d: [sum(each) for each in (t.tried, t.failed, t.pressed, t.lost)] for d, t in crowd.items()}
    return {design: dict(zip(columns, row, strict=True)) for design, row in totals.items()}


# --- H5, H8 ------------------------------------------------------------------------------------------


def loss_rule(ids: Sweep, crowd: Mapping[str, Tried], needed: float) -> Finding:
    """Holds if at most 1 of 100 mounts fails for it in full memory, with up to 50 % slab of what comes.

    Counted are mounts that enter reclaim under the lock, by one CPU and by two: how many of a hundred fail, beyond what
    fails of those that reclaim under the worst design whose reclaim can have the lock. There all ids need a node; of
    mounts that stay only a part, `needed`, does, and the others allocate nothing under the lock: that part counts. So
    do runs with 10 such mounts. Refuted if it is more in every one of them of a design and share; where it is in some
    only, a design has none, or no id needed a node, nothing can be told.
    """
    return loss_up_to(PLAUSIBLE, ids, crowd, needed)


def loss_up_to(most: float, ids: Sweep, crowd: Mapping[str, Tried], needed: float) -> Finding:
    """As loss_rule, up to another share of slab."""
    cases = [{design: ids[design][slab] for design in ids} for slab in SHARES if 0 < slab <= most] + [dict(crowd)]
    found = [_beyond(case) for case in cases]
    one, two = _worst(found[:-1]), _worst(found[-1:])
    always = max((min(runs) for each in found for runs in each.values() if runs), default=0.0)
    why = (
        f"of {sum(sum(case[d].pressed) for case in cases for d in TAKES_THE_LOCK):,} mounts that reclaimed under the "
        f"lock {one:.3g} % failed in the worst run where one CPU mounts, and {two:.3g} % where two do, beyond the "
        f"others; with {needed:.4f} nodes an id that is {max(one, two) * needed:.3g} % of mounts in full memory, and "
        f"{always * needed:.3g} % or more in every run of the worst case"
    )
    figures = {"where two CPUs mount, 50% slab": crowd_table(crowd), "nodes an id": round(needed, 4)} | _id_tables(ids)
    if always * needed > PERCENT:
        return Finding(REFUTED, why, figures)
    told = needed > 0 and all(any(each[design] for each in found) for design in TAKES_THE_LOCK)
    return Finding(HOLDS if told and max(one, two) * needed <= PERCENT else CANNOT_TELL, why, figures)


def _worst(found: Sequence[Mapping[str, Sequence[float]]]) -> float:
    return max((percent for each in found for runs in each.values() for percent in runs), default=0.0)


def _beyond(case: Mapping[str, Tried]) -> dict[str, list[float]]:
    """By design that takes the lock, of each run that counts: what failed of the mounts that reclaim, beyond others."""
    base = max(case[design].lost_percent for design in LEAVES_IT)
    return {design: [max(0.0, percent - base) for percent in case[design].lost_percents] for design in TAKES_THE_LOCK}


def _h5(lab: Lab) -> Finding:
    return loss_rule(lab.once(sweep_ids), lab.once(sweep_crowd), nodes_an_id(lab.once(mounts_that_stay)))


def insertion_rule(kinds: Mapping[str, Tried], stay: Tried) -> Finding:
    """Holds if ids that need a page get one by reclaim, where more would fail without.

    `kinds` are mounts whose id needs a node while memory is full of page cache, by the reclaim that the insertion may
    enter: "full", "pages only" and "none". Holds if with either kind of reclaim at most a third as many fail, of a
    hundred, as without. Refuted if with page cache only as many fail as without. Anything between, or none failing
    without, or no mount that reclaims with page cache only, cannot be told: then the insertion was not pressed. How
    many nodes ids need is told of mounts that `stay`.
    """
    table = {
        kind: {"tried": sum(t.tried), "failed": sum(t.failed), "nodes": t.nodes, "reclaimed": sum(t.pressed)}
        for kind, t in kinds.items()
    }
    why = ", ".join(f"{sum(t.failed):,} of {sum(t.tried):,} failed with {kind}" for kind, t in kinds.items())
    why += f"; {nodes_an_id(stay):.4f} nodes an id that stays"
    figures: dict[str, object] = {"by reclaim": table, "nodes an id": round(nodes_an_id(stay), 4)}
    without, reclaimed = kinds["none"].percent, max(kinds["pages only"].percent, kinds["full"].percent)
    if without == 0 or not any(kinds["pages only"].pressed):
        return Finding(CANNOT_TELL, why, figures)
    if kinds["pages only"].percent >= without:
        return Finding(REFUTED, why, figures)
    return Finding(HOLDS if reclaimed <= without / 3 else CANNOT_TELL, why, figures)


def _h8(lab: Lab) -> Finding:
    designs = {"full": FULL, "pages only": PAGE_ONLY, "none": NOTHING}
    found = kept_full(lab, tuple(designs.values()), at_the_edge(0.0))
    return insertion_rule({kind: found[design] for kind, design in designs.items()}, lab.once(mounts_that_stay))


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
