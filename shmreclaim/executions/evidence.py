"""What is left of a run that went wrong: what broke, who held what, and what every CPU did last.

Gathered from the segment while it is as it was found.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence

from shmreclaim.executions import oracles, stall
from shmreclaim.kernel import OP, SKIPPED
from shmreclaim.machine.arena import Arena
from shmreclaim.machine.cpu import CPU
from shmreclaim.machine.recent import Recent, recent_of
from shmreclaim.result import Evidence
from shmreclaim.workload.ops import Op


def gather(arena: Arena, slots: Sequence[int], names: Sequence[str], failed: str, found: Sequence[str]) -> Evidence:
    """Read it; `found` are the violations, or the message of whatever else it was."""
    violations = found if failed == "violation" else oracles.found_on_line(arena, slots)
    return Evidence(
        failed=failed,
        what="an invariant broke" if failed == "violation" else "\n".join(found),
        violations=list(violations),
        standings=stall.who_holds_and_who_waits(arena, slots, names),
        recent=recent_lines(arena, slots),
        segment=arena.name,
    )


def recent_lines(arena: Arena, slots: Sequence[int]) -> list[str]:
    """Tell what every CPU did last, oldest first; times in µs before the last of them."""
    events = [(event, arena.memory[slot + CPU.id] - 1) for slot in slots for event in recent_of(arena, slot)]
    last = max((max(event.since, event.ended) for event, _ in events), default=0)
    return [_line(arena, event, cpu, last) for event, cpu in sorted(events)]


def _line(arena: Arena, event: Recent, cpu: int, last: int) -> str:
    row = arena.view(event.row, OP.SIZE).tolist()
    op = row[OP.op]
    label = Op(op).label if 0 <= op < len(Op) else f"operation {op}"
    rest = ", ".join(f"{name} {row[at]}" for name, at in _SHOWN if row[at])
    how = f"{_outcome(event.outcome)} after {(event.ended - event.since) / 1e3:.1f} µs" if event.ended else "goes on"
    return f"{(event.since - last) / 1e3:14.1f} µs  CPU {cpu:<2}  {label:<13}  {how:<26}  {rest}"


_SHOWN = (("memcg", OP.memcg), ("shrinker", OP.shrinker), ("nid", OP.nid), ("count", OP.count), ("arg", OP.arg))


def _outcome(outcome: int) -> str:
    if outcome == SKIPPED:
        return "skipped"
    return errno.errorcode.get(-outcome, str(outcome)) if outcome < 0 else "done"
