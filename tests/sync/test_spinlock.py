"""The rows of the spinlock's truth table, one task, plain and compiled."""

import pytest

from shmreclaim.sync.spinlock import PARKED, spin_lock, spin_trylock, spin_unlock
from tests.sync.board import Board

LATER = pytest.mark.parametrize("taken_by", [1, 2])


def test_a_free_spinlock_is_taken_by_its_number(board: Board) -> None:
    """The word names the owner, and nobody sleeps."""
    board.play(3, spin_lock)
    assert board.word == 3


@LATER
def test_a_trylock_fails_while_anyone_holds_the_spinlock(board: Board, taken_by: int) -> None:
    """Also for the owner itself: a spinlock is not recursive."""
    board.play(taken_by, spin_lock)
    assert board.play(1, spin_trylock) == 0
    assert board.word == taken_by


def test_a_trylock_takes_a_free_spinlock(board: Board) -> None:
    """It returns 1 and the word names the owner."""
    assert board.play(2, spin_trylock) == 1
    assert board.word == 2


@pytest.mark.parametrize("flags", [0, PARKED])
def test_an_unlocked_spinlock_is_free_whether_or_not_somebody_slept(board: Board, flags: int) -> None:
    """PARKED goes with the owner: who wakes takes the lock as PARKED again."""
    board.word = 2 | flags
    board.play(2, spin_unlock)
    assert board.word == 0
