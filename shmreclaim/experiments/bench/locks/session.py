"""All plays of one bench within its budget: deaths, then streams, then all else in turns with what time is left."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

from shmreclaim.experiments.bench import Progress
from shmreclaim.experiments.bench.locks import loops
from shmreclaim.experiments.bench.locks.candidates import Candidate
from shmreclaim.experiments.bench.locks.deaths import Deaths
from shmreclaim.experiments.bench.locks.fold import fold
from shmreclaim.experiments.bench.locks.options import LockOptions
from shmreclaim.experiments.bench.locks.play import PARTS, BrokenError, ModeSample, Setting, floor_ns, play
from shmreclaim.experiments.bench.locks.stream import write_in_stream
from shmreclaim.experiments.bench.locks.troupe import FailedError
from shmreclaim.experiments.bench.turns import Figure, turns
from shmreclaim.lock_figures import LockFigures, StreamFigures, Survival
from shmreclaim.locks import Mutex, RwLock
from shmreclaim.locks.arenas import words_for
from shmreclaim.machine.arena import Arena
from shmreclaim.machine.compile import entry_point, out_of_line_functions
from shmreclaim.signals import held_signals

ROUNDS, QUICK_ROUNDS = 6, 3
"""Six are the fewest with an interval of 95 %."""
STREAM_SHARE = 0.25
"""Of the budget, for writers that do not starve."""
OVERHEAD_S = 0.15
"""What a play takes besides its parts."""
LEAST_S = 0.03
STARVED_S, QUICK_STARVED_S = 3.0, 1.0
"""A writer that waits so long starves."""

Stream = tuple[bool, StreamFigures]


class Session:
    """All plays of one bench."""

    def __init__(self, options: LockOptions, candidates: Sequence[Candidate], progress: Progress) -> None:
        """Only keep what is needed; the budget runs from `measure` on."""
        self.options, self.candidates, self._progress = options, list(candidates), progress
        self.rounds = QUICK_ROUNDS if options.quick else ROUNDS
        self.starved_s = QUICK_STARVED_S if options.quick else STARVED_S
        readers, writers = options.split
        self.setting = Setting(
            readers=readers,
            writers=writers,
            hold=options.hold,
            think=options.think,
            arrival=options.arrival,
            seconds=LEAST_S,
        )
        self.floors: list[float] = []
        self.broken: dict[str, str] = {}
        self.failed: dict[str, str] = {}

    def _part_s(self, left: float) -> float:
        """How long each part of a play may last, where so many seconds are left for all of them."""
        each = left / (self.rounds * max(1, len(self.candidates))) - OVERHEAD_S
        return round(max(LEAST_S, each / (PARTS - 0.75)), 4)

    def _stream_s(self) -> float:
        shared = sum(1 for each in self.candidates if "read" in each.modes)
        return self.options.budget * STREAM_SHARE / max(1, shared)

    def parameters(self) -> dict[str, Any]:
        """What was asked for; thresholds stand beside what became of them."""
        asked = asdict(self.options)
        return {name: value for name, value in asked.items() if value is not None and name != "thresholds"}

    def conditions(self) -> dict[str, Any]:
        """Under which everything was measured, as fields of the result."""
        return {
            "processes": self.setting.processes,
            "readers": self.setting.readers,
            "writers": self.setting.writers,
            "rounds": self.rounds,
            "part_s": self.setting.seconds,
            "starvation_limit_s": self.starved_s,
            "loop": "closed" if self.options.arrival is None else "open, Poisson arrivals",
            **Figure.of(self.floors).named("floor_ns"),
        }

    def measure(self) -> dict[str, LockFigures]:
        """Measure everything; the figures of each lock that kept its promise."""
        deadline = time.monotonic() + self.options.budget
        with held_signals() as take_signals:
            self._progress.doing("killing holders", 0, 1)
            survivals = self._deaths(take_signals)
            streams = self._streams(take_signals)
            self.setting = replace(self.setting, seconds=self._part_s(deadline - time.monotonic()))
            samples = self._plays(take_signals)
        return {
            each.name: self._figures(each, survivals[each.name], streams.get(each.name), samples[each.name])
            for each in self.candidates
            if each.name not in self.broken and each.name not in self.failed
        }

    def _deaths(self, take_signals: Callable[[], None]) -> dict[str, Survival]:
        deaths = Deaths(take_signals)
        found = deaths.try_all(self.candidates)
        self.failed |= deaths.failed
        return found

    def _streams(self, take_signals: Callable[[], None]) -> dict[str, Stream]:
        found = {}
        shared = [each for each in self.candidates if "read" in each.modes and each.name not in self.failed]
        for done, each in enumerate(shared):
            self._progress.doing(f"a writer beside readers: {each.name}", done, len(shared))
            try:
                found[each.name] = write_in_stream(each, self._stream_s(), self.starved_s, take_signals)
            except FailedError as failed:
                self.failed[each.name] = str(failed)
        return found

    def _plays(self, take_signals: Callable[[], None]) -> dict[str, list[dict[str, ModeSample]]]:
        samples: dict[str, list[dict[str, ModeSample]]] = {each.name: [] for each in self.candidates}
        plays = list(turns(self.candidates, self.rounds, warm_up=0))
        for done, (each, _) in enumerate(plays):
            if done % len(self.candidates) == 0:
                self.floors.append(floor_ns())
            if each.name in self.failed or each.name in self.broken:
                continue
            self._progress.doing(each.name, done + 1, len(plays))
            try:
                samples[each.name].append(play(each, self.setting, take_signals))
            except FailedError as failed:
                self.failed[each.name] = str(failed)
            except BrokenError as broken:
                self.broken[each.name] = str(broken)
        return samples

    def _figures(
        self,
        candidate: Candidate,
        survival: Survival,
        stream: Stream | None,
        samples: list[dict[str, ModeSample]],
    ) -> LockFigures:
        modes = {mode: fold([sample[mode] for sample in samples]) for mode in candidate.modes}
        return LockFigures(
            called=candidate.called,
            exclusive=modes.get("exclusive"),
            read=modes.get("read"),
            write=modes.get("write"),
            survives_kill=survival,
            writer_starved=None if stream is None else stream[0],
            stream=None if stream is None else stream[1],
        )


def _use_locks_once() -> None:
    with Arena.inherited(words_for(2)) as arena:
        mutex, lock = Mutex(arena), RwLock(arena)
        with mutex, lock.read():
            pass
        with lock.write():
            pass


def make_ready(progress: Progress) -> None:
    """Compile what the cache lacks and load everything: the players are forked with it.

    A signal waits for the end of one: the compiler may swallow an exception out of a handler.
    """
    units: list[Callable[[], Any]] = [
        _use_locks_once,
        *out_of_line_functions("shmreclaim.sync.", "shmreclaim.machine."),
    ]
    units += [lambda name=name, n=n: entry_point(getattr(loops, name), n) for name, n in loops.CALLED.items()]  # type: ignore[misc]
    with held_signals() as take_signals:
        for done, unit in enumerate(units):
            unit()
            progress.compiling(done + 1, len(units))
            take_signals()
