"""Replay one workload under several designs, in true parallel, and gather what each did with it.

Every design gets the same op streams. Repeats interleave the designs (A B C A B C), so that a machine that slows
down half way slows all of them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from shmreclaim import __version__
from shmreclaim.errors import UsageError
from shmreclaim.experiments.combine import combine
from shmreclaim.machine.process import cores, machine_description
from shmreclaim.plugins import Design, choose, design_files
from shmreclaim.ranges import expect_number, expect_whole
from shmreclaim.result import Machine, Result, RunRecord, WorkloadSummary

if TYPE_CHECKING:
    from shmreclaim.workload.ops import Workload

LEAST_CPUS = 4
"""Designs differ where CPUs collide: even one core plays this many unless told otherwise."""

FIGURES_DEPEND_ON = ("numba", "llvmlite", "numpy", "posix-ipc", "multiprocess")


class Progress(Protocol):
    """Who is told how far a comparison is."""

    def compiling(self, done: int, total: int) -> None:
        """`done` of `total` functions are compiled; only when the cache does not have them."""

    def admitting(self, design: str, what: str) -> None:
        """`what` is done with a user's file before it is run: it is tried out, it is compiled."""

    def started(self, design: str, run: int, runs: int) -> None:
        """Run number `run` of `runs` begins, of `design`."""

    def advanced(self, done: int, total: int) -> None:
        """`done` of `total` operations of the present run are done."""

    def finished(self, design: str, run: int, record: RunRecord) -> None:
        """Run number `run` ended."""


@dataclass(frozen=True)
class CompareOptions:
    """What to compare and how; refused with a UsageError when a value is out of range or two contradict."""

    trace: Path | None = None
    """An ftrace text file; where neither it nor `scenario` is given, the recording that the package ships."""
    scenario: str | None = None
    """A preset's name or the path of a TOML file."""
    designs: tuple[str, ...] = ()
    """Names of built-in designs and paths of users' files; all built-in ones where none is named."""
    cpus: int | None = None
    """As many as cores, but at least LEAST_CPUS, where not given."""
    seconds: float | None = None
    speed: float | None = None
    """Times of the workload are divided by it and honoured; None is closed loop, as fast as it goes."""
    repeat: int = 5
    nodes: int = 1
    seed: int = 1
    timeout: float = 60.0
    """Seconds after which a run counts as hung."""

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        if self.trace is not None and self.scenario is not None:
            raise UsageError(
                f"--trace {self.trace} and --scenario {self.scenario} were both given",
                cause="A comparison replays one workload.",
                remedy="Leave one of them out.",
            )
        for name in ("cpus", "repeat", "nodes"):
            expect_whole(name, getattr(self, name))
        for name in ("seconds", "speed", "timeout"):
            expect_number(name, getattr(self, name))
        expect_whole("seed", self.seed, 0, (1 << 63) - 1)


def compare(options: CompareOptions, progress: Progress) -> Result:
    """Run the comparison.

    Violations of invariants are in the result; a hang raises Inconclusive, a machine that refuses something
    SetupError.
    """
    started = datetime.now(UTC).isoformat(timespec="seconds")
    chosen = choose(options.designs)
    cpus = cpus_of(options.cpus)
    workload = _load(options, cpus)
    records = _run_all(workload, chosen, options, progress)
    return Result(
        version=__version__,
        started=started,
        parameters=_parameters(options, chosen, cpus),
        machine=describe_machine(),
        workload=summary(workload),
        designs={name: combine(runs) for name, runs in records.items()},
        design_files=design_files(chosen),
    )


def cpus_of(asked: int | None) -> int:
    """How many CPUs are played where so many were asked for, or none were named."""
    from shmreclaim.machine.cpu import MAX_CPUS

    if asked is None:
        return min(max(LEAST_CPUS, len(cores())), MAX_CPUS)
    expect_whole("cpus", asked, most=MAX_CPUS, cause="A lock word has one bit for each CPU that may read under it.")
    return asked


def _load(options: CompareOptions, cpus: int) -> Workload:
    from shmreclaim import workload

    if options.scenario is not None:
        return workload.load_scenario(options.scenario, cpus=cpus, nodes=options.nodes, seed=options.seed)
    return workload.load_trace(options.trace, cpus=cpus, nodes=options.nodes, seed=options.seed)


def _run_all(
    workload: Workload, chosen: tuple[Design, ...], options: CompareOptions, progress: Progress
) -> dict[str, list[RunRecord]]:
    from shmreclaim.executions import native

    make_ready(chosen, progress)
    settings = native.RunSettings(speed=options.speed, seconds=options.seconds, timeout=options.timeout)
    records: dict[str, list[RunRecord]] = {design.name: [] for design in chosen}
    order = [design for _ in range(options.repeat) for design in chosen]
    for number, design in enumerate(order, start=1):
        progress.started(design.name, number, len(order))
        record = native.run_design(workload, design, settings, progress)
        records[design.name].append(record)
        progress.finished(design.name, number, record)
    return records


def make_ready(chosen: tuple[Design, ...], progress: Progress) -> None:
    """Compile what the cache lacks; users' designs are looked at before that takes its time, and tried out after."""
    from shmreclaim.executions import admission, native

    admission.look_at(chosen)
    native.prepare(progress.compiling)
    admission.admit(chosen, progress)


def _parameters(options: CompareOptions, chosen: tuple[Design, ...], cpus: int) -> dict[str, object]:
    trace = None if options.trace is None else str(options.trace)
    named = [design.given for design in chosen]
    return {**asdict(options), "trace": trace, "designs": named, "cpus": cpus}


def describe_machine() -> Machine:
    """Where this is run, for a result."""
    about = machine_description()
    return Machine(
        cores=cast(int, about["cores"]),
        cpu=str(about["cpu"]),
        architecture=str(about["architecture"]),
        kernel=str(about["kernel"]),
        python=str(about["python"]),
        libraries={name: metadata.version(name) for name in FIGURES_DEPEND_ON},
    )


def summary(workload: Workload) -> WorkloadSummary:
    """What every design was given, for a result."""
    return WorkloadSummary(
        kind=workload.kind,
        name=workload.name,
        cpus=workload.cpus,
        seed=workload.seed,
        ops=workload.planned(),
        nodes=workload.nodes,
        parameters=dict(workload.parameters),
        notes=list(workload.notes),
    )
