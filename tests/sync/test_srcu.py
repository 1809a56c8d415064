"""SRCU: its readers, and grace periods that are shared, slow, and hurry only where nothing else is to do."""

import time

import pytest

from shmreclaim.machine.cpu import CPU
from shmreclaim.machine.layout import HEADER
from shmreclaim.sync.rcu import rcu_is_over, rcu_read_lock, rcu_start
from shmreclaim.sync.srcu import SRCU, init_srcu, srcu_read_lock, srcu_read_unlock, synchronize_srcu
from tests.sync.board import Board
from tests.sync.crew import Crew, until

SLOW = 30_000_000
"""ns of a grace period that is long enough for others to ask meanwhile."""


def make(board: Board, gp_ns: int) -> int:
    """A domain among the spare words; when its last grace period ended is long ago."""
    srcu = -(-board.spare // 8) * 8
    board.call(init_srcu, srcu, gp_ns)
    return srcu


def test_a_grace_period_without_readers_hurries_where_the_domain_was_idle(board: Board) -> None:
    """It is counted, begun and ended, and its end is noted."""
    srcu = make(board, 1 << 62)
    board.call(synchronize_srcu, board.cpus[1], srcu)
    assert [board[srcu + at] for at in (SRCU.started, SRCU.completed)] == [1, 1]
    assert board[srcu + SRCU.ended] > 0


def test_nested_sections_end_with_the_outermost(board: Board) -> None:
    """The word says since when, until the last has left."""
    cpu = board.cpus[2]
    board.call(srcu_read_lock, cpu)
    inside = board.field(2, CPU.srcu)
    board.call(srcu_read_lock, cpu)
    board.call(srcu_read_unlock, cpu)
    assert board.field(2, CPU.srcu) == inside == board[HEADER.srcu_seq] + 1
    board.call(srcu_read_unlock, cpu)
    assert (board.field(2, CPU.srcu), board.field(2, CPU.srcu_nesting)) == (0, 0)


def test_rcu_and_srcu_do_not_wait_for_each_others_readers(board: Board) -> None:
    """They are two domains with a word each."""
    srcu = make(board, 0)
    board.call(srcu_read_lock, board.cpus[2])
    assert board.call(rcu_is_over, board.call(rcu_start)) == 1
    board.call(srcu_read_unlock, board.cpus[2])
    board.call(rcu_read_lock, board.cpus[3])
    board.call(synchronize_srcu, board.cpus[1], srcu)
    assert board[srcu + SRCU.completed] == 1


@pytest.fixture
def srcu(crew: Crew) -> int:
    """A domain for several processes."""
    at = crew.arena.allocate(SRCU.SIZE)
    crew.call(init_srcu, at, SLOW)
    return at


def test_a_grace_period_waits_for_the_reader_inside(crew: Crew, srcu: int) -> None:
    """However short it is by itself."""
    crew.call(srcu_read_lock, crew.cpus[2])
    crew.start(1, synchronize_srcu, srcu)
    until(lambda: crew.word(crew.cpus[1] + CPU.wait_for) == crew.cpus[2] + CPU.srcu, "the updater to wait for CPU 2")
    assert crew.word(srcu + SRCU.completed) == 0
    crew.call(srcu_read_unlock, crew.cpus[2])
    assert crew.result(1) == 0
    assert crew.word(srcu + SRCU.completed) == 1


def test_who_asks_during_a_grace_period_shares_the_next_one(crew: Crew, srcu: int) -> None:
    """Three ask while one runs: it does not cover them, one more does for all three."""
    crew.call(srcu_read_lock, crew.cpus[5])
    crew.start(1, synchronize_srcu, srcu)
    until(lambda: crew.word(crew.cpus[1] + CPU.wait_for) == crew.cpus[5] + CPU.srcu, "a grace period to run")
    for number in (2, 3, 4):
        crew.start(number, synchronize_srcu, srcu)
        crew.until_queued(srcu + SRCU.gp_mutex, *range(2, number + 1))
    crew.call(srcu_read_unlock, crew.cpus[5])
    crew.finish()
    assert [crew.word(srcu + at) for at in (SRCU.started, SRCU.completed)] == [2, 2]


def test_a_grace_period_right_after_another_takes_its_time(crew: Crew, srcu: int) -> None:
    """As long as the domain says, where the last one ended just before; for as long it is told what is waited for."""
    began = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    crew.arena.memory[srcu + SRCU.ended] = began + (1 << 40)  # as if no time had passed since, however slow we are
    crew.start(1, synchronize_srcu, srcu)
    until(lambda: crew.word(crew.cpus[1] + CPU.wait_for) == srcu + SRCU.never, "the updater to sleep")
    assert crew.result(1) == 0
    assert crew.word(srcu + SRCU.ended) - began >= SLOW
