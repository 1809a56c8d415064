"""What a lock does when its holder is killed: tried, for a reader and for a writer.

A process takes the lock and is killed with SIGKILL; a fresh process then tries to take it, for write where the lock has
that. Who has not got it when the limit is over is taken to wait for ever, and is killed too. Since all that is waiting
asleep, all locks are tried at the same time.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial

from shmreclaim.experiments.bench.locks.candidates import Candidate, made
from shmreclaim.experiments.bench.locks.ground import Ground
from shmreclaim.experiments.bench.locks.play import act
from shmreclaim.experiments.bench.locks.troupe import FailedError, Troupe
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
        self.get = made(candidate, self.ground, folder)
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


class Deaths:
    """All locks, tried at once."""

    def __init__(self, take_signals: Callable[[], None]) -> None:
        """Nobody failed yet. `take_signals` is of `lifeline.held_signals`."""
        self.failed: dict[str, str] = {}
        self._take_signals = take_signals

    def try_all(self, candidates: Sequence[Candidate]) -> dict[str, Survival]:
        """What became of each; those with which it could not be tried are in `failed` instead."""
        with ExitStack() as stack:
            trials = [trial for each in candidates for mode in each.modes if (trial := self._trial(each, mode, stack))]
            self._stage(trials, Trial.die, lambda trial: trial.held)
            self._stage(trials, Trial.inherit, lambda trial: trial.decided)
            return {each.name: _survival(each, trials) for each in candidates if each.name not in self.failed}

    def _trial(self, candidate: Candidate, mode: str, stack: ExitStack) -> Trial | None:
        try:
            return Trial(candidate, mode, stack)
        except FailedError as failed:
            self.failed[candidate.name] = str(failed)
            return None

    def _stage(
        self, trials: Sequence[Trial], play: Callable[[Trial, int], None], arrived: Callable[[Trial], bool]
    ) -> None:
        """Start a process for each trial, wait until all are where they are wanted, and kill them."""
        deadline = time.monotonic() + READY_S
        with ExitStack() as stack:
            going = [each for each in trials if each.candidate.name not in self.failed]
            troupes = [stack.enter_context(Troupe(1, partial(play, each), self._take_signals)) for each in going]
            for trial, troupe in zip(going, troupes, strict=True):
                try:
                    troupe.wait_until(deadline, partial(arrived, trial))
                    if not arrived(trial):
                        raise FailedError(f"a process did not get it for {mode_of(trial)} within {READY_S:g} s")
                except FailedError as failed:
                    self.failed[trial.candidate.name] = str(failed)


def mode_of(trial: Trial) -> str:
    """How the one that is to die has the lock, in words."""
    return "use" if trial.mode == "exclusive" else trial.mode


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
