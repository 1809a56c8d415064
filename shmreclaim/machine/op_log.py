"""A log of operations: for each one of chosen kinds, how long it took and what its CPU counted meanwhile.

What is counted over a whole run says nothing of the first pass and the fifth. A log has room for every operation
of its kinds that the CPU's stream plans; what does not fit any more, those of a longer setup, is not written down.
"""

from __future__ import annotations

from typing import Any

from shmreclaim.machine.arena import Arena
from shmreclaim.machine.atomics import clock_ns, cpu_clock_ns, read_once, write_once
from shmreclaim.machine.compile import compiled, out_of_line
from shmreclaim.machine.cpu import CPU, N_EVENTS
from shmreclaim.machine.layout import Field, record

LOGGED = record(
    "LOGGED",
    Field("op", "one CPU"),
    Field("since", "one CPU; ns on the clock"),
    Field("time", "one CPU; ns"),
    Field("cpu_time", "one CPU; ns that it ran, sleep and preemption left out"),
    Field("events", "one CPU; by event: how much it was counted up", N_EVENTS, line=True),
)


@compiled
def is_logged(mem: Any, cpu: int, op: int) -> int:
    """Whether this CPU logs such operations, and has room."""
    wanted = read_once(mem, cpu + CPU.log_ops) >> op & 1
    return 1 if wanted and read_once(mem, cpu + CPU.log_next) < read_once(mem, cpu + CPU.log_end) else 0


@out_of_line
def log_begin(mem: Any, cpu: int, op: int) -> int:
    """Note that an operation begins."""
    at = read_once(mem, cpu + CPU.log_next)
    write_once(mem, at + LOGGED.op, op)
    for k in range(N_EVENTS):
        write_once(mem, at + LOGGED.events + k, read_once(mem, cpu + CPU.events + k))
    write_once(mem, at + LOGGED.since, clock_ns())
    return write_once(mem, at + LOGGED.cpu_time, cpu_clock_ns())


@out_of_line
def log_end(mem: Any, cpu: int) -> int:
    """Note that the operation noted last is over."""
    at = read_once(mem, cpu + CPU.log_next)
    write_once(mem, at + LOGGED.cpu_time, cpu_clock_ns() - read_once(mem, at + LOGGED.cpu_time))
    write_once(mem, at + LOGGED.time, clock_ns() - read_once(mem, at + LOGGED.since))
    for k in range(N_EVENTS):
        before = read_once(mem, at + LOGGED.events + k)
        write_once(mem, at + LOGGED.events + k, read_once(mem, cpu + CPU.events + k) - before)
    return write_once(mem, cpu + CPU.log_next, at + LOGGED.SIZE)


def give_log(arena: Arena, slot: int, ops: int, count: int) -> None:
    """Let a CPU log operations (a bit each) in room for `count`; before it attaches."""
    at = arena.allocate(count * LOGGED.SIZE)
    for field, value in ((CPU.log_ops, ops), (CPU.log_end, at + count * LOGGED.SIZE)):
        arena.memory[slot + field] = value
    arena.memory[slot + CPU.log_begin] = arena.memory[slot + CPU.log_next] = at


def log_of(arena: Arena, slot: int) -> list[int]:
    """Offsets of what a CPU has logged, in the order in which it was done."""
    begin, end = arena.memory[slot + CPU.log_begin], arena.memory[slot + CPU.log_next]
    return list(range(begin, end, LOGGED.SIZE))


def forget_log(arena: Arena, slot: int) -> None:
    """Empty a CPU's log; by that CPU."""
    arena.memory[slot + CPU.log_next] = arena.memory[slot + CPU.log_begin]
