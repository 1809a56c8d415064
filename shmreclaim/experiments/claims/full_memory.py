"""Runs in full memory, for H5 to H8 and H16: what registration can allocate then, and of what memory may be full.

Memory is filled with page cache and with slab, in shares that a sweep goes through, and kept full by more of both in
the same shares. Slab is objects that only shrinkers free, page cache is what reclaim frees without one. Two things may
need memory then under the lock that a design registers with: the node of an id, and longer maps for every memcg.

Limits: a share is of what comes, not of what stays. Each era's arithmetic frees slab as fast as it does, and whoever
cannot have the lock frees page cache only, so that a quarter that comes may be most of what is there; how much of
memory was slab in the end is told beside.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from shmreclaim.experiments.claims.claim import CannotTell
from shmreclaim.experiments.claims.lab import Lab
from shmreclaim.experiments.claims.workloads import EDGE, SEED, Row, add, by_rows, cache, delete, mkdir, mount, umount
from shmreclaim.mm.state import LINES_PER_PAGE
from shmreclaim.result import LoggedOp, RunRecord
from shmreclaim.workload.ops import Op, Workload

STEP = 0.25
SHARES = tuple(STEP * k for k in range(5))
"""Of what memory is filled with, slab; the rest is page cache."""
TAKES_THE_LOCK = ("davydov", "v4_19", "v5_13")
"""Designs that allocate for an id while reclaim cannot have the lock of the shrinkers."""
LEAVES_IT = ("tkhai_v1", "v6_4_srcu+srcu_gp_us=0", "v6_7")
"""Designs that allocate for an id while it can."""
PLAUSIBLE = 0.5
"""The share of slab taken to be the most that comes, in the long run, to a machine that somebody runs."""
GROW = ("v5_13", "v6_7")
"""Maps of the same size, of which the first's are allocated under the lock and the second's are not."""
LEAST = 10
"""Mounts of a run that enter reclaim, below which a share of them says nothing."""
HOLDERS = 4
"""Memcgs, and superblocks that stay, which hold the slab."""
_DENTRY_LINES = 3


@dataclass(frozen=True)
class Tried:
    """What became of the mounts of some runs, by run."""

    failed: tuple[int, ...]
    tried: tuple[int, ...]
    pressed: tuple[int, ...]
    """Mounts that entered reclaim: with shrinker_rwsem held for write, where the design allocates for an id so."""
    lost: tuple[int, ...]
    """Those of them that did not get memory."""
    nodes: int = 0
    """Nodes that were allocated for ids."""
    slab: float = 0.0
    """How much of memory was slab in the end, in percent; the mean of the runs."""

    @property
    def percent(self) -> float:
        """How many failed, of a hundred mounts."""
        return 100 * sum(self.failed) / sum(self.tried)

    @property
    def lost_percents(self) -> list[float]:
        """As `lost_percent`, of each run in which enough mounts entered reclaim to tell."""
        runs = zip(self.lost, self.pressed, strict=True)
        return [100 * lost / pressed for lost, pressed in runs if pressed >= LEAST]

    @property
    def lost_percent(self) -> float:
        """How many did not get memory, of a hundred that entered reclaim; 0 where none did, which is to be told."""
        return 100 * sum(self.lost) / sum(self.pressed) if any(self.pressed) else 0.0


def tried(design: str, records: Sequence[RunRecord], pages: int) -> Tried:
    """Sum up logged runs in a memory of so many pages; raises CannotTell if one did not come to mount anything."""
    failed = tuple(sum(record.ops["register"].failed.values()) for record in records)
    mounts = tuple(lost + record.ops["register"].count for lost, record in zip(failed, records, strict=True))
    if not all(mounts):
        raise CannotTell("a run was over before anything was mounted")
    pressed = [_pressed(design, record) for record in records]
    slab = [record.objects.remaining * _DENTRY_LINES / LINES_PER_PAGE / pages for record in records]
    return Tried(
        failed,
        mounts,
        tuple(map(len, pressed)),
        tuple(sum("alloc_failed" in mount.events for mount in mounts) for mounts in pressed),
        sum(record.events["id_nodes"] for record in records),
        100 * sum(slab) / len(slab),
    )


def _pressed(design: str, record: RunRecord) -> list[LoggedOp]:
    """Mounts that entered reclaim; the last of each CPU aside, in which the run may have been stopped."""
    event = "reclaims_under_write" if design.partition("+")[0] in TAKES_THE_LOCK else "direct_reclaims"
    return [mount for mount, after in pairwise(record.log) if mount.cpu == after.cpu and event in mount.events]


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


def _more(slab: float, count: int) -> list[Row]:
    """What keeps memory full: a page or two at a time, of page cache or of dentries."""
    rng = random.Random(SEED)
    rows = []
    for _ in range(count):
        memcg, pages = 1 + rng.randrange(HOLDERS), 1 + rng.randrange(2)
        rows.append(add(memcg, memcg - 1, _dentries(pages)) if rng.random() < slab else cache(memcg, pages))
    return rows


# --- the node of an id -------------------------------------------------------------------------------

PAGES, RUNS, RUN_S = 512, 2, 0.3
MOUNTS, FILLS, TIMES = 100, 1400, 1500
"""How many come and are repeated how often: more than a run has time for, so that memory is kept full to its end."""


def at_the_edge(slab: float, mounting: int = 1) -> Workload:
    """Mounts whose ids each need memory, in memory that another CPU keeps full.

    One CPU mounts: where several do, reclaim also fails its trylock for a writer that waits, under every design with
    an rwsem, and that is another matter than the lock one holds oneself.
    """
    streams = [*(_cycles(EDGE + cpu) for cpu in range(mounting)), _more(slab, FILLS)]
    return by_rows(f"ids, {slab:.0%} slab", _holders(EDGE, PAGES, slab), *streams, pages=PAGES, times=TIMES)


def _cycles(handle: int) -> list[Row]:
    """Mounts and unmounts; a few dentries come and go with each, or all would find memory equally far from empty."""
    rng = random.Random(SEED)
    few = [rng.randrange(1, 22) for _ in range(MOUNTS)]
    return [row for n in few for row in (add(1, 0, n), mount(handle), umount(handle), delete(1, 0, n))]


def kept_full(lab: Lab, designs: Sequence[str], work: Workload) -> dict[str, Tried]:
    """Try designs, which take turns; raises CannotTell if a CPU had nothing left to do before the time was up."""
    found = {}
    for design, records in lab.measure_logged(designs, work, Op.REGISTER, repeat=RUNS, seconds=RUN_S).items():
        if any(worker.ops == len(work.streams[worker.cpu]) for record in records for worker in record.workers):
            raise CannotTell(f"under {design} a CPU had nothing left to do, so memory was not kept full to the end")
        found[design] = tried(design, records, PAGES)
    return found


def sweep_ids(lab: Lab) -> Sweep:
    """Try every design with every share of slab while ids need nodes; shared by H5 to H7 and H16."""
    designs = (*TAKES_THE_LOCK, *LEAVES_IT)
    by_share = {slab: kept_full(lab, designs, at_the_edge(slab)) for slab in SHARES}
    return {design: {slab: found[design] for slab, found in by_share.items()} for design in designs}


def sweep_crowd(lab: Lab) -> dict[str, Tried]:
    """Try every design where two CPUs mount and half of what comes is slab; shared by H5, H7 and H16."""
    return kept_full(lab, (*TAKES_THE_LOCK, *LEAVES_IT), at_the_edge(PLAUSIBLE, 2))


# --- longer maps -------------------------------------------------------------------------------------

MACHINE, MEMCGS, GROWING = 4096, 3000, 20


def growing(slab: float) -> Workload:
    """Mounts that stay, the third of which makes the maps of many memcgs grow, in memory that is kept full."""
    more = _more(slab, 10 * GROWING)
    setup = [*_holders(EDGE - 2, MACHINE, slab, MEMCGS), *more]
    rows = [row for k in range(GROWING) for row in (*more[10 * k : 10 * k + 10], mount(EDGE - 2 + k))]
    return by_rows(f"maps, {slab:.0%} slab", setup, rows, pages=MACHINE)


def sweep_maps(lab: Lab) -> Sweep:
    """Try growth with every share of slab; shared by H6 and H7."""
    found: dict[str, dict[float, Tried]] = {design: {} for design in GROW}
    for slab in SHARES:
        # Lists on demand, or arrays of lists for so many memcgs would fill memory instead.
        variants = {f"{design}+lists_on_demand=1": design for design in GROW}
        for variant, records in lab.measure_logged(tuple(variants), growing(slab), Op.REGISTER, repeat=RUNS).items():
            found[variants[variant]][slab] = tried(variant, records, MACHINE)
    return found


# --- mounts that stay ----------------------------------------------------------------------------------

STAY = 1000


def mounts_that_stay(lab: Lab) -> Tried:
    """Mount with plenty of memory, for how many ids need a node; shared by H5 and H8."""
    work = by_rows("mounts that stay", [mkdir(1)], [mount(k) for k in range(STAY)])
    return tried("v4_19", lab.records("v4_19", work), work.memory.pages_per_node)


def nodes_an_id(stay: Tried) -> float:
    """How many nodes each of the ids that stayed needed."""
    return stay.nodes / sum(stay.tried)
