"""Closed loop, planned times, and a run that is stopped before its end."""

import time

import pytest

from shmreclaim.errors import Inconclusive, UsageError
from shmreclaim.executions.native import RunSettings
from shmreclaim.workload import Op
from tests.executions.workloads import TRACE, by_hand, idle, load, play

MS = 1_000_000
LOADED_MACHINE_S = 1.5
"""What starts late on a machine with other work; never early."""


@pytest.mark.stress
@pytest.mark.parametrize("speed", [10, 40])
def test_at_a_speed_a_run_takes_what_was_planned_divided_by_it(speed: float) -> None:
    """Not less, and not much more: the designs are faster than the recording."""
    workload = load(TRACE, 2)
    planned_s = max(int(stream["when"].max()) for stream in workload.streams) / 1e9 / speed
    assert planned_s * 0.99 < play(workload, settings=RunSettings(speed=speed)).wall_s < planned_s + LOADED_MACHINE_S


def test_with_planned_times_a_late_start_is_latency() -> None:
    """What could not start for 40 ms because the CPU was busy took 40 ms; in closed loop it took what it took."""
    late = (10 * MS, Op.DROP_CACHES, 0, 0, 0, 0, 0)
    workload = by_hand([idle(50 * MS), late])
    assert play(workload, settings=RunSettings(speed=1)).ops["drop_caches"].latency.max >= 39 * MS
    assert play(workload).ops["drop_caches"].latency.max < 39 * MS


def test_seconds_end_a_run_in_order() -> None:
    """It ends about then, with less than was planned, and is whole: nothing broken, every object accounted for."""
    workload = load(TRACE, 2)
    record = play(workload, settings=RunSettings(speed=1, seconds=0.4))
    assert 0.3 < record.wall_s < 0.4 + LOADED_MACHINE_S
    assert 0 < sum(worker.ops for worker in record.workers) < sum(workload.planned().values())
    assert record.invariants.violations == []
    objects = record.objects
    assert objects.added == objects.deleted + objects.freed + objects.remaining


def test_seconds_wake_a_cpu_that_sleeps() -> None:
    """A planned start far away does not keep a run that is over."""
    began = time.monotonic()
    record = play(by_hand([idle(1), idle(1, when=3600 * 1000 * MS)]), settings=RunSettings(speed=1, seconds=0.2))
    assert time.monotonic() - began < 10
    assert record.workers[0].ops < 2 or record.wall_s < 10


def test_the_time_that_was_planned_does_not_count_as_hanging() -> None:
    """A timeout shorter than the planned length is no reason to end a run that keeps to its times."""
    record = play(by_hand([idle(1), idle(1, when=600 * MS)]), settings=RunSettings(speed=1, timeout=0.3))
    assert record.wall_s >= 0.6


def test_the_timeout_holds_for_the_setup_too() -> None:
    """Else a design that hangs while it is prepared would hang for minutes."""
    workload = by_hand([idle(1)], setup=[idle(60_000 * MS)])
    began = time.monotonic()
    with pytest.raises(Inconclusive, match=r"setup was not played within 0\.5 s:\nCPU 0 \(pid \d+\), in idle for"):
        play(workload, settings=RunSettings(timeout=0.5))
    assert time.monotonic() - began < 15


@pytest.mark.parametrize("speed", [0.0004, 1e300])
def test_a_speed_that_workers_cannot_keep_is_refused(speed: float) -> None:
    """Rounded, the first would be closed loop, and the second is no word."""
    with pytest.raises(UsageError, match=r"--speed \S+ is out of range\nGive a number from 0.001 to 1e\+09"):
        RunSettings(speed=speed)


def test_the_setup_is_played_and_not_counted() -> None:
    """Its objects are there, its operations are in no figure."""
    setup = [
        (0, Op.MEMCG_ONLINE, 1, 0, 0, 0, 0),
        (0, Op.REGISTER, 0, 0, 0, 0, 1),
        (0, Op.LRU_ADD, 1, 0, 0, 30, 0),
    ]
    record = play(by_hand([(0, Op.LRU_DEL, 1, 0, 0, 10, 0)], [idle(1)], setup=setup))
    assert set(record.ops) == {"lru_del", "idle"}
    assert (record.objects.added, record.objects.deleted, record.objects.remaining) == (30, 10, 20)
    assert "cgroup_mutex" not in record.locks
    assert record.invariants.violations == []
