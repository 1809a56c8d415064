"""Obvious models of lib/: a dict for the IDR, a set for the IDA. Slow, short and right."""

from collections.abc import Container
from errno import EINVAL, ENOENT, ENOSPC

INT_MAX = (1 << 31) - 1
UINT_MAX = (1 << 32) - 1


def smallest_free(taken: Container[int], lowest: int, highest: int) -> int:
    """The smallest number of lowest..highest that is not taken; -ENOSPC if there is none."""
    number = lowest
    while number in taken:
        number += 1
    return number if number <= highest else -ENOSPC


class NaiveIdr:
    """What an IDR does, as a dict of id -> value."""

    def __init__(self) -> None:
        """No ids."""
        self.values: dict[int, int] = {}
        self.cursor = 0

    def alloc(self, value: int, start: int, end: int) -> int:
        """idr_alloc."""
        return self._store(value, self._free(start, end))

    def alloc_u32(self, value: int, start: int, highest: int) -> int:
        """idr_alloc_u32, but gives the id."""
        outside = start < 0 or not 0 <= highest <= UINT_MAX
        return self._store(value, -EINVAL if outside else smallest_free(self.values, start, highest))

    def alloc_cyclic(self, value: int, start: int, end: int) -> int:
        """idr_alloc_cyclic."""
        number = self._free(max(start, self.cursor), end) if start >= 0 else -EINVAL
        if number == -ENOSPC:
            number = self._free(start, end)
        if number >= 0:
            self.cursor = number + 1
        return self._store(value, number)

    def _free(self, start: int, end: int) -> int:
        highest = min(end - 1, INT_MAX) if end > 0 else INT_MAX
        return smallest_free(self.values, start, highest) if start >= 0 else -EINVAL

    def _store(self, value: int, number: int) -> int:
        if number >= 0:
            self.values[number] = value
        return number

    def find(self, number: int) -> int:
        """idr_find."""
        return self.values.get(number, 0)

    def replace(self, value: int, number: int) -> int:
        """idr_replace."""
        if number not in self.values:
            return -ENOENT
        old, self.values[number] = self.values[number], value
        return old

    def remove(self, number: int) -> int:
        """idr_remove."""
        return self.values.pop(number, 0)

    def get_next(self, start: int, highest: int = INT_MAX) -> int:
        """idr_get_next; a negative start is, unsigned, beyond every id."""
        if start < 0:
            return -ENOENT
        return min((n for n, value in self.values.items() if start <= n <= highest and value), default=-ENOENT)


class NaiveIda:
    """What an IDA does, as a set of ids."""

    def __init__(self) -> None:
        """No ids."""
        self.taken: set[int] = set()

    def alloc_range(self, lowest: int, highest: int) -> int:
        """ida_alloc_range."""
        if not 0 <= highest <= INT_MAX:
            highest = INT_MAX
        number = smallest_free(self.taken, lowest, highest) if lowest >= 0 else -ENOSPC
        if number >= 0:
            self.taken.add(number)
        return number

    def free(self, number: int) -> int:
        """ida_free."""
        if number not in self.taken:
            return -ENOENT
        self.taken.remove(number)
        return 0
