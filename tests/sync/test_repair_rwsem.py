"""What is taken back from tasks that died with an rwsem: the rows of its repair, one task, plain and compiled."""

from collections.abc import Callable
from typing import NamedTuple

import pytest

from shmreclaim.machine.cpu import CPU
from shmreclaim.machine.layout import HEADER
from shmreclaim.sync.chain import chain_lock, disown_all, holds_any
from shmreclaim.sync.lockdep import LOCK, READ, WRITE
from shmreclaim.sync.mutex import mutex_init
from shmreclaim.sync.rwsem import (
    down_read,
    down_read_trylock,
    down_read_trylock_robust,
    down_write,
    down_write_trylock,
    down_write_trylock_robust,
    downgrade_write,
    rwsem_init,
    rwsem_mark_died,
    up_read,
    up_write,
)
from shmreclaim.sync.rwsem_queue import (
    DIED,
    HANDOFF,
    OWNER_SHIFT,
    WAITERS,
    WRITER,
    _drop_dead_holders,
    _settle_readers,
    rwsem_disown,
    rwsem_repair,
    take_as_first,
)
from tests.sync.board import Board, bit, writer
from tests.sync.test_repair import mask, told


class Settled(NamedTuple):
    """CPU 2 in the queue for read: a row of `_settle_readers`, and what becomes of it."""

    word: int
    wake: int
    after: int
    queued: bool
    told: int


SETTLED = {
    "told": Settled(bit(2) | WAITERS, 1, bit(2) | WAITERS, False, 1),
    "told to go in alone": Settled(WAITERS, 1, WAITERS, True, 1),
    "told to go in alone, a writer is in": Settled(writer(1) | WAITERS, 1, writer(1) | WAITERS, True, 1),
    "bit and a writer": Settled(bit(2) | writer(1) | WAITERS, 0, writer(1) | WAITERS, True, 0),
    "bit": Settled(bit(2) | WAITERS, 0, bit(2) | WAITERS, False, 1),
    "bit among others": Settled(bit(1) | bit(2) | WAITERS, 0, bit(1) | bit(2) | WAITERS, False, 1),
    "waits": Settled(WAITERS, 0, WAITERS, True, 0),
    "waits for a writer": Settled(writer(1) | WAITERS, 0, writer(1) | WAITERS, True, 0),
    "waits beside readers": Settled(bit(1) | WAITERS, 0, bit(1) | WAITERS, True, 0),
}


@pytest.mark.parametrize("row", SETTLED.values(), ids=SETTLED.keys())
def test_a_grant_that_ended_half_way_is_finished_or_taken_back(board: Board, row: Settled) -> None:
    """By reader; a writer in the queue (3) is left as it is, whatever it was told."""
    board.enqueue(2, READ, 0)
    board.enqueue(3, WRITE, 0)
    board.field(3, CPU.wake, 1)
    board.field(2, CPU.wake, row.wake)
    board.word = row.word
    board.call(_settle_readers, board.lock)
    assert (board.word, 2 in board.queue(), board.field(2, CPU.wake)) == (row.after, row.queued, row.told)
    assert 3 in board.queue()


def test_each_reader_of_a_grant_is_settled_by_itself(board: Board) -> None:
    """1 is in and told, 2 in and not told, 3 waits still, and so does 4, which was told to try."""
    for number in (1, 2, 3, 4):
        board.enqueue(number, READ, WAITERS)
    board.field(1, CPU.wake, 1)
    board.field(4, CPU.wake, 1)
    board.word |= bit(1) | bit(2)
    board.call(_settle_readers, board.lock)
    assert (board.word, board.queue(), told(board)) == (bit(1) | bit(2) | WAITERS, [3, 4], [1, 2, 4])


DROPPED = {
    "writer lives": (writer(2), [1, 3], writer(2), 0),
    "writer died": (writer(2), [2], DIED, 2 * 102 + WRITE),
    "writer died, queue, promised": (
        writer(2) | WAITERS | HANDOFF,
        [2],
        DIED | WAITERS | HANDOFF,
        2 * 102 + WRITE,
    ),
    "readers live": (bit(2) | bit(3), [1, 4], bit(2) | bit(3), 0),
    "a reader died": (bit(2) | bit(3), [2], bit(3) | DIED, 2 * 102 + READ),
    "the last reader died": (bit(3), [3], DIED, 2 * 103 + READ),
    "all readers died": (bit(1) | bit(2) | bit(4), [1, 2, 4], DIED, 2 * 101 + READ),
    "a reader died that had only added its bit": (writer(2) | bit(3), [3], writer(2) | DIED, 2 * 103 + READ),
    "writer died, a reader has added its bit": (writer(2) | bit(3), [2], bit(3) | DIED, 2 * 102 + WRITE),
    "the news is there already": (bit(2) | DIED, [2], DIED, 2 * 102 + READ),
    "a number without a writer": (2 << OWNER_SHIFT, [2], 2 << OWNER_SHIFT, 0),
}


