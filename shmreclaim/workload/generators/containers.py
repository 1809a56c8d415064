"""The patch series' own benchmark: many containers, each a memcg with a mount and a few objects, then drop_caches.

Source: KERNEL.md 12, E1 to E3: 4000 memcgs, each with its own tmpfs mount and some objects, then drop slab caches
several times and compare the passes. Without a map a pass calls containers times mounts shrinkers, with one only those
that hold something: after the first pass, none.

Phases: every CPU makes its containers and lets objects come and go in them (three tenths of the planned time); CPU 0
idles for a tenth of it, so that the others are done in closed loop too, and then drops.

Limits: in closed loop a machine that needs longer than that idling still churns during the first drop.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from shmreclaim.workload.generators.script import Pile, Script, Stage, divide

_POPULATE, _SETTLE, _DROP = (0.0, 0.3), (0.3, 0.4), (0.5, 1.0)


class Parameters(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """What [parameters] of a containers scenario may hold."""

    containers: Annotated[int, Meta(ge=1, le=60_000, description="memcgs, each with one mount")] = 200
    objects: Annotated[int, Meta(ge=0, le=10_000, description="objects that each container makes first")] = 16
    churn_ops: Annotated[int, Meta(ge=0, le=2_000_000, description="ops on objects before the first drop")] = 20_000
    passes: Annotated[int, Meta(ge=1, le=10_000, description="how often caches are dropped")] = 5


def generate(parameters: Parameters, stage: Stage) -> None:
    """Deal the containers to the CPUs, then drop caches on CPU 0."""
    cpus = stage.shape.cpus
    containers = divide(parameters.containers, cpus)
    busy = sum(count > 0 for count in containers)
    churn = divide(parameters.churn_ops, busy)
    for cpu in range(busy):
        script = stage.script(cpu, _POPULATE)
        _churn(script, _make(script, containers[cpu], parameters.objects), churn[cpu])
    stage.script(0, _SETTLE).idle(stage.duration // 10)
    drops = stage.script(0, _DROP, evenly=True)
    for _ in range(parameters.passes):
        drops.drop_caches()


def _make(script: Script, containers: int, objects: int) -> list[Pile]:
    """Make containers; return one pile of objects for each."""
    piles = []
    for _ in range(containers):
        memcg = script.online()
        piles.append(script.pile(script.register(memcg), memcg))
        script.grow(piles[-1], objects)
    return piles


def _churn(script: Script, piles: list[Pile], ops: int) -> None:
    """Add as much as is deleted, on average, and touch a little."""
    for _ in range(ops):
        pile, draw, count = piles[script.below(len(piles))], script.below(10), 1 + script.below(4)
        if draw == 0 and pile.count:
            script.touch(pile, count)
        elif draw < 5 and pile.count > count:
            script.shrink(pile, count)
        else:
            script.grow(pile, count)
