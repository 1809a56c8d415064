"""The thread's argument: registration and unregistration against reclaim, while memory is full.

Source: KERNEL.md 13, H5 to H8: does registration fail when memory is full of page cache (arm A: page_cache_share near
1), or of slab (arm B: slab_share near 1), if a design cannot reclaim slab while it registers? The shares are of the
memory above the high watermark; `setup` fills them with page cache and with objects in superblocks that stay. Then some
CPUs mount and unmount, and the others keep memory full, in the same proportion of page cache to slab, allocate, and run
reclaim passes.

Limits: what a design's maps and lists take comes on top of the shares: if these are near 1 in sum, `setup` reclaims
already.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from shmreclaim.errors import UsageError
from shmreclaim.workload.generators.script import Pile, Script, Stage, divide, split_cpus
from shmreclaim.workload.ops import Gfp

_PAGE, _DENTRY, _INODE = 4096, 192, 704
_GFP = (*[Gfp.KERNEL] * 6, *[Gfp.NOFS] * 2, Gfp.NOWAIT, Gfp.ATOMIC)


class Parameters(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """What [parameters] of a mailing-list scenario may hold."""

    page_cache_share: Annotated[float, Meta(ge=0, le=1, description="the part of memory filled with page cache")] = 0.55
    slab_share: Annotated[float, Meta(ge=0, le=1, description="the part of memory filled with slab objects")] = 0.35
    registering_share: Annotated[float, Meta(ge=0, le=1, description="the part of the CPUs that mount")] = 0.5
    registrations: Annotated[int, Meta(ge=1, le=1_000_000, description="the mounts of all CPUs together")] = 6000
    live_mounts: Annotated[int, Meta(ge=1, le=100_000, description="how many mounts live at a time")] = 96
    pressure_ops: Annotated[int, Meta(ge=0, le=2_000_000, description="ops of the CPUs that keep memory full")] = 20_000
    superblocks: Annotated[int, Meta(ge=1, le=10_000, description="superblocks that stay and hold the slab")] = 16
    memcgs: Annotated[int, Meta(ge=1, le=10_000, description="memcgs; every CPU gets at least one")] = 16


def generate(parameters: Parameters, stage: Stage) -> None:
    """Fill memory in `setup`, then let the two roles at it."""
    if parameters.page_cache_share + parameters.slab_share > 1:
        raise UsageError(
            f"[parameters] page_cache_share {parameters.page_cache_share:g} and slab_share {parameters.slab_share:g} "
            "are more than the whole memory",
            remedy="Their sum may be 1 at most.",
        )
    memcgs = [stage.setup.online() for _ in range(max(parameters.memcgs, stage.shape.cpus))]
    superblocks = [stage.setup.register() for _ in range(parameters.superblocks)]
    piles = _fill(parameters, stage, memcgs, superblocks)
    registering, pressing = split_cpus(stage.shape.cpus, parameters.registering_share)
    mounts, live = divide(parameters.registrations, len(registering)), divide(parameters.live_mounts, len(registering))
    for i, cpu in enumerate(registering):
        _mount_and_unmount(stage.script(cpu), memcgs[cpu :: stage.shape.cpus], mounts[i], max(1, live[i]))
    for i, (cpu, ops) in enumerate(zip(pressing, divide(parameters.pressure_ops, len(pressing)), strict=True)):
        pressure = _Pressure(parameters, stage.script(cpu), memcgs, piles[i :: len(pressing)])
        for _ in range(ops):
            pressure.step()


def _fill(parameters: Parameters, stage: Stage, memcgs: list[int], superblocks: list[int]) -> list[Pile]:
    """Fill the memory above the high watermark by the two shares; return the piles of objects."""
    setup, nodes = stage.setup, stage.shape.nodes
    room = stage.memory.pages_per_node - stage.memory.watermark_high
    pages = divide(int(room * parameters.page_cache_share), len(memcgs))
    pairs = divide(int(room * parameters.slab_share * _PAGE / (_DENTRY + _INODE)), len(memcgs))
    piles = []
    for i, memcg in enumerate(memcgs):
        for nid in range(nodes):
            setup.cache_pages(memcg, nid, pages[i])
            for inodes in (0, 1):
                piles.append(Pile(superblocks[i % len(superblocks)], memcg, nid, inodes))
                setup.grow(piles[-1], pairs[i])
    return piles


def _mount_and_unmount(script: Script, memcgs: list[int], mounts: int, live: int) -> None:
    """Mount `mounts` superblocks with a few dentries each, at most `live` at a time."""
    mounted: list[int] = []
    for i in range(mounts):
        if len(mounted) == live:
            script.unregister(mounted.pop(script.below(live)))
        memcg = memcgs[i % len(memcgs)]
        mounted.append(script.register(memcg))
        if script.chance(0.5):
            script.grow(script.pile(mounted[-1], memcg), 1 + script.below(8))


class _Pressure:
    """What a CPU does that keeps the memory full."""

    def __init__(self, parameters: Parameters, script: Script, memcgs: list[int], piles: list[Pile]) -> None:
        self._script, self._memcgs, self._piles = script, memcgs, piles
        filled = parameters.page_cache_share + parameters.slab_share
        self._cache = parameters.page_cache_share / filled if filled else 0.5

    def step(self) -> None:
        """Fill with probability 0.6, touch 0.05, allocate 0.2, reclaim 0.15."""
        script = self._script
        draw, pile = script.draw(), self._piles[script.below(len(self._piles))]
        if draw < 0.6:
            self._fill(pile)
        elif draw < 0.65:
            script.touch(pile, 1 + script.below(8))
        elif draw < 0.85:
            script.alloc(pile.memcg, script.node(), 1 + script.below(8), _GFP[script.below(len(_GFP))])
        else:
            # The larger of two draws: reclaim that succeeds early ends at a high priority number, so those are more.
            priority = max(script.below(13), script.below(13))
            script.shrink_slab(self._memcgs[script.below(len(self._memcgs))], script.node(), priority)

    def _fill(self, pile: Pile) -> None:
        script = self._script
        if script.chance(self._cache):
            script.cache_pages(pile.memcg, pile.nid, 1 + script.below(16))
        else:
            script.grow(pile, 1 + script.below(32))
