"""`shmreclaim dropcaches`: parse its options, run it, hand the result to the report."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from typer import Option

from shmreclaim.cli.reporting import Json, produce
from shmreclaim.cli.values import names_in, number, whole_number
from shmreclaim.errors import ModelViolation


def dropcaches(
    containers: Annotated[
        int,
        Option(
            metavar="NUM",
            parser=whole_number,
            help="Make NUM memcgs with a mount each (default: 1000). Example: --containers 4000, which is what the "
            "series was measured with and takes 1.6 GiB of shared memory. Memory grows with the square.",
            show_default=False,
        ),
    ] = 1000,
    designs: Annotated[
        str | None,
        Option(
            metavar="NAMES",
            help="Run only these designs, separated by commas: built-in ones, or files of your own (default: all "
            "built-in ones). Example: --designs no_map,no_map+lists_on_demand=1,v6_7, to see what the layout of the "
            "lists does. Without no_map there are no ratios.",
        ),
    ] = None,
    passes: Annotated[
        int,
        Option(
            metavar="NUM",
            parser=whole_number,
            help="Drop caches NUM times (default: 5). The first pass frees, the others find nothing.",
            show_default=False,
        ),
    ] = 5,
    objects: Annotated[
        int,
        Option(
            metavar="NUM",
            parser=whole_number,
            help="Put NUM dentries and NUM inodes into each container (default: 2). Use more to see what freeing them "
            "adds to the first pass.",
            show_default=False,
        ),
    ] = 2,
    sweep: Annotated[
        bool,
        Option(
            "--sweep",
            help="Measure a sixteenth, an eighth, a quarter and a half of the containers too, and print how the cost "
            "grows. Example: --containers 4000 --sweep.",
        ),
    ] = False,
    repeat: Annotated[
        int,
        Option(
            metavar="NUM",
            parser=whole_number,
            help="Run each design NUM times, interleaved, and print medians with their spread (default: 3). "
            "Use 1 for a quick look.",
            show_default=False,
        ),
    ] = 3,
    timeout: Annotated[
        float,
        Option(
            metavar="SEC",
            parser=number,
            help="Call a run hung after SEC seconds and end with exit code 3 (default: 300). Raise it for more than "
            "10000 containers.",
            show_default=False,
        ),
    ] = 300.0,
    json: Json = None,
) -> int:
    """Measure what the maps were made for: drop slab caches while many memcgs and mounts hold a few objects each.

    Prints time, shrinker calls and objects freed of each pass under each design, and how many times less than without
    maps (no_map) a pass takes. Tables are on standard output, progress on standard error.

    Exit codes: 0 ok, 1 usage or environment, 2 an invariant broke or designs freed different numbers of objects,
    3 inconclusive (a hang), 5 a fault of shmreclaim.

    Example: shmreclaim dropcaches --containers 4000 --designs no_map,v4_19,v6_7 --repeat 1
    """
    from shmreclaim.experiments import dropcaches as experiment
    from shmreclaim.report import dropcaches as report

    options = experiment.DropOptions(
        containers=containers,
        designs=names_in(designs),
        passes=passes,
        objects=objects,
        repeat=repeat,
        sweep=sweep,
        timeout=timeout,
    )
    result = produce(json, partial(experiment.dropcaches, options), report.render)
    return 0 if result.is_sound else ModelViolation.exit_code
