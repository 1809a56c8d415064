"""Calls of do_shrink_slab with every figure that their two events say: what `conform` checks.

Pairing, where the trace leaves a choice:
C1  An end belongs to the latest start of the same task and shrinker pointer. The kernel does not reclaim inside
    reclaim, so one task has one call of a shrinker at a time; calls of others may be open, as a trace may say.
C2  A start that is followed by another one of the same task and shrinker lost its end.
C3  The end repeats the node and the deferred count of its start. One that says otherwise belongs to a call whose start
    is missing: neither is used.

Limits: those of `ftrace_text`. Events lost within a call and between two calls of the same figures look the same.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from shmreclaim.workload.ftrace_events import Event, ShrinkEnd, ShrinkStart
from shmreclaim.workload.ftrace_text import Recording


class ShrinkCall(NamedTuple):
    """One call: what its start and its end say, in the kernel's words where it has them."""

    began: int
    """ns of the trace's clock, as `ended`."""
    ended: int
    pid: int
    function: str
    pointer: str
    nid: int
    priority: int
    freeable: int
    deferred: int
    delta: int
    total_scan: int
    left: int
    """Of total_scan, when the call returned."""
    owed: int
    """The shrinker's counter after the call."""


@dataclass
class Calls:
    """All calls of a recording in the order of their starts; by reason, how many events make none."""

    calls: list[ShrinkCall] = field(default_factory=list)
    starts: int = 0
    ends: int = 0
    unused: Counter[str] = field(default_factory=Counter)


NO_END, NO_START = "starts without an end", "ends without a start"
CONTRADICTED = "ends that contradict the start before them (another node or deferred count)"
OLD = "calls without a priority: kernels before 4.16 computed delta from the page LRU"
INCOMPLETE = "calls whose events lack a figure"


def pair_calls(recording: Recording) -> Calls:
    """Find the calls: C1 to C3."""
    found = Calls()
    opened: dict[tuple[int, str], tuple[int, ShrinkStart]] = {}
    for event in recording.events:
        what = event.body
        if isinstance(what, ShrinkStart):
            found.starts += 1
            found.unused[NO_END] += (event.pid, what.pointer) in opened
            opened[event.pid, what.pointer] = event.time, what
        elif isinstance(what, ShrinkEnd):
            found.ends += 1
            _close(found, event, what, opened.pop((event.pid, what.pointer), None))
    found.unused[NO_END] += len(opened)
    found.calls.sort(key=lambda call: call.began)
    return found


def _close(found: Calls, event: Event, end: ShrinkEnd, begun: tuple[int, ShrinkStart] | None) -> None:
    if begun is None:
        found.unused[NO_START] += 1
        return
    began, start = begun
    if end.nid not in (None, start.nid) or end.deferred not in (None, start.deferred):
        found.unused[CONTRADICTED] += 1
        return
    if start.priority is None:
        found.unused[OLD] += 1
        return
    figures = (start.priority, start.items, start.deferred, start.delta, start.total_scan, end.left, end.owed)
    known = [figure for figure in figures if figure is not None]
    if len(known) < len(figures):
        found.unused[INCOMPLETE] += 1
        return
    function = start.function.partition("+")[0].partition(".")[0]
    found.calls.append(ShrinkCall(began, event.time, event.pid, function, start.pointer, start.nid, *known))
