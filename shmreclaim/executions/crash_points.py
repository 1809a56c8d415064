"""Which crash points a run of a design can come by, and who dies there next (machine/crash_points.py)."""

from __future__ import annotations

import difflib
import random
import time
from collections import deque
from collections.abc import Sequence

from shmreclaim import kernel
from shmreclaim.errors import UsageError
from shmreclaim.executions.nursed import NursedCrew
from shmreclaim.machine.compile import body_of, own_functions, reached_from
from shmreclaim.machine.crash_points import CrashPoint, points_of

PATIENCE_S = 0.1
"""How long a trap stays where nobody comes by."""


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
                remedy=f"Did you mean {_nearest(name, points)}?",
            )
    return tuple(point for point in points if any(point.is_called(name) for name in names))


def _nearest(name: str, points: Sequence[CrashPoint]) -> str:
    """Some names that look like it; else the files that there are."""
    places = {point.name.partition(":")[0] for point in points}
    known = {known for place in places for known in (place, *place.split("."))} | {point.name for point in points}
    near = difflib.get_close_matches(name, sorted(known), n=3)
    return " or ".join(near or sorted({place.partition(".")[0] for place in places}))


class Traps:
    """Has CPUs die at one crash point after the other, in an order drawn by chance, again and again."""

    def __init__(self, points: Sequence[CrashPoint], chance: random.Random) -> None:
        """No trap is set yet."""
        self.names = {point.number: point.name for point in points}
        self._next = deque(chance.sample(sorted(self.names), len(self.names)))
        self._since = 0.0

    def set_next(self, crew: NursedCrew) -> bool:
        """Set the next one; False where there is none, or nobody has come by the last one, which had no time yet."""
        now = time.monotonic()
        if not self._next or (crew.is_trap_set() and now - self._since < PATIENCE_S):
            return False
        self._since = now
        crew.set_trap(self._next[0])
        self._next.rotate(-1)
        return True
