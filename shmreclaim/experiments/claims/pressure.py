"""H5 to H8: what registration can allocate when memory is full, and of what it may be full.

Memory is filled to its last page with page cache and with slab, in shares that a sweep goes through; then mounts come
and stay. Slab is objects that only shrinkers free, page cache is what reclaim frees without one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from shmreclaim.experiments.claims.claim import CANNOT_TELL, HOLDS, REFUTED, Claim, Finding, worded
from shmreclaim.experiments.claims.lab import Lab
from shmreclaim.experiments.claims.workloads import add, by_rows, cache, mkdir, mount, registering_at_the_edge
from shmreclaim.workload.ops import Workload

PAGES, MEMCGS, HOLDERS = 16384, 20_000, 4
"""So many memcgs that a growth of their maps takes more than what reclaim leaves free."""
BEFORE, MOUNTS = 62, 40
"""Mounts that are there; those that come are the third and later ones for which maps must grow."""
LISTS = "+lists_on_demand=1"
"""Every design makes lists on demand here, or arrays of that many would fill memory instead."""
PERCENT = 1.0
"""Registrations that fail, of all, from which on they count as failing."""
SHARES = (0.0, 0.5, 0.75, 0.9, 1.0)
"""Of memory that is slab; the rest is page cache."""
TAKES_THE_LOCK = ("davydov", "v4_19", "v5_13")
"""Designs that allocate ids, and the last two maps, while reclaim cannot have the lock of the shrinkers."""
LEAVES_IT = ("tkhai_v1", "v6_7")
"""Designs that allocate maps where it can."""
PAGE_ONLY, NOTHING, FULL = "v4_19", "v4_19+ids_nowait", "v6_7"


@dataclass(frozen=True)
class Tried:
    """What became of mounts under pressure."""

    failed: int
    tried: int
    nodes: int = 0
    """Nodes that were allocated for ids."""

    @property
    def percent(self) -> float:
        """How many failed, of a hundred."""
        return 100 * self.failed / self.tried


def full_of(slab: float) -> Workload:
    """Fill memory, `slab` of it with objects and the rest with page cache, and go on filling while mounts come."""
    room = PAGES - int(0.4 * MEMCGS) - 200  # what memcgs take, and what stays free
    pages, objects = int(room * (1 - slab)), int(room * slab * 4096 / 192)
    fill = [cache(1 + k % HOLDERS, 64) for k in range(pages // 64)]
    fill += [add(1 + k % HOLDERS, k % HOLDERS, 512) for k in range(objects // 512)]
    more = [cache(1, 14)] * 2 if slab < 0.5 else [add(1 + k, k, 300) for k in range(2)]
    setup = [*(mkdir(1 + k) for k in range(MEMCGS)), *(mount(k) for k in range(BEFORE)), *fill, *more * 20]
    rows = [row for k in range(MOUNTS) for row in (*more, mount(BEFORE + k))]
    return by_rows(f"memory full, {slab:.0%} slab", setup, rows, pages=PAGES)


def _try(lab: Lab, design: str, slab: float) -> Tried:
    (record,) = lab.records(design + LISTS, full_of(slab))
    registered = record.ops["register"]
    failed = sum(registered.failed.values())
    return Tried(failed, failed + registered.count, record.events["id_nodes"])


def sweep(lab: Lab) -> dict[str, dict[float, Tried]]:
    """Try every design with every share of slab; shared by H5 to H7 and H16."""
    designs = ("tkhai_v1", *TAKES_THE_LOCK, "v6_7")
    return {design: {slab: _try(lab, design, slab) for slab in SHARES} for design in designs}


def threshold(by_share: Mapping[float, Tried]) -> float | None:
    """Give b*: the least share of slab with which registrations fail, None if they never do."""
    return min((slab for slab, tried in by_share.items() if tried.percent > PERCENT), default=None)


def _star(by_share: Mapping[float, Tried]) -> str:
    found = threshold(by_share)
    return "none" if found is None else f"{found:.0%}"


def _table(found: Mapping[str, Mapping[float, Tried]]) -> dict[str, object]:
    table = {
        design: {f"{slab:.0%}": round(tried.percent, 1) for slab, tried in by_share.items()} | {"b*": _star(by_share)}
        for design, by_share in found.items()
    }
    return {"failed, %, by slab": table}


# --- H6, H7 ------------------------------------------------------------------------------------------


def page_cache_rule(found: Mapping[str, Mapping[float, Tried]]) -> Finding:
    """Refuted if no registration fails in memory full of page cache, under the designs that allocate under the lock.

    Holds if under one of them more than 1 % fail there. Reported is b*, the least share of slab with which more than
    1 % fail. Less than 1 % but not none cannot be told.
    """
    failing = {design: found[design][0.0].percent for design in TAKES_THE_LOCK}
    told = ", ".join(f"{d} {p:.3g} % (b* {_star(found[d])})" for d, p in failing.items())
    why = f"failed in memory full of page cache: {told}"
    if max(failing.values()) > PERCENT:
        return Finding(HOLDS, why, _table(found))
    return Finding(CANNOT_TELL if any(failing.values()) else REFUTED, why, _table(found))


def _h6(lab: Lab) -> Finding:
    return page_cache_rule(lab.once(sweep))


def slab_rule(found: Mapping[str, Mapping[float, Tried]]) -> Finding:
    """Holds if registrations fail only in memory full of slab, and there only where reclaim cannot have the lock.

    That is: none fails anywhere in memory full of page cache; and with all of it slab more than 1 % fail under a design
    that allocates under the lock, 1 % at most under the others. Refuted if some fail in page cache, or none do in
    slab, or those that leave the lock alone fail like the others.
    """
    in_cache = max(by_share[0.0].percent for by_share in found.values())
    holders = max(found[design][1.0].percent for design in TAKES_THE_LOCK)
    others = max(found[design][1.0].percent for design in LEAVES_IT)
    why = (
        f"in page cache {in_cache:.3g} % failed at most; in slab {holders:.3g} % where reclaim cannot have the lock "
        f"and {others:.3g} % at most where it can"
    )
    expected = in_cache == 0 and holders > PERCENT >= others
    return Finding(HOLDS if expected else REFUTED, why, _table(found))


def _h7(lab: Lab) -> Finding:
    return slab_rule(lab.once(sweep))


# --- H5, H8 ------------------------------------------------------------------------------------------

PLAUSIBLE = 0.9
"""The most of memory that is taken to be slab in a machine that somebody would run."""


def loss_rule(found: Mapping[str, Mapping[float, Tried]]) -> Finding:
    """Holds if up to 90 % of slab registration fails no more often where reclaim of slab is lost than where it is not.

    It is lost under v4_19, which allocates under the lock; not under tkhai_v1 and v6_7. Refuted if at a share up to
    that more than 1 % fail under v4_19, and fewer under both others.
    """
    shares = [slab for slab in found[PAGE_ONLY] if slab <= PLAUSIBLE]
    most = {slab: found[PAGE_ONLY][slab].percent for slab in shares}
    others = {slab: max(found["tkhai_v1"][slab].percent, found[FULL][slab].percent) for slab in shares}
    worse = [slab for slab in shares if most[slab] > max(PERCENT, others[slab])]
    why = f"up to {PLAUSIBLE:.0%} slab {max(most.values()):.3g} % failed at most under v4_19; the table has all of it"
    return Finding(REFUTED if worse else HOLDS, why, _table(found))


def _h5(lab: Lab) -> Finding:
    return loss_rule(lab.once(sweep))


def insertion_rule(kinds: Mapping[str, Tried]) -> Finding:
    """Holds if ids that need a page get one by reclaim, where more would fail without.

    `kinds` are mounts whose id needs a node while memory is full of page cache, by the reclaim that the insertion may
    enter: "full", "pages only" and "none". Holds if with either kind of reclaim at most a third as many fail, of a
    hundred, as without. Refuted if with page cache only as many fail as without. Anything between, or none failing
    without, cannot be told: then the insertion was not pressed.
    """
    table = {kind: {"tried": t.tried, "failed": t.failed, "nodes": t.nodes} for kind, t in kinds.items()}
    why = ", ".join(f"{t.failed:,} of {t.tried:,} failed with {kind}" for kind, t in kinds.items())
    figures: dict[str, object] = {"by reclaim": table}
    without, reclaimed = kinds["none"].percent, max(kinds["pages only"].percent, kinds["full"].percent)
    if without == 0:
        return Finding(CANNOT_TELL, why, figures)
    if kinds["pages only"].percent >= without:
        return Finding(REFUTED, why, figures)
    return Finding(HOLDS if reclaimed <= without / 3 else CANNOT_TELL, why, figures)


def _at_the_edge(lab: Lab, design: str) -> Tried:
    records = lab.records(design, registering_at_the_edge(pages=1024), repeat=2)
    failed = sum(sum(record.ops["register"].failed.values()) for record in records)
    done = sum(record.ops["register"].count for record in records)
    return Tried(failed, failed + done, sum(record.events["id_nodes"] for record in records))


def _h8(lab: Lab) -> Finding:
    designs = {"full": FULL, "pages only": PAGE_ONLY, "none": NOTHING}
    return insertion_rule({kind: _at_the_edge(lab, design) for kind, design in designs.items()})


_SWEEP = (
    f"Memory of {PAGES:,} pages and {MEMCGS:,} memcgs, full, {', '.join(f'{share:.0%}' for share in SHARES)} of it "
    f"slab and the rest page cache; {MOUNTS} mounts come while it is kept full, and maps must grow."
)

CLAIMS: tuple[Claim, ...] = (
    Claim(
        "H5",
        "Vladimir Davydov, 27 and 28 March 2018",
        "that small allocations lose the reclaim of slab does not matter",
        _SWEEP,
        worded(loss_rule),
        _h5,
    ),
    Claim(
        "H6",
        "Kirill Tkhai, 24 to 28 March 2018",
        "mounts will then fail when memory is full, and memory full of page cache is common",
        _SWEEP,
        worded(page_cache_rule),
        _h6,
    ),
    Claim(
        "H7",
        "Vladimir Davydov, 27 and 28 March 2018",
        "only the reclaim of slab is blocked, and slab does not fill memory: page cache can always be reclaimed",
        _SWEEP,
        worded(slab_rule),
        _h7,
    ),
    Claim(
        "H8",
        "Kirill Tkhai, 24 to 28 March 2018",
        "an insertion into the IDR may need a page, and gets it after a quick reclaim if reclaim is allowed",
        "Mounts whose ids each need a node, in memory full of page cache: v6_7 (full reclaim), v4_19 (page cache "
        "only), v4_19+ids_nowait (none).",
        worded(insertion_rule),
        _h8,
    ),
)
