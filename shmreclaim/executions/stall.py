"""Who holds what and who waits for what: read from the segment, without any help of those who hang."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from shmreclaim.errors import Inconclusive
from shmreclaim.machine.cpu import CPU, MAX_HELD, CpuState
from shmreclaim.machine.process import is_alive
from shmreclaim.sync.lockdep import LOCK, LockClass
from shmreclaim.workload.ops import Op

MODES = ("read", "write")


class Readable(Protocol):
    """Words by their place."""

    def __getitem__(self, at: int, /) -> int:
        """The word at `at`; raises IndexError outside."""

    def __len__(self) -> int:
        """How many there are."""


class Words(Protocol):
    """A segment to be read: an Arena, or a Snapshot of one."""

    @property
    def memory(self) -> Readable:
        """Its words."""

    def view(self, at: int, words: int) -> NDArray[np.int64]:
        """See `words` of them from offset `at`; raises IndexError outside."""


@dataclass(frozen=True)
class Lock:
    """A lock that somebody holds or waits for: its name, the mode, and for how long, in ns."""

    name: str
    mode: str
    ns: int

    def __str__(self) -> str:
        """Read as a report does."""
        return f"{self.name} ({self.mode}) for {self.ns / 1e6:.1f} ms"


@dataclass(frozen=True)
class Standing:
    """One CPU at one moment."""

    who: str
    """Its name, with the pid and whether that is dead."""
    done: bool
    op: str
    """The operation it is in, empty for none."""
    op_ns: int
    holds: tuple[Lock, ...]
    waits: Lock | None

    def __str__(self) -> str:
        """Say all of it in one line."""
        parts = []
        if self.done:
            parts.append("is done")
        elif self.op:
            parts.append(f"in {self.op} for {self.op_ns / 1e6:.1f} ms")
        parts += [f"holds {lock}" for lock in self.holds]
        if self.waits:
            parts.append(f"waits for {self.waits}")
        return ", ".join([self.who, *(parts or ["in no operation"])])


class Hung(Inconclusive):
    """A run did not end in time; `standings`: who held and waited for what, `violations`: what broke till then."""

    standings: tuple[Standing, ...] = ()
    violations: tuple[str, ...] = ()


def who_holds_and_who_waits(arena: Words, slots: Sequence[int], names: Sequence[str]) -> list[str]:
    """One line for each slot in use: who it is, its operation, the locks it holds, what it waits for."""
    return [str(standing) for standing in standings(arena, slots, names)]


def standings(arena: Words, slots: Sequence[int], names: Sequence[str]) -> list[Standing]:
    """Where each CPU stands, of the slots in use."""
    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    named = zip(slots, names, strict=True)
    return [
        _standing(arena, slot, name, now) for slot, name in named if arena.memory[slot + CPU.state] != CpuState.FREE
    ]


def lock_name(arena: Words, lock: int) -> str:
    """A lock by its class and place, or a word by its place."""
    if 0 < lock < len(arena.memory) - LOCK.SIZE:
        klass = arena.memory[lock + LOCK.klass]
        if klass in LockClass.__members__.values() and klass != LockClass.NONE:
            return f"{LockClass(klass).name.lower()} at {lock}"
    return f"word {lock}"


def _standing(arena: Words, slot: int, name: str, now: int) -> Standing:
    memory = arena.memory
    pid, started = memory[slot + CPU.pid], memory[slot + CPU.start_time]
    op, waited = memory[slot + CPU.op], memory[slot + CPU.wait_for]
    since, mode = memory[slot + CPU.wait_since], MODES[memory[slot + CPU.wait_mode] & 1]
    return Standing(
        who=f"{name} (pid {pid}{'' if is_alive(pid, started) else ', dead'})",
        done=memory[slot + CPU.state] == CpuState.DONE,
        op=Op(op).label if 0 <= op < len(Op) else "",
        op_ns=max(0, now - memory[slot + CPU.op_since]),
        holds=_held(arena, slot, now),
        waits=Lock(lock_name(arena, waited), mode, max(0, now - since)) if waited else None,
    )


def notes(arena: Words, slot: int) -> list[tuple[int, int, int]]:
    """What a CPU noted that it holds: lock, mode, since. Nothing rests on these notes; a lock's word is the truth."""
    depth = min(max(arena.memory[slot + CPU.held_depth], 0), MAX_HELD)
    pairs = [arena.view(slot + CPU.held + 2 * k, 2).tolist() for k in range(depth)]
    return [(entry >> 1, entry & 1, since) for entry, since in pairs]


def _held(arena: Words, slot: int, now: int) -> tuple[Lock, ...]:
    return tuple(
        Lock(lock_name(arena, lock), MODES[mode], max(0, now - since)) for lock, mode, since in notes(arena, slot)
    )
