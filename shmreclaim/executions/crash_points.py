"""Which crash points a run of a design can come by, and who dies there next (machine/crash_points.py)."""

from __future__ import annotations

import difflib
import itertools
import random
from collections.abc import Sequence

from shmreclaim import kernel
from shmreclaim.errors import UsageError
from shmreclaim.executions.nursed import NursedCrew
from shmreclaim.machine.compile import body_of, own_functions, reached_from
from shmreclaim.machine.crash_points import CrashPoint, points_of


def of_design(design: str) -> tuple[CrashPoint, ...]:
    """All that the operations of a design can come by: before its own statements, and before those that it calls."""
    functions = [function for function in kernel.functions_of(design) if body_of(function).__name__ != "init"]
    found = [point for body in reached_from([*own_functions(kernel), *functions]) for point in points_of(body)]
    return tuple(sorted(found))


def called(names: Sequence[str], points: Sequence[CrashPoint], design: str) -> tuple[CrashPoint, ...]:
    """Those of a design's points that are called so, or are in functions or files that are.

    Raises UsageError for a name that means none of them.
    """
    for name in names:
        if not any(point.is_called(name) for point in points):
            raise UsageError(
                f"{design} comes by no crash point {name!r}",
                cause="A crash point is named as file.function:line; a function's name, or a file's, means all in it.",
                remedy=_nearest(name, points),
            )
    return tuple(point for point in points if any(point.is_called(name) for name in names))


def _nearest(name: str, points: Sequence[CrashPoint]) -> str:
    """What else there is: names that look like it, or all files."""
    places = {point.name.partition(":")[0] for point in points}
    known = {known for place in places for known in (place, *place.split("."))} | {point.name for point in points}
    near = difflib.get_close_matches(name, sorted(known), n=3)
    if near:
        return f"Did you mean {' or '.join(near)}?"
    return f"There are some in {', '.join(sorted({place.partition('.')[0] for place in places}))}."


class Traps:
    """Has CPUs die at one crash point after the other, in an order drawn by chance, again and again.

    What nobody comes by for now stays set for a while: until another one needs its place.
    """

    def __init__(self, points: Sequence[CrashPoint], chance: random.Random) -> None:
        """None is set yet."""
        self.names = {point.number: point.name for point in points}
        self._next = itertools.cycle(chance.sample(sorted(self.names), len(self.names)))

    def set_next(self, crew: NursedCrew) -> bool:
        """Set the next one; whether there is any."""
        if self.names:
            crew.set_trap(next(self._next))
        return bool(self.names)

    def set_all(self, crew: NursedCrew) -> None:
        """Set as many as there is room for."""
        for _ in self.names:
            self.set_next(crew)
