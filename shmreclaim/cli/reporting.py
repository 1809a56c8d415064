"""Where a command's result goes: a table to people, JSON to `--json FILE`, or to standard output for `-`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

from typer import Option

from shmreclaim.cli import output
from shmreclaim.errors import UsageError

if TYPE_CHECKING:
    from msgspec import Struct

    from shmreclaim.cli.progress import Bar, Lines
    from shmreclaim.report.rows import View
    from shmreclaim.report.style import Style

    ResultT = TypeVar("ResultT", bound=Struct)

STDOUT = "-"

Json = Annotated[
    str | None,
    Option(
        metavar="FILE",
        help="Write the whole result to FILE as JSON; - is standard output, and the report then goes to standard "
        "error. Example: --json result.json.",
    ),
]
"""The option `--json`, as every command has it that gives a result."""


def produce(
    json: str | None,
    make: Callable[[Lines | Bar], ResultT],
    render: Callable[[ResultT, Style], str],
    *,
    live: bool = False,
) -> ResultT:
    """Give what `make` makes, which is told where progress goes, and deliver it; `json` is checked before."""
    from shmreclaim.cli.live import make_live
    from shmreclaim.cli.progress import make_progress
    from shmreclaim.report.json import check_writable

    if json not in (None, STDOUT):
        check_writable(Path(json))
    with make_live(sys.stderr) if live else make_progress(sys.stderr) as progress:
        result = make(progress)
    deliver(result, json, render)
    return result


def deliver(result: ResultT, json: str | None, render: Callable[[ResultT, Style], str]) -> None:
    """Print what `render` makes of a result; where JSON has standard output, that goes to standard error."""
    from shmreclaim.report.style import style_for

    if json is None:
        output.say(render(result, style_for(sys.stdout)))
        return
    from shmreclaim.report.json import check_writable, encode, write

    if json == STDOUT:
        sys.stderr.write(render(result, style_for(sys.stderr)))
        output.say(encode(result))
        return
    check_writable(Path(json))
    write(result, Path(json))
    output.say(render(result, style_for(sys.stdout)))


def form(named: str | None, **flags: bool) -> str:
    """Which form of output was asked for: by `--format`, or by an option that is called like the form."""
    from shmreclaim.report.rows import FORMS

    asked = [(f"--format {named}", named)] if named is not None else []
    asked += [(f"--{flag}", flag) for flag, given in flags.items() if given]
    if len(asked) > 1:
        raise UsageError(
            f"{' and '.join(option for option, _ in asked)} were both given",
            cause="Output has one form.",
            remedy="Leave one of them out.",
        )
    found = asked[0][1] if asked else FORMS[0]
    if found not in FORMS:
        raise UsageError(f"--format {found}: there is no such form", remedy=f"The forms are: {', '.join(FORMS)}.")
    return found


def produce_view(
    json: str | None, form: str, make: Callable[[Lines | Bar], ResultT], view: Callable[[ResultT], View]
) -> ResultT:
    """As `produce`, of a result that is shown as rows, in one of their forms."""
    from shmreclaim.report.rows import show

    return produce(json, make, lambda result, style: show(view(result), form, style))
