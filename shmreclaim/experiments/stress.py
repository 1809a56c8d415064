"""Torture designs until something breaks or the time is over, and show that what is broken on purpose is found out.

Time is cut into boots of a fresh machine with a seed of its own each: ids and maps grow only while a machine is young,
and other seeds do other things. What breaks stops everything: the evidence goes to a file, and the segment stays.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from shmreclaim import __version__, files
from shmreclaim.errors import UsageError
from shmreclaim.experiments import compare
from shmreclaim.experiments.combine import combine
from shmreclaim.mutants import Mutant, chosen_mutants
from shmreclaim.plugins import Design, choose, design_files
from shmreclaim.ranges import expect_number, expect_whole
from shmreclaim.report import evidence as evidence_report
from shmreclaim.report.heading import command
from shmreclaim.result import ChaosDone, Histogram, MutantResult, StressedDesign, StressResult
from shmreclaim.workload.ops import Workload

if TYPE_CHECKING:
    from shmreclaim.executions.stress import Plan, Snapshot, StressRun
    from shmreclaim.machine.crash_points import CrashPoint

SCENARIO = "torture"
SECONDS = 10.0
BOOT_S = 10.0
CHAOS = ("none", "stop", "kill", "both")
KILLS_PER_S = 20.0
MUTANT_QUIET_S = 0.1


class Progress(compare.Progress, Protocol):
    """Who is told how far it is."""

    def stressing(self, design: str, snapshot: Snapshot) -> None:
        """How a run goes."""

    def judged(self, number: str, verdict: str, seconds: float) -> None:
        """Whether a mutant was caught, after how long."""


@dataclass(frozen=True)
class StressOptions:
    """What to stress and how; refused with a UsageError when a value is out of range or two contradict."""

    designs: tuple[str, ...] = ()
    """Names of built-in designs, variants, and paths of users' files; all built-in ones where none is named."""
    scenario: str = SCENARIO
    cpus: int | None = None
    nodes: int = 1
    seconds: float | None = None
    """For each design; SECONDS where neither this nor `ops` is given."""
    ops: int | None = None
    """Of all CPUs together, for each design."""
    seed: int = 1
    chaos: str = "none"
    kill_rate: float | None = None
    crash_at: tuple[str, ...] = ()
    """Crash points, functions or files where workers are killed, and nowhere else; empty: anywhere."""
    stutter: bool = False
    shuffle: bool = False
    long_hold: float | None = None
    """Milliseconds."""
    mutant: str | None = None
    timeout: float = 10.0

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        for name in ("cpus", "nodes", "ops"):
            expect_whole(name, getattr(self, name))
        for name in ("seconds", "timeout"):
            expect_number(name, getattr(self, name))
        expect_number("kill-rate", self.kill_rate)
        expect_number("long-hold", self.long_hold)
        expect_whole("seed", self.seed, 0, (1 << 63) - 1)
        self._refuse_contradictions()
        self._refuse_chaos()

    def _refuse_contradictions(self) -> None:
        both = "{} and {} were both given"
        if self.seconds is not None and self.ops is not None:
            raise UsageError(both.format("--seconds", "--ops"), remedy="Say how long, or how much.")
        if self.long_hold is not None and self.long_hold / 1000 >= self.timeout:
            raise UsageError(
                f"--long-hold {self.long_hold:g} ms is not shorter than --timeout {self.timeout:g} s",
                cause="CPUs that take longer than that to come to rest count as hung.",
                remedy="Hold for a shorter time, or raise --timeout.",
            )
        if self.mutant is not None and (self.designs or self.seconds or self.ops):
            other = "--design" if self.designs else "--seconds" if self.seconds else "--ops"
            raise UsageError(both.format("--mutant", other), cause="A mutant has a design of its own, and 30 s.")

    def _refuse_chaos(self) -> None:
        if self.chaos not in CHAOS:
            raise UsageError(f"--chaos {self.chaos!r} is unknown", remedy=f"There are: {', '.join(CHAOS)}.")
        if self.kill_rate is not None and self.chaos not in ("kill", "both"):
            raise UsageError(f"--kill-rate {self.kill_rate:g} with --chaos {self.chaos}: nobody is killed")
        if self.crash_at and not self.kills:
            raise UsageError(f"--crash-at {','.join(self.crash_at)} with --chaos {self.chaos}: nobody is killed")
        if self.mutant is not None and self.kills:
            raise UsageError(
                f"--mutant {self.mutant} and --chaos {self.chaos} were both given",
                cause="Mutants break what runs without kills: another build of the same code.",
            )

    @property
    def kills(self) -> float:
        """Workers to be killed a second."""
        return (self.kill_rate or KILLS_PER_S) if self.chaos in ("kill", "both") else 0.0

    @property
    def stops(self) -> bool:
        """Whether workers are to be stopped."""
        return self.chaos in ("stop", "both")


