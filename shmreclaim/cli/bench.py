"""`shmreclaim bench`: what things cost beside their peers, and what changed between two runs.

A bench is one function here, which parses its options, runs its experiment and hands the result to its report. What
all of them have, where the output goes and in which form, is declared once, above them.
"""

from __future__ import annotations

from typing import Annotated

import typer
from typer import Argument, Option

from shmreclaim.cli import output, reporting
from shmreclaim.cli.reporting import Json

COMMAND = {"help_option_names": ["-h", "--help"]}

bench = typer.Typer(rich_markup_mode=None, context_settings=COMMAND, add_completion=False)

Format = Annotated[
    str | None,
    Option(
        "--format",
        metavar="FORM",
        help="Print a table, csv, markdown or simple (default: table). csv has every figure in a row of its own, "
        "simple is one number, said above: for a script that watches it.",
    ),
]
Csv = Annotated[bool, Option("--csv", help="The same as --format csv.")]
Markdown = Annotated[bool, Option("--markdown", help="The same as --format markdown.")]
Quick = Annotated[
    bool, Option("--quick", help="Take a fraction of the samples: to see that it works, not to be quoted.")
]


@bench.callback(invoke_without_command=True)
def choose(context: typer.Context) -> None:
    """Measure what locks, ids and reclaim cost beside their peers, and compare two such runs.

    All that a bench compares takes turns. Figures are medians; after ± stands how far the farther end of the 95 %
    confidence interval is. Run it on a machine that does nothing else.

    Start with: shmreclaim bench ids --quick
    """
    if context.invoked_subcommand is None:
        output.complain("no bench given\n" + context.get_help())
        raise typer.Exit(1)


@bench.command(context_settings=COMMAND, short_help="What an id costs: idr and ida beside Python's ways.")
def ids(
    quick: Quick = False,
    json: Json = None,
    form: Format = None,
    csv: Csv = False,
    markdown: Markdown = False,
) -> int:
    """Measure what finding, allocating and removing an id costs with 10, 1,000 and 100,000 ids in use.

    The kernel's idr and ida, in compiled loops and in shared memory, stand beside what a Python program would write: a
    dict of objects with a heap of the ids that were freed, under a threading.Lock or a multiprocessing.Lock, and with
    sortedcontainers' SortedList in place of the heap. All give the smallest free id. No contention; nanoseconds
    an operation. `--format simple` prints those of idr's alloc with 100,000 in use.

    All take turns in nine processes, one after the other (--quick: in one), because a loop may take twice as long in a
    process whose memory lies badly.

    Exit codes: 0 ok, 1 usage or environment, 3 inconclusive (a process was killed), 5 a fault of shmreclaim.

    Example: shmreclaim bench ids --json old.json
    """
    from shmreclaim.experiments.bench.ids import bench_ids
    from shmreclaim.report.bench_ids import view

    shown = reporting.form(form, csv=csv, markdown=markdown)
    reporting.produce_view(json, shown, lambda progress: bench_ids(quick=quick, progress=progress), view)
    return 0


@bench.command(context_settings=COMMAND, short_help="What a pass of reclaim costs, by what it might depend on.")
def reclaim(
    quick: Quick = False,
    json: Json = None,
    form: Format = None,
    csv: Csv = False,
    markdown: Markdown = False,
) -> int:
    """Measure what reclaim costs under each design against set bits, registered shrinkers and memcgs.

    Says of each row whether it is flat or linear, and what each further bit, shrinker or memcg adds. The claim under
    test: with a map a pass over a memcg is linear in the bits that are set for it, and flat in everything else. Beside
    it direct reclaim of page cache, freeing an object, and setting a bit. One CPU, no contention, kernels booted in
    this process, compiled loops; nanoseconds. `--format simple` prints those of a pass over 64 set bits under v6_7.

    All take turns in nine processes, one after the other (--quick: in one).

    Exit codes: 0 ok, 1 usage or environment, 2 an invariant broke, 3 inconclusive (a process was killed), 5 a fault of
    shmreclaim.

    Example: shmreclaim bench reclaim --markdown > reclaim.md
    """
    from shmreclaim.experiments.bench.reclaim import bench_reclaim
    from shmreclaim.report.bench_reclaim import view

    shown = reporting.form(form, csv=csv, markdown=markdown)
    reporting.produce_view(json, shown, lambda progress: bench_reclaim(quick=quick, progress=progress), view)
    return 0


@bench.command(context_settings=COMMAND, short_help="What changed between two runs of a bench, and how sure that is.")
def diff(
    old: Annotated[str, Argument(metavar="OLD", help="What --json of a bench wrote first.", show_default=False)],
    new: Annotated[str, Argument(metavar="NEW", help="What it wrote later; - is standard input.", show_default=False)],
    json: Json = None,
    form: Format = None,
    csv: Csv = False,
    markdown: Markdown = False,
) -> int:
    """Compare two results of one bench, figure by figure.

    Prints every figure that both have with its relative change and the 95 % confidence interval of that, made from the
    intervals of both: those that changed first, the largest first; then those where the interval contains no change at
    all. How busy and how warm the machine was is in neither interval: compare two runs of the same version to see it.
    `--format simple` prints how many figures changed.

    Exit codes: 0 compared, whatever changed, 1 usage or environment, 5 a fault of shmreclaim.

    Example: shmreclaim bench diff old.json new.json
    """
    from shmreclaim.experiments.bench.diff import bench_diff
    from shmreclaim.report.bench_diff import view

    shown = reporting.form(form, csv=csv, markdown=markdown)
    reporting.produce_view(json, shown, lambda _: bench_diff(old, new), view)
    return 0
