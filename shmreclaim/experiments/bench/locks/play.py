"""One play: so many processes with one lock, which they use in several ways one after the other.

What disturbs each other is measured apart: first one process alone, then how much all get done, then how long they
wait, then in which order they are served. Between two parts all wait for each other, asleep.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from shmreclaim.experiments.bench.locks import loops
from shmreclaim.experiments.bench.locks.candidates import Candidate, Ways, made
from shmreclaim.experiments.bench.locks.ground import Ground, Part
from shmreclaim.experiments.bench.locks.loops import Kind
from shmreclaim.experiments.bench.locks.python_loops import PythonPlayer, Way
from shmreclaim.experiments.bench.locks.troupe import FailedError, Troupe
from shmreclaim.machine.compile import entry_point
from shmreclaim.result import Histogram, jain

CHUNK_NS = 100_000
FLOOR_S = 0.005
HELD_ASLEEP_NS = 200_000
"""How long the lock is held where the order matters: the others have gone to sleep long before that is over."""
ALONE, COMPETE, OF_TWO, WAIT, ORDER = range(5)
PARTS = 5


class BrokenError(Exception):
    """Somebody had the lock who had to stay out."""


@dataclass(frozen=True)
class Setting:
    """How plays are played."""

    readers: int
    writers: int
    hold: int | None
    think: int | None
    """ns; None: nothing where operations are counted, WAIT_NS where waits are measured."""
    arrival: float | None
    """Requests a second of each process; None: closed loop."""
    seconds: float
    """Of each part but the first, which takes a quarter of that."""
    seed: int = 1
    """Of the planned arrivals."""
    grace: float = 5.0
    """How many seconds longer than planned a play may take before it counts as stuck."""

    @property
    def processes(self) -> int:
        """All of them."""
        return self.readers + self.writers

    def times(self, part: int) -> dict[str, int]:
        """What a part's processes spend with and without the lock."""
        if part == ORDER:
            return {"hold": HELD_ASLEEP_NS, "think": 0}
        usual = WAIT_NS if part == WAIT else 0
        hold = usual if self.hold is None else self.hold
        return {"hold": hold, "think": usual if self.think is None else self.think}


WAIT_NS = 1000
"""What a process spends with the lock and without where waits are measured, if nothing else is asked for."""


class ModeSample(NamedTuple):
    """What one play found of a mode."""

    uncontended_ns: float
    ops_per_s: float
    pair_ops_per_s: float | None
    jain: float
    waits: Histogram
    bypass: int
    handoffs: Histogram
    unserved: int


def modes_of(candidate: Candidate, setting: Setting) -> list[str]:
    """How each of the processes takes the lock: readers first."""
    if len(candidate.modes) == 1:
        return [candidate.modes[0]] * setting.processes
    return ["read"] * setting.readers + ["write"] * setting.writers


class Play:
    """One candidate, its lock, and what each process does with it."""

    def __init__(self, candidate: Candidate, setting: Setting, ground: Ground, folder: str) -> None:
        """Make the lock."""
        self.candidate, self.setting, self.ground = candidate, setting, ground
        self.modes = modes_of(candidate, setting)
        self.get = made(candidate, ground, folder)
        if setting.arrival is not None:
            self._plan_arrivals(setting.arrival)

    def _plan_arrivals(self, rate: float) -> None:
        random = np.random.default_rng(self.setting.seed)
        for k in range(self.setting.processes):
            gaps = random.exponential(1e9 / rate, room_for(rate, self.setting.seconds))
            times = np.cumsum(gaps).astype(np.int64)
            self.ground.plan(k, self.ground.parts[WAIT], times[times < self.setting.seconds * 1e9])

    def perform(self, k: int) -> None:
        """Play process `k`, part after part."""
        ways = self.get()
        self._warm_up(ways)
        slot = self.ground.tasks.slot() if self.candidate.called == "compiled" else 0
        for part in range(PARTS):
            self.ground.parts[part].set(k, slot=slot, **self.setting.times(part))
            start = self.ground.pass_gate()
            self.ground.parts[part].set(k, end=start + round(self.setting.seconds * 1e9))
            if part == ALONE:
                if k == 0:
                    self._alone(ways, slot)
            elif part != OF_TWO or (k < 2 and len(self.candidate.modes) == 1):
                sleep_until(start)
                self._loop(part, k, ways[self.modes[k]])
        self.ground.pass_gate()

    def _warm_up(self, ways: Ways) -> None:
        """Use the lock once, in each way: the first call of a process does more than others."""
        for way in ways.values():
            if isinstance(way, Way):
                way.acquire()
                way.release()

    def _loop(self, part: int, k: int, way: Way | Kind) -> None:
        name = (None, "compete", "compete", self._wait, "take_in_turn")[part]
        act(self.ground, self.ground.parts[part], k, way, str(name))

    @property
    def _wait(self) -> str:
        return "wait_closed" if self.setting.arrival is None else "wait_open"

    def _alone(self, ways: Ways, slot: int) -> None:
        """Time each mode by itself: the median of chunks; the modes' figures go to the first players' records."""
        part, ground = self.ground.parts[ALONE], self.ground
        for k, way in enumerate(ways.values()):
            part.set(k, slot=slot)
            timed: Callable[[int], int]
            if isinstance(way, Way):
                timed = PythonPlayer(ground, part, k, way).alone
            else:
                part.set(k, kind=int(way))
                timed = compiled_pairs(ground, part.players[k])
            part.set(k, ns=round(1000 * median_of_chunks(timed, self.setting.seconds / 4 / len(ways))))

    # --- what was found ------------------------------------------------------------------------------

    def samples(self) -> dict[str, ModeSample]:
        """Read what the processes found; raises BrokenError if one was where it must not be."""
        self._expect_exclusion()
        return {mode: self._sample(mode, number) for number, mode in enumerate(self.candidate.modes)}

    def _sample(self, mode: str, number: int) -> ModeSample:
        parts, span = self.ground.parts, self.setting.seconds
        who = [k for k, each in enumerate(self.modes) if each == mode]
        done = [parts[COMPETE].get(k, "ops") for k in who]
        pair = sum(parts[OF_TWO].get(k, "ops") for k in who)
        return ModeSample(
            uncontended_ns=parts[ALONE].get(number, "ns") / 1000,
            ops_per_s=sum(done) / span,
            pair_ops_per_s=pair / span if len(self.candidate.modes) == 1 else None,
            jain=jain(done),
            waits=_all(parts[WAIT], who, "waits"),
            bypass=self._bypass(mode),
            handoffs=_all(parts[ORDER], who, "handoffs"),
            unserved=sum(parts[WAIT].get(k, "unserved") for k in who),
        )

    def _bypass(self, mode: str) -> int:
        count = entry_point(loops.count_bypasses, 4)
        return count(self.ground.address, self.ground.scene, self.ground.get("grants"), int(mode == "read"))

    def _expect_exclusion(self) -> None:
        """Raise BrokenError unless each writer, and it alone, changed what the lock protects each time."""
        compiled = self.candidate.called == "compiled"
        counted = (COMPETE, OF_TWO, WAIT) if compiled else (WAIT,)
        writers = [k for k, mode in enumerate(self.modes) if mode != "read"]
        done = sum(self.ground.parts[part].get(k, "ops") for part in counted for k in writers)
        seen = sum(self.ground.parts[part].get(k, "broken") for part in counted for k in range(len(self.modes)))
        found = self.ground.get("first"), self.ground.get("second")
        if seen or found != (done, done):
            raise BrokenError(
                f"{done:,} changes under the lock left counts of {found[0]:,} and {found[1]:,}; "
                f"somebody else was seen at them {seen:,} times"
            )


