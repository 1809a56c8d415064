"""The hang report reads a segment as it finds it."""

import os
import random
import time
from collections.abc import Iterator

import pytest

from shmreclaim.executions.stall import who_holds_and_who_waits
from shmreclaim.machine.arena import Arena
from shmreclaim.machine.cpu import CPU, CpuState, make_cpus
from shmreclaim.machine.layout import HEADER, LINE
from shmreclaim.machine.process import start_time
from shmreclaim.sync.lockdep import LOCK, READ, WRITE, LockClass
from shmreclaim.workload.ops import Op

NAMES = ["CPU 0", "kswapd0"]


@pytest.fixture
def arena() -> Iterator[Arena]:
    """A small one."""
    with Arena.create(HEADER.SIZE + 2 * CPU.SIZE + 8 * LINE) as arena:
        yield arena


def _set(arena: Arena, slot: int, **fields: int) -> None:
    for name, value in fields.items():
        arena.memory[slot + getattr(CPU, name)] = value


def test_a_report_says_who_does_what_holds_what_and_waits_for_what(arena: Arena) -> None:
    """With the class of each lock, the mode, and for how long; a slot that nobody has is left out."""
    slots = make_cpus(arena, 2)
    locks = [arena.allocate(LOCK.SIZE) for _ in range(2)]
    for lock, klass in zip(locks, (LockClass.SHRINKER_RWSEM, LockClass.MAP_MUTEX), strict=True):
        arena.memory[lock + LOCK.klass] = klass
    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    _set(
        arena, slots[0], state=CpuState.RUNNING, pid=os.getpid(), start_time=start_time(os.getpid()), op=Op.REGISTER,
        op_since=now - 3 * 10**9, held_depth=1, wait_for=locks[1], wait_mode=WRITE, wait_since=now - 10**9,
    )  # fmt: skip
    arena.view(slots[0] + CPU.held, 2)[:] = (locks[0] * 2 + READ, now - 2 * 10**9)
    (line,) = who_holds_and_who_waits(arena, slots, NAMES)
    who, what, holds, waits = line.split(", ")
    assert who == f"CPU 0 (pid {os.getpid()})"
    assert what.startswith("in register for 30")
    assert holds.startswith(f"holds shrinker_rwsem at {locks[0]} (read) for 20")
    assert waits.startswith(f"waits for map_mutex at {locks[1]} (write) for 10")


def test_a_dead_cpu_and_an_idle_one_are_told_apart(arena: Arena) -> None:
    """By pid and start time: another process may have the pid by now."""
    slots = make_cpus(arena, 2)
    _set(arena, slots[0], state=CpuState.DONE, pid=os.getpid(), start_time=1)
    _set(arena, slots[1], state=CpuState.ATTACHED, pid=os.getpid(), start_time=start_time(os.getpid()))
    assert who_holds_and_who_waits(arena, slots, NAMES) == [
        f"CPU 0 (pid {os.getpid()}, dead), is done",
        f"kswapd0 (pid {os.getpid()}), in no operation",
    ]


@pytest.mark.parametrize("seed", range(20))
def test_garbage_in_a_slot_is_reported_and_not_followed(arena: Arena, seed: int) -> None:
    """A broken design may have written anything anywhere; the report still comes."""
    garbage = random.Random(seed)
    slots = make_cpus(arena, 2)
    for slot in slots:
        for at in range(slot, slot + CPU.lockstats):
            arena.memory[at] = garbage.choice(
                (0, 1, -1, len(arena.memory) - 1, 1 << 62, -(1 << 63), garbage.getrandbits(12))
            )
        arena.memory[slot + CPU.state] = garbage.choice((1, 2, 3, 77))
    assert len(who_holds_and_who_waits(arena, slots, NAMES)) == 2


def test_a_wait_for_what_is_no_lock_is_told_by_its_place(arena: Arena) -> None:
    """A wait in the middle of nowhere is a finding, too."""
    slots = make_cpus(arena, 2)
    _set(arena, slots[0], state=CpuState.RUNNING, wait_for=1 << 50)
    assert f"waits for word {1 << 50} (read) for" in who_holds_and_who_waits(arena, slots, NAMES)[0]
