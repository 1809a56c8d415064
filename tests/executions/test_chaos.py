"""What is done to workers: here to processes that sleep, looked at from outside."""

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shmreclaim.executions.chaos import Chaos, ChaosPlan
from shmreclaim.machine.process import cores
from tests.executions.command import await_true

pytestmark = pytest.mark.stress
STOPPED = "T"


@pytest.fixture
def sleepers() -> Iterator[list[int]]:
    """Pids of three processes."""
    processes = [subprocess.Popen(["sleep", "60"]) for _ in range(3)]
    yield [process.pid for process in processes]
    for process in processes:
        process.kill()
        process.wait()


def state(pid: int) -> str:
    """As /proc has it."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def stepped(chaos: Chaos, until: int) -> None:
    """Step until so many were stopped."""
    deadline = time.monotonic() + 60
    while chaos.done().stops < until:
        assert time.monotonic() < deadline
        chaos.step()
        time.sleep(0.001)


def test_a_stopped_worker_goes_on_when_its_time_is_over(sleepers: list[int]) -> None:
    """By the same steps that stop others."""
    chaos = Chaos(ChaosPlan(stop=True, seed=2), lambda: sleepers[:1])
    stepped(chaos, 1)
    await_true(lambda: state(sleepers[0]) == STOPPED, "it to be stopped")

    def goes_on() -> bool:
        chaos.step()
        return state(sleepers[0]) != STOPPED

    await_true(goes_on, "it to go on")


def test_nobody_is_stopped_after_settling(sleepers: list[int]) -> None:
    """However many were."""
    chaos = Chaos(ChaosPlan(stop=True, seed=2), lambda: sleepers)
    for stops in (1, 2, 3):
        stepped(chaos, stops)
        chaos.settle()
        await_true(lambda: all(state(pid) != STOPPED for pid in sleepers), "all to go on")


def test_workers_are_moved_to_one_core(sleepers: list[int]) -> None:
    """One of those that there are."""
    chaos = Chaos(ChaosPlan(shuffle=True), lambda: sleepers[:1])
    with contextlib.suppress(OSError):
        os.sched_setaffinity(sleepers[0], set(cores()))

    def moved() -> bool:
        chaos.step()
        return len(os.sched_getaffinity(sleepers[0])) == 1

    await_true(moved, "it to be moved") if len(cores()) > 1 else pytest.skip("there is one core")
    assert os.sched_getaffinity(sleepers[0]) <= set(cores())
    assert chaos.done().stops == 0


def test_who_has_ended_meanwhile_is_passed_over(sleepers: list[int]) -> None:
    """And so is a run that has nobody left."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    chaos = Chaos(ChaosPlan(stop=True, shuffle=True), lambda: [gone.pid])
    deadline = time.monotonic() + 0.5
    while time.monotonic() < deadline:
        chaos.step()
        time.sleep(0.001)
    chaos.settle()
    assert chaos.done().stops == 0
    Chaos(ChaosPlan(stop=True, shuffle=True), list).step()


def test_without_a_plan_nothing_is_done(sleepers: list[int]) -> None:
    """Whatever the time."""
    chaos = Chaos(ChaosPlan(), lambda: sleepers)
    assert not any(chaos.step() for _ in range(100))
    assert (chaos.done().stops, chaos.done().kills) == (0, 0)
