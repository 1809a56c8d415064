"""`shmreclaim compare`: parse its options, run it, hand the result to the reports."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

from typer import Option

from shmreclaim.cli.reporting import Json, produce
from shmreclaim.cli.values import names_in, number, whole_number
from shmreclaim.errors import ModelViolation


def compare(
    trace: Annotated[
        Path | None,
        Option(
            metavar="FILE",
            help="Replay the ftrace text FILE, plain or .gz (default: a recording of 24 containers that comes with "
            "shmreclaim). Example: --trace /tmp/trace.txt. Use it to see your own machine's load under each design.",
        ),
    ] = None,
    scenario: Annotated[
        str | None,
        Option(
            metavar="NAME|FILE",
            help="Replay a made workload instead: a preset's NAME or a .toml FILE. Example: --scenario starvation. "
            "Use it to ask one question at a time; `shmreclaim scenarios` lists the presets.",
        ),
    ] = None,
    designs: Annotated[
        str | None,
        Option(
            metavar="NAMES",
            help="Compare only these designs, separated by commas (default: all). Example: --designs no_map,davydov. "
            "`shmreclaim designs` lists them. A design of your own is named by its file: --designs davydov,./mine.py "
            "(docs/writing-a-design.md tells how to write one). One line of a built-in one is changed by a switch: "
            "--designs v4_19,v4_19+copy_bits; a wrong switch is answered with those there are.",
        ),
    ] = None,
    cpus: Annotated[
        int | None,
        Option(
            metavar="NUM",
            parser=whole_number,
            help="Play NUM CPUs, each one process pinned to a core (default: as many as cores, at least 4). "
            "More CPUs than cores measure the scheduler too.",
        ),
    ] = None,
    seconds: Annotated[
        float | None,
        Option(
            metavar="SEC",
            parser=number,
            help="End each run after SEC seconds (default: when the workload is played). Use it to bound a long trace.",
        ),
    ] = None,
    speed: Annotated[
        float | None,
        Option(
            metavar="X",
            parser=number,
            help="Honour the workload's times, X times as fast, and count latency from the planned start (default: "
            "closed loop, as fast as it goes). Example: --speed 10. Use it to see waiting as the recorded tasks would.",
        ),
    ] = None,
    repeat: Annotated[
        int,
        Option(
            metavar="NUM",
            parser=whole_number,
            help="Run each design NUM times, interleaved, and print medians with their spread (default: 5). "
            "Use more where the spread hides the difference.",
            show_default=False,
        ),
    ] = 5,
    nodes: Annotated[
        int,
        Option(
            metavar="NUM",
            parser=whole_number,
            help="Give the emulated machine NUM memory nodes (default: 1). Each has its own LRU lists and shrinker "
            "bits.",
            show_default=False,
        ),
    ] = 1,
    seed: Annotated[
        int,
        Option(
            metavar="NUM",
            parser=whole_number,
            help="Make the workload from this seed (default: 1). The same seed gives the same operations in the same "
            "order on each CPU.",
            show_default=False,
        ),
    ] = 1,
    timeout: Annotated[
        float,
        Option(
            metavar="SEC",
            parser=number,
            help="Call a run hung after SEC seconds, print who waits for whom, and end with exit code 3 "
            "(default: 60). Raise it for long traces.",
            show_default=False,
        ),
    ] = 60.0,
    json: Json = None,
) -> int:
    """Replay one workload under several locking designs, in true parallel, and print who did what how fast.

    Every design gets the same operations in the same order on each CPU. The table is on standard output, progress
    on standard error. A design that broke an invariant is refused: its figures are not shown.

    Exit codes: 0 ok, 1 usage or environment, 2 an invariant broke, 3 inconclusive (a hang), 5 a fault of shmreclaim.

    Example: shmreclaim compare --scenario mailing-list --designs tkhai_v1,davydov --cpus 8 --repeat 9
    """
    from shmreclaim.experiments import compare as experiment
    from shmreclaim.report import table

    options = experiment.CompareOptions(
        trace=trace,
        scenario=scenario,
        designs=names_in(designs),
        cpus=cpus,
        seconds=seconds,
        speed=speed,
        repeat=repeat,
        nodes=nodes,
        seed=seed,
        timeout=timeout,
    )
    result = produce(json, partial(experiment.compare, options), table.render)
    return ModelViolation.exit_code if result.refused else 0
