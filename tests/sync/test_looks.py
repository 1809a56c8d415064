"""Between any two steps of one task another may act, or the first may end: every place is tried, plain.

The memory counts how often it is touched, and lets something happen before one of these times.
"""

import contextlib
from collections.abc import Callable
from typing import SupportsIndex, cast

import pytest

from shmreclaim.machine.compile import plain
from shmreclaim.machine.futex import LoneTaskError
from shmreclaim.machine.layout import HEADER
from shmreclaim.sync.mutex import mutex_lock
from shmreclaim.sync.robust import dead_tasks, look_for_the_dead
from shmreclaim.sync.rwsem import down_read, down_write
from shmreclaim.sync.wait_queue import announce
from tests.sync.board import Board, writer


class Touched(list[int]):
    """Words that let something happen before they are touched for the n-th time."""

    def __init__(self, words: list[int], events: dict[int, Callable[[], object]]) -> None:
        """`events`: what happens, by n."""
        super().__init__(words)
        self.events = events
        self.touches = 0

    def _touch(self) -> None:
        event = self.events.pop(self.touches, None)
        self.touches += 1
        if event is not None:
            event()

    def __getitem__(self, i: SupportsIndex) -> int:  # type: ignore[override]
        """Read a word."""
        self._touch()
        return super().__getitem__(i)

    def __setitem__(self, i: SupportsIndex, value: int) -> None:  # type: ignore[override]
        """Write a word."""
        self._touch()
        super().__setitem__(i, value)


SLEEP = 3 * 4
"""Touches of a sleep on four words, which to all others is one step: two of the waiter's, the lives of 2 and 3."""

Lock = Callable[..., int]
LOCKS = pytest.mark.parametrize(
    ("lock", "held"), [(mutex_lock, 2), (down_read, writer(2)), (down_write, writer(2))], ids=["mutex", "read", "write"]
)


def wait(lock: Lock, held: int, again: int | None, dies: int | None) -> tuple[bool, int]:
    """Let CPU 1 wait for what CPU 2 holds, which dies before touch `dies`, and CPU 3 announces that.

    Before touch `again` there is reason to look again. Whether 1 has the lock then; if not, the touches so far.
    """
    board = Board("plain")
    board.live(1, 2, 3)
    board.word = held

    def die() -> None:
        board.die(2)
        plain(look_for_the_dead)(memory)

    def begin() -> None:
        memory[HEADER.lives_seq] += 1

    events: dict[int, Callable[[], object]] = {n: event for n, event in ((again, begin), (dies, die)) if n is not None}
    memory = Touched(cast(list[int], board.memory.mem), events)
    board.memory.mem = board.memory._words = memory
    try:
        return plain(lock)(memory, board.cpus[1], board.lock) == 0, memory.touches
    except LoneTaskError:
        return False, memory.touches - SLEEP


@LOCKS
def test_a_waiter_does_not_sleep_through_an_end_that_another_announced(lock: Lock, held: int) -> None:
    """Wherever it was before it slept; also where it had looked once and looks again."""
    got, first = wait(lock, held, None, None)
    assert not got
    assert [n for n in range(first + 1) if not wait(lock, held, None, n)[0]] == []
    got, second = wait(lock, held, first, None)
    assert not got
    assert second > first
    assert [n for n in range(first + 1, second + 1) if not wait(lock, held, first, n)[0]] == []


class DeathError(Exception):
    """The task ends here."""


def test_who_dies_while_it_announces_an_end_is_announced_in_turn_and_with_it_that_end() -> None:
    """Wherever it was: then who sleeps is woken, and has a reason to repair."""
    for n in range(20):
        board = Board("plain")
        board.live(1, 2, 3)
        board.die(2)

        def die() -> None:
            raise DeathError

        memory = Touched(cast(list[int], board.memory.mem), {n: die})
        with contextlib.suppress(DeathError):
            plain(announce)(memory, 1 << 2)
        memory.events.clear()
        board.memory.mem = board.memory._words = memory
        before = memory[HEADER.lives_seq]
        board.die(3)
        plain(look_for_the_dead)(memory)
        assert memory[HEADER.lives_seq] == before + 1
        assert memory[HEADER.announced]
        assert plain(dead_tasks)(memory) == 1 << 2 | 1 << 3
