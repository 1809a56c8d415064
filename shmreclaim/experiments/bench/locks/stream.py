"""Does a writer get in beside readers that never leave the lock alone?

Some readers hold the lock for a while each, asleep, and take it again at once; they start apart, so that their holds
overlap. A writer asks now and then. If one of its waits is as long as the limit it starves, and nothing more is tried.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable

from shmreclaim.experiments.bench.locks.candidates import Candidate, made
from shmreclaim.experiments.bench.locks.ground import Ground
from shmreclaim.experiments.bench.locks.play import act
from shmreclaim.experiments.bench.locks.troupe import FailedError, Troupe
from shmreclaim.lock_figures import StreamFigures

GRACE_S = 5.0
READERS = 3
WRITER = READERS
HOLD_NS = 2_000_000
THINK_NS = 500_000
"""What passes between a writer's release and its next request."""


class Stream:
    """Readers without end and a writer, at one lock."""

    def __init__(self, candidate: Candidate, ground: Ground, folder: str, seconds: float) -> None:
        """Make the lock; the writer goes on asking for so many seconds."""
        self.candidate, self.ground, self.seconds = candidate, ground, seconds
        self.get = made(candidate, ground, folder)
        self.part = ground.parts[0]

    def perform(self, k: int) -> None:
        """Play process `k`; the last is the writer."""
        ways = self.get()
        slot = self.ground.tasks.slot() if self.candidate.called == "compiled" else 0
        start = self.ground.pass_gate()
        if k == WRITER:
            self.part.set(k, slot=slot, think=THINK_NS, end=start + round(self.seconds * 1e9))
            act(self.ground, self.part, k, ways["write"], "write_among_readers")
        else:
            self.part.set(k, slot=slot, hold=HOLD_NS, think=k * HOLD_NS // READERS)
            act(self.ground, self.part, k, ways["read"], "read_without_end")

    def waits_ns(self) -> int:
        """How long the writer has waited by now; 0 if it does not wait."""
        asked = self.part.get(WRITER, "asked")
        return time.monotonic_ns() - asked if asked else 0

    def figures(self, unfinished: int) -> StreamFigures:
        """Sum up the writer's waits, with the one that never ended, if there is one."""
        found = self.part.histogram(WRITER, "waits").latency()
        return StreamFigures(
            tries=self.part.get(WRITER, "ops") + (unfinished > 0),
            p50=found.p50,
            p99=found.p99,
            p99_9=found.p99_9,
            max=max(found.max or 0, unfinished) or None,
        )


def write_in_stream(
    candidate: Candidate, seconds: float, limit: float, take_signals: Callable[[], None]
) -> tuple[bool, StreamFigures]:
    """Let a writer try for so long; whether it starved, and what it waited. Raises FailedError if it does not end."""
    with (
        Ground(READERS + 1, 1) as ground,
        tempfile.TemporaryDirectory(prefix="shmreclaim-") as folder,
    ):
        stream = Stream(candidate, ground, folder, seconds)
        with Troupe(READERS + 1, stream.perform, take_signals) as troupe:
            deadline = time.monotonic() + seconds + limit + GRACE_S
            writing = True
            while writing and stream.waits_ns() < limit * 1e9 and time.monotonic() < deadline:
                writing = WRITER in troupe.wait(0.02)
            starved = stream.waits_ns() if writing else 0
            if writing and starved < limit * 1e9:
                raise FailedError("the writer beside endless readers did not come to an end")
            return bool(starved), stream.figures(starved)
