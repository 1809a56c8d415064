"""What things cost beside their peers: each bench a module with one function that measures and gives its result."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from shmreclaim import __version__
from shmreclaim.experiments.compare import describe_machine
from shmreclaim.machine.compile import out_of_line_functions
from shmreclaim.signals import held_signals


class Progress(Protocol):
    """What whoever waits is told."""

    def compiling(self, done: int, total: int) -> None:
        """So many of the functions are compiled."""

    def doing(self, what: str, done: int, total: int) -> None:
        """This is what is done now, and how far it is: from 1 to `total`."""


def about(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Give what every result says of itself, as keywords of `BenchResult`; to be asked for before measuring."""
    return {
        "version": __version__,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "parameters": dict(parameters),
        "machine": describe_machine(),
    }


def compile_within(modules: tuple[str, ...], progress: Progress | None = None) -> None:
    """Compile, or load, the out-of-line functions of modules whose names begin so: from here on that takes no time.

    A signal waits for the end of one: the compiler may swallow an exception out of a handler.
    """
    functions = out_of_line_functions(*modules)
    with held_signals() as take_signals:
        for k, resolve in enumerate(functions, start=1):
            if progress is not None:
                progress.compiling(k, len(functions))
            resolve()
            take_signals()
