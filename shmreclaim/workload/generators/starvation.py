"""Endless readers against writers: all CPUs but a few run reclaim passes, those few mount and unmount.

`setup` puts objects on many lists, so that every pass calls many shrinkers and the readers' sections overlap without a
gap. A lock that lets new readers pass a waiting writer then never lets it in; one that does not makes the readers'
trylocks fail. At its default priorities a pass asks every shrinker and frees next to nothing: lists stay full and
passes long. Lower ones free what the readers put back.

Source: KERNEL.md 12 E4, E7 and E10 (the load on the lock word; mounts stuck behind reclaim), 13 H22 to H24.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from shmreclaim.errors import UsageError
from shmreclaim.workload.generators.script import Pile, Script, Stage, divide, split_cpus

_MAX_LISTS = 250_000


class Parameters(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """What [parameters] of a starvation scenario may hold."""

    writing_share: Annotated[float, Meta(ge=0, le=1, description="the part of the CPUs that mount and unmount")] = 0.125
    passes: Annotated[int, Meta(ge=1, le=2_000_000, description="reclaim passes of all CPUs together")] = 16_000
    registrations: Annotated[int, Meta(ge=1, le=1_000_000, description="mounts of all CPUs together")] = 4000
    live_mounts: Annotated[int, Meta(ge=1, le=10_000, description="how many mounts live at a time")] = 8
    memcgs: Annotated[int, Meta(ge=1, le=10_000, description="memcgs that the passes are over")] = 16
    superblocks: Annotated[int, Meta(ge=1, le=10_000, description="superblocks; each memcg has a list in each")] = 32
    objects: Annotated[int, Meta(ge=0, le=10_000, description="objects on each list at the start")] = 64
    priority: Annotated[int, Meta(ge=0, le=12, description="the most urgent priority; others up to 12")] = 6


def generate(parameters: Parameters, stage: Stage) -> None:
    """Fill the lists in `setup`, then let readers and writers run."""
    if parameters.memcgs * parameters.superblocks > _MAX_LISTS:
        raise UsageError(
            f"[parameters] memcgs {parameters.memcgs} times superblocks {parameters.superblocks} are too many lists",
            remedy=f"Their product may be {_MAX_LISTS} at most.",
        )
    memcgs = [stage.setup.online() for _ in range(parameters.memcgs)]
    superblocks = [stage.setup.register() for _ in range(parameters.superblocks)]
    piles = [stage.setup.pile(superblock, memcg) for memcg in memcgs for superblock in superblocks]
    for pile in piles:
        stage.setup.grow(pile, parameters.objects)
    writing, reading = split_cpus(stage.shape.cpus, parameters.writing_share)
    mounts, live = divide(parameters.registrations, len(writing)), divide(parameters.live_mounts, len(writing))
    for i, cpu in enumerate(writing):
        _write(stage.script(cpu), mounts[i], max(1, live[i]))
    for cpu, passes in zip(reading, divide(parameters.passes, len(reading)), strict=True):
        _read(stage.script(cpu), piles, passes, parameters)


def _write(script: Script, mounts: int, live: int) -> None:
    """Mount, and unmount the oldest as soon as more than `live` are there."""
    mounted = []
    for _ in range(mounts):
        mounted.append(script.register())
        if len(mounted) > live:
            script.unregister(mounted.pop(0))


def _read(script: Script, piles: list[Pile], passes: int, parameters: Parameters) -> None:
    """Run passes over memcgs drawn at random, and add to a list after every second one."""
    for _ in range(passes):
        memcg = piles[script.below(len(piles))].memcg
        script.shrink_slab(memcg, script.node(), parameters.priority + script.below(13 - parameters.priority))
        if script.chance(0.5):
            script.grow(piles[script.below(len(piles))], script.below(parameters.objects // 2 + 1))
