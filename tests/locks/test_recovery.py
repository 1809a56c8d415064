"""Deaths that others sleep through, or meet half way: real processes, each told by pipe what to do next."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from shmreclaim import Mutex, RwLock
from shmreclaim.errors import SetupError
from shmreclaim.locks.arenas import lock_arena, tasks_in
from shmreclaim.machine.cpu import CPU
from shmreclaim.machine.layout import HEADER
from shmreclaim.machine.life import FUTEX_OWNER_DIED
from shmreclaim.machine.tasks import PID_BITS, Tasks
from shmreclaim.sync.lockdep import LOCK
from shmreclaim.sync.mutex import mutex_lock_until
from shmreclaim.sync.robust import look_for_the_dead
from shmreclaim.sync.rwsem import down_read_until, down_write_until
from tests.locks.stepper import Victim, skip_unless_possible
from tests.locks.test_killed_anywhere import SCENARIOS, WAIT, Scenario, Stage
from tests.sync.crew import PATIENCE, until, until_asleep

pytestmark = pytest.mark.stress


class Child:
    """A process that does one thing after the other, each when it is told to."""

    def __init__(self, *steps: Callable[[], object]) -> None:
        """Fork it; it does the first step now, and stays after the last."""
        self._told, tell = os.pipe()
        done, self._done = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            for step in steps:
                step()
                os.write(self._done, b"+")
                os.read(self._told, 1)
            os._exit(0)
        self._tell, self._hear = tell, done

    def tell(self) -> None:
        """Let it do its next step, or end."""
        os.write(self._tell, b"+")

    def did(self) -> None:
        """Wait until it has done a step."""
        os.set_blocking(self._hear, False)

        def heard() -> bool:
            try:
                return os.read(self._hear, 1) == b"+"
            except BlockingIOError:
                return False

        until(heard, f"process {self.pid} to do its step")

    def kill(self) -> None:
        """End it; twice is harmless."""
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = 0
            for end in (self._told, self._done, self._tell, self._hear):
                os.close(end)


Fork = Callable[..., Child]


@pytest.fixture
def fork() -> Iterator[Fork]:
    """Make children that do not outlive the test."""
    children: list[Child] = []

    def make(*steps: Callable[[], object]) -> Child:
        children.append(Child(*steps))
        return children[-1]

    yield make
    for child in children:
        child.kill()


def acting(lock: Any, what: str, way: str) -> Callable[[], Any]:
    """How a lock is acquired or released one way: "mutex", "read" or "write"."""
    action: Callable[[], Any] = getattr(lock, what if way == "mutex" else f"{what}_{way}")
    return action


def a_lock(way: str) -> Any:
    """A lock that can be held that way."""
    return Mutex() if way == "mutex" else RwLock()


WAYS = pytest.mark.parametrize("way", ["mutex", "read", "write"])


# --- who sleeps, and who comes -----------------------------------------------------------------------------


def test_all_who_wait_for_anything_of_a_task_that_dies_get_it(fork: Fork) -> None:
    """Six locks, three ways; the kernel wakes only one of those who sleep."""
    held = [(a_lock(way), way) for way in ("mutex", "read", "write") * 2]
    holder = fork(lambda: [acting(lock, "acquire", way)() for lock, way in held])
    holder.did()
    waiters = []
    for lock, way in held:
        waiters.append(fork(acting(lock, "acquire", "write" if way == "read" else way)))
        until_asleep(waiters[-1].pid)
    holder.kill()
    for waiter in waiters:
        waiter.did()


@pytest.mark.parametrize(
    ("way", "attempt"),
    [
        ("mutex", lambda lock: lock.acquire(False)),
        ("read", lambda lock: lock.acquire_read(False)),
        ("read", lambda lock: lock.try_read()),
        ("write", lambda lock: lock.acquire_write(False)),
        ("write", lambda lock: lock.try_write()),
    ],
    ids=["mutex", "read", "try_read", "write", "try_write"],
)
def test_a_try_gets_what_a_task_held_that_died_while_nobody_looked(
    fork: Fork, way: str, attempt: Callable[[Any], bool]
) -> None:
    """And is told; nobody slept, so nobody announced its end."""
    lock = a_lock(way)
    assert attempt(lock)  # from here on the builtin knows this thread
    acting(lock, "release", way)()
    holder = fork(acting(lock, "acquire", "mutex" if way == "mutex" else "write"))
    holder.did()
    holder.kill()
    assert attempt(lock)
    assert lock.recovered
    acting(lock, "release", way)()  # or this thread would not take the fast path again


def test_a_sleeper_hears_of_the_end_of_a_task_that_came_after_it_fell_asleep(fork: Fork) -> None:
    """A reader joins while a writer sleeps, is the last to hold the lock, and dies."""
    lock = RwLock(policy="prefer_readers")
    first = fork(lock.acquire_read, lock.release_read)
    first.did()
    writer = fork(lock.acquire_write)
    until_asleep(writer.pid)
    late = fork(lock.acquire_read)
    late.did()
    first.tell()
    first.did()
    until_asleep(writer.pid)
    late.kill()
    writer.did()


# --- half way ----------------------------------------------------------------------------------------------


def test_who_sleeps_on_a_wait_lock_takes_it_over_from_a_task_that_dies_with_it() -> None:
    """Both who do; one is woken by the kernel."""
    skip_unless_possible()
    for name in ("mutex waited for", "write waited for"):
        stage = Stage(SCENARIOS[name]._replace(waiters=()))

        def park(victim: Victim, stage: Stage = stage) -> None:
            victim.step_until(lambda: stage.word(LOCK.wait_lock) != 0)
            for _ in range(2):
                stage.waiters.append(fork_to(stage))

        try:
            stage.play(park)
            stage.check()
        finally:
            stage.close()


def fork_to(stage: Stage) -> int:
    """Fork one that takes the lock of a stage and gives it up, and sleeps first; its pid."""
    way = "mutex" if isinstance(stage.lock, Mutex) else "write"
    pid = os.fork()
    if pid == 0:
        stage.act("acquire", way)
        stage.act("release", way)
        os._exit(0)
    until_asleep(pid)
    return pid


WAITS = {"mutex": mutex_lock_until, "read": down_read_until, "write": down_write_until}


@WAYS
@pytest.mark.parametrize("look", [1, 2])
def test_a_holder_may_die_at_any_point_of_a_wait(fork: Fork, way: str, look: int) -> None:
    """Before the waiter first looks or sleeps, and when it looks a second time; another announces the end."""
    skip_unless_possible()
    for steps in while_a_holder_dies(fork, way, look, None):
        while_a_holder_dies(fork, way, look, steps)


def while_a_holder_dies(fork: Fork, way: str, look: int, steps: int | None) -> list[int]:
    """Kill a holder after so many instructions of one that waits, which then goes on; None: give the points."""
    stage = Stage(Scenario(WAITS[way], WAIT))
    holder = fork(lambda: stage.act("acquire", "write" if way == "read" else way))
    holder.did()

    def play(victim: Victim) -> list[int]:
        if look == 2:
            look_again(victim, stage)
        if steps is None:
            return victim.points(stage.image)
        victim.step(steps)
        holder.kill()
        look_for_the_dead(stage.tasks.address)
        victim.go_on()
        return []

    try:
        points: list[int] = stage.play(play)
        holder.kill()
        stage.check()
        return points
    finally:
        stage.close()


def look_again(victim: Victim, stage: Stage) -> None:
    """Bring a waiter to where it goes to sleep, and give it reason to look again: somebody began to live."""
    victim.step_until(lambda: stage.word(LOCK.waiters) != 0 and stage.word(LOCK.wait_lock) == 0)
    stage.tasks.words[HEADER.lives_seq] += 1


# --- slots -------------------------------------------------------------------------------------------------


@pytest.fixture
def full() -> Iterator[Callable[[Tasks], None]]:
    """Fill all free slots of a segment with claims of one that lives; free them in the end."""
    filled: list[tuple[Tasks, int]] = []

    def fill(tasks: Tasks) -> None:
        for slot in tasks.every:
            if tasks.words[slot + CPU.claim] == 0:
                tasks.words[slot + CPU.claim] = os.getpid()
                filled.append((tasks, slot))

    yield fill
    for tasks, slot in filled:
        tasks.words[slot + CPU.claim] = 0


def in_thread(function: Callable[[], Any]) -> Any:
    """What a function gives, or raises, in another thread."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(function())
        except SetupError as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return outcome[0]


