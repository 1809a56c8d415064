"""Memory for plain bodies that refuses what compiled code would do without a word: words that are nobody's.

A list, and a memoryview, count a negative index from the end; the machine does not. The first words of a segment are
its header: who finds a record there followed a NULL pointer.
"""

from __future__ import annotations

from shmreclaim.machine.layout import HEADER


class OutOfBoundsError(IndexError):
    """A word was used that is outside of memory, or at NULL."""

    def __init__(self, index: int, words: int) -> None:
        """Say which, of how many there are."""
        near = (
            f"word {index} is near NULL"
            if 0 <= index < words
            else f"word {index} is outside of memory, 0 to {words - 1}"
        )
        super().__init__(near)
        self.index = index


class Exhausted(Exception):  # noqa: N818 - it is no error of ours: whoever gave the budget says what it means
    """More words were used than the budget allows."""


class CheckedMemory:
    """`words` with every index checked, and a budget of uses; a negative index is outside."""

    def __init__(self, words: memoryview, budget: int) -> None:
        """Look at `words`; at most `budget` times."""
        self._words = words
        self._size = len(words)
        self.budget = budget

    def __getitem__(self, i: int) -> int:
        """Load a word."""
        if not HEADER.owner_pid < i < self._size:
            raise OutOfBoundsError(i, self._size)
        self._spend()
        return self._words[i]

    def __setitem__(self, i: int, value: int) -> None:
        """Store a word."""
        if not HEADER.kernel < i < self._size:
            raise OutOfBoundsError(i, self._size)
        self._spend()
        self._words[i] = value

    def _spend(self) -> None:
        self.budget -= 1
        if self.budget < 0:
            raise Exhausted
