"""Who holds what and who waits for what: read from the segment, without any help of those who hang."""

from __future__ import annotations

import time
from collections.abc import Sequence

from shmreclaim.machine.arena import Arena
from shmreclaim.machine.cpu import CPU, MAX_HELD, CpuState
from shmreclaim.machine.process import is_alive
from shmreclaim.sync.lockdep import LOCK, LockClass
from shmreclaim.workload.ops import Op

MODES = ("read", "write")


def who_holds_and_who_waits(arena: Arena, slots: Sequence[int], names: Sequence[str]) -> list[str]:
    """One line for each slot in use: who it is, its operation, the locks it holds, what it waits for."""
    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    named = zip(slots, names, strict=True)
    return [_line(arena, slot, name, now) for slot, name in named if arena.memory[slot + CPU.state] != CpuState.FREE]


def lock_name(arena: Arena, lock: int) -> str:
    """A lock by its class and place, or a word by its place."""
    if 0 < lock < len(arena.memory) - LOCK.SIZE:
        klass = arena.memory[lock + LOCK.klass]
        if klass in LockClass.__members__.values() and klass != LockClass.NONE:
            return f"{LockClass(klass).name.lower()} at {lock}"
    return f"word {lock}"


def _ms(since: int, now: int) -> str:
    return f"{max(0, now - since) / 1e6:.1f} ms"


def _line(arena: Arena, slot: int, name: str, now: int) -> str:
    memory = arena.memory
    pid, started = memory[slot + CPU.pid], memory[slot + CPU.start_time]
    parts = []
    op = memory[slot + CPU.op]
    if memory[slot + CPU.state] == CpuState.DONE:
        parts.append("is done")
    elif 0 <= op < len(Op):
        parts.append(f"in {Op(op).label} for {_ms(memory[slot + CPU.op_since], now)}")
    parts += [f"holds {held}" for held in _held(arena, slot, now)]
    waited = memory[slot + CPU.wait_for]
    if waited:
        mode = MODES[memory[slot + CPU.wait_mode] & 1]
        parts.append(f"waits for {lock_name(arena, waited)} ({mode}) for {_ms(memory[slot + CPU.wait_since], now)}")
    who = f"{name} (pid {pid}{'' if is_alive(pid, started) else ', dead'})"
    return ", ".join([who, *(parts or ["in no operation"])])


def _held(arena: Arena, slot: int, now: int) -> list[str]:
    depth = min(max(arena.memory[slot + CPU.held_depth], 0), MAX_HELD)
    held = []
    for k in range(depth):
        entry, since = arena.view(slot + CPU.held + 2 * k, 2).tolist()
        held.append(f"{lock_name(arena, entry >> 1)} ({MODES[entry & 1]}) for {_ms(since, now)}")
    return held
