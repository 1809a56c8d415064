"""Real processes in one order: each is started when the one before is seen to wait."""

import os
import signal
from collections.abc import Callable
from types import FrameType

import pytest

from shmreclaim.machine.atomics import clock_ns
from shmreclaim.machine.cpu import CPU
from shmreclaim.machine.futex import EINTR, ETIMEDOUT, EVERYBODY
from shmreclaim.sync.completion import complete, complete_all
from shmreclaim.sync.lockdep import LOCK, WRITE, LockClass
from shmreclaim.sync.mutex import mutex_init, mutex_lock, mutex_lock_until, mutex_trylock, mutex_unlock
from shmreclaim.sync.rcu import rcu_read_lock, rcu_read_unlock
from shmreclaim.sync.rwsem import (
    down_read,
    down_read_trylock,
    down_read_until,
    down_write,
    down_write_trylock,
    down_write_until,
    rwsem_init,
    rwsem_is_contended,
    up_read,
    up_write,
)
from shmreclaim.sync.rwsem_queue import WAITERS
from shmreclaim.sync.spinlock import PARKED, spin_lock, spin_unlock
from shmreclaim.sync.wait_queue import INTERRUPTIBLE, UNINTERRUPTIBLE
from tests.sync import programs
from tests.sync.board import bit
from tests.sync.crew import Crew, until, until_asleep

SOON = 20_000_000
"""ns from now to a deadline that a test sits out."""

Until = Callable[..., int]


@pytest.fixture
def sem(crew: Crew) -> int:
    """A free rwsem."""
    return crew.lock(rwsem_init)


@pytest.fixture
def mutex(crew: Crew) -> int:
    """A free mutex."""
    return crew.lock(mutex_init)


@pytest.fixture
def log(crew: Crew) -> int:
    """A count and the numbers of those who signed."""
    return crew.arena.allocate(16)


def signed(crew: Crew, log: int) -> list[int]:
    """Who signed, in order."""
    return [crew.word(log + 1 + k) for k in range(crew.word(log))]


def call_as(crew: Crew, number: int, function: Callable[..., int], *args: int) -> int:
    """Let the test play CPU `number` for one call."""
    return crew.call(function, crew.cpus[number], *args)


def interruptible(crew: Crew, number: int, function: Until, lock: int, state: int) -> int:
    """Start a process that waits for a lock with a signal handler installed; returns its pid."""

    def body(mem: int, cpu: int) -> int:
        heard: list[int] = []

        def hear(number: int, frame: FrameType | None) -> None:
            heard.append(number)

        signal.signal(signal.SIGUSR1, hear)
        outcome = function(mem, cpu, lock, 0, state)
        return outcome if heard else 1

    return crew.start_python(number, body)


def signal_until_gone(crew: Crew, pid: int, number: int) -> None:
    """Send a signal; again if the first came between the look at the word and the sleep."""

    def gone() -> bool:
        os.kill(pid, signal.SIGUSR1)
        return crew.word(crew.cpus[number] + CPU.wait_for) == 0

    until(gone, f"CPU {number} to give up")


# --- first come, first served --------------------------------------------------------------------


@pytest.mark.parametrize("order", [(2, 3, 4), (4, 2, 3)])
def test_writers_get_the_rwsem_first_come_first_served(crew: Crew, sem: int, log: int, order: tuple[int, ...]) -> None:
    """In the order in which they queued, whatever their numbers."""
    call_as(crew, 1, down_write, sem)
    for k, number in enumerate(order, start=1):
        crew.start(number, programs.pass_write, sem, log)
        crew.until_queued(sem, *order[:k])
    call_as(crew, 1, up_write, sem)
    crew.finish()
    assert signed(crew, log) == list(order)
    assert crew.word(sem + LOCK.word) == 0


@pytest.mark.parametrize("order", [(2, 3, 4), (4, 2, 3)])
def test_a_mutex_is_handed_on_first_come_first_served(crew: Crew, mutex: int, log: int, order: tuple[int, ...]) -> None:
    """Nobody barges here: all are queued before the owner lets go."""
    call_as(crew, 1, mutex_lock, mutex)
    for k, number in enumerate(order, start=1):
        crew.start(number, programs.pass_mutex, mutex, log)
        crew.until_queued(mutex, *order[:k])
    call_as(crew, 1, mutex_unlock, mutex)
    crew.finish()
    assert signed(crew, log) == list(order)
    assert crew.word(mutex + LOCK.word) == 0


def test_a_parked_spinlock_wakes_its_sleepers_one_after_the_other(crew: Crew, log: int) -> None:
    """Both get it; the last one leaves it free."""
    lock = crew.lock(mutex_init)
    call_as(crew, 1, spin_lock, lock)
    pids = [crew.start(n, programs.pass_spinlock, lock, log) for n in (2, 3)]
    crew.until_word(lock, 1 | PARKED)
    for pid in pids:
        until_asleep(pid)
    call_as(crew, 1, spin_unlock, lock)
    crew.finish()
    assert sorted(signed(crew, log)) == [2, 3]
    assert crew.word(lock) == 0


