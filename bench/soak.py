"""Play every combination of design, workload, CPUs and nodes many times, and count what the oracles find.

    python bench/soak.py [--runs 20] [--cpus 2,4,8,32] [--nodes 1,2]
                         [--designs no_map,...] [--scenarios trace,mailing-list,...] [--seed 1] [--timeout 120]

One line a combination: runs, violations, checks made, trylocks that failed, median duration. Exit code 2 if any
invariant broke; a run that hangs or cannot start ends it with that error's exit code. It measures no speed: the
seed differs from run to run, so that no two runs of a preset play the same operations.
The whole of it is 7,280 runs: hours on two cores; v6_4_srcu waits for most of its time.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass, field
from importlib.resources import as_file, files
from statistics import median

from shmreclaim import designs, workload
from shmreclaim.errors import ModelViolation, ShmreclaimError
from shmreclaim.executions import native
from shmreclaim.result import RunRecord
from shmreclaim.workload import Workload
from shmreclaim.workload.recordings import DROPS

TRACE = "trace"
SHOWN_VIOLATIONS = 5
COLUMNS = "{:<24} {:<14} {:>4} {:>5} {:>5} {:>10} {:>12} {:>15} {:>9}"


@dataclass
class Tally:
    """What the runs of one combination added up to."""

    runs: int = 0
    checks: int = 0
    trylock_failed: int = 0
    violations: list[str] = field(default_factory=list)
    walls_s: list[float] = field(default_factory=list)

    def add(self, record: RunRecord) -> None:
        """Count one run."""
        self.runs += 1
        self.checks += record.invariants.checked
        self.trylock_failed += record.reclaim.trylock_failed
        self.violations += record.invariants.violations
        self.walls_s.append(record.wall_s)

    def figures(self) -> tuple[str, ...]:
        """The last columns of a line."""
        wall = f"{median(self.walls_s):.3f} s" if self.walls_s else "-"
        return str(self.runs), str(len(self.violations)), f"{self.checks:,}", f"{self.trylock_failed:,}", wall


def main() -> int:
    """Parse, compile, play; the exit code."""
    options = _options()
    native.prepare(_say_compiling)
    print(
        COLUMNS.format(
            "design", "workload", "cpus", "nodes", "runs", "violations", "checks", "trylock failed", "median"
        )
    )
    began = time.monotonic()
    total = Tally()
    for name in options.scenarios:
        for cpus in options.cpus:
            for nodes in options.nodes:
                _soak(options, name, (cpus, nodes), total)
    runs, violations, checks, failed, _ = total.figures()
    took = f"{time.monotonic() - began:.0f} s"
    print(f"total: {runs} runs, {violations} violations, {checks} checks, {failed} trylocks failed, {took}")
    return ModelViolation.exit_code if total.violations else 0


def _soak(options: argparse.Namespace, name: str, shape: tuple[int, int], total: Tally) -> None:
    """Play one workload on one machine under every design in turn, and print a line for each."""
    cpus, nodes = shape
    tallies = {design: Tally() for design in options.designs}
    for run in range(options.runs):
        work = _load(name, cpus, nodes, options.seed + run)
        for design, tally in tallies.items():
            record = native.run(work, design, native.RunSettings(timeout=options.timeout), lambda *_: None)
            tally.add(record)
            total.add(record)
    for design, tally in tallies.items():
        print(COLUMNS.format(design, name, cpus, nodes, *tally.figures()), flush=True)
        for message in tally.violations[:SHOWN_VIOLATIONS]:
            print(f"    {message}", flush=True)


def _load(name: str, cpus: int, nodes: int, seed: int) -> Workload:
    if name == TRACE:
        return workload.load_trace(None, cpus=cpus, nodes=nodes, seed=seed)
    if name == DROPS:
        with as_file(files("shmreclaim.workload") / "data" / DROPS) as path:
            return workload.load_trace(path, cpus=cpus, nodes=nodes, seed=seed)
    return workload.load_scenario(name, cpus=cpus, nodes=nodes, seed=seed)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20, help="runs of each combination (default: 20)")
    parser.add_argument("--cpus", type=_numbers, default=[2, 4, 8, 32], help="default: 2,4,8,32")
    parser.add_argument("--nodes", type=_numbers, default=[1, 2], help="default: 1,2")
    parser.add_argument("--designs", type=_names, default=list(designs.NAMES), help="default: all")
    parser.add_argument(
        "--scenarios",
        type=_names,
        default=[TRACE, DROPS, *workload.preset_names()],
        help="presets, TOML files, recordings",
    )
    parser.add_argument("--seed", type=int, default=1, help="of the first run; each next one has the next (default: 1)")
    parser.add_argument(
        "--timeout", type=float, default=120.0, help="seconds until a run counts as hung (default: 120)"
    )
    return parser.parse_args()


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _names(text: str) -> list[str]:
    return text.split(",")


def _say_compiling(done: int, total: int) -> None:
    if done == total:
        print(f"compiled {total} functions", file=sys.stderr)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ShmreclaimError as error:
        print(f"soak: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
