"""Where messages go, and what happens when nobody listens."""

import os
import sys
from contextlib import suppress
from io import TextIOWrapper
from typing import Any, TextIO, cast

from shmreclaim.errors import SetupError


def complain(message: str) -> None:
    """Print one message on stderr; that stderr is closed is no reason to fail otherwise."""
    with suppress(OSError):
        print(f"shmreclaim: {message}", file=sys.stderr, flush=True)  # noqa: T201 - the messages are the product


def take_any_name() -> None:
    """Let stdout print a file's name as the bytes it is, also where they are no text."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")


def say(text: str) -> None:
    """Print `text` on stdout, now; that its reader left (`| head`) is no error, that it is full is one."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_stdout()
    except OSError as error:
        _discard_stdout()
        raise SetupError(f"cannot write to standard output: {error.strerror}") from None


def unheeding(stream: TextIO) -> TextIO:
    """Make writing to a terminal never fail."""
    return cast(TextIO, _Unheeding(stream))


class _Unheeding:
    """A terminal that may go away: what cannot be written is dropped. The signal that says so ends the program."""

    def __init__(self, stream: TextIO) -> None:
        """Write to `stream`."""
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        """Be like the stream otherwise."""
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write it, or not."""
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Write all of it, or not."""
        with suppress(OSError):
            self._stream.flush()


def _discard_stdout() -> None:
    """Point stdout at nothing, so that the interpreter's last flush cannot fail again."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, sys.stdout.fileno())
    os.close(nothing)
