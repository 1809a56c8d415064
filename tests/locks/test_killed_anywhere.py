"""A task is killed at any instruction of what it does with a lock; all others get what they wait for.

The victim is a real process, stepped by ptrace and killed after so many instructions. Each scenario is what others do
meanwhile: they hold the lock, or sleep in its queue. Afterwards nothing of the victim may be left: everybody gets in
and out, and the lock is free, with an empty queue.

Tried are the points at which the victim would leave something else behind: after each change of what is shared, before
and after each system call. All instructions are tried with `-m slow`.
"""

import ctypes
import os
import signal
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from shmreclaim import Mutex, RwLock
from shmreclaim.locks import lock_arena
from shmreclaim.machine.compile import c_address
from shmreclaim.sync.lockdep import LOCK
from shmreclaim.sync.mutex import mutex_lock_until, mutex_unlock
from shmreclaim.sync.rwsem import down_read_until, down_write_until, downgrade_write, up_read, up_write
from shmreclaim.sync.wait_queue import UNINTERRUPTIBLE
from tests.locks.stepper import Victim, skip_unless_possible
from tests.sync.crew import PATIENCE, until, until_asleep

pytestmark = pytest.mark.stress

PAST = 1


class Scenario(NamedTuple):
    """What the victim does, and what others do: "mutex", "read" and "write" name ways to hold the lock."""

    function: Callable[..., int]
    more: tuple[int, ...] = ()
    """What the function takes after the segment, the slot and the lock."""
    victim_holds: str = ""
    test_holds: str = ""
    waiters: tuple[str, ...] = ()
    """Who sleeps in the queue, in this order, before the victim begins."""


WAIT, GIVE_UP = (0, UNINTERRUPTIBLE), (PAST, UNINTERRUPTIBLE)
SCENARIOS = {
    "mutex taken": Scenario(mutex_lock_until, WAIT),
    "mutex waited for": Scenario(mutex_lock_until, WAIT, test_holds="mutex", waiters=("mutex",)),
    "mutex given up waiting for": Scenario(mutex_lock_until, GIVE_UP, test_holds="mutex", waiters=("mutex",)),
    "mutex passed on": Scenario(mutex_unlock, victim_holds="mutex", waiters=("mutex", "mutex")),
    "read share taken": Scenario(down_read_until, WAIT),
    "read share waited for": Scenario(down_read_until, WAIT, test_holds="write", waiters=("write",)),
    "read share given up waiting for": Scenario(down_read_until, GIVE_UP, test_holds="write", waiters=("read",)),
    "last read share given to a writer": Scenario(up_read, victim_holds="read", waiters=("write", "read")),
    "write waited for": Scenario(down_write_until, WAIT, test_holds="read", waiters=("write", "read")),
    "first writer gives up": Scenario(down_write_until, GIVE_UP, test_holds="read"),
    "write given to readers": Scenario(up_write, victim_holds="write", waiters=("read", "read", "write")),
    "write given to a writer": Scenario(up_write, victim_holds="write", waiters=("write", "read")),
    "write turned into a share": Scenario(downgrade_write, victim_holds="write", waiters=("read", "write")),
}


