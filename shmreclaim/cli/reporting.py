"""Where a command's result goes: a table to people, JSON to `--json FILE`, or to standard output for `-`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

from typer import Option

from shmreclaim.cli import output

if TYPE_CHECKING:
    from shmreclaim.cli.progress import Bar, Lines
    from shmreclaim.report.style import Style
    from shmreclaim.result import Record

    ResultT = TypeVar("ResultT", bound=Record)

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
    json: str | None, make: Callable[[Lines | Bar], ResultT], render: Callable[[ResultT, Style], str]
) -> ResultT:
    """Give what `make` makes, which is told where progress goes, and deliver it; `json` is checked before."""
    from shmreclaim.cli.progress import make_progress
    from shmreclaim.report.json import check_writable

    if json not in (None, STDOUT):
        check_writable(Path(json))
    with make_progress(sys.stderr) as progress:
        result = make(progress)
    _deliver(result, json, render)
    return result


def _deliver(result: ResultT, json: str | None, render: Callable[[ResultT, Style], str]) -> None:
    """Print what `render` makes of a result; where JSON has standard output, that goes to standard error."""
    from shmreclaim.report.json import encode, write
    from shmreclaim.report.style import style_for

    if json == STDOUT:
        sys.stderr.write(render(result, style_for(sys.stderr)))
        output.say(encode(result))
        return
    if json is not None:
        write(result, Path(json))
    output.say(render(result, style_for(sys.stdout)))