def test_queued_readers_are_let_in_together_past_a_writer(crew: Crew, sem: int, log: int) -> None:
    """With a reader first, all readers enter; the writer between them comes after."""
    gate = crew.arena.allocate(1)
    call_as(crew, 1, down_write, sem)
    for k, number in enumerate((2, 3, 4), start=1):
        if number == 3:
            crew.start(number, programs.pass_write, sem, log)
        else:
            crew.start(number, programs.stay_reading, sem, log, gate)
        crew.until_queued(sem, *(2, 3, 4)[:k])
    call_as(crew, 1, up_write, sem)
    crew.until_word(log, 2)
    assert crew.word(sem + LOCK.word) == bit(2) | bit(4) | WAITERS
    crew.call(complete_all, gate)
    crew.finish()
    assert sorted(signed(crew, log)[:2]) == [2, 4]
    assert signed(crew, log)[2:] == [3]


def test_a_queued_writer_keeps_new_readers_out(crew: Crew, sem: int, log: int) -> None:
    """The trylock fails though only a reader holds; a reader that may wait queues behind the writer."""
    gate = crew.arena.allocate(1)
    crew.call(complete_all, gate)
    call_as(crew, 1, down_read, sem)
    assert call_as(crew, 5, down_read_trylock, sem) == 1
    call_as(crew, 5, up_read, sem)
    crew.start(2, programs.pass_write, sem, log)
    crew.until_queued(sem, 2)
    assert crew.call(rwsem_is_contended, sem) == 1
    assert call_as(crew, 5, down_read_trylock, sem) == 0
    assert call_as(crew, 5, down_write_trylock, sem) == 0
    crew.start(3, programs.stay_reading, sem, log, gate)
    crew.until_queued(sem, 2, 3)
    call_as(crew, 1, up_read, sem)
    crew.finish()
    assert signed(crew, log) == [2, 3]
    assert crew.call(rwsem_is_contended, sem) == 0


def test_a_downgrade_lets_waiting_readers_in_at_once(crew: Crew, sem: int, log: int) -> None:
    """While the one who downgraded still reads."""
    gates = crew.arena.allocate(2)
    open_gate = crew.arena.allocate(1)
    crew.call(complete_all, open_gate)
    crew.start(1, programs.downgrade_when, sem, gates)
    until(lambda: crew.word(crew.cpus[1] + CPU.wait_for) == gates, "the writer to wait at the first gate")
    crew.start(2, programs.stay_reading, sem, log, open_gate)
    crew.until_queued(sem, 2)
    crew.call(complete, gates)
    crew.result(2)
    assert crew.word(sem + LOCK.word) == bit(1)
    crew.call(complete, gates + 1)
    crew.finish()
    assert crew.word(sem + LOCK.word) == 0


# --- handoff -------------------------------------------------------------------------------------


def test_a_writer_that_waited_is_not_passed_for_ever(crew: Crew, sem: int, log: int) -> None:
    """A writer that barges without end loses to the handoff after 4 ms."""
    call_as(crew, 1, down_write, sem)
    crew.start(2, programs.pass_write, sem, log)
    crew.until_queued(sem, 2)
    crew.start(3, programs.barge_until, sem, log, 1 << 40)
    call_as(crew, 1, up_write, sem)
    crew.finish()
    assert signed(crew, log) == [2]


def test_a_mutex_waiter_is_not_passed_for_ever(crew: Crew, mutex: int, log: int) -> None:
    """Once woken in vain it is promised the mutex."""
    call_as(crew, 1, mutex_lock, mutex)
    crew.start(2, programs.pass_mutex, mutex, log)
    crew.until_queued(mutex, 2)
    crew.start(3, programs.barge_mutex_until, mutex, log, 1 << 40)
    call_as(crew, 1, mutex_unlock, mutex)
    crew.finish()
    assert signed(crew, log) == [2]


# --- waits with an end -----------------------------------------------------------------------------


@pytest.mark.parametrize("until_deadline", [down_read_until, down_write_until])
def test_a_timed_wait_for_an_rwsem_ends_at_its_deadline(crew: Crew, sem: int, until_deadline: Until) -> None:
    """Not before, and nothing of it is left in the word or the queue."""
    call_as(crew, 1, down_write, sem)
    held = crew.word(sem + LOCK.word)
    deadline = clock_ns() + SOON
    crew.start(2, until_deadline, sem, deadline, UNINTERRUPTIBLE)
    assert crew.result(2) == -ETIMEDOUT
    assert clock_ns() >= deadline
    assert (crew.word(sem + LOCK.word), crew.queue(sem)) == (held, [])
    call_as(crew, 1, up_write, sem)
    assert crew.word(sem + LOCK.word) == 0


