"""The program and its commands."""

import os
from typing import Annotated

import typer

from shmreclaim import __version__
from shmreclaim.cli import output
from shmreclaim.cli.bench import bench
from shmreclaim.cli.bench_locks import locks
from shmreclaim.cli.catalogue import designs, scenarios
from shmreclaim.cli.claims import claims
from shmreclaim.cli.compare import compare
from shmreclaim.cli.dropcaches import dropcaches
from shmreclaim.cli.segments import clean, inspect, list_segments, top
from shmreclaim.cli.stress import stress
from shmreclaim.cli.traces import conform, record

app = typer.Typer(
    add_completion=False,
    # Plain help: rich's would cost most of the time that --help may take, and be no use in a pipe.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    # The program's own --help is declared below: typer (0.29) imports pydantic, a third of the time that
    # `compare --help` may take, to find that its built-in one was not given to the program but to a command.
    context_settings={"help_option_names": [], "max_content_width": 100},
)
COMMAND = {"help_option_names": ["-h", "--help"]}


def _print_version(asked: bool) -> None:
    if asked:
        output.say(f"shmreclaim {__version__}\n")
        raise typer.Exit


def _print_help(context: typer.Context, asked: bool) -> None:
    if asked:
        output.say(context.get_help() + "\n")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def shmreclaim(
    context: typer.Context,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and end.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Print a traceback when shmreclaim itself fails (also: SHMRECLAIM_DEBUG=1).")
    ] = False,
    _help: Annotated[
        bool,
        typer.Option("-h", "--help", callback=_print_help, is_eager=True, help="Show this message and exit."),
    ] = False,
) -> None:
    """Settle arguments about locking designs by experiment.

    Emulates the Linux kernel's memcg-aware slab shrinkers in shared memory, with worker processes as CPUs,
    and replays the same workload under each locking design.

    Start with: shmreclaim compare
    """
    if debug:
        os.environ["SHMRECLAIM_DEBUG"] = "1"
    if context.invoked_subcommand is None:
        output.complain("no command given\n" + context.get_help())
        raise typer.Exit(1)


app.command(context_settings=COMMAND, short_help="Compare locking designs on one workload.")(compare)
app.command(context_settings=COMMAND, short_help="Try the thread's claims, each an experiment with a verdict.")(claims)
app.command(context_settings=COMMAND, short_help="Time drops of slab caches with and without maps.")(dropcaches)
app.command(context_settings=COMMAND, short_help="Torture designs, and everything checked meanwhile.")(stress)
app.command(context_settings=COMMAND)(designs)
app.command(context_settings=COMMAND)(scenarios)
app.command(context_settings=COMMAND, short_help="Record a real kernel's reclaim; takes root.")(record)
app.command(context_settings=COMMAND, short_help="Check a real trace against do_shrink_slab's formulas.")(conform)
app.command("list", context_settings=COMMAND, short_help="List the segments in shared memory.")(list_segments)
app.command(context_settings=COMMAND, short_help="Remove segments that dead processes left behind.")(clean)
app.command(context_settings=COMMAND, short_help="Look into a segment: who holds each lock, who waits.")(inspect)
app.command(context_settings=COMMAND, short_help="Watch a segment: the same, live.")(top)
bench.command(context_settings=COMMAND, short_help="What a lock costs and is worth: ours beside every peer.")(locks)
app.add_typer(bench, name="bench", short_help="Measure what locks, ids and reclaim cost beside their peers.")
