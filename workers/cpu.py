"""A worker process: plays one CPU. Attach, pin, bind the design, wait for the start, play, leave.

Started by executions/crew.py through a fork server that has loaded all compiled code. A worker dies with its
fork server, and that with the process that started the run.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from shmreclaim import kernel
from shmreclaim.errors import ShmreclaimError
from shmreclaim.machine.arena import Arena
from shmreclaim.machine.atomics import fetch_add
from shmreclaim.machine.compile import compiled, compiled_nogil
from shmreclaim.machine.cpu import CPU, LOCK_CLASSES, LOCKSTAT_WORDS, N_OPS, OP_WORDS, CpuState
from shmreclaim.machine.futex import EVERYBODY, futex_wake
from shmreclaim.machine.histogram import HISTOGRAM
from shmreclaim.machine.layout import HEADER
from shmreclaim.machine.op_log import forget_log
from shmreclaim.machine.process import start_time
from shmreclaim.mm.state import Event, Phase
from shmreclaim.sync.wait_queue import UNINTERRUPTIBLE, wait_while
from shmreclaim.workers.lifeline import follow_parent

KEPT_FROM_SETUP = (Event.OBJECTS_ADDED, Event.OBJECTS_DELETED, Event.OBJECTS_FREED, Event.GROWTHS)
"""What the conservation of objects and the growth of maps must know of the time before the start."""


@dataclass(frozen=True)
class Orders:
    """What one worker is to do; offsets are in words of the segment."""

    segment: str
    slot: int
    design: str
    core: int | None
    setup: tuple[int, int]
    """Offset and length of what it plays before all others start; length 0 for all CPUs but one."""
    stream: tuple[int, int]
    speed: int
    """Thousandths; 0 for closed loop."""
    limit: int | None = None
    """Where given, the stream is played in rounds until so many operations are done; 0: until the run is stopped."""
    mutant: str = ""
    """What this run is to have broken (plugins/mutation.py)."""


@compiled_nogil
def _play(mem: int, cpu: int, ops: int, count: int, speed: int) -> int:
    return kernel.play(mem, cpu, ops, count, speed)


@compiled
def _start_playing(mem: int, cpu: int) -> int:
    return kernel.start_playing(mem, cpu)


@compiled_nogil
def _play_on(mem: int, cpu: int, ops: int, count: int, speed: int) -> int:
    return kernel.play_on(mem, cpu, ops, count, speed)


@compiled_nogil
def _play_rounds_on(mem: int, cpu: int, ops: int, count: int, limit: int) -> int:
    return kernel.play_rounds_on(mem, cpu, ops, count, limit)


@compiled
def _report_ready(mem: int) -> int:
    fetch_add(mem, HEADER.ready, 1)  # P12: pairs with wait_while(), by way of the parent, which then starts all
    return futex_wake(mem, HEADER.ready, EVERYBODY)


@compiled_nogil
def _wait_for_start(mem: int) -> int:
    return wait_while(mem, HEADER.phase, Phase.BOOT, 0, UNINTERRUPTIBLE)


ENTRY_POINTS = (
    (_play, 5), (_start_playing, 2), (_play_on, 5), (_play_rounds_on, 5), (_report_ready, 1), (_wait_for_start, 1),
)  # fmt: skip
"""What this process calls itself, with the number of arguments."""


def run(orders: Orders, errors: Any) -> None:
    """Play one CPU from attach to end; `errors` is the connection that brings errors to the parent."""
    with worker(orders.segment, orders.design, errors, orders.mutant) as arena:
        claim(arena, orders.slot, orders.core)
        get_ready(arena, orders)
        start(arena, orders)
        play_on(arena, orders)


def get_ready(arena: Arena, orders: Orders) -> None:
    """Play the setup, if this is the CPU to do it, and wait for all others."""
    if orders.setup[1]:
        _play(arena.address, orders.slot, *orders.setup, 0)
        _forget_setup(arena, orders.slot)
    wait_for_start(arena)


def start(arena: Arena, orders: Orders) -> None:
    """Begin the stream."""
    _start_playing(arena.address, orders.slot)


def play_on(arena: Arena, orders: Orders) -> None:
    """Play the stream to its end, from where the CPU is."""
    if orders.limit is None:
        _play_on(arena.address, orders.slot, *orders.stream, orders.speed)
    else:
        _play_rounds_on(arena.address, orders.slot, *orders.stream, orders.limit)


def has_started(arena: Arena, slot: int) -> bool:
    """Whether a CPU has begun its stream."""
    return bool(arena.memory[slot + CPU.state] >= CpuState.RUNNING)


def has_ended(arena: Arena, slot: int) -> bool:
    """Whether a CPU has nothing more to do."""
    return bool(arena.memory[slot + CPU.state] == CpuState.DONE)


@contextlib.contextmanager
def worker(segment: str, design: str, errors: Any, mutant: str = "") -> Iterator[Arena]:
    """Make this process a worker of a run: tied to its parent, bound to `design`, broken by `mutant`, attached.

    An error of ours goes to the parent, which raises it as its own; any other ends the worker with a traceback.
    """
    follow_parent()
    try:
        kernel.bind_design(design)
        if mutant:
            kernel.bind_mutant(mutant)
        with Arena.attach(segment) as arena:
            yield arena
    except ShmreclaimError as error:
        errors.send(error)
        sys.exit(error.exit_code)


def wait_for_start(arena: Arena) -> None:
    """Say that this worker is ready, and sleep until all are."""
    _report_ready(arena.address)
    _wait_for_start(arena.address)


def claim(arena: Arena, slot: int, core: int | None) -> None:
    """Write into the slot who plays it, from now on or from its start, and go to the core it is to have."""
    memory = arena.memory
    memory[slot + CPU.pid] = os.getpid()
    memory[slot + CPU.tid] = threading.get_native_id()
    memory[slot + CPU.start_time] = start_time(os.getpid())
    memory[slot + CPU.state] = max(memory[slot + CPU.state], CpuState.ATTACHED)
    if core is not None:
        with contextlib.suppress(OSError):  # taken from us since the run began: then it is not pinned
            os.sched_setaffinity(0, {core})


def _forget_setup(arena: Arena, slot: int) -> None:
    """Zero the figures of the setup, which is not measured."""
    kept = {event: arena.memory[slot + CPU.events + event] for event in KEPT_FROM_SETUP}
    arena.view(slot + CPU.events, len(Event))[:] = 0
    for event, value in kept.items():
        arena.memory[slot + CPU.events + event] = value
    arena.view(slot + CPU.ops, N_OPS * OP_WORDS)[:] = 0
    arena.view(slot + CPU.histograms, (N_OPS - 1) * HISTOGRAM.SIZE)[:] = 0  # all but that of growth
    arena.view(slot + CPU.lockstats, LOCK_CLASSES * 2 * LOCKSTAT_WORDS)[:] = 0
    arena.memory[slot + CPU.ops_done] = 0
    arena.memory[slot + CPU.state] = CpuState.ATTACHED
    forget_log(arena, slot)
