"""Grace periods and callbacks, one task that plays all CPUs, plain and compiled."""

from shmreclaim.machine.cpu import CPU
from shmreclaim.sync.rcu import (
    RCU_HEAD_WORDS,
    call_rcu,
    rcu_is_over,
    rcu_next_done,
    rcu_read_lock,
    rcu_read_unlock,
    rcu_start,
    synchronize_rcu,
)
from tests.sync.board import Board


def enter(board: Board, number: int) -> None:
    """CPU `number` enters a read section."""
    board.call(rcu_read_lock, board.cpus[number])


def leave(board: Board, number: int) -> None:
    """CPU `number` leaves a read section."""
    board.call(rcu_read_unlock, board.cpus[number])


def test_a_grace_period_without_readers_is_over_at_once(board: Board) -> None:
    """Nobody could see what was unpublished."""
    assert board.call(rcu_is_over, board.call(rcu_start)) == 1
    assert board.call(synchronize_rcu, board.cpus[1]) == 0


def test_a_grace_period_waits_for_every_reader_that_was_inside(board: Board) -> None:
    """Until the last of them has left."""
    enter(board, 2)
    enter(board, 4)
    number = board.call(rcu_start)
    over = [board.call(rcu_is_over, number)]
    for reader in (2, 4):
        leave(board, reader)
        over.append(board.call(rcu_is_over, number))
    assert over == [0, 0, 1]


def test_a_grace_period_does_not_wait_for_a_reader_that_came_later(board: Board) -> None:
    """It cannot have seen what was unpublished before; nor does a reader that came back."""
    enter(board, 2)
    number = board.call(rcu_start)
    enter(board, 3)
    leave(board, 2)
    enter(board, 2)
    assert board.call(rcu_is_over, number) == 1


def test_a_later_grace_period_waits_for_a_reader_that_an_earlier_one_did_not(board: Board) -> None:
    """Each counts from its own start."""
    first = board.call(rcu_start)
    enter(board, 2)
    second = board.call(rcu_start)
    assert [board.call(rcu_is_over, n) for n in (first, second)] == [1, 0]


def test_nested_read_sections_end_with_the_outermost(board: Board) -> None:
    """Leaving an inner one lets no grace period go on."""
    enter(board, 2)
    enter(board, 2)
    number = board.call(rcu_start)
    leave(board, 2)
    assert board.call(rcu_is_over, number) == 0
    leave(board, 2)
    assert board.call(rcu_is_over, number) == 1
    assert (board.field(2, CPU.rcu), board.field(2, CPU.rcu_nesting)) == (0, 0)


def test_an_inner_section_does_not_make_a_reader_look_younger(board: Board) -> None:
    """The number is that of the outermost entry, whatever grace periods began since."""
    enter(board, 2)
    number = board.call(rcu_start)
    enter(board, 2)
    leave(board, 2)
    assert board.call(rcu_is_over, number) == 0


def test_callbacks_come_back_in_order_each_after_its_own_grace_period(board: Board) -> None:
    """The second was handed over while a reader was inside that the first need not wait for."""
    one, two, three = (board.spare + k * RCU_HEAD_WORDS for k in range(3))
    cpu = board.cpus[1]
    board.call(call_rcu, cpu, one)
    enter(board, 2)
    board.call(call_rcu, cpu, two)
    board.call(call_rcu, cpu, three)
    assert board.field(1, CPU.rcu_pending) == 3
    assert [board.call(rcu_next_done, cpu) for _ in range(2)] == [one, 0]
    leave(board, 2)
    assert [board.call(rcu_next_done, cpu) for _ in range(3)] == [two, three, 0]
    assert board.field(1, CPU.rcu_pending) == 0


def test_a_list_of_callbacks_that_ran_empty_starts_anew(board: Board) -> None:
    """Head and tail agree after the last one was taken back."""
    cpu, record = board.cpus[1], board.spare
    for _ in range(2):
        board.call(call_rcu, cpu, record)
        assert board.call(rcu_next_done, cpu) == record
        assert board.call(rcu_next_done, cpu) == 0


def test_each_cpu_takes_back_its_own_callbacks(board: Board) -> None:
    """There is no common list."""
    board.call(call_rcu, board.cpus[1], board.spare)
    assert board.call(rcu_next_done, board.cpus[2]) == 0
    assert board.call(rcu_next_done, board.cpus[1]) == board.spare
