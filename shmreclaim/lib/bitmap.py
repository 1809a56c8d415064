"""Bit arrays in shared words, 64 bits to a word.

Model: lib/bitmap.c and the atomic bit operations of Documentation/atomic_bitops.txt: `set_bit` and
`clear_bit` are atomic and unordered, callers add the barrier; the `__` forms of the kernel are not
needed, an uncontended atomic costs three nanoseconds. `find_*` read without a lock: a bit that is set
meanwhile may be missed, one that was set before is found.
"""

from typing import Any

from shmreclaim.machine.atomics import fetch_and_relaxed, fetch_or_relaxed, lowest_bit, read_once, write_once
from shmreclaim.machine.compile import compiled

BITS_PER_WORD = 64


@compiled
def bitmap_words(bits: int) -> int:
    """Words that hold that many bits."""
    return (bits + 63) >> 6


@compiled
def set_bit(mem: Any, bitmap: int, bit: int) -> int:
    """Set one bit, atomically; return whether it was set before."""
    mask = 1 << (bit & 63)
    return 1 if fetch_or_relaxed(mem, bitmap + (bit >> 6), mask) & mask else 0


@compiled
def clear_bit(mem: Any, bitmap: int, bit: int) -> int:
    """Clear one bit, atomically; return whether it was set before."""
    mask = 1 << (bit & 63)
    return 1 if fetch_and_relaxed(mem, bitmap + (bit >> 6), ~mask) & mask else 0


@compiled
def test_bit(mem: Any, bitmap: int, bit: int) -> int:
    """Whether one bit is set."""
    return (read_once(mem, bitmap + (bit >> 6)) >> (bit & 63)) & 1


@compiled
def find_next_bit(mem: Any, bitmap: int, bits: int, start: int) -> int:
    """The first set bit at or after `start`; `bits` if there is none."""
    return _find_next(mem, bitmap, bits, start, 0)


@compiled
def find_next_zero_bit(mem: Any, bitmap: int, bits: int, start: int) -> int:
    """The first clear bit at or after `start`; `bits` if there is none."""
    return _find_next(mem, bitmap, bits, start, -1)


@compiled
def _find_next(mem: Any, bitmap: int, bits: int, start: int, invert: int) -> int:
    if start >= bits:
        return bits
    at = start >> 6
    # -1 << n keeps the bits from n up: those before `start` do not count.
    word = (read_once(mem, bitmap + at) ^ invert) & (-1 << (start & 63))
    last = (bits - 1) >> 6
    while word == 0 and at < last:
        at += 1
        word = read_once(mem, bitmap + at) ^ invert
    found = (at << 6) + lowest_bit(word)
    return found if found < bits else bits


@compiled
def bitmap_fill(mem: Any, bitmap: int, words: int, value: int) -> int:
    """Set every word to `value` (0 or -1); nobody else may be writing."""
    for k in range(words):
        write_once(mem, bitmap + k, value)
    return 0
