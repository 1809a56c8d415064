"""Small workloads for one question each, written with the scripts that scenarios are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from shmreclaim.workload.generators.script import Stage
from shmreclaim.workload.ops import Gfp, Memory, Op, Workload, make_stream
from shmreclaim.workload.shape import Shape

SEED = 1
EDGE = 64
"""Shrinkers that live when the next id needs a new IDR node, and a longer map in designs that grow word by word."""


def staged(name: str, cpus: int, fill: Callable[[Stage], None], *, pages: int = 4096, seed: int = SEED) -> Workload:
    """Make a workload on a machine of `pages` pages by what `fill` writes; closed loop, one node."""
    memory = Memory(pages, pages * 16 // 1000, pages * 20 // 1000, pages * 24 // 1000)
    stage = Stage(Shape(cpus, 1, seed), memory, 1_000_000_000)
    fill(stage)
    return Workload(
        kind="claim",
        name=name,
        seed=seed,
        nodes=1,
        memory=memory,
        n_memcgs=stage.handles.memcgs,
        n_shrinkers=stage.handles.shrinkers,
        setup=stage.setup_stream(),
        streams=stage.streams(),
        parameters={"pages": pages},
    )


def registering_at_the_edge(
    *, pages: int = 4096, pressed: bool = True, rounds: int = 4000, cpus: int = 4, memcgs: int = 8
) -> Workload:
    """Mounts whose ids need memory: EDGE others live, so each takes a new IDR node, under whatever lock that is.

    Half of the CPUs mount and unmount. The others keep memory full of page cache, so that reclaim is entered there,
    and add and reclaim objects; where they are not to press, they only run reclaim passes.
    """

    def fill(stage: Stage) -> None:
        groups = [stage.setup.online() for _ in range(memcgs)]
        mounts = [stage.setup.register() for _ in range(EDGE)]
        if pressed:
            stage.setup.cache_pages(groups[0], 0, pages)
        for cpu in range(cpus):
            script = stage.script(cpu)
            for _ in range(rounds):
                if cpu < max(1, cpus // 2):
                    script.unregister(script.register(groups[cpu]))
                elif pressed:
                    script.cache_pages(groups[cpu], 0, 1 + script.below(4), Gfp.KERNEL)
                    script.grow(script.pile(mounts[script.below(EDGE)], groups[cpu]), 1 + script.below(4))
                else:
                    script.shrink_slab(groups[cpu], 0, script.below(13))

    return staged("registering at the edge", cpus, fill, pages=pages)


# --- by hand: a row an operation ----------------------------------------------------------------------

Row = tuple[int, ...]
"""An operation, as workload/ops.py describes it."""


def mount(handle: int, scan_ns: int = 0) -> Row:
    """Mount a superblock whose scans sleep so long, or give up (-1)."""
    return (0, Op.REGISTER, 0, handle, 0, scan_ns, 1)


def umount(handle: int) -> Row:
    """Unmount it."""
    return (0, Op.UNREGISTER, 0, handle, 0, 0, 0)


def mkdir(handle: int) -> Row:
    """Bring a memcg online below the root."""
    return (0, Op.MEMCG_ONLINE, handle, 0, 0, 0, 0)


def rmdir(handle: int) -> Row:
    """Take it offline."""
    return (0, Op.MEMCG_OFFLINE, handle, 0, 0, 0, 0)


def add(memcg: int, sb: int, count: int = 1, inodes: int = 0) -> Row:
    """Make objects."""
    return (0, Op.LRU_ADD, memcg, sb, 0, count, inodes)


def delete(memcg: int, sb: int, count: int = 1, inodes: int = 0) -> Row:
    """Delete objects."""
    return (0, Op.LRU_DEL, memcg, sb, 0, count, inodes)


def touch(memcg: int, sb: int, count: int = 1) -> Row:
    """Use objects."""
    return (0, Op.TOUCH, memcg, sb, 0, count, 0)


def cache(memcg: int, pages: int) -> Row:
    """Read pages into the page cache."""
    return (0, Op.CACHE_PAGES, memcg, 0, 0, pages, Gfp.KERNEL)


def shrink(memcg: int, priority: int = 0, without: int = 0) -> Row:
    """Run a pass over a memcg, with GFP_KERNEL but for the bits `without`."""
    return (0, Op.SHRINK_SLAB, memcg, 0, 0, without, priority)


def idle(ms: float) -> Row:
    """Sleep."""
    return (0, Op.IDLE, 0, 0, 0, int(ms * 1e6), 0)


def by_rows(name: str, setup: Sequence[Row], *streams: Sequence[Row], pages: int = 8192, times: int = 1) -> Workload:
    """Make a workload of these operations, a stream a CPU, each repeated so often; room for all handles they name."""
    rows = [*setup, *(row for stream in streams for row in stream)]
    return Workload(
        kind="claim",
        name=name,
        seed=SEED,
        nodes=1,
        memory=Memory(pages, pages * 16 // 1000, pages * 20 // 1000, pages * 24 // 1000),
        n_memcgs=1 + max((row[2] for row in rows), default=0),
        n_shrinkers=1 + max((row[3] for row in rows), default=0),
        setup=make_stream(list(setup)),
        streams=tuple(np.tile(make_stream(list(stream)), times) for stream in streams),
        parameters={"pages": pages},
    )