def stress(options: StressOptions, progress: Progress) -> StressResult:
    """Stress what was asked for. What breaks is in the result; a machine that refuses something raises SetupError."""
    started = datetime.now(UTC).isoformat(timespec="seconds")
    chosen = () if options.mutant else choose(options.designs)
    cpus = compare.cpus_of(options.cpus)
    session = _Session(options, cpus, progress)
    workload = session.workload(options.scenario, options.seed)
    mutants = session.hunt(chosen_mutants(options.mutant)) if options.mutant else {}
    designs = session.stress_all(chosen)
    parameters = _parameters(options, chosen, cpus)
    return StressResult(
        version=__version__,
        started=started,
        parameters=parameters,
        machine=compare.describe_machine(),
        workload=compare.summary(workload),
        designs=dict(designs),
        design_files=design_files(chosen),
        mutants=mutants,
        again=_command(parameters),
    )


class _Session:
    """One call of `stress`."""

    def __init__(self, options: StressOptions, cpus: int, progress: Progress) -> None:
        self._options, self._cpus, self._progress = options, cpus, progress

    def workload(self, scenario: str, seed: int) -> Workload:
        """Make what a boot plays."""
        from shmreclaim import workload

        options = self._options
        made = workload.load_scenario(scenario, cpus=self._cpus, nodes=options.nodes, seed=seed)
        repeated = workload.repeatable(made)
        return workload.with_long_hold(repeated, round(options.long_hold * 1e6)) if options.long_hold else repeated

    def stress_all(self, chosen: tuple[Design, ...]) -> dict[str, StressedDesign]:
        """Stress each design; the first that fails is the last."""
        from shmreclaim.executions import native

        found: dict[str, StressedDesign] = {}
        if chosen:
            points = {design.name: self._crash_points(design) for design in chosen if not design.path}
            compare.make_ready(chosen, self._progress)
            points |= {design.name: self._crash_points(design) for design in chosen if design.path}
            if self._options.kills:
                native.prepare(self._progress.compiling, journaled=True)
        for number, design in enumerate(chosen, start=1):
            self._progress.started(design.name, number, len(chosen))
            found[design.name] = self._stress_one(design, number, points[design.name])
            if found[design.name].failed:
                break
        return found

    def _crash_points(self, design: Design) -> tuple[CrashPoint, ...]:
        """Where workers of a design are killed by name."""
        from shmreclaim.executions import crash_points

        if not self._options.kills:
            return ()
        points = crash_points.of_design(design.module)
        return crash_points.called(self._options.crash_at, points, design.given) if self._options.crash_at else points

    def _stress_one(self, design: Design, number: int, points: tuple[CrashPoint, ...]) -> StressedDesign:
        from shmreclaim.executions import stress as execution

        runs: list[StressRun] = []
        boots = self._boots(points)
        for plan in boots:
            tell = self._teller(design.name, len(runs), len(boots), plan)
            runs.append(
                execution.run(self.workload(self._options.scenario, plan.chaos.seed), design.module, plan, tell)
            )
            self._progress.finished(design.name, number, runs[-1].record)
            if runs[-1].evidence:
                break
        return self._folded(design, boots, runs)

    def _teller(self, design: str, before: int, boots: int, plan: Plan) -> Callable[[Snapshot], None]:
        def tell(snapshot: Snapshot) -> None:
            self._progress.stressing(design, snapshot)
            if plan.ops is not None:
                self._progress.advanced(snapshot.ops, plan.ops)
            elif plan.seconds is not None:
                self._progress.advanced(round(before * plan.seconds + snapshot.elapsed_s), round(boots * plan.seconds))

        return tell

    def _boots(self, points: tuple[CrashPoint, ...]) -> list[Plan]:
        options = self._options
        if options.ops is not None:
            return [replace(self._plan(options.seed, points), ops=options.ops)]
        seconds = options.seconds or SECONDS
        boots = math.ceil(seconds / BOOT_S)
        return [replace(self._plan(options.seed + k, points), seconds=seconds / boots) for k in range(boots)]

    def _plan(self, seed: int, points: tuple[CrashPoint, ...] = ()) -> Plan:
        from shmreclaim.executions import chaos
        from shmreclaim.executions import stress as execution

        options = self._options
        done_to_workers = chaos.ChaosPlan(
            stop=options.stops,
            shuffle=options.shuffle,
            kill_rate=options.kills,
            crash_points=points,
            nowhere_else=bool(options.crash_at),
            seed=seed,
        )
        return execution.Plan(chaos=done_to_workers, stutter=options.stutter, timeout=options.timeout)

    def _folded(self, design: Design, boots: list[Plan], runs: list[StressRun]) -> StressedDesign:
        proof = runs[-1].evidence
        seeds = [plan.chaos.seed for plan in boots[: len(runs)]]
        again = replace(self._options, seed=seeds[-1], seconds=boots[0].seconds) if proof else self._options
        line = _command(_parameters(again, (design,), self._cpus))
        text = evidence_report.render(proof, design.given, line) if proof else ""
        return StressedDesign(
            **_fields(combine([run.record for run in runs])),
            chaos=_sum(runs),
            throughput_per_s=[list(run.throughput) for run in runs],
            quiet_points=sum(run.quiet_points for run in runs),
            seeds=seeds,
            failed=proof.failed if proof else "",
            why=proof.what if proof else "",
            report=write_report(text, f"stress-{design.name}-{os.getpid()}.txt") if proof else "",
            segment=proof.segment if proof else "",
            again=line,
        )

    def hunt(self, mutants: list[Mutant]) -> dict[str, MutantResult]:
        """Stress broken variants until they are found out."""
        from shmreclaim.executions import hunt, native

        native.prepare(self._progress.compiling)
        plan = replace(self._plan(self._options.seed), quiet_s=MUTANT_QUIET_S)
        found = {}
        for number, mutant in enumerate(mutants, start=1):
            name = mutant.name
            self._progress.started(name, number, len(mutants))
            hunt.compile_mutant(mutant, lambda what, name=name: self._progress.admitting(name, what))  # type: ignore[misc]
            tell = self._teller(name, 0, 1, replace(plan, seconds=hunt.TRIED_S))
            found[name] = hunt.hunt(mutant, self.workload, plan, tell)
            self._progress.judged(name, _verdict(found[name]), found[name].seconds)
        return found