def test_a_timed_wait_for_a_mutex_ends_at_its_deadline(crew: Crew, mutex: int) -> None:
    """Not before, and nothing of it is left in the word or the queue."""
    call_as(crew, 1, mutex_lock, mutex)
    deadline = clock_ns() + SOON
    crew.start(2, mutex_lock_until, mutex, deadline, UNINTERRUPTIBLE)
    assert crew.result(2) == -ETIMEDOUT
    assert clock_ns() >= deadline
    assert (crew.word(mutex + LOCK.word), crew.queue(mutex)) == (1, [])
    call_as(crew, 1, mutex_unlock, mutex)
    assert call_as(crew, 3, mutex_trylock, mutex) == 1


def test_readers_behind_a_writer_that_gives_up_get_in_though_nobody_leaves(crew: Crew, sem: int, log: int) -> None:
    """It alone kept them out: its leaving must wake them."""
    gate = crew.arena.allocate(1)
    crew.call(complete_all, gate)
    call_as(crew, 1, down_read, sem)
    pid = interruptible(crew, 2, down_write_until, sem, INTERRUPTIBLE)
    crew.until_queued(sem, 2)
    crew.start(3, programs.stay_reading, sem, log, gate)
    crew.until_queued(sem, 2, 3)
    signal_until_gone(crew, pid, 2)
    assert crew.result(2) == -EINTR
    assert crew.result(3) == 0
    assert crew.word(sem + LOCK.word) == bit(1)


def test_a_writer_behind_one_that_gives_up_is_next(crew: Crew, sem: int, log: int) -> None:
    """It gets the sem when the holder leaves."""
    call_as(crew, 1, down_write, sem)
    pid = interruptible(crew, 2, down_write_until, sem, INTERRUPTIBLE)
    crew.until_queued(sem, 2)
    crew.start(3, programs.pass_write, sem, log)
    crew.until_queued(sem, 2, 3)
    signal_until_gone(crew, pid, 2)
    assert crew.result(2) == -EINTR
    crew.until_queued(sem, 3)
    call_as(crew, 1, up_write, sem)
    crew.finish()
    assert crew.word(sem + LOCK.word) == 0


def test_a_mutex_waiter_behind_one_that_gives_up_is_next(crew: Crew, mutex: int, log: int) -> None:
    """Its wake-up does not go to the one that left."""
    call_as(crew, 1, mutex_lock, mutex)
    pid = interruptible(crew, 2, mutex_lock_until, mutex, INTERRUPTIBLE)
    crew.until_queued(mutex, 2)
    crew.start(3, programs.pass_mutex, mutex, log)
    crew.until_queued(mutex, 2, 3)
    signal_until_gone(crew, pid, 2)
    assert crew.result(2) == -EINTR
    call_as(crew, 1, mutex_unlock, mutex)
    crew.finish()
    assert crew.word(mutex + LOCK.word) == 0


# --- signals ---------------------------------------------------------------------------------------


LOCKS = pytest.mark.parametrize(
    ("init", "take", "give", "wait"),
    [
        (mutex_init, mutex_lock, mutex_unlock, mutex_lock_until),
        (rwsem_init, down_write, up_write, down_read_until),
        (rwsem_init, down_read, up_read, down_write_until),
    ],
    ids=["mutex", "rwsem, reader waits", "rwsem, writer waits"],
)


@LOCKS
def test_a_signal_ends_an_interruptible_wait(crew: Crew, init: Until, take: Until, give: Until, wait: Until) -> None:
    """-EINTR, and the lock is as if nobody had waited."""
    lock = crew.lock(init)
    call_as(crew, 1, take, lock)
    held = crew.word(lock + LOCK.word)
    pid = interruptible(crew, 2, wait, lock, INTERRUPTIBLE)
    crew.until_queued(lock, 2)
    until_asleep(pid)
    signal_until_gone(crew, pid, 2)
    assert crew.result(2) == -EINTR
    assert (crew.word(lock + LOCK.word), crew.queue(lock)) == (held, [])
    call_as(crew, 1, give, lock)
    assert crew.word(lock + LOCK.word) == 0


@LOCKS
def test_a_signal_does_not_end_an_uninterruptible_wait(
    crew: Crew, init: Until, take: Until, give: Until, wait: Until
) -> None:
    """The waiter goes back to sleep and gets the lock in its turn."""
    lock = crew.lock(init)
    call_as(crew, 1, take, lock)
    pid = interruptible(crew, 2, wait, lock, UNINTERRUPTIBLE)
    crew.until_queued(lock, 2)
    until_asleep(pid)
    for _ in range(5):
        os.kill(pid, signal.SIGUSR1)
        until_asleep(pid)
    assert crew.queue(lock) == [2]
    call_as(crew, 1, give, lock)
    assert crew.result(2) == 0


