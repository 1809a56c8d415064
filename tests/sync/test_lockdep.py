"""What a watched lock notes: who holds what, in which order, how often and how long; plain and compiled."""

import pytest

from shmreclaim.machine.cpu import CPU, MAX_HELD, Violation
from shmreclaim.sync.lockdep import LOCK, READ, WRITE, LockClass, lock_is_held
from shmreclaim.sync.mutex import mutex_init, mutex_lock, mutex_lock_until, mutex_trylock, mutex_unlock
from shmreclaim.sync.rwsem import (
    down_read,
    down_read_trylock,
    down_write,
    downgrade_write,
    rwsem_init,
    up_read,
    up_write,
)
from shmreclaim.sync.rwsem_queue import WRITER
from shmreclaim.sync.wait_queue import UNINTERRUPTIBLE
from tests.sync.board import Board

SEM = LockClass.SHRINKER_RWSEM
MUTEX = LockClass.MAP_MUTEX


@pytest.fixture
def sem(board: Board) -> int:
    """A watched rwsem."""
    board.call(rwsem_init, board.lock, SEM)
    return board.lock


@pytest.fixture
def mutex(board: Board) -> int:
    """A watched mutex, inside of the rwsem in the lock order."""
    board.call(mutex_init, board.spare, MUTEX)
    return board.spare


def test_a_lock_without_a_class_is_not_watched(board: Board) -> None:
    """Nothing is noted, nothing counted."""
    board.play(1, down_read)
    assert board.field(1, CPU.held_depth) == 0
    assert set(board.stat(1, 0, READ).values()) == {0}


def test_a_watched_lock_is_noted_from_taking_to_giving_up(board: Board, sem: int) -> None:
    """With its mode; a downgrade turns the note."""
    board.call(down_write, board.cpus[1], sem)
    assert board.call(lock_is_held, board.cpus[1], sem, WRITE) == 1
    board.call(downgrade_write, board.cpus[1], sem)
    assert board.call(lock_is_held, board.cpus[1], sem, WRITE) == 0
    assert board.call(lock_is_held, board.cpus[1], sem, READ) == 1
    board.call(up_read, board.cpus[1], sem)
    assert board.call(lock_is_held, board.cpus[1], sem, READ) == 0
    assert board.field(1, CPU.held_depth) == 0


def test_locks_given_up_out_of_order_are_forgotten_one_by_one(board: Board, sem: int, mutex: int) -> None:
    """The other one stays noted."""
    cpu = board.cpus[1]
    board.call(down_read, cpu, sem)
    board.call(mutex_lock, cpu, mutex)
    board.call(up_read, cpu, sem)
    assert board.call(lock_is_held, cpu, sem, READ) == 0
    assert board.call(lock_is_held, cpu, mutex, WRITE) == 1
    board.call(mutex_unlock, cpu, mutex)
    assert board.field(1, CPU.held_depth) == 0


def test_locking_outwards_is_a_violation(board: Board, sem: int, mutex: int) -> None:
    """The rwsem is outside of the mutex; the note says which classes and which lock."""
    cpu = board.cpus[1]
    board.call(mutex_lock, cpu, mutex)
    board.call(down_read, cpu, sem)
    assert board.violations(1) == [Violation.LOCK_ORDER]
    at = cpu + CPU.violations
    assert [board[at + k] for k in (1, 2, 3)] == [MUTEX, SEM, sem]


def test_locking_inwards_is_in_order(board: Board, sem: int, mutex: int) -> None:
    """The rwsem, then the mutex."""
    board.call(down_read, board.cpus[1], sem)
    board.call(mutex_lock, board.cpus[1], mutex)
    assert board.violations(1) == []


def test_a_trylock_may_be_tried_anywhere(board: Board, sem: int, mutex: int) -> None:
    """It never waits, so it cannot close a circle."""
    board.call(mutex_lock, board.cpus[1], mutex)
    assert board.call(down_read_trylock, board.cpus[1], sem) == 1
    assert board.violations(1) == []


def test_an_outer_lock_taken_by_trylock_does_not_hide_the_inner_one(board: Board, sem: int, mutex: int) -> None:
    """Blocking for a class between the two is out of order, whichever was taken last."""
    cpu = board.cpus[1]
    other = board.spare + LOCK.SIZE
    board.call(mutex_init, other, LockClass.MAP_MUTEX)
    board.call(mutex_lock, cpu, mutex)
    board.call(down_read_trylock, cpu, sem)
    board.call(mutex_lock, cpu, other)
    assert board.violations(1) == [Violation.LOCK_ORDER]


def test_holding_more_than_there_is_room_for_is_a_violation(board: Board) -> None:
    """The ninth lock is not noted."""
    for k in range(MAX_HELD + 1):
        lock = board.spare + k * LOCK.SIZE if k < 2 else board.lock
        board.call(mutex_init, lock, MUTEX)
        board.call(mutex_trylock, board.cpus[1], lock)
    assert board.violations(1) == [Violation.HELD_OVERFLOW]
    assert board.field(1, CPU.held_depth) == MAX_HELD


def test_acquisitions_and_failed_trylocks_are_counted_by_mode(board: Board, sem: int) -> None:
    """Read and write apart, each CPU its own."""
    one, two = board.cpus[1], board.cpus[2]
    board.call(down_write, one, sem)
    board.call(down_read_trylock, two, sem)
    board.call(down_read_trylock, two, sem)
    board.call(up_write, one, sem)
    board.call(down_read_trylock, two, sem)
    assert (board.stat(1, SEM, WRITE)["acquisitions"], board.stat(1, SEM, READ)["acquisitions"]) == (1, 0)
    assert (board.stat(2, SEM, READ)["acquisitions"], board.stat(2, SEM, READ)["trylock_failed"]) == (1, 2)
    assert board.stat(2, SEM, READ)["contentions"] == 0


def test_hold_times_have_a_least_a_greatest_and_a_sum(board: Board, sem: int) -> None:
    """Of two holds: min <= max, and the sum is both."""
    for _ in range(2):
        board.call(down_write, board.cpus[1], sem)
        board.call(up_write, board.cpus[1], sem)
    stat = board.stat(1, SEM, WRITE)
    assert 0 < stat["holdtime_min"] <= stat["holdtime_max"]
    assert stat["holdtime_total"] == stat["holdtime_min"] + stat["holdtime_max"]
    assert stat["waittime_total"] == 0


def test_a_wait_given_up_counts_as_failed_and_not_as_acquired(board: Board, mutex: int) -> None:
    """lock_stat's acquisitions are those that got the lock."""
    board.call(mutex_lock, board.cpus[2], mutex)
    board.call(mutex_lock_until, board.cpus[1], mutex, 1, UNINTERRUPTIBLE)
    stat = board.stat(1, MUTEX, WRITE)
    assert (stat["acquisitions"], stat["contentions"], stat["trylock_failed"]) == (0, 0, 1)


def test_a_release_that_is_refused_leaves_no_trace_in_the_figures(board: Board, sem: int) -> None:
    """Neither a hold time nor a note."""
    board.call(down_write, board.cpus[2], sem)
    board.call(up_write, board.cpus[1], sem)
    assert board[sem + LOCK.word] & WRITER
    assert set(board.stat(1, SEM, WRITE).values()) == {0}
