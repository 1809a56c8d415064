"""The rows of the rwsem's truth table, one task, plain and compiled; then random steps against an obvious model."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shmreclaim.machine.cpu import CPU, MAX_CPUS, Violation
from shmreclaim.machine.futex import EPERM, ETIMEDOUT
from shmreclaim.sync.lockdep import LOCK, READ, WRITE
from shmreclaim.sync.rwsem import (
    _steal,
    down_read,
    down_read_trylock,
    down_read_until,
    down_write,
    down_write_trylock,
    down_write_until,
    downgrade_write,
    rwsem_init,
    rwsem_is_contended,
    up_read,
    up_write,
)
from shmreclaim.sync.rwsem_queue import (
    DIED,
    HANDOFF,
    OWNER_MASK,
    OWNER_SHIFT,
    READERS_MASK,
    WAITERS,
    WRITER,
    give_up,
    mark_wake,
    take_as_first,
)
from shmreclaim.sync.wait_queue import UNINTERRUPTIBLE
from tests.both import KINDS
from tests.sync.board import CPUS, Board, bit, writer

PAST = 1
"""A deadline that is over: the wait ends at once."""


WORDS = {
    "free": 0,
    "read by 2": bit(2),
    "read by 2 and 3": bit(2) | bit(3),
    "written by 2": writer(2),
    "free, queue": WAITERS,
    "read by 2, queue": bit(2) | WAITERS,
    "written by 2, queue": writer(2) | WAITERS,
    "read by 2, promised": bit(2) | WAITERS | HANDOFF,
    "written by 2, promised": writer(2) | WAITERS | HANDOFF,
    "free, promised": WAITERS | HANDOFF,
}
ROWS = pytest.mark.parametrize("word", WORDS.values(), ids=WORDS.keys())


def test_the_parts_of_the_word_do_not_overlap_and_fill_63_bits() -> None:
    """Four flags, the writer's number, one bit for each CPU; the sign stays free."""
    parts = [WRITER, WAITERS, HANDOFF, DIED, OWNER_MASK, READERS_MASK]
    assert sum(parts) == (1 << 63) - 1
    assert READERS_MASK.bit_count() == MAX_CPUS
    assert MAX_CPUS << OWNER_SHIFT & ~OWNER_MASK == 0


def test_init_makes_a_free_rwsem_with_an_empty_queue(board: Board) -> None:
    """Whatever was in its words before."""
    for k in range(LOCK.SIZE):
        board[board.lock + k] = -1
    board.call(rwsem_init, board.lock, 5)
    assert (board.word, board[board.lock + LOCK.klass], board[board.lock + LOCK.wait_lock]) == (0, 5, 0)
    assert board.queue() == []


@ROWS
def test_a_read_trylock_fails_exactly_if_a_writer_holds_or_anyone_waits(board: Board, word: int) -> None:
    """The rule that the shrinkers' reclaim path rests on; a failure changes nothing."""
    board.word = word
    fails = bool(word & (WRITER | WAITERS))
    assert board.play(1, down_read_trylock) == (not fails)
    assert board.word == (word if fails else word | bit(1))
    assert board.violations(1) == []


@ROWS
def test_a_write_trylock_takes_only_a_sem_that_is_free_and_waited_for_by_nobody(board: Board, word: int) -> None:
    """A failure changes nothing."""
    board.word = word
    assert board.play(1, down_write_trylock) == (word == 0)
    assert board.word == (word or writer(1))


@ROWS
def test_contended_means_that_somebody_is_queued(board: Board, word: int) -> None:
    """Not that somebody holds it (kernel: rwsem_is_contended)."""
    board.word = word
    assert board.call(rwsem_is_contended, board.lock) == bool(word & WAITERS)


@ROWS
def test_stealing_takes_a_sem_that_is_free_unless_it_is_promised(board: Board, word: int) -> None:
    """A writer may pass those who sleep, but not one that was promised the sem."""
    board.word = word
    free = not word & (WRITER | READERS_MASK | HANDOFF)
    assert board.play(1, _steal) == free
    assert board.word == (word | writer(1) if free else word)