def _verdict(found: MutantResult) -> str:
    if found.caught:
        return f"caught: {found.by.splitlines()[0]}"
    return "not caught: for the checker" if found.checker else "NOT CAUGHT"


def _parameters(options: StressOptions, chosen: tuple[Design, ...], cpus: int) -> dict[str, object]:
    """By the option's name, in the order of the help."""
    given: dict[str, Any] = {"design": [design.given for design in chosen] or None, **asdict(options), "cpus": cpus}
    given["crash_at"] = options.crash_at or None
    del given["designs"]
    return {name.replace("_", "-"): value for name, value in given.items()}


def _command(parameters: dict[str, object]) -> str:
    return f"shmreclaim {command('stress', parameters)}"


def _fields(design: Any) -> dict[str, Any]:
    return {name: getattr(design, name) for name in type(design).__struct_fields__}


def _sum(runs: list[StressRun]) -> ChaosDone:
    each, times = [run.chaos for run in runs], Histogram.merge(run.recovery_ns for run in runs)
    summed = {name: _sum_of([getattr(part, name) for part in each]) for name in ("recoveries", "left", "crash_points")}
    return ChaosDone(
        kills=sum(part.kills for part in each),
        stops=sum(part.stops for part in each),
        **summed,
        longest_recovery_ns=times.max,
        recovery_ns=times.latency() if times.count else None,
        parent_late_ns=max(part.parent_late_ns for part in each),
        stolen_ns=sum(part.stolen_ns for part in each),
    )


def _sum_of(counts: list[dict[str, int]]) -> dict[str, int]:
    names = dict.fromkeys(name for each in counts for name in each)
    return {name: sum(each.get(name, 0) for each in counts) for name in names}


def write_report(text: str, name: str) -> str:
    """Write a report where the user is, or with other temporary files; its path, empty if neither can be written."""
    for folder in (Path(), Path(tempfile.gettempdir())):
        path = folder / name.replace("/", "_")
        try:
            with files.written_whole(path) as file:
                file.write(text.encode("utf-8", "surrogateescape"))
        except OSError:
            continue
        return str(path.absolute())
    return ""
