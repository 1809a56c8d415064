"""What is taken back from tasks that died: the rows of each repair, one task, plain and compiled.

The dead are CPUs whose life says so. What is said of who sleeps and who is woken needs real processes: see
tests/locks/test_killed_anywhere.py and tests/locks/test_recovery.py.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import pytest

from shmreclaim.machine.cpu import CPU, GENERATION
from shmreclaim.machine.layout import HEADER
from shmreclaim.machine.tasks import _join, _part
from shmreclaim.sync.lockdep import LOCK, READ, WRITE
from shmreclaim.sync.mutex import (
    DIED,
    HANDOFF,
    WAITERS,
    mutex_disown,
    mutex_lock,
    mutex_mark_died,
    mutex_repair,
    mutex_trylock,
    mutex_trylock_robust,
    mutex_unlock,
)
from shmreclaim.sync.robust import dead_tasks, forget_waiters, lock_queue, look_for_the_dead, note_died, take_over
from shmreclaim.sync.spinlock import PARKED, spin_lock
from shmreclaim.sync.wait_queue import _watch_lives
from tests.sync.board import Board


def mask(numbers: Iterable[int]) -> int:
    """A set of CPUs, as the header and queues have them."""
    return sum(1 << number for number in numbers)


def told(board: Board) -> list[int]:
    """Numbers of the CPUs that were told to go on."""
    return [n for n in range(1, 5) if board.field(n, CPU.wake)]


# --- who is dead -----------------------------------------------------------------------------------------


def test_dead_are_those_whose_life_ended_and_who_did_not_leave(board: Board) -> None:
    """Not who lives (1), not who never had a life (2), not one whose life is not shown any more (4)."""
    board.live(1)
    board.die(3, 4)
    board[HEADER.lives] = mask([1, 2, 3])
    assert board.call(dead_tasks) == mask([3])


def test_an_end_is_announced_once_by_who_looks(board: Board) -> None:
    """Announced means marked, and counted for who is about to sleep; that there are dead is said each time."""
    board.live(1)
    assert board.call(look_for_the_dead) == 0
    board.die(2)
    for _ in range(2):
        assert board.call(look_for_the_dead) == 1
        assert (board[HEADER.announced], board[HEADER.lives_seq]) == (mask([2]), 1)
    board.die(3)
    assert board.call(look_for_the_dead) == 1
    assert (board[HEADER.announced], board[HEADER.lives_seq]) == (mask([2, 3]), 2)


def test_who_goes_to_sleep_watches_the_lives_of_all_others_and_announces_the_ends(board: Board) -> None:
    """Those of 2 and 4 behind its two words; 3 is announced, and only once; its own (1) is not watched."""
    board.live(1, 2, 4)
    board.die(3)
    for _ in range(2):
        assert board.call(_watch_lives, board.cpus[1], 2) == 4
        watched = [board.field(1, CPU.watch + k) for k in range(4, 8)]
        lives = [board.cpus[n] + CPU.life for n in (2, 4)]
        assert watched == [lives[0], board[lives[0]], lives[1], board[lives[1]]]
        assert (board[HEADER.announced], board[HEADER.lives_seq]) == (mask([3]), 1)


def test_a_life_that_begins_is_shown_and_is_no_old_news(board: Board) -> None:
    """Its predecessor's end was announced; who sleeps is to watch the new life. Others' bits stay."""
    board[HEADER.lives], board[HEADER.announced] = mask([1, 3]), mask([2, 3])
    board.call(_join, board.cpus[2], 77)
    assert board.field(2, CPU.lived) == 77
    assert [board[HEADER.lives], board[HEADER.announced], board[HEADER.lives_seq]] == [mask([1, 2, 3]), mask([3]), 1]
    board.call(_part, board.cpus[1])
    assert [board[HEADER.lives], board[HEADER.announced], board[HEADER.lives_seq]] == [mask([2, 3]), mask([3]), 1]


# --- the wait_lock ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [0, PARKED])
def test_a_spinlock_of_a_dead_task_is_taken_over_and_that_is_said(board: Board, flags: int) -> None:
    """As PARKED, since others may sleep on it; a task that got it in the ordinary way is told nothing."""
    board.word = 2 | flags
    board.die(2)
    assert board.play(1, spin_lock) == 1
    assert board.word == 1 | PARKED
    board.word = 0
    assert board.play(1, spin_lock) == 0


@pytest.mark.parametrize(
    ("holder", "announced", "repair"), [(0, 0, 0), (2, 0, 1), (0, 1, 1)], ids=["whole", "left", "somebody ended"]
)
def test_a_queue_is_repaired_if_its_lock_was_left_or_somebody_ended(
    board: Board, holder: int, announced: int, repair: int
) -> None:
    """Either alone is reason enough."""
    board[board.lock + LOCK.wait_lock] = holder
    board[HEADER.announced] = announced << 2
    board.die(2)
    assert board.play(1, lock_queue) == repair


def test_a_successor_keeps_the_wait_lock_that_its_predecessor_died_with(board: Board) -> None:
    """To the others its owner lives, so nobody takes it, and who saw it dead finds another word; another's it gets."""
    wait_lock = board.lock + LOCK.wait_lock
    board.live(1)
    board[wait_lock] = 1 | PARKED
    board.field(1, CPU.spin, 1 | GENERATION)
    board.play(1, take_over)
    assert board[wait_lock] == 1 | PARKED | GENERATION
    board[wait_lock] = 0
    board.play(1, take_over)
    assert board[wait_lock] == 1 | GENERATION


