"""Chaos: what the parent does to its workers while they play. Decided from the seed: whom, when, for how long.

    chaos = Chaos(plan, crew.pids)
    while ...:
        chaos.step()      # from the watch loop: does what is due
    chaos.settle()        # nobody is stopped any more

A stopped worker (SIGSTOP) is alive: whoever needs a lock that it holds waits until it goes on (SIGCONT). That the same
seed does the same things does not mean that they meet the same instructions: that is up to the machine.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from shmreclaim.machine.crash_points import CrashPoint
from shmreclaim.machine.process import cores
from shmreclaim.result import ChaosDone

STOPS_PER_S = 8.0
LONGEST_STOP_S = 0.1
MOVES_PER_S = 5.0


@dataclass(frozen=True)
class ChaosPlan:
    """What is done to workers."""

    stop: bool = False
    """Workers are stopped for up to LONGEST_STOP_S at random moments, one or more at a time."""
    shuffle: bool = False
    """Workers are moved to other cores."""
    kill_rate: float = 0.0
    """Workers killed a second (executions/reaper.py)."""
    crash_points: tuple[CrashPoint, ...] = ()
    """Where they are killed by name."""
    nowhere_else: bool = False
    """Whether they are killed only there, not at random moments and accesses besides."""
    seed: int = 1


class Chaos:
    """What is done to the workers of one run; `pids` tells who is there."""

    def __init__(self, plan: ChaosPlan, pids: Callable[[], list[int]]) -> None:
        """Plan the first deeds from now on."""
        self._random = np.random.Generator(np.random.PCG64(plan.seed))
        self._pids = pids
        self._stopped: dict[int, float] = {}
        """Who is stopped, and until when."""
        self._deeds: dict[Callable[[float], None], float] = {}
        if plan.stop:
            self._deeds[self._stop] = STOPS_PER_S
        if plan.shuffle:
            self._deeds[self._move] = MOVES_PER_S
        self._due = {deed: self._after(time.monotonic(), rate) for deed, rate in self._deeds.items()}
        self.stops = 0

    def step(self) -> None:
        """Do what is due."""
        now = time.monotonic()
        for pid in [pid for pid, until in self._stopped.items() if until <= now]:
            self._go_on(pid)
        for deed, due in self._due.items():
            if due <= now:
                deed(now)
                self._due[deed] = self._after(now, self._deeds[deed])

    def settle(self) -> None:
        """Let all that are stopped go on."""
        for pid in list(self._stopped):
            self._go_on(pid)

    def done(self) -> ChaosDone:
        """Say what was done."""
        return ChaosDone(stops=self.stops)

    def _after(self, now: float, rate: float) -> float:
        return now + float(self._random.exponential(1 / rate))

    def _one(self) -> int | None:
        """Choose a worker; None if there is none."""
        pids = self._pids()
        return pids[int(self._random.integers(len(pids)))] if pids else None

    def _stop(self, now: float) -> None:
        pid, seconds = self._one(), float(self._random.random()) * LONGEST_STOP_S
        if pid is None:
            return
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.kill(pid, signal.SIGSTOP)
            self.stops += pid not in self._stopped
            self._stopped[pid] = max(now + seconds, self._stopped.get(pid, 0.0))

    def _go_on(self, pid: int) -> None:
        del self._stopped[pid]
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    def _move(self, _now: float) -> None:
        pid, available = self._one(), cores()
        core = available[int(self._random.integers(len(available)))]
        if pid is not None:
            with contextlib.suppress(OSError):  # it has just ended; or the core was taken from us
                os.sched_setaffinity(pid, {core})
