"""What has to be compiled before workers run, unit by unit, and whether the cache has it already."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

from shmreclaim import kernel
from shmreclaim.designs import FUNCTIONS, NAMES
from shmreclaim.machine.compile import c_address, entry_point, folder_of, out_of_line_functions
from shmreclaim.machine.journal import ring
from shmreclaim.machine.sources import JOURNALED, build
from shmreclaim.machine.upcall import ARGUMENTS
from shmreclaim.mm import quiet
from shmreclaim.workers import cpu, kswapd, nursery
from shmreclaim.workers.lifeline import follow_parent

COMPLETE = "complete"
"""File in the cache folder that says that all of `units()` is in it."""

CALLED_BY_PARENT = (
    (kernel.start_all, 1), (kernel.stop_all, 1), (quiet.pause_all, 1), (quiet.cpus_at_rest, 2), (ring, 2),
)  # fmt: skip
"""What the process that starts the workers calls itself, with the number of arguments."""


def units(designs: Sequence[str] = NAMES) -> list[Callable[[], Any]]:
    """Everything that a run of one of these designs calls, each as something that compiles or loads it."""
    modules = [importlib.import_module(f"shmreclaim.designs.{name}") for name in designs]
    found: list[Callable[[], Any]] = list(out_of_line_functions("shmreclaim."))
    for entry_points in (cpu.ENTRY_POINTS, kswapd.ENTRY_POINTS, nursery.ENTRY_POINTS, CALLED_BY_PARENT):
        found += [_entry(function, arguments) for function, arguments in entry_points]
    found += [_address(getattr(module, function)) for module in modules for function in FUNCTIONS]
    return found


def _entry(function: Callable[..., int], arguments: int) -> Callable[[], Any]:
    return lambda: entry_point(function, arguments)


def _address(function: Callable[..., int]) -> Callable[[], Any]:
    return lambda: c_address(function, ARGUMENTS)


def compile_part(part: int, parts: int, report: Any) -> None:
    """Compile every `parts`-th unit from `part` on into the cache; `report` is told of each (a connection)."""
    follow_parent()
    for unit in units()[part::parts]:
        unit()
        report.send(1)
    report.send(0)


def load_all(designs: Sequence[str] = NAMES) -> None:
    """Load, or compile, all units of these designs into this process."""
    for unit in units(designs):
        unit()


def is_cached(*, journaled: bool = JOURNALED) -> bool:
    """Whether the cache holds everything of this very source, built the one way or the other."""
    return (folder_of(build(journaled=journaled)) / COMPLETE).exists()


def note_cached(*, journaled: bool = JOURNALED) -> None:
    """Say that it does."""
    (folder_of(build(journaled=journaled)) / COMPLETE).touch()
