"""One source, two executions: a memory for plain functions and one for compiled functions, used alike.

    memory = Memory("compiled", 1000)
    assert memory.call(set_bit, bitmap, 3) == 0

A test that takes the fixture `execution` (one of KINDS) and makes its Memory of that kind runs both ways.
"""

from array import array
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shmreclaim.machine.compile import plain

KINDS = ("plain", "compiled")


class Memory:
    """So many words, all 0, and calls of functions of the subset over them."""

    def __init__(self, kind: str, words: int) -> None:
        """Make a list of ints for `plain`, an array (64-byte aligned) for `compiled`."""
        self.kind = kind
        self.size = words
        self.mem: Any
        self._words: list[int] | NDArray[np.int64]
        if kind == "plain":
            self.mem = self._words = [0] * words
        else:
            room = np.zeros(words + 8, np.int64)
            skip = -room.ctypes.data // 8 % 8
            self._words = room[skip : skip + words]
            self.mem = int(self._words.ctypes.data)

    def call(self, function: Callable[..., int], *args: int) -> int:
        """Call `function` on this memory, the way of its kind."""
        runnable = plain(function) if self.kind == "plain" else function
        return int(runnable(self.mem, *args))

    def word(self, i: int) -> int:
        """The word at `i`."""
        return int(self._words[i])

    def set_word(self, i: int, value: int) -> None:
        """Write the word at `i`."""
        self._words[i] = value

    def words(self, start: int = 0, stop: int | None = None) -> list[int]:
        """Copy the words from `start` up to `stop`."""
        part = self._words[start:stop]
        return part if isinstance(part, list) else part.tolist()

    def image(self, stop: int | None = None) -> bytes:
        """The words up to `stop` as bytes, to compare with another moment or another kind."""
        part = self._words[:stop]
        return array("q", part).tobytes() if isinstance(part, list) else part.tobytes()

    def fill(self, start: int, words: int, value: int) -> None:
        """Write `value` to so many words from `start`."""
        self._words[start : start + words] = [value] * words