# --- the queue -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dead", [0, 1])
@pytest.mark.parametrize("what", ["this lock", "another", "nothing"])
def test_in_the_queue_stays_who_lives_and_waits_for_this_lock(board: Board, dead: int, what: str) -> None:
    """CPU 2 is looked at; CPU 3, behind it, waits and stays."""
    board.enqueue(2, WRITE, 0)
    board.enqueue(3, WRITE, 0)
    board.field(2, CPU.wait_for, {"this lock": board.lock, "another": board.lock + 8, "nothing": 0}[what])
    left = [2, 3] if what == "this lock" and not dead else [3]
    assert board.call(forget_waiters, board.lock, dead << 2) == mask(left)
    assert board.queue() == left


@pytest.mark.parametrize("mode", [READ, WRITE])
def test_a_lock_keeps_which_thread_died_with_it_and_how_it_held_it(board: Board, mode: int) -> None:
    """In one word: the thread's number and the mode."""
    board.field(3, CPU.tid, 1234)
    board.call(note_died, board.lock, 3, mode)
    assert board[board.lock + LOCK.died] == 1234 * 2 + mode


# --- the mutex -------------------------------------------------------------------------------------------


class Repair(NamedTuple):
    """A lock that is left behind, and what is made of it."""

    word: int
    waiters: tuple[int, ...]
    """In the queue, first come first, whatever the word says."""
    dead: tuple[int, ...]
    after: int
    queue: list[int]
    told: list[int]
    """Who is told to go on."""


MUTEXES = {
    "free": Repair(0, (), (), 0, [], []),
    "held": Repair(1, (), (), 1, [], []),
    "held, queue": Repair(1 | WAITERS, (2, 3), (), 1 | WAITERS, [2, 3], []),
    "held, promised": Repair(1 | WAITERS | HANDOFF, (2,), (), 1 | WAITERS | HANDOFF, [2], []),
    "held, the news on its way": Repair(1 | DIED, (), (), 1 | DIED, [], []),
    "owner died": Repair(1, (), (1,), DIED, [], []),
    "owner died, queue": Repair(1 | WAITERS, (2, 3), (1,), DIED | WAITERS, [2, 3], [2]),
    "owner died that had promised it": Repair(1 | WAITERS | HANDOFF, (2,), (1,), DIED | WAITERS, [2], [2]),
    "owner and first waiter died": Repair(1 | WAITERS, (2, 3), (1, 2), DIED | WAITERS, [3], [3]),
    "owner and all waiters died": Repair(1 | WAITERS | HANDOFF, (2, 3), (1, 2, 3), DIED, [], []),
    "only waiter died": Repair(1 | WAITERS, (2,), (2,), 1, [], []),
    "only waiter died, it was promised": Repair(1 | WAITERS | HANDOFF, (2,), (2,), 1, [], []),
    "first waiter died, it was promised": Repair(1 | WAITERS | HANDOFF, (2, 3), (2,), 1 | WAITERS | HANDOFF, [3], []),
    "second waiter died": Repair(1 | WAITERS, (2, 3), (3,), 1 | WAITERS, [2], []),
    "free, first waiter perhaps not told": Repair(WAITERS, (2, 3), (), WAITERS, [2, 3], [2]),
    "free, first waiter died on its way": Repair(WAITERS, (2, 3), (2,), WAITERS, [3], [3]),
    "free, only waiter died on its way": Repair(WAITERS, (2,), (2,), 0, [], []),
    "queued without the flag": Repair(1, (2,), (), 1 | WAITERS, [2], []),
    "flag without a queue": Repair(1 | WAITERS, (), (), 1, [], []),
    "passed on, heir perhaps not told": Repair(2 | WAITERS, (2, 3), (), 2 | WAITERS, [2, 3], [2]),
    "passed on, heir died": Repair(2 | WAITERS, (2, 3), (2,), DIED | WAITERS, [3], [3]),
    "passed on to the second, first not told": Repair(3 | WAITERS, (2, 3), (), 3 | WAITERS, [2, 3], [3]),
}