def test_a_slot_that_a_living_process_claimed_is_not_taken_before_its_life_begins(
    fork: Fork, full: Callable[[Tasks], None]
) -> None:
    """The dead life in it is its predecessor's. When that process has died too, anybody may take it."""
    with lock_arena() as arena:
        mutex = Mutex(arena)
        tasks = tasks_in(arena)
        holder = fork(mutex.acquire)
        holder.did()
        holder.kill()
        full(tasks)
        slot = next(slot for slot in tasks.every if tasks.words[slot + CPU.life] & FUTEX_OWNER_DIED)
        claimer = fork(lambda: tasks.words.__setitem__(slot + CPU.claim, 1 << PID_BITS | os.getpid()))
        claimer.did()
        assert isinstance(in_thread(tasks.slot), SetupError)
        claimer.kill()
        assert in_thread(tasks.slot) == slot
        assert mutex.acquire(False)
        assert mutex.recovered
        mutex.release()


def test_a_thread_that_ends_leaves_one_segment_in_order_and_dies_with_a_lock_of_another() -> None:
    """What it leaves is taken off the list that the kernel walks, and the rest of that list stays."""
    with lock_arena() as first, lock_arena() as second:
        held, given_up = Mutex(first), Mutex(second)
        assert in_thread(lambda: held.acquire() and given_up.acquire() and given_up.release() is None)
        assert held.acquire(timeout=PATIENCE)
        assert held.recovered
        held.release()
        assert given_up.acquire(False)
        assert not given_up.recovered
        given_up.release()