@ROWS
@pytest.mark.parametrize("release", [up_read, up_write, downgrade_write])
def test_a_release_by_one_who_holds_nothing_is_a_violation_and_changes_nothing(
    board: Board, word: int, release: Callable[..., int]
) -> None:
    """Each release, on every word that CPU 1 is not in."""
    board.word = word
    assert board.play(1, release) == -EPERM
    assert board.word == word
    assert board.violations(1) == [Violation.NOT_HELD]


@pytest.mark.parametrize(
    ("take", "release"),
    [(down_read, up_write), (down_read, downgrade_write), (down_write, up_read)],
    ids=["read, up_write", "read, downgrade", "write, up_read"],
)
def test_a_release_in_the_wrong_mode_is_a_violation_and_changes_nothing(
    board: Board, take: Callable[..., int], release: Callable[..., int]
) -> None:
    """The hold that there is stays."""
    board.play(1, take)
    word = board.word
    assert board.play(1, release) == -EPERM
    assert board.word == word
    assert board.violations(1) == [Violation.NOT_HELD]


@pytest.mark.parametrize("neighbours", [0, bit(2), bit(2) | bit(3) | bit(4)])
def test_a_second_read_share_is_refused_and_touches_no_neighbour(board: Board, neighbours: int) -> None:
    """A bit added to itself would carry into the next CPU's."""
    board.play(1, down_read)
    board.word |= neighbours
    assert board.play(1, down_read_until, 0, UNINTERRUPTIBLE) == -EPERM
    assert board.play(1, down_read_trylock) == 0
    assert board.word == bit(1) | neighbours
    assert board.violations(1) == [Violation.RECURSION] * 2


def test_the_last_cpu_of_all_has_a_bit_of_its_own(board: Board) -> None:
    """CPU 53 reads with bit 62, below the sign."""
    board.field(4, CPU.bit, bit(MAX_CPUS))
    board.play(4, down_read)
    assert board.word == 1 << 62
    board.play(4, up_read)
    assert board.word == 0


@pytest.mark.parametrize("word", [bit(2), bit(2) | bit(3)])
def test_readers_share(board: Board, word: int) -> None:
    """One more gets in at once, and out again."""
    board.word = word
    assert board.play(1, down_read) == 0
    assert board.word == word | bit(1)
    board.play(1, up_read)
    assert board.word == word


def test_the_last_reader_out_tells_the_first_writer_to_try(board: Board) -> None:
    """Not the one before the last, and not the second writer."""
    board.word = bit(1) | bit(2)
    board.enqueue(3, WRITE, WAITERS)
    board.enqueue(4, WRITE, WAITERS)
    board.play(1, up_read)
    assert board.field(3, CPU.wake) == 0
    board.play(2, up_read)
    assert (board.field(3, CPU.wake), board.field(4, CPU.wake)) == (1, 0)
    assert board.word == WAITERS


def test_a_writer_that_leaves_lets_all_queued_readers_in_if_one_is_first(board: Board) -> None:
    """Also the one behind a writer; the writer stays first in the queue."""
    board.word = writer(1)
    for number, mode in ((2, READ), (3, WRITE), (4, READ)):
        board.enqueue(number, mode, WAITERS)
    board.play(1, up_write)
    assert board.word == bit(2) | bit(4) | WAITERS
    assert [board.field(n, CPU.wake) for n in (2, 3, 4)] == [1, 0, 1]
    assert board.queue() == [3]


def test_a_writer_that_leaves_wakes_only_a_first_writer(board: Board) -> None:
    """Readers behind it stay in the queue."""
    board.word = writer(1)
    board.enqueue(2, WRITE, WAITERS)
    board.enqueue(3, READ, WAITERS)
    board.play(1, up_write)
    assert board.word == WAITERS
    assert [board.field(n, CPU.wake) for n in (2, 3)] == [1, 0]
    assert board.queue() == [2, 3]


def test_readers_that_are_let_in_take_waiters_and_handoff_away_with_the_queue(board: Board) -> None:
    """An empty queue has no flags."""
    board.word = 0
    board.enqueue(2, READ, WAITERS | HANDOFF)
    board.call(mark_wake, board.lock)
    assert board.word == bit(2)
    assert board.queue() == []


