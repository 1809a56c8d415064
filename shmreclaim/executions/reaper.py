"""Who kills workers while a run goes on: at random moments, at random accesses to memory, at named crash points.

At a random moment a CPU mostly sleeps, or spins, or is between two operations. So of four kills one is by a fuse: the
worker kills itself after so many points (machine/journal.py), that is before or after an access to memory which others
see. And two are at crash points (machine/crash_points.py), each in its turn: before and after each step of
registration, growth, online, offline, reparenting, list_lru, freeing, charging and grace periods. All are SIGKILL;
nothing of the process runs after it.
"""

from __future__ import annotations

import random
import time
from collections import Counter

from shmreclaim.executions.chaos import ChaosPlan
from shmreclaim.executions.crash_points import Traps
from shmreclaim.executions.nursed import NursedCrew, Recovery
from shmreclaim.result import ChaosDone, Histogram

MOST_POINTS = 3000
"""A fuse is as often between 1 and 10 points long as between 100 and 1000."""
WAYS = ("kill", "fuse", "trap", "trap")


class Reaper:
    """Kills as many a second as a plan says; the same seed wants the same."""

    def __init__(self, plan: ChaosPlan) -> None:
        """Nobody is killed yet."""
        self._random = random.Random(plan.seed)
        self._rate, self._nowhere_else = plan.kill_rate, plan.nowhere_else
        self._traps = Traps(plan.crash_points, self._random)
        self._due = 0.0
        self.recoveries: list[Recovery] = []
        """Kills after which somebody went on, in the order in which that was seen."""

    def begin(self, crew: NursedCrew) -> None:
        """Whom it may kill. Points that were asked for are set at once: some are passed only while ids grow."""
        self.recoveries = crew.recoveries
        if self._nowhere_else:
            self._traps.set_all(crew)

    def act(self, crew: NursedCrew) -> float:
        """Kill, if it is time; seconds until it will be."""
        now = time.monotonic()
        if now >= self._due:
            self._due = now + self._random.expovariate(self._rate)
            self._kill(crew)
        return max(0.0, self._due - now)

    def _kill(self, crew: NursedCrew) -> None:
        way = "trap" if self._nowhere_else else self._random.choice(WAYS)
        victim = self._random.randrange(crew.size)
        if way == "kill":
            crew.kill(victim)
        elif way == "fuse" or not self._traps.set_next(crew):
            crew.light_fuse(victim, round(MOST_POINTS ** self._random.random()))

    def done(self, crew: NursedCrew, stops: int = 0) -> ChaosDone:
        """What came of it."""
        deaths = [each.death for each in self.recoveries]
        left = {
            "locks held": sum(each.locks > 0 for each in deaths),
            "read section open": sum(each.reading for each in deaths),
            "asleep for a lock": sum(each.asleep for each in deaths),
            "access in doubt": crew.told("in_doubt"),
            "of those, made": crew.told("were_made"),
        }
        times = self.times()
        died_at = Counter(self._traps.names[each.at] for each in deaths if each.at)
        kinds = dict(sorted(Counter(each.kind for each in self.recoveries).items()))
        return ChaosDone(
            kills=crew.deaths,
            stops=stops,
            recoveries=kinds,
            left=left,
            crash_points={name: died_at[name] for name in sorted(self._traps.names.values())},
            longest_recovery_ns=times.max,
            recovery_ns=times.latency() if times.count else None,
        )

    def times(self) -> Histogram:
        """How long each recovery took."""
        return Histogram.of([each.ns for each in self.recoveries])