class Stage:
    """One lock, and the processes that wait for it."""

    def __init__(self, scenario: Scenario) -> None:
        """Make the lock; the test and the waiters take their places."""
        self.scenario = scenario
        mutex = scenario.function in (mutex_lock_until, mutex_unlock)
        self.arena = lock_arena()  # of its own, so that the victim does the same each time
        self.lock: Any = Mutex(self.arena) if mutex else RwLock(self.arena)
        side = self.lock._side if mutex else self.lock._read
        self.tasks, self.at = side.tasks, side.at
        self.address = c_address(scenario.function, 3 + len(scenario.more))
        if scenario.test_holds:
            self.act("acquire", scenario.test_holds)
        self.victim: Victim | None = None
        self.waiters: list[int] = []

    def act(self, what: str, way: str, *arguments: Any) -> Any:
        """Acquire or release the lock one way."""
        return getattr(self.lock, what if way == "mutex" else f"{what}_{way}")(*arguments)

    def word(self, offset: int) -> int:
        """A word of the lock."""
        return int(self.tasks.words[self.at + offset])

    def _prepare(self) -> Callable[[], object]:
        """In the victim: hold what it is to hold, be known to the segment, and give the call."""
        slot = self.tasks.slot()
        if self.scenario.victim_holds:
            self.act("acquire", self.scenario.victim_holds)
        arguments = (self.tasks.address, slot, self.at, *self.scenario.more)
        function = ctypes.CFUNCTYPE(ctypes.c_int64, *(ctypes.c_int64,) * len(arguments))(self.address)
        return lambda: function(*arguments)

    def image(self) -> bytes:
        """All that is shared."""
        return bytes(self.arena.memory)

    def play(self, run: Callable[[Victim], Any]) -> Any:
        """Let the victim run and kill it; what `run` gives."""
        if not self.scenario.victim_holds:
            self._queue(self.scenario.waiters)
        self.victim = Victim(self._prepare, self.address)
        if self.scenario.victim_holds:
            self._queue(self.scenario.waiters)
        outcome = run(self.victim)
        self.victim.kill()
        self.victim = None
        return outcome

    def _queue(self, waiters: tuple[str, ...]) -> None:
        """Let others wait, one after the other; each takes the lock and gives it up."""
        for way in waiters:
            pid = os.fork()
            if pid == 0:
                self.act("acquire", way)
                self.act("release", way)
                os._exit(0)
            self.waiters.append(pid)
            until(lambda: self.word(LOCK.waiters).bit_count() == len(self.waiters), "a waiter to queue")
            until_asleep(pid)

    def check(self) -> None:
        """Everybody gets in and out, and nothing is left."""
        if self.scenario.test_holds:
            self.act("release", self.scenario.test_holds)
        self._see_waiters_off()
        way = "mutex" if isinstance(self.lock, Mutex) else "write"
        assert self.act("acquire", way, True, PATIENCE), "the lock is never free"
        self._queue((way,))
        self.act("release", way)
        self._see_waiters_off()
        assert (self.word(LOCK.word), self.word(LOCK.waiters), self.word(LOCK.wait_lock)) == (0, 0, 0)

    def _see_waiters_off(self) -> None:
        while self.waiters:
            assert _exit_status(self.waiters[0]) == 0
            del self.waiters[0]

    def close(self) -> None:
        """Leave no process, whatever happened."""
        if self.victim is not None:
            self.victim.kill()
        for pid in self.waiters:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        self.arena.close()


def _exit_status(pid: int) -> int:
    """How a child ends; one that does not is a hang."""
    statuses: list[int] = []

    def ended() -> bool:
        done, status = os.waitpid(pid, os.WNOHANG)
        statuses.extend([status] if done else [])
        return bool(done)

    until(ended, f"process {pid} to get the lock", PATIENCE)
    return statuses[0]


@pytest.fixture(params=SCENARIOS)
def scenario(request: pytest.FixtureRequest) -> Scenario:
    """What the victim is about."""
    skip_unless_possible()
    return SCENARIOS[request.param]


def killed(scenario: Scenario, run: Callable[[Stage, Victim], Any]) -> Any:
    """Play a scenario with the victim killed where `run` leaves it; what that gives."""
    stage = Stage(scenario)
    try:
        outcome = stage.play(lambda victim: run(stage, victim))
        stage.check()
        return outcome
    finally:
        stage.close()


def points_of(scenario: Scenario) -> list[int]:
    """After how many instructions a death would be another than before."""
    points: list[int] = killed(scenario, lambda stage, victim: victim.points(stage.image))
    return points


def test_a_death_at_any_point_keeps_nobody_waiting(scenario: Scenario) -> None:
    """From the first instruction to the last, or to where the victim falls asleep."""
    for steps in points_of(scenario):
        killed(scenario, lambda _, victim, steps=steps: victim.step(steps))


@pytest.mark.slow
def test_a_death_at_any_instruction_keeps_nobody_waiting(scenario: Scenario) -> None:
    """All of them."""
    for steps in range(points_of(scenario)[-1]):
        killed(scenario, lambda _, victim, steps=steps: victim.step(steps))
