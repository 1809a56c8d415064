"""The same loops in Python, over anything that has a function to acquire and one to release.

They mirror `loops.py` function by function; clocks, records and what is counted are the same.
"""

from __future__ import annotations

import itertools
import signal
import time
from collections.abc import Callable
from typing import NamedTuple

from shmreclaim.experiments.bench.locks.ground import LOG_ROOM, PLAYER, SCENE, Ground, Part
from shmreclaim.experiments.bench.locks.loops import ASLEEP_NS, BATCH, draw
from shmreclaim.machine.compile import entry_point

now = time.monotonic_ns


class Way(NamedTuple):
    """One way to hold a lock, as another process got it."""

    acquire: Callable[[], object]
    release: Callable[[], object]
    reads: bool = False
    """Whether others may hold it beside."""


class PythonPlayer:
    """One process that calls a lock from Python."""

    def __init__(self, ground: Ground, part: Part, player: int, way: Way) -> None:
        """Play so in a part."""
        self.ground, self.part, self.player, self.way = ground, part, player, way
        self.memory = ground.memory
        self.at = part.players[player]
        self.broken = 0
        self.draw = entry_point(draw, 2)

    def get(self, field: str) -> int:
        """What this player's record says."""
        return self.part.get(self.player, field)

    def alone(self, pairs: int) -> int:
        """Time so many pairs of a lock that nobody else wants; ns."""
        acquire, release, _ = self.way
        start = now()
        for _ in itertools.repeat(None, pairs):
            acquire()
            release()
        return now() - start

    def compete(self) -> None:
        """Acquire and release as often as it goes, until the end."""
        acquire, release, _ = self.way
        hold, think, end, ops = self.get("hold"), self.get("think"), self.get("end"), 0
        batch = 1 if hold or think else BATCH
        while now() < end:
            for _ in itertools.repeat(None, batch):
                acquire()
                if hold:
                    spend(hold)
                release()
                if think:
                    spend(think)
            ops += batch
        self.part.set(self.player, ops=ops)

    def wait_closed(self) -> None:
        """Ask again once served. Once at least, however late the start."""
        think, end = self.get("think"), self.get("end")
        waits = [self.serve(now())]
        while now() < end:
            spend(think)
            waits.append(self.serve(now()))
        self.keep(waits)

    def wait_open(self) -> None:
        """Ask when it was planned, or as soon after as one can."""
        start, end, plan = self.ground.get("start"), self.get("end"), self.get("plan")
        waits, unserved = [], 0
        for k in range(self.get("planned")):
            due = start + self.memory[plan + k]
            if now() < end:
                nap_until(due)
                waits.append(self.serve(due))
            else:
                waits.append(end - due)
                unserved += 1
        self.part.set(self.player, unserved=unserved)
        self.keep(waits)

    def serve(self, since: int) -> int:
        """Acquire, use what the lock protects, release; ns from `since` on to having it."""
        self.way.acquire()
        waited = now() - since
        self.use(self.get("hold"))
        self.way.release()
        return waited

    def use(self, hold: int) -> None:
        """Use what the lock protects, for so long; notice somebody else at it."""
        memory, first, second = self.memory, self.ground.scene + SCENE.first, self.ground.scene + SCENE.second
        before = memory[first]
        broken = memory[second] != before
        if self.way.reads:
            spend(hold)
        else:
            memory[first] = before + 1
            spend(hold)
            memory[second] += 1
            before += 1
        self.broken += broken or memory[first] != before or memory[second] != before

    def keep(self, waits: list[int]) -> None:
        """Write down what was found."""
        self.part.count(self.player, "waits", waits)
        self.part.set(self.player, ops=len(waits) - self.get("unserved"), broken=self.broken)

    def take_in_turn(self) -> None:
        """Hold the lock asleep; log who is served before whom."""
        memory, scene, address, at = self.memory, self.ground.scene, self.ground.address, self.at
        hold, end, handoffs = self.get("hold"), self.get("end"), []
        asked = now()
        while asked < end:
            ticket = self.draw(address, scene + SCENE.tickets)
            if ticket >= LOG_ROOM:
                break
            self.way.acquire()
            got = now()
            memory[scene + SCENE.log + self.draw(address, scene + SCENE.grants)] = ticket * 2 + self.way.reads
            released, by = memory[scene + SCENE.released_at], memory[scene + SCENE.released_by]
            if released > asked + ASLEEP_NS and by >> 1 != at and by & self.way.reads == 0:
                handoffs.append(got - released)
            nap_until(got + hold)
            memory[scene + SCENE.released_by] = at * 2 + self.way.reads
            memory[scene + SCENE.released_at] = now()
            self.way.release()
            asked = now()
        self.part.count(self.player, "handoffs", handoffs)

    def read_without_end(self) -> None:
        """Hold the lock asleep and take it again at once, until told to stop."""
        memory, stop, hold = self.memory, self.ground.scene + SCENE.stop, self.get("hold")
        nap_until(self.ground.get("start") + self.get("think"))
        while not memory[stop]:
            self.way.acquire()
            nap_until(now() + hold)
            self.way.release()

    def write_among_readers(self) -> None:
        """Ask for the lock now and then; say since when it waits."""
        think, end, waits = self.get("think"), self.get("end"), []
        nap_until(now() + think)
        while now() < end:
            asked = self.memory[self.at + PLAYER.asked] = now()
            waits.append(self.serve(asked))
            self.memory[self.at + PLAYER.asked] = 0
            nap_until(now() + think)
        self.keep(waits)

    def hold_for_ever(self) -> None:
        """Take the lock, say so, and keep it."""
        self.way.acquire()
        self.part.set(self.player, ops=1)
        while True:
            signal.pause()

    def try_after(self) -> None:
        """Take the lock of the dead, and say how long that took."""
        asked = now()
        self.part.set(self.player, asked=asked)
        self.way.acquire()
        self.part.set(self.player, ns=now() - asked, ops=1)
        self.way.release()


def spend(ns: int) -> None:
    """Be busy for a while."""
    until = now() + ns
    while now() < until:
        pass


def nap_until(due: int) -> None:
    """Sleep until then."""
    while (left := due - now()) > 0:
        time.sleep(left / 1e9)
