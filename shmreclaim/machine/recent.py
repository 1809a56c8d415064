"""What a CPU did last: a small ring in its slot, for the report of a run that went wrong.

Only streams that are played in rounds are noted; an operation in progress is the last one, without an outcome.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from shmreclaim.machine.arena import Arena
from shmreclaim.machine.atomics import clock_ns, write_once
from shmreclaim.machine.compile import compiled
from shmreclaim.machine.cpu import CPU, KEPT_RECENT, RECENT_WORDS
from shmreclaim.machine.layout import Field, record

RECENT = record(
    "RECENT",
    Field("row", "one CPU; where the operation's row is, 0 for none yet"),
    Field("since", "one CPU; ns on the clock"),
    Field("ended", "one CPU; ns on the clock, 0 while it goes on"),
    Field("outcome", "one CPU; what it returned"),
    aligned=False,
)
assert RECENT.SIZE == RECENT_WORDS


class Recent(NamedTuple):
    """One entry of a ring: times in ns on the clock; `ended` is 0 for what was going on still."""

    since: int
    ended: int
    row: int
    outcome: int


@compiled
def recent_begin(mem: Any, cpu: int, k: int, row: int) -> int:
    """Note that operation number `k` begins; gives its entry."""
    at: int = cpu + CPU.recent + k % KEPT_RECENT * RECENT_WORDS
    write_once(mem, at + RECENT.ended, 0)
    write_once(mem, at + RECENT.row, row)
    write_once(mem, at + RECENT.since, clock_ns())
    return at


@compiled
def recent_end(mem: Any, at: int, outcome: int) -> int:
    """Note how the operation of an entry ended."""
    write_once(mem, at + RECENT.outcome, outcome)
    return write_once(mem, at + RECENT.ended, clock_ns())


def recent_of(arena: Arena, slot: int) -> list[Recent]:
    """What a CPU did last, the oldest first."""
    found = []
    for k in range(KEPT_RECENT):
        at = slot + CPU.recent + k * RECENT_WORDS
        row, since, ended, outcome = arena.view(at, RECENT_WORDS).tolist()
        if row:
            found.append(Recent(since, ended, row, outcome))
    return sorted(found)
