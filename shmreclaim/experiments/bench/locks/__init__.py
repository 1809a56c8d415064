"""What locks cost and what they are worth: ours beside every lock that a Python program can use between processes.

Plays of all candidates take turns, so that a slow moment of the machine is everybody's. What takes its time by sleeping
comes first: holders that are killed, all at once; then, one lock after the other, a writer beside endless readers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Protocol

from shmreclaim.experiments.bench import about
from shmreclaim.experiments.bench.locks import loops
from shmreclaim.experiments.bench.locks.candidates import Candidate, choose, versions
from shmreclaim.experiments.bench.locks.deaths import Deaths
from shmreclaim.experiments.bench.locks.fold import by_name, fold, kinds, ratios
from shmreclaim.experiments.bench.locks.options import LockOptions
from shmreclaim.experiments.bench.locks.play import PARTS, BrokenError, ModeSample, Setting, floor_ns, play
from shmreclaim.experiments.bench.locks.stream import write_in_stream
from shmreclaim.experiments.bench.locks.troupe import FailedError
from shmreclaim.experiments.bench.thresholds import Threshold, expect_subjects, judge, parse
from shmreclaim.experiments.bench.turns import Figure, turns
from shmreclaim.lock_figures import MODES, LockFigures, LocksResult, StreamFigures, Survival
from shmreclaim.locks import Mutex, RwLock
from shmreclaim.machine.compile import entry_point, out_of_line_functions
from shmreclaim.workers.lifeline import held_signals

ROUNDS, QUICK_ROUNDS = 6, 3
"""Six are the fewest with an interval of 95 %."""
DEATHS_S = 4.0
"""What the deaths take of the budget, whatever it is."""
STREAM_SHARE = 0.25
OVERHEAD_S = 0.15
"""What a play takes besides its parts."""
LEAST_S = 0.03
STARVED_S, QUICK_STARVED_S = 3.0, 1.0
"""A writer that waits so long starves."""


class Progress(Protocol):
    """Who is told how far the bench is."""

    def compiling(self, done: int, total: int) -> None:
        """So many functions are compiled, or loaded."""

    def doing(self, what: str, done: int, total: int) -> None:
        """So many of them are done."""


def bench_locks(options: LockOptions, progress: Progress, candidates: Sequence[Candidate] | None = None) -> LocksResult:
    """Measure; `candidates` instead of those that the options name. What broke or failed is in the result."""
    chosen = choose(options.peers) if candidates is None else list(candidates)
    present = [each for each in chosen if each.installed]
    thresholds = [parse(text, kinds((*MODES,))) for text in options.thresholds]
    expect_subjects(thresholds, {each.name: tuple(kinds(each.modes)) for each in present})
    session = _Session(options, present, progress)
    opening = about(session.parameters())
    make_ready(progress)
    locks = session.measure()
    return LocksResult(
        **opening,
        peers=versions(present),
        not_installed=list(dict.fromkeys(each.package for each in chosen if not each.installed)),
        processes=session.setting.processes,
        readers=session.setting.readers,
        writers=session.setting.writers,
        rounds=session.rounds,
        part_s=session.setting.seconds,
        starvation_limit_s=session.starved_s,
        loop="closed" if options.arrival is None else "open, Poisson arrivals",
        locks=locks,
        **Figure.of(session.floors).named("floor_ns"),
        broken=session.broken,
        failed=session.failed,
        ratios=ratios(locks),
        thresholds=[verdict for each in thresholds for verdict in _judge(each, present, locks)],
    )


def _judge(threshold: Threshold, present: Sequence[Candidate], locks: dict[str, LockFigures]) -> list[Any]:
    default = [each.name for each in present if each.ours and threshold.figure in kinds(each.modes)]
    return judge(threshold, {name: by_name(lock) for name, lock in locks.items()}, default)


class _Session:
    """All plays of one bench."""

    def __init__(self, options: LockOptions, candidates: Sequence[Candidate], progress: Progress) -> None:
        """Share the budget out."""
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
            seconds=self._part_s(),
        )
        self.floors: list[float] = []
        self.broken: dict[str, str] = {}
        self.failed: dict[str, str] = {}

    def _part_s(self) -> float:
        """How long each part of a play lasts."""
        left = self.options.budget * (1 - STREAM_SHARE) - DEATHS_S
        each = left / (self.rounds * max(1, len(self.candidates))) - OVERHEAD_S
        return round(max(LEAST_S, each / (PARTS - 0.75)), 4)

    def _stream_s(self) -> float:
        shared = sum(1 for each in self.candidates if "read" in each.modes)
        return self.options.budget * STREAM_SHARE / max(1, shared)

    def parameters(self) -> dict[str, Any]:
        """What was asked for; thresholds stand beside what became of them."""
        asked = asdict(self.options)
        return {name: value for name, value in asked.items() if value is not None and name != "thresholds"}

    def measure(self) -> dict[str, LockFigures]:
        """Measure everything; the figures of each lock that kept its promise."""
        with held_signals() as take_signals:
            self._progress.doing("killing holders", 0, 1)
            survivals = self._deaths(take_signals)
            streams = self._streams(take_signals)
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

    def _streams(self, take_signals: Callable[[], None]) -> dict[str, tuple[bool, StreamFigures]]:
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
        stream: tuple[bool, StreamFigures] | None,
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
    lock = RwLock()
    with Mutex(), lock.read():
        pass
    with lock.write():
        pass


def make_ready(progress: Progress) -> None:
    """Compile what the cache lacks and load everything: the players are forked with it."""
    units: list[Callable[[], Any]] = [
        _use_locks_once,
        *out_of_line_functions("shmreclaim.sync.", "shmreclaim.machine."),
    ]
    units += [lambda name=name, n=n: entry_point(getattr(loops, name), n) for name, n in loops.CALLED.items()]  # type: ignore[misc]
    for done, unit in enumerate(units):
        unit()
        progress.compiling(done + 1, len(units))
