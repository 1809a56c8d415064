"""Memcgs come and go: ids and maps grow with the crowd, and are used again when it thins out.

One cycle of a memcg: online (sometimes below another one), mount, objects in its own superblock and in the shared ones
of `setup`, reclaim, and then the end in one of two orders, unmount first or offline first; with the latter the objects
are reparented while their superblock lives. What is left in shared superblocks goes to the parent at last, and passes
over the root free it. The crowd swells and shrinks `waves` times between one a CPU and `peak_memcgs` in all.

Source: KERNEL.md 9 (reparenting), 13 H4 and H12 (growth stops at the peak, ids stay small).
"""

from dataclasses import dataclass
from typing import Annotated

import msgspec
from msgspec import Meta

from shmreclaim.workload.generators.script import Pile, Script, Stage, divide

_ROOT_PASS, _NEIGHBOUR_PASS = 0.02, 0.2


class Parameters(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """What [parameters] of a churn scenario may hold."""

    cycles: Annotated[int, Meta(ge=1, le=200_000, description="memcgs that come and go, on all CPUs together")] = 2500
    peak_memcgs: Annotated[int, Meta(ge=1, le=60_000, description="how many memcgs live at the height of a wave")] = 160
    waves: Annotated[int, Meta(ge=1, le=1000, description="how often their number swells and shrinks")] = 4
    objects: Annotated[int, Meta(ge=0, le=10_000, description="the most objects added at a time")] = 24
    nested_share: Annotated[float, Meta(ge=0, le=1, description="the part of the memcgs that lie below another")] = 0.25
    superblocks: Annotated[int, Meta(ge=1, le=10_000, description="superblocks that stay and are used by all")] = 4


@dataclass(eq=False)
class _Container:
    """One live memcg with its mount."""

    memcg: int
    mount: int
    own: Pile
    shared: Pile
    parent: "_Container | None"
    children: int = 0


def generate(parameters: Parameters, stage: Stage) -> None:
    """Let every CPU have its own crowd."""
    shared = [stage.setup.register() for _ in range(parameters.superblocks)]
    cpus = stage.shape.cpus
    cycles, peaks = divide(parameters.cycles, cpus), divide(parameters.peak_memcgs, cpus)
    for cpu in range(cpus):
        crowd = _Crowd(parameters, stage.script(cpu), shared)
        for cycle in range(cycles[cpu]):
            crowd.step(_swell(cycle / cycles[cpu], parameters.waves, peaks[cpu]))
        crowd.leave_all()


def _swell(part: float, waves: int, peak: int) -> int:
    """How many live memcgs are wanted when `part` of the cycles is done: a triangle wave from 1 to `peak`."""
    phase = part * waves % 1.0
    return max(1, round(peak * (1 - abs(2 * phase - 1))))


class _Crowd:
    """The live memcgs of one CPU."""

    def __init__(self, parameters: Parameters, script: Script, shared: list[int]) -> None:
        self._parameters, self._script, self._shared = parameters, script, shared
        self._live: list[_Container] = []

    def step(self, wanted: int) -> None:
        """Bring one in, let some leave until `wanted` are left, and use those that stay."""
        self._enter()
        while len(self._live) > wanted and len(self._live) > 1:
            self._leave(self._a_leaf())
        for _ in range(2):
            self._use(self._live[self._script.below(len(self._live))])

    def leave_all(self) -> None:
        """Let all leave, children first."""
        while self._live:
            self._leave(self._a_leaf())

    def _enter(self) -> None:
        script = self._script
        below = bool(self._live) and script.chance(self._parameters.nested_share)
        parent = self._live[script.below(len(self._live))] if below else None
        memcg = script.online(parent.memcg if parent else 0)
        mount = script.register(memcg)
        shared = self._shared[script.below(len(self._shared))]
        self._live.append(_Container(memcg, mount, script.pile(mount, memcg), script.pile(shared, memcg), parent))
        if parent:
            parent.children += 1

    def _use(self, container: _Container) -> None:
        script, most = self._script, self._parameters.objects
        for pile in (container.own, container.shared):
            script.grow(pile, script.below(most + 1))
        script.touch(container.own, 1 + script.below(4))
        script.shrink(container.own, script.below(most + 1) // 2)
        script.shrink_slab(container.memcg, container.own.nid, script.below(13))
        if script.chance(_NEIGHBOUR_PASS):
            script.shrink_slab(self._live[script.below(len(self._live))].memcg, script.node(), script.below(13))
        if script.chance(_ROOT_PASS):
            script.shrink_slab(0, script.node(), script.below(13))

    def _a_leaf(self) -> _Container:
        """Choose one without children; there always is one."""
        at = self._script.below(len(self._live))
        while self._live[at].children:
            at = (at + 1) % len(self._live)
        return self._live[at]

    def _leave(self, container: _Container) -> None:
        self._live.remove(container)
        if container.parent:
            container.parent.children -= 1
        offline_first = self._script.chance(0.5)
        if offline_first:
            self._script.offline(container.memcg)
        self._script.unregister(container.mount)
        if not offline_first:
            self._script.offline(container.memcg)
