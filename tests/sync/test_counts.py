"""Completion, refcount and the wait queue, one task, plain and compiled."""

import pytest

from shmreclaim.machine.cpu import CPU
from shmreclaim.machine.futex import EAGAIN, ETIMEDOUT
from shmreclaim.sync.completion import ALL, complete, complete_all, init_completion, wait_for_completion
from shmreclaim.sync.lockdep import READ, WRITE
from shmreclaim.sync.refcount import refcount_dec_and_test, refcount_inc, refcount_inc_not_zero
from shmreclaim.sync.wait_queue import (
    UNINTERRUPTIBLE,
    begin_wait,
    end_wait,
    first_waiter,
    grant,
    leave_queue,
    queue_waiter,
    wait_for_wake,
    wait_while,
)
from tests.sync.board import Board

PAST = 1


@pytest.mark.parametrize("times", [1, 3])
def test_a_completion_lets_as_many_go_on_as_it_was_completed(board: Board, times: int) -> None:
    """Completed before anyone waited; the next one waits in vain."""
    board.call(init_completion, board.spare)
    for _ in range(times):
        board.call(complete, board.spare)
    outcomes = [
        board.call(wait_for_completion, board.cpus[1], board.spare, PAST, UNINTERRUPTIBLE) for _ in range(times + 1)
    ]
    assert outcomes == [0] * times + [-ETIMEDOUT]
    assert board.field(1, CPU.wait_for) == 0


def test_a_completion_of_all_lets_everybody_go_on_for_ever(board: Board) -> None:
    """Its word stays; one more `complete` does no harm."""
    board.call(complete_all, board.spare)
    for _ in range(3):
        assert board.call(wait_for_completion, board.cpus[1], board.spare, 0, UNINTERRUPTIBLE) == 0
    board.call(complete, board.spare)
    assert board[board.spare] >= ALL
    assert board.call(wait_for_completion, board.cpus[1], board.spare, 0, UNINTERRUPTIBLE) == 0


def test_a_reference_count_that_reached_zero_stays_there(board: Board) -> None:
    """The last drop says so; nobody gets a reference afterwards."""
    board[board.spare] = 1
    assert board.call(refcount_inc_not_zero, board.spare) == 1
    board.call(refcount_inc, board.spare)
    assert [board.call(refcount_dec_and_test, board.spare) for _ in range(3)] == [0, 0, 1]
    assert board.call(refcount_inc_not_zero, board.spare) == 0
    assert board[board.spare] == 0


def test_a_queue_gives_its_first_waiter_until_it_is_empty(board: Board) -> None:
    """First come, first served; 0 if nobody waits."""
    assert board.call(first_waiter, board.lock) == 0
    board.call(queue_waiter, board.cpus[3], board.lock, READ)
    board.call(queue_waiter, board.cpus[2], board.lock, WRITE)
    assert board.call(first_waiter, board.lock) == board.cpus[3]
    board.call(leave_queue, board.cpus[3], board.lock)
    assert board.call(first_waiter, board.lock) == board.cpus[2]
    board.call(leave_queue, board.cpus[2], board.lock)
    assert board.call(first_waiter, board.lock) == 0
    assert (board.field(3, CPU.wait_mode), board.field(2, CPU.wait_mode)) == (READ, WRITE)


def test_a_waiter_that_was_granted_does_not_sleep(board: Board) -> None:
    """Its `wake` word is 1, and the grant names it by its bit."""
    board.call(queue_waiter, board.cpus[2], board.lock, READ)
    assert board.call(grant, board.cpus[2]) == 1 << 2
    assert board.call(wait_for_wake, board.cpus[2], 0, 0, UNINTERRUPTIBLE) == 0


def test_waiting_for_a_word_that_differs_already_ends_at_once(board: Board) -> None:
    """Without a system call, and whatever the deadline."""
    board[board.spare] = 5
    assert board.call(wait_while, board.spare, 4, 0, UNINTERRUPTIBLE) == 0


def test_waiting_for_a_word_beyond_its_deadline_times_out(board: Board) -> None:
    """The word has not changed."""
    board[board.spare] = 5
    assert board.call(wait_while, board.spare, 5, PAST, UNINTERRUPTIBLE) == -ETIMEDOUT


def test_what_a_cpu_waits_for_is_noted_with_the_time(board: Board) -> None:
    """And forgotten when it goes on."""
    now = board.call(begin_wait, board.cpus[1], 77)
    assert (board.field(1, CPU.wait_for), board.field(1, CPU.wait_since)) == (77, now)
    board.call(end_wait, board.cpus[1])
    assert board.field(1, CPU.wait_for) == 0


def test_errno_values_are_the_machines() -> None:
    """EAGAIN and ETIMEDOUT of this operating system."""
    import errno

    assert (EAGAIN, ETIMEDOUT) == (errno.EAGAIN, errno.ETIMEDOUT)
