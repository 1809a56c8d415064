"""Every operation on every CPU at random, in memory that is never enough: for runs that try to break a design.

Each CPU has a few memcgs of its own, some below others, some with a limit, and ever more mounts: their number climbs
to `peak_mounts` and ids and maps with it. Some memcgs and superblocks of `setup` are everybody's. In the hot ones
single objects come, and all reclaim them and nothing else does: lists are found empty while somebody adds, and a bit
that is lost there stays lost. All the while others reclaim, allocate and drop caches. A stream ends as it began, so it
can be played again and again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from shmreclaim.workload.generators.script import Pile, Script, Stage, divide
from shmreclaim.workload.ops import Gfp

T = TypeVar("T")
_SLOW_SCAN_NS = 20_000
_GFPS = (Gfp.KERNEL, Gfp.KERNEL, Gfp.NOFS, Gfp.ATOMIC, Gfp.NOWAIT)
_LIMIT_PAGES = 64
_FRESH = 8
"""Mounts made last, which half of the objects of an own mount come to."""


class Parameters(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """What [parameters] of a torture scenario may hold."""

    steps: Annotated[int, Meta(ge=1, le=1_000_000, description="random steps, on all CPUs together")] = 16_000
    peak_mounts: Annotated[int, Meta(ge=1, le=100_000, description="mounts at the end, on all CPUs together")] = 640
    climbers: Annotated[int, Meta(ge=0, le=10_000, description="CPUs that mount ever more, 0 for all of them")] = 0
    memcgs: Annotated[int, Meta(ge=1, le=1000, description="the most memcgs that a CPU has of its own")] = 4
    shared: Annotated[int, Meta(ge=1, le=1000, description="memcgs, and superblocks, that are everybody's")] = 3
    hot: Annotated[int, Meta(ge=1, le=1000, description="memcgs with a superblock each that all CPUs fight for")] = 2
    objects: Annotated[int, Meta(ge=1, le=10_000, description="the most objects added at a time")] = 12
    pages: Annotated[int, Meta(ge=1, le=100_000, description="the most pages taken at a time")] = 48
    drops: Annotated[float, Meta(ge=0, le=1, description="the part of the steps that drop caches")] = 0.0005


def generate(parameters: Parameters, stage: Stage) -> None:
    """Let every CPU go its own random way."""
    shared = _Common(
        [stage.setup.online() for _ in range(parameters.shared)],
        [stage.setup.register() for _ in range(parameters.shared)],
        [(stage.setup.register(), stage.setup.online()) for _ in range(parameters.hot)],
    )
    cpus = stage.shape.cpus
    climbers = min(parameters.climbers or cpus, cpus)
    steps = divide(parameters.steps, cpus)
    peaks = [*divide(parameters.peak_mounts, climbers), *[0] * (cpus - climbers)]
    for cpu in range(cpus):
        walk = _Walk(parameters, stage.script(cpu), shared)
        for step in range(steps[cpu]):
            walk.climb(peaks[cpu] * (step + 1) // steps[cpu])
            walk.step()
        walk.leave_all()


@dataclass(frozen=True)
class _Common:
    """What is everybody's."""

    memcgs: list[int]
    mounts: list[int]
    hot: list[tuple[int, int]]
    """Superblock and memcg."""


@dataclass(eq=False)
class _Memcg:
    """One of a CPU's own."""

    number: int
    parent: "_Memcg | None"
    children: int = 0


@dataclass
class _Walk:
    """One CPU's."""

    parameters: Parameters
    script: Script
    shared: _Common
    memcgs: list[_Memcg] = field(default_factory=list)
    mounts: list[int] = field(default_factory=list)

    def climb(self, wanted: int) -> None:
        """Mount until so many are there."""
        while len(self.mounts) < wanted:
            self._mount()

    def step(self) -> None:
        """Do one thing, chosen at random."""
        deeds = (
            (0.30, self._fight), (0.22, self._use), (0.14, self._reclaim), (0.10, self._remount),
            (0.10, self._enter_or_leave), (0.14, self._take_pages),
        )  # fmt: skip
        if self.script.chance(self.parameters.drops):
            self.script.drop_caches()
        drawn = self.script.draw()
        for share, deed in deeds:
            if drawn < share:
                deed()
                return
            drawn -= share

    def leave_all(self) -> None:
        """Let all go, in one order or the other."""
        while self.mounts or self.memcgs:
            if self.mounts and (not self.memcgs or self.script.chance(0.9)):
                self.script.unregister(self.mounts.pop(self.script.below(len(self.mounts))))
            else:
                self._leave()

    def _fight(self) -> None:
        """One object comes, or all are reclaimed that are there: the list falls empty and fills."""
        script = self.script
        mount, memcg = self._one_of(self.shared.hot)
        for _ in range(3):
            if script.chance(0.35):
                script.grow(Pile(mount, memcg, script.node(), 0), 1)
            else:
                script.shrink_slab(memcg, script.node(), 0)

    def _use(self) -> None:
        pile = self.script.pile(self._any_mount(), self._any_memcg())
        self.script.grow(pile, 1 + self.script.below(self.parameters.objects))
        self.script.touch(pile, self.script.below(4))
        if self.script.chance(0.5):
            self.script.shrink(pile, 1 + self.script.below(self.parameters.objects))

    def _reclaim(self) -> None:
        memcg = 0 if self.script.chance(0.05) else self._any_memcg()
        self.script.shrink_slab(memcg, self.script.node(), self.script.below(13))

    def _remount(self) -> None:
        if self.mounts:
            self.script.unregister(self.mounts.pop(self.script.below(len(self.mounts))))
            self._mount()

    def _enter_or_leave(self) -> None:
        if len(self.memcgs) < self.parameters.memcgs and (not self.memcgs or self.script.chance(0.5)):
            self._enter()
        else:
            self._leave()

    def _take_pages(self) -> None:
        script, pages = self.script, 1 + self.script.below(self.parameters.pages)
        gfp = self._one_of(_GFPS)
        if script.chance(0.5):
            script.cache_pages(self._any_memcg(), script.node(), pages, gfp)
        else:
            script.alloc(self._any_memcg(), script.node(), pages, gfp)

    def _mount(self) -> None:
        script = self.script
        scan_ns = _SLOW_SCAN_NS if script.chance(0.05) else 0
        self.mounts.append(script.register(self._any_memcg(), aware=script.chance(0.95), scan_ns=scan_ns))

    def _enter(self) -> None:
        script = self.script
        parent = self._one_of(self.memcgs) if self.memcgs and script.chance(0.5) else None
        above = parent.number if parent else self._one_of([0, *self.shared.memcgs])
        limit = _LIMIT_PAGES if script.chance(0.3) else 0
        self.memcgs.append(_Memcg(script.online(above, limit), parent))
        if parent:
            parent.children += 1

    def _leave(self) -> None:
        at = self.script.below(len(self.memcgs))
        while self.memcgs[at].children:
            at = (at + 1) % len(self.memcgs)
        memcg = self.memcgs.pop(at)
        if memcg.parent:
            memcg.parent.children -= 1
        self.script.offline(memcg.number)

    def _any_memcg(self) -> int:
        own = [memcg.number for memcg in self.memcgs]
        return self._one_of(own if own and self.script.chance(0.6) else [0, *self.shared.memcgs])

    def _any_mount(self) -> int:
        if not self.mounts or self.script.chance(0.4):
            return self._one_of(self.shared.mounts)
        return self._one_of(self.mounts if self.script.chance(0.5) else self.mounts[-_FRESH:])

    def _one_of(self, things: Sequence[T]) -> T:
        return things[self.script.below(len(things))]
