"""The patch series' own test: how long a drop of caches takes with maps, and how long without.

N memcgs with a mount and a few objects each are there before the first pass. Each pass is one operation of the one CPU,
logged by itself. The first frees the objects; the later ones find nothing, and cost what it costs to find that out.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from statistics import median, median_low
from typing import TYPE_CHECKING

from shmreclaim import __version__
from shmreclaim.drop_passes import BASELINE, DesignPasses, DropPass, DropsAtSize, DropsResult
from shmreclaim.errors import SetupError
from shmreclaim.experiments.compare import Progress, describe_machine, make_ready
from shmreclaim.plugins import Design, choose, design_files
from shmreclaim.ranges import expect_number, expect_whole
from shmreclaim.result import Invariants, LoggedOp, RunRecord, Spread
from shmreclaim.workload.drop_caches import drop_caches, expect_in_range
from shmreclaim.workload.ops import Op

if TYPE_CHECKING:
    from shmreclaim.executions.native import RunSettings
    from shmreclaim.workload.ops import Workload

SWEEP_HALVINGS = 4
"""A sweep goes up to what was asked for from a sixteenth of it."""


@dataclass(frozen=True)
class DropOptions:
    """What to measure; refused with a UsageError when a value is out of range."""

    containers: int = 1000
    designs: tuple[str, ...] = ()
    """Names of built-in designs and paths of users' files; all built-in ones where none is named."""
    passes: int = 5
    objects: int = 2
    """Dentries in each container, and as many inodes."""
    repeat: int = 3
    sweep: bool = False
    timeout: float = 300.0
    """Seconds after which a run counts as hung."""

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        expect_whole("repeat", self.repeat)
        expect_number("timeout", self.timeout)
        expect_in_range(self.containers, self.objects, self.passes)

    def workload(self, containers: int) -> Workload:
        """Make the workload of so many containers."""
        return drop_caches(containers, self.objects, self.passes)

    @property
    def sizes(self) -> list[int]:
        """Numbers of containers, smallest first; the last is what was asked for."""
        halvings = SWEEP_HALVINGS if self.sweep else 0
        return sorted({self.containers >> k for k in range(halvings + 1)} - {0})


def dropcaches(options: DropOptions, progress: Progress) -> DropsResult:
    """Run the passes of every design.

    Violations of invariants are in the result; a hang raises Inconclusive, too little shared memory SetupError.
    """
    started = datetime.now(UTC).isoformat(timespec="seconds")
    chosen = choose(options.designs)
    settings = settings_of(options)
    _expect_room(options, settings)
    make_ready(chosen, progress)
    turns = _Turns(options, chosen, progress)
    found = [turns.play(size) for size in options.sizes]
    return DropsResult(
        version=__version__,
        started=started,
        parameters={**asdict(options), "designs": [design.given for design in chosen]},
        machine=describe_machine(),
        segment_bytes=found[-1].segment_bytes,
        designs=found[-1].designs,
        sweep=found if options.sweep else [],
        design_files=design_files(chosen),
    )


def settings_of(options: DropOptions) -> RunSettings:
    """How each run is played: every drop is logged."""
    from shmreclaim.executions import native

    return native.RunSettings(timeout=options.timeout, log_ops=(Op.DROP_CACHES,))


# --- room --------------------------------------------------------------------------------------------


def _expect_room(options: DropOptions, settings: RunSettings) -> None:
    """Refuse more containers than there is shared memory for, and say how many there is memory for."""
    from shmreclaim.machine import arena
    from shmreclaim.machine.names import SHM

    needed, free = segment_bytes(options, options.containers, settings), arena.free_bytes()
    if needed <= free:
        return
    fits = _most_that_fit(options, settings, free)
    raise SetupError(
        f"{options.containers} containers need a segment of {needed >> 20} MiB, {SHM} has room for {free >> 20} MiB",
        cause="Kernels before 5.18 had a list for every memcg in every mount: memory grows with the square.",
        remedy=f"{f'--containers {fits} fits' if fits else 'Not even one container fits'}; or free memory, or enlarge "
        f"{SHM} (docker run --shm-size={needed // 2**30 + 1}g).",
    )