@pytest.mark.parametrize(("word", "dead", "after", "died"), DROPPED.values(), ids=DROPPED.keys())
def test_dead_holders_and_only_they_are_taken_out_of_the_word(
    board: Board, word: int, dead: list[int], after: int, died: int
) -> None:
    """Each by its own bit or number; the news is left, and who it was."""
    for number in (1, 2, 3, 4):
        board.field(number, CPU.tid, 100 + number)
    board.word = word
    board.call(_drop_dead_holders, board.lock, mask(dead))
    assert (board.word, board[board.lock + LOCK.died]) == (after, died)


class Repair(NamedTuple):
    """A sem that is left behind, and what is made of it."""

    word: int
    readers: tuple[int, ...]
    writers: tuple[int, ...]
    """In the queue: readers came first."""
    dead: tuple[int, ...]
    after: int
    queue: list[int]
    told: list[int]


SEMS = {
    "free": Repair(0, (), (), (), 0, [], []),
    "written, queue": Repair(writer(1) | WAITERS, (2,), (3,), (), writer(1) | WAITERS, [2, 3], []),
    "writer died": Repair(writer(1), (), (), (1,), DIED, [], []),
    "writer died, readers wait": Repair(writer(1) | WAITERS, (2, 3), (), (1,), DIED | WAITERS, [2, 3], [2]),
    "writer died, both wait": Repair(writer(1) | WAITERS, (2,), (3,), (1,), DIED | WAITERS, [2, 3], [2]),
    "writer died, a writer waits": Repair(writer(1) | WAITERS, (), (2, 3), (1,), DIED | WAITERS, [2, 3], [2]),
    "writer and first waiter died": Repair(writer(1) | WAITERS, (2,), (3,), (1, 2), DIED | WAITERS, [3], [3]),
    "one reader of two died": Repair(bit(1) | bit(4) | WAITERS, (), (2,), (1,), bit(4) | DIED | WAITERS, [2], []),
    "last reader died": Repair(bit(1) | WAITERS, (), (2,), (1,), DIED | WAITERS, [2], [2]),
    "first of the writers died": Repair(WAITERS, (), (2, 3), (2,), WAITERS, [3], [3]),
    "only waiter died, it was promised": Repair(
        writer(1) | WAITERS | HANDOFF, (), (2,), (2,), writer(1), [], []
    ),
    "queued without the flag": Repair(writer(1), (2,), (), (), writer(1) | WAITERS, [2], []),
    "flags without a queue": Repair(bit(1) | WAITERS | HANDOFF, (), (), (), bit(1), [], []),
    "a reader let in and not told": Repair(bit(2) | WAITERS, (2,), (3,), (), bit(2) | WAITERS, [3], [2]),
    "a reader let in and not told died": Repair(bit(2) | WAITERS, (2,), (3,), (2,), DIED | WAITERS, [3], [3]),
    "free, first writer perhaps not told": Repair(WAITERS, (), (2, 3), (), WAITERS, [2, 3], [2]),
}  # fmt: skip


@pytest.mark.parametrize("row", SEMS.values(), ids=SEMS.keys())
def test_a_repaired_sem_has_no_dead_holder_and_no_dead_waiter_and_the_right_flags(board: Board, row: Repair) -> None:
    """And the next is let in. Repaired again, nothing changes."""
    for number in row.readers:
        board.enqueue(number, READ, 0)
    for number in row.writers:
        board.enqueue(number, WRITE, 0)
    board.word = row.word
    for _ in range(2):
        board.call(rwsem_repair, board.lock, mask(row.dead))
        assert (board.word, board.queue(), told(board)) == (row.after, row.queue, row.told)


# --- the news ----------------------------------------------------------------------------------------------


def read(board: Board, number: int) -> int:
    """CPU `number` waits for a share; whether it has it then."""
    return int(board.play(number, down_read) == 0)


def write(board: Board, number: int) -> int:
    """CPU `number` waits for the sem; whether it has it then."""
    return int(board.play(number, down_write) == 0)


def try_read(board: Board, number: int) -> int:
    """CPU `number` tries for a share; whether it has it then, perhaps after it was in alone."""
    got = board.play(number, down_read_trylock_robust)
    if board.word & WRITER:
        board.play(number, downgrade_write)
    return got


def test_readers_that_wait_behind_a_dead_writer_go_in_when_one_was_in_alone(board: Board) -> None:
    """It hears the news with nobody beside it, and lets them in as it becomes a reader."""
    board.live(2, 3, 4)
    board.word = writer(1)
    for number in (2, 3):
        board.enqueue(number, READ, WAITERS)
    board.live(1)
    board.die(1)
    board.call(rwsem_repair, board.lock, mask([1]))
    assert (board.word, told(board)) == (DIED | WAITERS, [2])
    assert board.play(3, take_as_first) == 0
    assert board.play(2, take_as_first) == 1
    assert board.word & (WRITER | DIED) == WRITER | DIED
    board.word &= ~DIED
    board.play(2, downgrade_write)
    assert (board.word, board.queue(), told(board)) == (bit(2) | bit(3), [], [2, 3])