# --- completions, grace periods, futexes -----------------------------------------------------------


def test_two_processes_bounce_a_completion(crew: Crew) -> None:
    """Every wake-up arrives: 2000 rounds end."""
    here, there = crew.arena.allocate(1), crew.arena.allocate(1)
    crew.start(1, programs.bounce, here, there, 2000)
    crew.start(2, programs.bounce, there, here, 2000)
    crew.call(complete, here)
    assert crew.finish() == {1: 0, 2: 0}
    assert (crew.word(here), crew.word(there)) == (1, 0)


def test_each_completion_lets_one_of_two_waiters_go_on(crew: Crew, log: int) -> None:
    """The other one waits for the next."""
    word = crew.arena.allocate(1)
    for number in (1, 2):
        crew.start(number, programs.wait_and_sign, word, log)
        crew.until_asleep_on(number, word)
    crew.call(complete, word)
    crew.until_word(log, 1)
    assert crew.word(word) == 0
    crew.call(complete, word)
    assert crew.finish() == {1: 0, 2: 0}
    assert (crew.word(word), sorted(signed(crew, log))) == (0, [1, 2])


def test_synchronize_rcu_waits_for_the_reader_inside_and_not_for_a_later_one(crew: Crew) -> None:
    """The later one is still inside when it returns."""
    done = crew.arena.allocate(1)
    call_as(crew, 2, rcu_read_lock)
    crew.start(1, programs.await_grace_period, done)
    until(lambda: crew.word(crew.cpus[1] + CPU.wait_for) == crew.cpus[2] + CPU.rcu, "the updater to wait for CPU 2")
    call_as(crew, 3, rcu_read_lock)
    assert crew.word(done) == 0
    call_as(crew, 2, rcu_read_unlock)
    assert crew.result(1) == 0
    assert crew.word(crew.cpus[3] + CPU.rcu) != 0


def test_synchronize_rcu_waits_for_readers_one_after_the_other(crew: Crew) -> None:
    """Whichever leaves first."""
    done = crew.arena.allocate(1)
    for reader in (2, 3):
        call_as(crew, reader, rcu_read_lock)
    crew.start(1, programs.await_grace_period, done)
    waits_for = crew.cpus[1] + CPU.wait_for
    crew.until_word(waits_for, crew.cpus[2] + CPU.rcu)
    call_as(crew, 2, rcu_read_unlock)
    crew.until_word(waits_for, crew.cpus[3] + CPU.rcu)
    assert crew.word(done) == 0
    call_as(crew, 3, rcu_read_unlock)
    assert crew.result(1) == 0


def test_two_grace_periods_that_sleep_for_one_reader_both_wake(crew: Crew) -> None:
    """The reader wakes everybody."""
    done = crew.arena.allocate(1)
    call_as(crew, 3, rcu_read_lock)
    for updater in (1, 2):
        crew.start(updater, programs.await_grace_period, done)
        crew.until_asleep_on(updater, crew.cpus[3] + CPU.rcu)
    call_as(crew, 3, rcu_read_unlock)
    assert crew.finish() == {1: 0, 2: 0}


@pytest.mark.parametrize(("sleepers", "count", "woken"), [(1, 1, 1), (2, 1, 1), (2, EVERYBODY, 2), (0, 5, 0)])
def test_a_futex_wake_tells_how_many_it_woke(crew: Crew, sleepers: int, count: int, woken: int) -> None:
    """Between processes: the sleepers are others."""
    word = crew.arena.allocate(1)
    for number in range(1, sleepers + 1):
        crew.start(number, programs.sleep_on, word, 0, 0)
        crew.until_asleep_on(number, word)
    assert crew.call(programs.wake, word, count) == woken
    crew.call(programs.wake, word, EVERYBODY)
    assert set(crew.finish().values()) <= {0}


def test_contentions_and_wait_times_are_counted(crew: Crew, log: int) -> None:
    """A watched lock that was waited for says so, in the waiter's own figures."""
    sem = crew.lock(rwsem_init, LockClass.SHRINKER_RWSEM)
    call_as(crew, 1, down_write, sem)
    crew.start(2, programs.pass_write, sem, log)
    crew.until_queued(sem, 2)
    call_as(crew, 1, up_write, sem)
    crew.finish()
    stats = crew.cpus[2] + CPU.lockstats + (LockClass.SHRINKER_RWSEM * 2 + WRITE) * 9
    acquisitions, contentions, failed, least, greatest, total = (crew.word(stats + k) for k in range(6))
    assert (acquisitions, contentions, failed) == (1, 1, 0)
    assert 0 < least == greatest == total
