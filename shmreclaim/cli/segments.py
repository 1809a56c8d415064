"""`shmreclaim list`, `clean`, `inspect` and `top`: what is in shared memory."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from shmreclaim.cli import output, signals
from shmreclaim.cli.reporting import Json, deliver
from shmreclaim.cli.values import number, whole_number
from shmreclaim.errors import SetupError
from shmreclaim.ranges import expect_number, expect_whole

if TYPE_CHECKING:
    from shmreclaim.inspection import Cleaning, Inspection

Name = Annotated[
    str,
    Argument(
        metavar="NAME",
        help="The segment, as `shmreclaim list` names it; `shmreclaim.` at its beginning may be left out.",
    ),
]
LONGEST_INTERVAL_S = 3600.0


def list_segments(json: Json = None) -> None:
    """List the segments in shared memory: what each is, whose, how old, whether who made it lives.

    alive: the process that made it runs. in use: that is dead, or it is nobody's, and some process has it mapped.
    dead: nobody has, and `shmreclaim clean` removes it. unused: a named lock that nobody has at the moment.

    Example: shmreclaim list
    """
    from shmreclaim.executions.segments import find_segments
    from shmreclaim.report.segments import render_list

    deliver(find_segments(), json, render_list)


def clean(
    dry_run: Annotated[bool, Option("--dry-run", help="Only say what would be removed, what left, and why.")] = False,
    named: Annotated[
        bool,
        Option(
            "--named",
            help="Remove named locks, too, that no process has. Use it when all programs that know a name have "
            "ended for good: who comes later makes a new lock.",
        ),
    ] = False,
    json: Json = None,
) -> int:
    """Remove the segments that dead processes left behind; say of each what was done and why.

    Never removes a segment that a process has mapped, one whose maker lives, or another user's.

    Exit codes: 0 ok, 1 something that is to go cannot be removed.

    Example: shmreclaim clean --dry-run
    """
    from shmreclaim.executions.segments import clean_segments
    from shmreclaim.report.segments import render_cleaning

    done = clean_segments(dry_run=dry_run, named=named)
    deliver(done, json, render_cleaning)
    return _code(done)


def _code(done: Cleaning) -> int:
    from shmreclaim.executions.segments import FAILED

    failed = any(each.why.startswith(FAILED) for each in done.segments)
    return SetupError.exit_code if failed else 0


def inspect(name: Name, json: Json = None) -> None:
    """Look into a segment, live, hung or abandoned, without disturbing anybody.

    Prints who holds each lock, in which mode and for how long, who waits, what each CPU does, free memory, memcgs with
    their maps, shrinkers with their objects, and what was found broken. Parts may be of different moments while a run
    goes on.

    Exit codes: 0 ok, 1 there is no such segment of yours, or another version of shmreclaim made it.

    Example: shmreclaim inspect 4711.123456.0
    """
    from shmreclaim.report.inspect import render

    deliver(_look(name), json, render)


def top(
    name: Name,
    interval: Annotated[
        float,
        Option(
            metavar="SEC",
            parser=number,
            help="Look every SEC seconds (default: 1). Example: --interval 0.2.",
            show_default=False,
        ),
    ] = 1.0,
    count: Annotated[
        int | None,
        Option(
            metavar="NUM",
            parser=whole_number,
            help="Look NUM times (default: until Ctrl-C in a terminal, once elsewhere). Example: --count 10 | tee log.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Watch a segment: what its CPUs do, who holds and waits, free memory, and rates since the last look.

    Ends with Ctrl-C, after --count looks, or when the segment is gone.

    Exit codes: 0 ok (Ctrl-C included), 1 there is no such segment of yours, or another version of shmreclaim made it.

    Example: shmreclaim top 4711.123456.0
    """
    expect_number("interval", interval, 0.05, LONGEST_INTERVAL_S)
    expect_whole("count", count)
    _look(name)  # what is wrong with it is said before the screen changes
    try:
        _watch(name, interval, count if count is not None or sys.stdout.isatty() else 1)
    except SystemExit as end:
        if end.code != signals.INTERRUPTED:
            raise


def _watch(name: str, interval: float, count: int | None) -> None:
    import time

    from shmreclaim.cli.screen import screen_for
    from shmreclaim.report.inspect import render_top

    before: Inspection | None = None
    shown = 0
    with screen_for(sys.stdout) as screen:
        while True:
            try:
                look = _look(name)
            except SetupError as error:
                output.complain(str(error))
                return
            screen.show(lambda style, look=look, before=before: render_top(look, before, style))  # type: ignore[misc]
            before, shown = look, shown + 1
            if shown == count:
                return
            time.sleep(interval)


def _look(name: str) -> Inspection:
    from shmreclaim.executions.inspect import inspect as look_into

    return look_into(name if name.startswith("shmreclaim.") else f"shmreclaim.{name}")
