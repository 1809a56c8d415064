"""Where a command's result goes: a table to people, JSON to `--json FILE`, or to standard output for `-`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from shmreclaim.cli import output

if TYPE_CHECKING:
    from shmreclaim.report.style import Style
    from shmreclaim.result import Record

    ResultT = TypeVar("ResultT", bound=Record)

STDOUT = "-"


def check(json: str | None) -> None:
    """Refuse a file that cannot be written, before anything is measured."""
    from shmreclaim.report.json import check_writable

    if json not in (None, STDOUT):
        check_writable(Path(json))


def deliver(result: ResultT, json: str | None, render: Callable[[ResultT, Style], str]) -> None:
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
