"""The memory of a play: one lock, what it protects, and for each process what it is to do and what it found.

The segment has no name from the start: the players are forked and inherit it, so that nothing of it is left however
they or their parent end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from shmreclaim.locks.arenas import tasks_in
from shmreclaim.machine.arena import Arena
from shmreclaim.machine.atomics import clock_ns, fetch_add_relaxed, read_once, write_once
from shmreclaim.machine.compile import compiled_nogil, entry_point
from shmreclaim.machine.cpu import MAX_CPUS
from shmreclaim.machine.futex import EVERYBODY, futex_wait, futex_wake
from shmreclaim.machine.histogram import HISTOGRAM, N_BUCKETS
from shmreclaim.machine.layout import HEADER, LINE, Field, record
from shmreclaim.machine.tasks import SLOT_WORDS, Tasks
from shmreclaim.result import Histogram
from shmreclaim.sync.lockdep import LOCK

LOG_ROOM = 1 << 13
"""Grants whose order is kept."""
LEAD_NS = 1_000_000
"""From the last process at a gate to the start."""

SCENE = record(
    "SCENE",
    Field("lock", "the lock, of ours or of glibc's", LOCK.SIZE),
    Field("first", "under the lock: changed first", line=True),
    Field("second", "under the lock: changed last, so equal to `first` for whoever has the lock"),
    Field("arrived", "atomic: processes that came to a gate, all gates together", line=True),
    Field("start", "the last at a gate; futex; ns on the clock"),
    Field("stop", "the parent: whether those who play until told are to end", line=True),
    Field("tickets", "atomic: who asked for the lock", line=True),
    Field("grants", "under the lock, or atomic: who got it", line=True),
    Field("released_by", "who gave it up last, and whether it had it for read: offset * 2 + 1 then"),
    Field("released_at", "under the lock; ns on the clock"),
    Field("log", "one writer each: the ticket and the class of each grant, in their order", LOG_ROOM, line=True),
    Field("tree", "the parent: counts for `bypasses`", LOG_ROOM + 1),
)

PLAYER = record(
    "PLAYER",
    Field("slot", "its slot among the tasks"),
    Field("kind", "a Kind: which lock, and how"),
    Field("hold", "ns to spend with the lock"),
    Field("think", "ns to spend without"),
    Field("end", "ns on the clock"),
    Field("plan", "where its planned arrivals are: ns from the start"),
    Field("planned", "how many there are"),
    Field("ops", "how often it had the lock", line=True),
    Field("broken", "how often it saw what the lock should have kept from it"),
    Field("asked", "since when it waits, ns on the clock; 0: it does not"),
    Field("ns", "of an operation that nobody contends"),
    Field("unserved", "planned arrivals that had not been served at the end"),
    Field("nap", "nobody writes it: to sleep on"),
    Field("waits", "a histogram: from asking, or from the planned time, to having the lock", HISTOGRAM.SIZE, line=True),
    Field("handoffs", "a histogram: from a release to the grant of one who slept", HISTOGRAM.SIZE, line=True),
)


@compiled_nogil
def _pass_gate(mem: Any, scene: int, players: int) -> int:
    """Wait for all players; the time at which all begin.

    That time is the gate: it changes when the last one has come, so nothing has to be seen in an order.
    """
    before = read_once(mem, scene + SCENE.start)
    if (fetch_add_relaxed(mem, scene + SCENE.arrived, 1) + 1) % players == 0:
        write_once(mem, scene + SCENE.start, clock_ns() + LEAD_NS)
        futex_wake(mem, scene + SCENE.start, EVERYBODY)
    while read_once(mem, scene + SCENE.start) == before:
        futex_wait(mem, scene + SCENE.start, before, 0)
    return read_once(mem, scene + SCENE.start)


class Part:
    """What each of the players of one part of a play is to do, and what it found."""

    def __init__(self, arena: Arena, players: int) -> None:
        """Make empty records."""
        first = arena.allocate(players * PLAYER.SIZE)
        self.players = [first + k * PLAYER.SIZE for k in range(players)]
        self._arena = arena
        self._memory = arena.memory

    def get(self, player: int, field: str) -> int:
        """What a player's record says."""
        return int(self._memory[self.players[player] + getattr(PLAYER, field)])

    def set(self, player: int, **fields: int) -> None:
        """Write into a player's record."""
        for field, value in fields.items():
            self._memory[self.players[player] + getattr(PLAYER, field)] = value

    def histogram(self, player: int, field: str) -> Histogram:
        """What a player counted."""
        at = self.players[player] + getattr(PLAYER, field)
        counts = self._arena.view(at + HISTOGRAM.buckets, N_BUCKETS)
        return Histogram(counts, self._memory[at + HISTOGRAM.max], self._memory[at + HISTOGRAM.total])

    def count(self, player: int, field: str, values: Sequence[int]) -> None:
        """Fill a histogram with what a player measured in Python."""
        at = self.players[player] + getattr(PLAYER, field)
        found = Histogram.of([max(value, 0) for value in values])
        self._memory[at + HISTOGRAM.max], self._memory[at + HISTOGRAM.total] = found.max, found.total
        self._arena.view(at + HISTOGRAM.buckets, N_BUCKETS)[:] = found.counts


class Ground:
    """A segment with a scene, and players for each part of a play; use as a context manager."""

    def __init__(self, players: int, parts: int, plan_room: int = 0) -> None:
        """Make it, all zero but the slots of tasks, which compiled loops use."""
        room = SCENE.SIZE + players * (parts * PLAYER.SIZE + plan_room + LINE) + (parts + 4) * LINE
        self.arena = Arena.inherited(HEADER.SIZE + MAX_CPUS * SLOT_WORDS + room)
        self.tasks: Tasks = tasks_in(self.arena)
        self.scene = self.arena.allocate(SCENE.SIZE)
        self.parts = [Part(self.arena, players) for _ in range(parts)]
        self.plans = [self.arena.allocate(plan_room) for _ in range(players if plan_room else 0)]
        self.players = players
        self.memory = self.arena.memory
        self.address = self.arena.address
        self._gate = entry_point(_pass_gate, 3)

    def pass_gate(self) -> int:
        """Wait for all players; the time at which all begin."""
        return self._gate(self.address, self.scene, self.players)

    def get(self, field: str) -> int:
        """What the scene says."""
        return int(self.memory[self.scene + getattr(SCENE, field)])

    def set(self, field: str, value: int) -> None:
        """Write into the scene."""
        self.memory[self.scene + getattr(SCENE, field)] = value

    def plan(self, player: int, part: Part, arrivals: NDArray[np.int64]) -> None:
        """Say when a player is to ask for the lock, ns from the start of a part."""
        self.arena.view(self.plans[player], len(arrivals))[:] = arrivals
        part.set(player, plan=self.plans[player], planned=len(arrivals))

    def __enter__(self) -> Self:
        """Use as a context manager."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Give the memory back."""
        self.arena.close()
