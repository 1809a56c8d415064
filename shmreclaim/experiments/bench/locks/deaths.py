"""What a lock does when its holder is killed: tried, for a reader and for a writer.

A process takes the lock and is killed with SIGKILL; a fresh process then tries to take it, the other way out of the
question: for write, where the lock has that. Who has not got it when the limit is over never does, as far as a program
is concerned, and is killed too. Since those sleep, all locks are tried at the same time.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from shmreclaim.errors import InternalError
from shmreclaim.experiments.bench.locks.candidates import Candidate
from shmreclaim.experiments.bench.locks.ground import Ground
from shmreclaim.experiments.bench.locks.play import act
from shmreclaim.experiments.bench.locks.troupe import Troupe
from shmreclaim.lock_figures import Survival

LIMIT_S = 2.0
READY_S = 30.0
"""How long processes may take to be where they are wanted: machines can be slow."""
VICTIM, HEIR = 0, 1


class Trial:
    """One lock, one process that dies with it, one that tries to get it then."""

    def __init__(self, candidate: Candidate, mode: str, stack: ExitStack) -> None:
        """Make the lock; what it needs goes with the stack."""
        self.candidate, self.mode = candidate, mode
        self.ground = stack.enter_context(Ground(2, 1))
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="shmreclaim-"))
        self.get = candidate.make(self.ground, Path(folder))
        self.part = self.ground.parts[0]

    def die(self, _: int) -> None:
        """Hold the lock until killed."""
        self._act(VICTIM, self.mode, "hold_for_ever")

    def inherit(self, _: int) -> None:
        """Try to take it."""
        self._act(HEIR, self.candidate.modes[-1], "try_after")

    def _act(self, k: int, mode: str, loop: str) -> None:
        way = self.get()[mode]
        if self.candidate.called == "compiled":
            self.part.set(k, slot=self.ground.tasks.slot())
        act(self.ground, self.part, k, way, loop)

    @property
    def held(self) -> bool:
        """Whether the one that is to die has the lock."""
        return bool(self.part.get(VICTIM, "ops"))

    @property
    def decided(self) -> bool:
        """Whether the heir has the lock, or has tried for too long."""
        asked = self.part.get(HEIR, "asked")
        late = asked > 0 and time.monotonic_ns() > asked + LIMIT_S * 1e9
        return late or bool(self.part.get(HEIR, "ops"))

    @property
    def took_ns(self) -> int | None:
        """How long the heir took; None if it never got the lock."""
        return self.part.get(HEIR, "ns") if self.part.get(HEIR, "ops") else None


def die_and_try(candidates: Sequence[Candidate], take_signals: Callable[[], None]) -> dict[str, Survival]:
    """Try every lock at once; what became of each."""
    with ExitStack() as stack:
        trials = [Trial(candidate, mode, stack) for candidate in candidates for mode in candidate.modes]
        with ExitStack() as victims:
            _stage(trials, "die", victims, take_signals, "held")
        with ExitStack() as heirs:
            _stage(trials, "inherit", heirs, take_signals, "decided")
        return {candidate.name: _survival(candidate, trials) for candidate in candidates}


def _stage(trials: Sequence[Trial], act: str, stack: ExitStack, take_signals: Callable[[], None], until: str) -> None:
    """Start a process for each trial and wait until all are where they are wanted; the stack kills them."""
    troupes = [stack.enter_context(Troupe(1, getattr(trial, act), take_signals)) for trial in trials]
    deadline = time.monotonic() + READY_S
    for trial, troupe in zip(trials, troupes, strict=True):
        troupe.wait_until(deadline, lambda trial=trial: getattr(trial, until))  # type: ignore[misc]
        if not getattr(trial, until):
            raise InternalError(f"{trial.candidate.name}: who was to {act} with it never had it, in {READY_S:g} s")


def _survival(candidate: Candidate, trials: Sequence[Trial]) -> Survival:
    took = {trial.mode: trial.took_ns for trial in trials if trial.candidate is candidate}
    writer = took[candidate.modes[-1]]
    reader = took.get("read")
    return Survival(
        reader=reader is not None if "read" in took else None,
        writer=writer is not None,
        reader_ns=reader,
        writer_ns=writer,
    )