@pytest.mark.parametrize(("since", "asked"), [(1 << 62, 0), (0, HANDOFF)], ids=["just came", "came long ago"])
def test_a_first_reader_kept_out_by_a_barging_writer_asks_for_a_handoff_after_4_ms(
    board: Board, since: int, asked: int
) -> None:
    """Whoever would have let it in asks in its name."""
    board.word = writer(1)
    board.enqueue(2, READ, WAITERS)
    board.field(2, CPU.wait_since, since)
    assert board.call(mark_wake, board.lock) == 0
    assert board.word == writer(1) | WAITERS | asked
    assert board.queue() == [2]


@pytest.mark.parametrize(("since", "asked"), [(1 << 62, 0), (0, HANDOFF)], ids=["just came", "came long ago"])
def test_a_first_writer_that_finds_the_sem_taken_asks_for_a_handoff_after_4_ms(
    board: Board, since: int, asked: int
) -> None:
    """From then on nobody passes it: no reader, no trylock, no stealing."""
    board.word = writer(1)
    board.enqueue(2, WRITE, WAITERS)
    board.field(2, CPU.wait_since, since)
    assert board.play(2, take_as_first) == 0
    assert board.word == writer(1) | WAITERS | asked
    board.play(1, up_write)
    assert board.play(3, _steal) == (asked == 0)
    assert board.play(2, take_as_first) == (asked != 0)


def test_a_first_writer_takes_waiters_and_handoff_away_if_it_is_the_last(board: Board) -> None:
    """All in one step: nobody sees a promise without a queue."""
    board.enqueue(2, WRITE, WAITERS | HANDOFF)
    assert board.play(2, take_as_first) == 1
    assert board.word == writer(2)
    assert board.queue() == []


def test_a_first_writer_leaves_waiters_to_those_behind_it(board: Board) -> None:
    """The promise was its own and goes."""
    board.enqueue(2, WRITE, WAITERS | HANDOFF)
    board.enqueue(3, READ, WAITERS)
    assert board.play(2, take_as_first) == 1
    assert board.word == writer(2) | WAITERS


def test_a_second_writer_does_not_take_a_free_sem(board: Board) -> None:
    """First come, first served."""
    board.enqueue(2, WRITE, WAITERS)
    board.enqueue(3, WRITE, WAITERS)
    assert board.play(3, take_as_first) == 0
    assert board.word == WAITERS


def test_a_first_writer_that_gives_up_lets_the_readers_behind_it_in(board: Board) -> None:
    """They were kept out by nothing else."""
    board.word = bit(1)
    board.enqueue(2, WRITE, WAITERS | HANDOFF)
    board.enqueue(3, READ, WAITERS)
    board.enqueue(4, READ, WAITERS)
    assert board.play(2, give_up) == 1 << 3 | 1 << 4
    assert board.word == bit(1) | bit(3) | bit(4)
    assert board.queue() == []


def test_a_first_writer_that_gives_up_passes_its_wake_on_to_a_writer(board: Board) -> None:
    """It was told to try and no longer wants to; the sem is free."""
    board.enqueue(2, WRITE, WAITERS | HANDOFF)
    board.enqueue(3, WRITE, WAITERS)
    assert board.play(2, give_up) == 1 << 3
    assert board.word == WAITERS
    assert board.queue() == [3]


def test_a_second_waiter_that_gives_up_leaves_the_promise_to_the_first(board: Board) -> None:
    """HANDOFF is not its own to take back, and there is nobody to wake."""
    board.word = bit(1)
    board.enqueue(2, WRITE, WAITERS | HANDOFF)
    board.enqueue(3, WRITE, WAITERS)
    assert board.play(3, give_up) == 0
    assert board.word == bit(1) | WAITERS | HANDOFF


def test_a_downgrade_keeps_the_sem_and_lets_queued_readers_in(board: Board) -> None:
    """A first writer goes on waiting."""
    board.play(1, down_write)
    board.enqueue(2, READ, WAITERS)
    board.enqueue(3, WRITE, WAITERS)
    board.play(1, downgrade_write)
    assert board.word == bit(1) | bit(2) | WAITERS
    assert board.queue() == [3]
    board.play(1, up_read)
    board.play(2, up_read)
    assert board.field(3, CPU.wake) == 1


