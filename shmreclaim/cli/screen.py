"""Where a text goes that changes all the time: over itself in a terminal, one below the other elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from shmreclaim.cli import output
from shmreclaim.report.style import Style, style_for


@contextmanager
def screen_for(stream: TextIO) -> Iterator[Screen | Pages]:
    """Choose by what `stream` is; the last text stays on the screen."""
    if not stream.isatty():
        yield Pages()
        return
    # No refresh of its own: that is a thread, and a signal that it took would not end the program at once.
    with Live(console=Console(file=output.unheeding(stream)), auto_refresh=False, vertical_overflow="crop") as live:
        yield Screen(live, stream)


class Screen:
    """A terminal."""

    def __init__(self, live: Live, stream: TextIO) -> None:
        """Write to `live`, which is on `stream`."""
        self._live, self._stream = live, stream

    def show(self, render: Callable[[Style], str]) -> None:
        """Put a text in the place of the last one."""
        self._live.update(Text.from_ansi(render(style_for(self._stream))), refresh=True)


class Pages:
    """A file or a pipe."""

    def show(self, render: Callable[[Style], str]) -> None:
        """Put a text below the last one, an empty line between them."""
        output.say(render(Style()) + "\n")
