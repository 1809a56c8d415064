"""How a report looks: as wide as its reader, in colour where that is a person; tables without lines."""

import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

PIPED_WIDTH = 120
NARROWEST = 80


@dataclass(frozen=True)
class Style:
    """How wide, and whether in colour."""

    width: int = PIPED_WIDTH
    colour: bool = False


def style_for(stream: TextIO) -> Style:
    """Fit a terminal; be plain and PIPED_WIDTH wide elsewhere."""
    if not stream.isatty():
        return Style()
    return Style(width=max(NARROWEST, os.get_terminal_size(stream.fileno()).columns), colour=True)


def paint(style: Style, draw: Callable[[Console], None]) -> str:
    """Give what `draw` prints as text, without blanks at the ends of lines."""
    console = Console(
        file=io.StringIO(), width=style.width, force_terminal=style.colour, no_color=not style.colour, highlight=False
    )
    with console.capture() as captured:
        draw(console)
    return "".join(f"{text.rstrip()}\n" for text in captured.get().splitlines())


def line(console: Console, text: str, style: str = "") -> None:
    """Print a line as one line, however long: the terminal wraps it, a pipe's reader can grep it."""
    console.print(Text(text, style=style), soft_wrap=True)


def figures(title: str, head: Sequence[str], width: int) -> Table:
    """Make a table of figures: names below `title`, at least `width` wide, then a column for each of `head`."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(Text(title, style="bold"), min_width=width, no_wrap=True)
    for name in head:
        table.add_column(Text(name), justify="right", overflow="fold")
    return table