def segment_bytes(options: DropOptions, containers: int, settings: RunSettings) -> int:
    """Shared memory that a run with so many containers takes."""
    from shmreclaim.executions import native

    return native.segment_bytes(options.workload(containers), settings)


def _most_that_fit(options: DropOptions, settings: RunSettings, free: int) -> int:
    """The largest number of containers whose segment fits; 0 if none does."""
    fits, too_many = 0, options.containers
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        if segment_bytes(options, middle, settings) <= free:
            fits = middle
        else:
            too_many = middle
    return fits


# --- runs --------------------------------------------------------------------------------------------


class _Turns:
    """Plays every design in turn, again and again, and tells how far it is."""

    def __init__(self, options: DropOptions, chosen: tuple[Design, ...], progress: Progress) -> None:
        self._options, self._chosen, self._progress = options, chosen, progress
        self._settings = settings_of(options)
        self._total = len(options.sizes) * options.repeat * len(chosen)
        self._done = 0

    def play(self, containers: int) -> DropsAtSize:
        """Run all designs with so many containers."""
        from shmreclaim.executions import native

        workload = self._options.workload(containers)
        runs: dict[str, list[RunRecord]] = {design.name: [] for design in self._chosen}
        for _ in range(self._options.repeat):
            for design in self._chosen:
                self._done += 1
                label = f"{design.name}, {containers} containers" if self._options.sweep else design.name
                self._progress.started(label, self._done, self._total)
                runs[design.name].append(native.run_design(workload, design, self._settings, self._progress))
                self._progress.finished(label, self._done, runs[design.name][-1])
        size = native.segment_bytes(workload, self._settings)
        return DropsAtSize(containers=containers, segment_bytes=size, designs=fold(runs))


# --- figures -----------------------------------------------------------------------------------------


def fold(runs: dict[str, list[RunRecord]]) -> dict[str, DesignPasses]:
    """Fold the runs of each design; ratios are of runs that stood next to each other."""
    baseline = runs.get(BASELINE, [])
    return {name: _fold_design(each, baseline) for name, each in runs.items()}


def _fold_design(runs: list[RunRecord], baseline: list[RunRecord]) -> DesignPasses:
    first = [_seconds(run)[0] for run in runs]
    later = [median(_seconds(run)[1:]) for run in runs if len(run.log) > 1]
    base_first = [_seconds(run)[0] for run in baseline]
    base_later = [median(_seconds(run)[1:]) for run in baseline if len(run.log) > 1]
    return DesignPasses(
        runs=len(runs),
        passes=[_fold_pass(list(each)) for each in zip(*(run.log for run in runs), strict=True)],
        later_s=_spread(later),
        ratio_first=_spread([a / b for a, b in zip(base_first, first, strict=False)]),
        ratio_later=_spread([a / b for a, b in zip(base_later, later, strict=False)]),
        invariants=Invariants(
            checked=sum(run.invariants.checked for run in runs),
            violations=list(dict.fromkeys(text for run in runs for text in run.invariants.violations)),
        ),
    )


def _seconds(run: RunRecord) -> list[float]:
    return [each.cpu_ns / 1e9 for each in run.log]


def _fold_pass(runs: list[LoggedOp]) -> DropPass:
    seconds = [each.cpu_ns / 1e9 for each in runs]

    def count(event: str) -> int:
        return median_low(each.events.get(event, 0) for each in runs)

    return DropPass(
        seconds=median(seconds),
        elapsed_s=median(each.ns / 1e9 for each in runs),
        shrinker_calls=count("shrinker_calls"),
        scan_calls=count("scan_calls"),
        objects_freed=count("objects_freed"),
        rounds=count("drop_rounds"),
        runs_s=seconds,
    )


def _spread(values: list[float]) -> Spread | None:
    return Spread(median=median(values), min=min(values), max=max(values)) if values else None