@pytest.mark.parametrize("row", MUTEXES.values(), ids=MUTEXES.keys())
def test_a_repaired_mutex_has_no_dead_owner_and_no_dead_waiter_and_the_right_flags(board: Board, row: Repair) -> None:
    """And who has it, or may have it, is told. Repaired again, nothing changes."""
    for number in row.waiters:
        board.enqueue(number, WRITE, 0)
    board.word = row.word
    for _ in range(2):
        board.call(mutex_repair, board.lock, mask(row.dead))
        assert (board.word, board.queue(), told(board)) == (row.after, row.queue, row.told)


@pytest.mark.parametrize("row", [row for row in MUTEXES.values() if row.dead and 2 not in row.dead])
def test_who_died_with_a_mutex_is_kept_only_if_it_was_the_owner(board: Board, row: Repair) -> None:
    """By its thread id."""
    for number in row.waiters:
        board.enqueue(number, WRITE, 0)
    board.word = row.word
    board.field(1, CPU.tid, 77)
    board.call(mutex_repair, board.lock, mask(row.dead))
    assert board[board.lock + LOCK.died] == (77 * 2 + WRITE if 1 in row.dead else 0)


def lock_mutex(board: Board) -> int:
    """CPU 1 waits for it; whether it has it then."""
    return int(board.play(1, mutex_lock) == 0)


@pytest.mark.parametrize(
    "take", [lock_mutex, lambda board: board.play(1, mutex_trylock_robust)], ids=["lock", "trylock"]
)
@pytest.mark.parametrize("word", [2, DIED, DIED | WAITERS], ids=["owner died", "news", "news, queue"])
def test_the_next_owner_of_a_mutex_is_told_that_one_died_and_takes_the_news_away(
    board: Board, word: int, take: Callable[[Board], int]
) -> None:
    """However it gets it; the one after is told nothing. An end that nobody noticed is noticed."""
    board.live(1, 3)
    board.die(2)
    board.word = word
    if word & WAITERS:
        board.enqueue(3, WRITE, WAITERS)
    assert take(board) == 1
    assert (board.word, board.field(1, CPU.recovered)) == (1 | word & WAITERS, 1)
    board.play(1, mutex_unlock)
    board.field(1, CPU.recovered, 0)
    assert take(board) == 1
    assert board.field(1, CPU.recovered) == 0


def test_no_fast_path_takes_a_mutex_past_the_news(board: Board) -> None:
    """The kernel's trylock fails, and changes nothing."""
    board.word = DIED
    assert board.play(1, mutex_trylock) == 0
    assert board.word == DIED


def test_an_owner_can_pass_the_news_on_with_the_mutex(board: Board) -> None:
    """It stays in the word when that is given up, with or without a queue."""
    board.word = 1
    board.play(1, mutex_mark_died)
    board.play(1, mutex_unlock)
    assert board.word == DIED
    board.word |= 1
    board.enqueue(2, WRITE, WAITERS)
    board.play(1, mutex_unlock)
    assert board.word == DIED | WAITERS


@pytest.mark.parametrize("word", [1, 1 | WAITERS, 2 | WAITERS], ids=["owner", "owner, queue", "waiter"])
@pytest.mark.parametrize("wait_lock", [0, 1, 4], ids=["free", "its own", "of another that died"])
def test_a_successor_takes_back_what_its_predecessor_had_of_a_mutex(board: Board, word: int, wait_lock: int) -> None:
    """Its life is CPU 1's, so only it can. The wait_lock is free afterwards."""
    board.live(1, 2, 3)
    board.die(4)
    board[board.lock + LOCK.wait_lock] = wait_lock
    owner = word & ~WAITERS
    board.enqueue(3 - owner, WRITE, 0)
    board.word = word
    board.play(1, mutex_disown)
    left = {1: (DIED | WAITERS, [2], [2]), 2: (2, [], [])}[owner]
    assert (board.word, board.queue(), told(board)) == left
    assert board[board.lock + LOCK.wait_lock] == 0
