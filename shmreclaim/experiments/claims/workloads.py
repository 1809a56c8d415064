"""Small workloads for one question each, written with the scripts that scenarios are made of."""

from __future__ import annotations

from collections.abc import Callable

from shmreclaim.workload.generators.script import Stage
from shmreclaim.workload.ops import Gfp, Memory, Workload
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