def room_for(rate: float, seconds: float) -> int:
    """How many arrivals a plan must have room for: hardly ever does chance bring more."""
    return int(rate * seconds * 1.2) + 64


def _all(part: Part, who: Sequence[int], what: str) -> Histogram:
    return Histogram.merge(part.histogram(k, what) for k in who)


def act(ground: Ground, part: Part, k: int, way: Way | Kind, loop: str) -> None:
    """Run a loop of `loops` or of PythonPlayer, of the same name, as process `k`."""
    if isinstance(way, Way):
        getattr(PythonPlayer(ground, part, k, way), loop)()
    else:
        part.set(k, kind=int(way))
        entry_point(getattr(loops, loop), 3)(ground.address, ground.scene, part.players[k])


def compiled_pairs(ground: Ground, me: int) -> Callable[[int], int]:
    """Give what times so many pairs of a compiled lock."""
    entry = entry_point(loops.alone, 4)
    return lambda pairs: entry(ground.address, ground.scene, me, pairs)


def median_of_chunks(timed: Callable[[int], int], seconds: float) -> float:
    """Time chunks of pairs that take CHUNK_NS each, over so long; the median, ns a pair."""
    timed(1)  # the very first call does more than others
    pairs = 1
    while (took := timed(pairs)) < CHUNK_NS / 2 and pairs < 1 << 24:
        pairs *= max(2, min(16, round(CHUNK_NS / max(took, 1))))
    until, found = time.monotonic() + seconds, [timed(pairs) / pairs]
    while time.monotonic() < until:
        found.append(timed(pairs) / pairs)
    return statistics.median(found)


def floor_ns() -> float:
    """Time two atomic additions; ns."""
    entry = entry_point(loops.add_twice, 3)
    with Ground(1, 0) as ground:
        return median_of_chunks(lambda pairs: entry(ground.address, ground.scene, pairs), FLOOR_S)


def sleep_until(start: int) -> None:
    """Sleep until a time on the clock."""
    time.sleep(max(0, start - time.monotonic_ns()) / 1e9)


def play(candidate: Candidate, setting: Setting, take_signals: Callable[[], None]) -> dict[str, ModeSample]:
    """Play once; what was found, by mode. Raises FailedError or BrokenError."""
    room = 0 if setting.arrival is None else room_for(setting.arrival, setting.seconds)
    with (
        Ground(setting.processes, PARTS, room) as ground,
        tempfile.TemporaryDirectory(prefix="shmreclaim-") as folder,
    ):
        this = Play(candidate, setting, ground, folder)
        with Troupe(setting.processes, this.perform, take_signals) as troupe:
            left = troupe.wait_until(time.monotonic() + PARTS * setting.seconds + setting.grace)
            if left:
                raise FailedError(f"{len(left)} of {setting.processes} processes did not come to an end")
        return this.samples()