def test_a_downgrade_lets_no_reader_past_a_first_writer(board: Board) -> None:
    """Queue order holds."""
    board.play(1, down_write)
    board.enqueue(2, WRITE, WAITERS)
    board.enqueue(3, READ, WAITERS)
    board.play(1, downgrade_write)
    assert board.word == bit(1) | WAITERS
    assert board.queue() == [2, 3]


@pytest.mark.parametrize("number", range(1, CPUS + 1))
def test_the_word_names_each_holder(board: Board, number: int) -> None:
    """A writer by its number, a reader by its bit."""
    board.play(number, down_write)
    assert board.word == writer(number)
    board.play(number, downgrade_write)
    assert board.word == bit(number)
    board.play(number, up_read)
    assert board.word == 0


@pytest.mark.parametrize("until", [down_read_until, down_write_until])
@pytest.mark.parametrize("word", [writer(2), bit(2) | WAITERS], ids=["written", "read, queue"])
def test_a_timed_wait_whose_deadline_is_over_leaves_no_trace(
    board: Board, until: Callable[..., int], word: int
) -> None:
    """-ETIMEDOUT; word, queue and the note of what it waits for are as before."""
    board.word = word
    if word & WAITERS:
        board.enqueue(3, WRITE, 0)
    queue = board.queue()
    assert board.play(1, until, PAST, UNINTERRUPTIBLE) == -ETIMEDOUT
    assert (board.word, board.queue(), board.field(1, CPU.wait_for)) == (word, queue, 0)


OPS = ["read", "write", "timed read", "timed write", "up_read", "up_write", "downgrade"]
Step = tuple[int, str]
STEPS = st.lists(st.tuples(st.integers(1, CPUS), st.sampled_from(OPS)), max_size=40)


class Model:
    """What an rwsem without waiters is: a writer, or a set of readers, or nobody."""

    def __init__(self) -> None:
        """Start free."""
        self.writer = 0
        self.readers: set[int] = set()
        self.wrong = 0

    def word(self) -> int:
        """The word that says so."""
        return sum(bit(n) for n in self.readers) | (writer(self.writer) if self.writer else 0)

    def read(self, number: int) -> bool:
        """Take a share if there is no writer; a second one is wrong."""
        self.wrong += number in self.readers
        taken = not self.writer and number not in self.readers
        self.readers |= {number} if taken else set()
        return taken

    def write(self, number: int) -> bool:
        """Become the writer if there is nobody."""
        free = not self.writer and not self.readers
        self.writer = number if free else self.writer
        return free

    def up_read(self, number: int) -> bool:
        """Give a share up."""
        held = number in self.readers
        self.readers -= {number}
        self.wrong += not held
        return held

    def up_write(self, number: int) -> bool:
        """Give the sem up."""
        held = self.writer == number
        self.writer = 0 if held else self.writer
        self.wrong += not held
        return held

    def downgrade(self, number: int) -> bool:
        """Become a reader."""
        held = self.up_write(number)
        self.readers |= {number} if held else set()
        return held

    def step(self, number: int, what: str) -> bool:
        """Do one thing; whether it succeeded."""
        return bool(getattr(self, what.removeprefix("timed "))(number))


def _play(board: Board, number: int, what: str) -> bool:
    actions: dict[str, Callable[[], bool]] = {
        "read": lambda: board.play(number, down_read_trylock) == 1,
        "write": lambda: board.play(number, down_write_trylock) == 1,
        "timed read": lambda: board.play(number, down_read_until, PAST, UNINTERRUPTIBLE) == 0,
        "timed write": lambda: board.play(number, down_write_until, PAST, UNINTERRUPTIBLE) == 0,
        "up_read": lambda: board.play(number, up_read) == 0,
        "up_write": lambda: board.play(number, up_write) == 0,
        "downgrade": lambda: board.play(number, downgrade_write) == 0,
    }
    return actions[what]()


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=80, deadline=None)
@given(steps=STEPS)
def test_any_sequence_of_steps_does_what_a_writer_or_a_set_of_readers_would(kind: str, steps: list[Step]) -> None:
    """Answers, the whole word and violations agree after every step."""
    board, model = Board(kind), Model()
    for number, what in steps:
        assert _play(board, number, what) == model.step(number, what), (number, what)
        assert board.word == model.word()
    assert sum(board.field(n, CPU.nr_violations) for n in range(1, CPUS + 1)) == model.wrong
