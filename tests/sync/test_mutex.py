"""The rows of the mutex's truth table, one task, plain and compiled; then random steps against an obvious model."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shmreclaim.machine.cpu import CPU, Violation
from shmreclaim.machine.futex import EPERM, ETIMEDOUT
from shmreclaim.sync.lockdep import LOCK, WRITE
from shmreclaim.sync.mutex import (
    HANDOFF,
    WAITERS,
    _leave_queue,
    _take_or_ask,
    mutex_init,
    mutex_is_locked,
    mutex_lock,
    mutex_lock_until,
    mutex_trylock,
    mutex_unlock,
)
from shmreclaim.sync.wait_queue import UNINTERRUPTIBLE
from tests.both import KINDS
from tests.sync.board import CPUS, Board

PAST = 1
"""A deadline that is over: the wait ends at once."""


def test_init_makes_a_free_mutex_with_an_empty_queue(board: Board) -> None:
    """Whatever was in its words before."""
    for k in range(LOCK.SIZE):
        board[board.lock + k] = -1
    board.call(mutex_init, board.lock, 5)
    assert (board.word, board[board.lock + LOCK.klass], board[board.lock + LOCK.wait_lock]) == (0, 5, 0)
    assert board.queue() == []


@pytest.mark.parametrize(
    ("word", "taken"),
    [(0, 1), (1, 0), (2, 0), (2 | WAITERS, 0), (2 | WAITERS | HANDOFF, 0), (WAITERS, 1)],
    ids=["free", "own", "held", "held, queue", "promised", "free, first waiter on its way"],
)
def test_a_trylock_takes_the_mutex_exactly_if_it_has_no_owner(board: Board, word: int, taken: int) -> None:
    """The flags stay, and a failed trylock changes nothing."""
    board.word = word
    assert board.play(1, mutex_trylock) == taken
    assert board.word == (word | 1 if taken else word)


@pytest.mark.parametrize("word", [0, 2, 2 | WAITERS, WAITERS, 2 | WAITERS | HANDOFF])
def test_an_unlock_by_another_is_a_violation_and_changes_nothing(board: Board, word: int) -> None:
    """Every word whose owner is not CPU 1."""
    board.word = word
    board.play(1, mutex_unlock)
    assert board.word == word
    assert board.violations(1) == [Violation.NOT_HELD]


def test_an_unlock_without_waiters_frees_the_mutex(board: Board) -> None:
    """The word is 0 again."""
    board.play(3, mutex_lock)
    assert board.call(mutex_is_locked, board.lock) == 1
    board.play(3, mutex_unlock)
    assert board.word == 0
    assert board.call(mutex_is_locked, board.lock) == 0


def test_an_unlock_with_waiters_frees_the_mutex_and_wakes_only_the_first(board: Board) -> None:
    """WAITERS stays, nobody owns it, and the second waiter is left asleep."""
    board.word = 1
    board.enqueue(2, WRITE, WAITERS)
    board.enqueue(3, WRITE, WAITERS)
    board.play(1, mutex_unlock)
    assert board.word == WAITERS
    assert (board.field(2, CPU.wake), board.field(3, CPU.wake)) == (1, 0)


def test_an_unlock_with_handoff_passes_the_mutex_to_the_first_waiter(board: Board) -> None:
    """The promise is kept and gone: no newcomer finds the mutex free."""
    board.word = 1
    board.enqueue(2, WRITE, WAITERS | HANDOFF)
    board.play(1, mutex_unlock)
    assert board.word == 2 | WAITERS
    assert board.play(3, mutex_trylock) == 0
    assert board.play(2, _take_or_ask) == 1


@pytest.mark.parametrize(("woken", "asked"), [(0, 0), (1, HANDOFF)], ids=["asleep", "woken and lost"])
def test_a_first_waiter_asks_for_a_handoff_once_it_was_woken_in_vain(board: Board, woken: int, asked: int) -> None:
    """Before that newcomers may barge."""
    board.word = 1
    board.enqueue(2, WRITE, WAITERS)
    board.field(2, CPU.wake, woken)
    assert board.play(2, _take_or_ask) == 0
    assert board.word == 1 | WAITERS | asked


def test_a_second_waiter_never_asks_for_a_handoff(board: Board) -> None:
    """The promise would go to the first."""
    board.word = 1
    board.enqueue(2, WRITE, WAITERS)
    board.enqueue(3, WRITE, WAITERS)
    board.field(3, CPU.wake, 1)
    assert board.play(3, _take_or_ask) == 0
    assert board.word == 1 | WAITERS


@pytest.mark.parametrize("others", [0, 1])
def test_a_first_waiter_that_leaves_takes_its_promise_along(board: Board, others: int) -> None:
    """WAITERS goes with the last one only."""
    board.word = 1
    board.enqueue(2, WRITE, WAITERS | HANDOFF)
    if others:
        board.enqueue(3, WRITE, WAITERS)
    board.play(2, _leave_queue)
    assert board.word == (1 | WAITERS if others else 1)
    assert board.queue() == ([3] if others else [])


def test_a_second_waiter_that_leaves_leaves_the_promise_to_the_first(board: Board) -> None:
    """HANDOFF is not its own to take back."""
    board.word = 1
    board.enqueue(2, WRITE, WAITERS | HANDOFF)
    board.enqueue(3, WRITE, WAITERS)
    board.play(3, _leave_queue)
    assert board.word == 1 | WAITERS | HANDOFF
    assert board.queue() == [2]


def test_a_timed_wait_whose_deadline_is_over_leaves_no_trace(board: Board) -> None:
    """-ETIMEDOUT; flags, queue and the note of what it waits for are as before."""
    board.play(2, mutex_lock)
    assert board.play(1, mutex_lock_until, PAST, UNINTERRUPTIBLE) == -ETIMEDOUT
    assert (board.word, board.queue(), board.field(1, CPU.wait_for)) == (2, [], 0)


def test_a_timed_wait_takes_a_free_mutex_whatever_the_deadline(board: Board) -> None:
    """A deadline limits waiting, not taking."""
    assert board.play(1, mutex_lock_until, PAST, UNINTERRUPTIBLE) == 0
    assert board.word == 1


def test_locking_again_is_a_violation_and_changes_nothing(board: Board) -> None:
    """In the queue an owner would take its own hold for a grant."""
    board.play(1, mutex_lock)
    assert board.play(1, mutex_lock) == -EPERM
    assert (board.word, board.queue(), board.violations(1)) == (1, [], [Violation.RECURSION])


Step = tuple[int, str]
STEPS = st.lists(st.tuples(st.integers(1, CPUS), st.sampled_from(["try", "timed", "unlock"])), max_size=30)


class Model:
    """What a mutex is: an owner or none."""

    def __init__(self) -> None:
        """Start free."""
        self.owner = 0
        self.wrong = 0

    def step(self, number: int, what: str) -> int | None:
        """Do one thing; None where the answer says nothing."""
        if what == "unlock":
            self.wrong += self.owner != number
            self.owner = 0 if self.owner == number else self.owner
            return None
        free = self.owner == 0
        self.owner = number if free else self.owner
        if what == "try":
            return int(free)
        return 0 if free else self.wait(number)

    def wait(self, number: int) -> int:
        """Wait for one who does not come, or wrongly for oneself."""
        self.wrong += self.owner == number
        return -EPERM if self.owner == number else -ETIMEDOUT


def _play(board: Board, number: int, what: str) -> int | None:
    actions: dict[str, Callable[[], int]] = {
        "try": lambda: board.play(number, mutex_trylock),
        "timed": lambda: board.play(number, mutex_lock_until, PAST, UNINTERRUPTIBLE),
        "unlock": lambda: board.play(number, mutex_unlock),
    }
    answer = actions[what]()
    return None if what == "unlock" else answer


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(steps=STEPS)
def test_any_sequence_of_steps_does_what_an_owner_or_none_would(kind: str, steps: list[Step]) -> None:
    """Answers, owner and violations agree after every step."""
    board, model = Board(kind), Model()
    for number, what in steps:
        assert _play(board, number, what) == model.step(number, what)
        assert board.word == model.owner
    assert sum(board.field(n, CPU.nr_violations) for n in range(1, CPUS + 1)) == model.wrong