def test_that_a_reader_died_does_not_hide_that_a_writer_did(board: Board) -> None:
    """The worse news is told."""
    board.word = DIED | bit(3)
    board[board.lock + LOCK.died] = 2 * 102 + WRITE
    board.call(_drop_dead_holders, board.lock, mask([3]))
    assert (board.word, board[board.lock + LOCK.died]) == (DIED, 2 * 102 + WRITE)


@pytest.mark.parametrize(
    ("take", "give"),
    [
        (read, up_read),
        (write, up_write),
        (try_read, up_read),
        (lambda board, number: board.play(number, down_write_trylock_robust), up_write),
    ],
    ids=["read", "write", "try to read", "try to write"],
)
@pytest.mark.parametrize("word", [writer(2), DIED], ids=["writer died", "news"])
def test_the_next_one_in_is_told_that_a_holder_died_and_takes_the_news_away(
    board: Board, word: int, take: Callable[[Board, int], int], give: Callable[..., int]
) -> None:
    """However it gets in; the one after is told nothing. An end that nobody noticed is noticed."""
    board.live(1, 3)
    board.die(2)
    board.word = word
    assert take(board, 1) == 1
    assert board.word in (bit(1), writer(1))
    board.play(1, give)
    assert take(board, 3) == 1
    assert (board.field(1, CPU.recovered), board.field(3, CPU.recovered)) == (1, 0)


@pytest.mark.parametrize(
    "take", [write, lambda board, number: board.play(number, down_write_trylock_robust)], ids=["write", "try to write"]
)
def test_a_writer_gets_in_past_readers_that_died(board: Board, take: Callable[[Board, int], int]) -> None:
    """And is told, once for all of them."""
    board.live(1)
    board.die(2, 3)
    board.word = bit(2) | bit(3)
    assert take(board, 1) == 1
    assert (board.word, board.field(1, CPU.recovered)) == (writer(1), 1)


@pytest.mark.parametrize("attempt", [down_read_trylock, down_write_trylock])
def test_no_fast_path_goes_past_the_news(board: Board, attempt: Callable[..., int]) -> None:
    """The kernel's trylocks fail, and change nothing."""
    board.word = DIED
    assert board.play(1, attempt) == 0
    assert board.word == DIED


def test_a_holder_can_pass_the_news_on_with_the_sem(board: Board) -> None:
    """It stays in the word when that is given up."""
    board.word = writer(1)
    board.play(1, rwsem_mark_died)
    board.play(1, up_write)
    assert board.word == DIED


# --- successors --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "after"),
    [(writer(1), DIED), (bit(1) | bit(3), bit(3) | DIED), (writer(3), writer(3))],
    ids=["written", "read", "another's"],
)
@pytest.mark.parametrize("wait_lock", [0, 1, 4], ids=["free", "its own", "of another that died"])
def test_a_successor_takes_back_what_its_predecessor_had_of_a_sem(
    board: Board, word: int, after: int, wait_lock: int
) -> None:
    """Its life is CPU 1's, so only it can; its place in the queue too. The wait_lock is free afterwards."""
    board.live(1, 2, 3)
    board.die(4)
    board[board.lock + LOCK.wait_lock] = wait_lock
    board.enqueue(1, WRITE, 0)
    board.word = word | WAITERS
    board.play(1, rwsem_disown)
    assert (board.word, board.queue(), board[board.lock + LOCK.wait_lock]) == (after, [], 0)


def chain(board: Board) -> list[int]:
    """Chain a mutex, an rwsem and a mutex; where they are."""
    locks = [board.lock, board.spare, board.spare + LOCK.SIZE]
    board[HEADER.nwords] = board.spare + 64
    for lock, init in zip(locks, (mutex_init, rwsem_init, mutex_init), strict=True):
        board.call(init, lock, 0)
        board.call(chain_lock, lock)
    return locks


@pytest.mark.parametrize("hold", [writer(1), bit(1)], ids=["written", "read"])
def test_a_successor_takes_back_what_was_held_of_every_chained_lock(board: Board, hold: int) -> None:
    """Mutexes and rwsems; each keeps the news."""
    locks = chain(board)
    board.live(1)
    for lock, word in zip(locks, (1, hold, 1), strict=True):
        board[lock + LOCK.word] = word
    board.call(disown_all, board.cpus[1])
    assert [bool(board[lock + LOCK.word] & ~DIED & ~(1 << 18)) for lock in locks] == [False] * 3
    assert all(board[lock + LOCK.word] for lock in locks)


@pytest.mark.parametrize(("at", "hold"), [(0, 1), (1, writer(1)), (1, bit(1)), (2, 1)])
def test_a_task_holds_something_if_any_chained_lock_names_it(board: Board, at: int, hold: int) -> None:
    """In whatever way; another one's hold is not its own."""
    locks = chain(board)
    assert board.call(holds_any, board.cpus[1]) == 0
    board[locks[at] + LOCK.word] = hold
    assert [board.call(holds_any, board.cpus[n]) for n in (1, 2)] == [1, 0]
