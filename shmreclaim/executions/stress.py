"""Stress: a workload in rounds for a while, on a machine that rests now and then so that everything can be checked.

As executions/native.py, with more in the watch loop: once a second all CPUs come to rest between two operations
(mm/quiet.py), the oracles walk the whole segment, and they go on; what CPUs find broken on line is looked for all the
time; chaos is done to the workers. What breaks ends the run: `StressRun.evidence` says what, and the segment is kept
where that was asked for.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from msgspec import structs

from shmreclaim import kernel
from shmreclaim.errors import InternalError
from shmreclaim.executions import collect, evidence, native, oracles, stall, truncation
from shmreclaim.executions.chaos import Chaos, ChaosPlan
from shmreclaim.executions.crew import Crew
from shmreclaim.executions.nursed import NursedCrew
from shmreclaim.executions.reaper import Reaper
from shmreclaim.machine.arena import Arena
from shmreclaim.machine.cpu import CPU
from shmreclaim.machine.process import stolen_ns
from shmreclaim.mm import quiet
from shmreclaim.result import ChaosDone, Evidence, Histogram, RunRecord
from shmreclaim.signals import held_signals
from shmreclaim.workload.ops import Workload

TICK_S = 0.01
"""How often the parent looks for something to do."""
TELL_S = 0.25
REST_POLL_S = 0.0005
SHORTEST_STRETCH_S = 0.1
"""What is shorter has no rate worth to be kept."""
STUTTERS_PER_S = 1.0
LONGEST_STUTTER_S = 0.1


@dataclass(frozen=True)
class Plan:
    """How to stress; times in seconds."""

    seconds: float | None = None
    """None: until the operations are done."""
    ops: int | None = None
    """Of all CPUs together; None: as many as there is time for."""
    chaos: ChaosPlan = field(default_factory=ChaosPlan)
    stutter: bool = False
    """All CPUs rest for up to LONGEST_STUTTER_S now and then."""
    quiet_s: float = 1.0
    """From one quiet point to the next."""
    timeout: float = 10.0
    """How long CPUs may take to come to rest before it counts as hung."""
    mutant: str = ""
    """What is to be broken in the workers."""
    keep: bool = True
    """Whether the segment of a run that went wrong is kept."""


@dataclass(frozen=True)
class Snapshot:
    """How far a run is."""

    elapsed_s: float
    ops: int
    ops_per_s: float
    """Since the quiet point before."""
    quiet_points: int
    chaos: ChaosDone


@dataclass(frozen=True)
class StressRun:
    """What one run came to."""

    record: RunRecord
    chaos: ChaosDone
    throughput: tuple[int, ...]
    """Operations a second, from one quiet point to the next, time at rest left out."""
    quiet_points: int
    evidence: Evidence | None
    recovery_ns: Histogram
    """From each kill until another process was where the killed one had been."""


class _Pace:
    """Operations a second, from one rest to the next."""

    def __init__(self, done: Callable[[], int]) -> None:
        self._done = done
        self.throughput: list[int] = []
        self.go_on()

    def go_on(self) -> None:
        """Begin to count from here."""
        self.since, self._before = time.monotonic(), self._done()

    def rate(self) -> float:
        """Since then."""
        return (self._done() - self._before) / max(time.monotonic() - self.since, 1e-6)

    def note(self) -> None:
        """Keep the rate, of a stretch that is long enough to have one."""
        if time.monotonic() - self.since >= SHORTEST_STRETCH_S or not self.throughput:
            self.throughput.append(round(self.rate()))


class _Course:
    """A run while it goes on: `play` takes it from its start to its end, or to what breaks."""

    def __init__(self, crew: Crew, arena: Arena, slots: list[int], players: int, plan: Plan) -> None:
        self._crew, self._arena, self._slots, self._players, self._plan = crew, arena, slots, players, plan
        self._reaper = _reaper(plan)
        self._chaos = Chaos(plan.chaos, crew.pids)
        self.pace = _Pace(self._done)
        self.checked = self.quiet_points = 0
        self._late_s, self._stolen = 0.0, stolen_ns()
        self._random = np.random.Generator(np.random.PCG64([plan.chaos.seed, 1]))
        self._began = time.monotonic()
        self._stutter_due = self._quiet_due = float("inf")

    def play(self, tell: Callable[[Snapshot], None]) -> list[str]:
        """Give what broke; nothing if all held to the end. Raises stall.Hung."""
        self._crew.await_ready(self._plan.timeout)
        if self._reaper and isinstance(self._crew, NursedCrew):
            self._reaper.begin(self._crew)
        kernel.start_all(self._arena.address)
        self._began = time.monotonic()
        self.pace.go_on()
        self._quiet_due = self._began + self._plan.quiet_s
        self._plan_stutter()
        found = self._watch(tell)
        self.pace.note()
        self._chaos.settle()
        if not found:
            self._crew.stop()
            checked, found = oracles.check_at_quiet_point(self._arena, self._slots)
            self.checked += checked
        return found

    def _watch(self, tell: Callable[[Snapshot], None]) -> list[str]:
        end = self._began + (float("inf") if self._plan.seconds is None else self._plan.seconds)
        told = 0.0
        while any(k < self._players for k in self._tick()) and (now := time.monotonic()) < end:
            if any(self._arena.memory[slot + CPU.nr_violations] for slot in self._slots):
                return oracles.found_on_line(self._arena, self._slots)
            self._do_harm()
            if now >= self._stutter_due:
                self._stutter()
            if now >= self._quiet_due and (found := self._quiet_point()):
                return found
            if now - told >= TELL_S:
                told = now
                tell(self._snapshot(now))
        return []

    def _tick(self) -> list[int]:
        """Wait for something to happen, or a while; who is left."""
        due = time.monotonic() + TICK_S
        left = self._crew.wait(TICK_S)
        self._late_s = max(self._late_s, time.monotonic() - due)
        return left

    def _do_harm(self) -> None:
        self._chaos.step()
        if self._reaper and isinstance(self._crew, NursedCrew):
            self._reaper.act(self._crew)

    def harm_done(self) -> ChaosDone:
        """What was done to the workers, and what they recovered from."""
        done = self._chaos.done()
        if self._reaper and isinstance(self._crew, NursedCrew):
            done = self._reaper.done(self._crew, done.stops)
        return structs.replace(done, parent_late_ns=round(self._late_s * 1e9), stolen_ns=stolen_ns() - self._stolen)

    def recovery_times(self) -> Histogram:
        """How long each recovery took."""
        return self._reaper.times() if self._reaper else Histogram.of(())

    def _done(self) -> int:
        return sum(self._arena.memory[slot + CPU.ops_done] for slot in self._slots[: self._players])

    def _snapshot(self, now: float) -> Snapshot:
        return Snapshot(now - self._began, self._done(), self.pace.rate(), self.quiet_points, self.harm_done())

    def _quiet_point(self) -> list[str]:
        """Let all come to rest, check everything, and let them go on if it holds."""
        self.pace.note()
        self._rest()
        checked, found = oracles.check_at_quiet_point(self._arena, self._slots)
        self.checked += checked
        self.quiet_points += 1
        self._quiet_due = time.monotonic() + self._plan.quiet_s
        if not found:
            self._go_on()
        return found

    def _stutter(self) -> None:
        self.pace.note()
        self._rest()
        time.sleep(float(self._random.random()) * LONGEST_STUTTER_S)
        self._go_on()
        self._plan_stutter()

    def _plan_stutter(self) -> None:
        if self._plan.stutter:
            self._stutter_due = time.monotonic() + float(self._random.exponential(1 / STUTTERS_PER_S))

    def _rest(self) -> None:
        self._chaos.settle()
        quiet.pause_all(self._arena.address)
        asked = time.monotonic()
        while quiet.cpus_at_rest(self._arena.address, len(self._slots)) < len(self._slots):
            self._crew.wait(REST_POLL_S)
            if time.monotonic() - asked > self._plan.timeout:
                raise self._crew.hung(f"not all CPUs came to rest within {self._plan.timeout:g} s")

    def _go_on(self) -> None:
        kernel.start_all(self._arena.address)
        self.pace.go_on()


def run(workload: Workload, design: str, plan: Plan, tell: Callable[[Snapshot], None]) -> StressRun:
    """Stress a design with a repeatable workload; `tell` hears how far it is.

    What breaks, hangs or crashes is in the result. Raises Inconclusive if a worker is killed by somebody else,
    SetupError if the machine refuses something.
    """
    with held_signals() as take_signals:
        native.bind(design)
        limit = 0 if plan.ops is None else -(-plan.ops // workload.cpus)
        settings = native.RunSettings(rounds=native.Rounds(limit, plan.mutant), kills=_reaper(plan))
        machine = native.machine_for(workload, settings)
        with Arena.create(machine.words()) as arena, truncation.said_at_once(arena):
            slots = native.boot_for(arena, machine, design, settings)
            jobs = native.jobs_of(arena, workload, design, settings, slots)
            with native.crew_of(settings, design)(arena, slots, jobs, take_signals) as crew:
                course = _Course(crew, arena, slots, workload.cpus, plan)
                failed, found = _outcome(course, tell)
                names = [job.name for job in jobs]
                proof = evidence.gather(arena, slots, names, failed, found) if failed else None
            if proof and plan.keep:
                arena.keep()
            return _folded(course, arena, slots, workload.cpus, proof)


def _reaper(plan: Plan) -> Reaper | None:
    return Reaper(plan.chaos) if plan.chaos.kill_rate else None


def _outcome(course: _Course, tell: Callable[[Snapshot], None]) -> tuple[str, list[str]]:
    """How it ended, empty for well, and what there is to say of it."""
    try:
        found = course.play(tell)
    except stall.Hung as error:
        return "hang", [error.what]
    except InternalError as error:
        return "crash", [error.what]
    return ("violation" if found else ""), found


def _folded(course: _Course, arena: Arena, slots: list[int], players: int, proof: Evidence | None) -> StressRun:
    for slot in slots[:players]:
        if not arena.memory[slot + CPU.ended]:  # it was ended half way
            arena.memory[slot + CPU.ended] = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    checked = course.checked + sum(arena.memory[slot + CPU.checks] for slot in slots)
    broken = list(proof.violations) if proof else []
    return StressRun(
        record=collect.gather(arena, slots[:players], slots, checked, broken),
        chaos=course.harm_done(),
        throughput=tuple(course.pace.throughput),
        quiet_points=course.quiet_points,
        evidence=proof,
        recovery_ns=course.recovery_times(),
    )
