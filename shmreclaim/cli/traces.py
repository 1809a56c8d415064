"""`shmreclaim record` and `shmreclaim conform`: real kernel traces in."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from shmreclaim.cli import output
from shmreclaim.cli.reporting import Json, produce
from shmreclaim.cli.values import number, whole_number
from shmreclaim.errors import ModelViolation

if TYPE_CHECKING:
    from shmreclaim.tracefs import Recorded


def conform(
    file: Annotated[
        Path,
        Argument(metavar="FILE", help="An ftrace text file, plain or .gz, as `shmreclaim record` writes it."),
    ],
    mismatches: Annotated[
        int,
        Option(
            metavar="NUM",
            parser=whole_number,
            help="Show the first NUM figures that do not match (default: 10). Example: --mismatches 1000. Use more to "
            "see which calls a changed formula touches.",
            show_default=False,
        ),
    ] = 10,
    json: Json = None,
) -> int:
    """Check every recorded call of do_shrink_slab against the formulas of each kernel era.

    Prints which era fits best, how many calls match in delta, total_scan and carry, the values of seeks that had to
    be inferred, and the first mismatches with both values. Use it to see whether a kernel, patched or new, still
    computes what this emulation does.

    Exit codes: 0 every call matches, 1 no call in the file or it cannot be read, 2 a mismatch, 5 a fault of
    shmreclaim.

    Example: shmreclaim conform /tmp/trace.txt --json -
    """
    from shmreclaim.experiments import conform as experiment
    from shmreclaim.report import conform as report

    options = experiment.ConformOptions(trace=file, mismatches=mismatches)
    result = produce(json, lambda _: experiment.conform(options), report.render)
    return ModelViolation.exit_code if result.mismatched else 0


def record(
    out: Annotated[
        Path,
        Option(
            "-o",
            "--output",
            metavar="FILE",
            help="Write the recording to FILE, compressed if the name ends in .gz; whole, or not at all. "
            "Example: -o /tmp/trace.ftrace.gz.",
        ),
    ],
    seconds: Annotated[
        float,
        Option(
            metavar="SEC",
            parser=number,
            help="Record for SEC seconds (default: 10). Ctrl-C ends it early and keeps what was recorded.",
            show_default=False,
        ),
    ] = 10.0,
    buffer: Annotated[
        int,
        Option(
            metavar="KIB",
            parser=whole_number,
            help="Give the kernel's buffer KIB KiB for each CPU (default: 8192). Use more where events are lost.",
            show_default=False,
        ),
    ] = 8192,
) -> int:
    """Record what this machine's kernel reclaims from slab, for `compare --trace` and `conform`. Takes root.

    Records shrinker calls, memcgs made and removed, mounts and umounts into a trace instance of its own, and takes
    it away again at the end, after Ctrl-C and after an error: nothing else that is traced is disturbed.

    Exit codes: 0 ok (Ctrl-C included), 1 usage or environment, 5 a fault of shmreclaim.

    Example: sudo shmreclaim record -o /tmp/trace.ftrace.gz --seconds 30
    """
    from shmreclaim.cli.progress import make_progress
    from shmreclaim.experiments import record as experiment

    options = experiment.RecordOptions(out=out, seconds=seconds, buffer_kib=buffer)
    with make_progress(sys.stderr) as progress:
        recorded = experiment.record(options, progress.recording)
    output.say(_told(out, recorded))
    return 0


def _told(out: Path, recorded: Recorded) -> str:
    lines = [f"{out}: {recorded.lines:,} lines in {recorded.seconds:.1f} s"]
    lines += [f"note: this kernel has no event {event}; the recording does without" for event in recorded.missing]
    if recorded.lost:
        lines.append(f"note: {recorded.lost:,} events were lost; give a larger --buffer")
    if not recorded.lines:
        lines.append("note: nothing happened meanwhile; record while memory is short, or drop caches")
    return "\n".join(lines) + "\n"
