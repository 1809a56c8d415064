"""Bit arrays against Python's unbounded integers."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shmreclaim.lib.bitmap import (
    bitmap_fill,
    bitmap_words,
    clear_bit,
    find_next_bit,
    find_next_zero_bit,
    set_bit,
)
from shmreclaim.lib.bitmap import test_bit as bit_is_set
from shmreclaim.machine.compile import plain
from tests.both import KINDS, Memory

AT = 3
BITS = 200
GUARD = 0x7777
modest = settings(max_examples=150, deadline=None)


def make_bitmap(kind: str, value: int, words: int = 4) -> Memory:
    """A bitmap that holds `value`, a guard word on either side."""
    memory = Memory(kind, AT + words + 1)
    memory.set_word(AT - 1, GUARD)
    memory.set_word(AT + words, GUARD)
    for k in range(words):
        memory.set_word(AT + k, signed(value >> 64 * k))
    return memory


def signed(word: int) -> int:
    """The low 64 bits as a signed word."""
    word &= (1 << 64) - 1
    return word - (1 << 64) if word >> 63 else word


def value_of(memory: Memory, words: int = 4) -> int:
    """What the bitmap holds, as one integer."""
    assert memory.word(AT - 1) == memory.word(AT + words) == GUARD
    return sum((memory.word(AT + k) & ((1 << 64) - 1)) << 64 * k for k in range(words))


def next_bit(value: int, bits: int, start: int) -> int:
    """The obvious search."""
    return next((n for n in range(start, bits) if value >> n & 1), bits)


bit_numbers = st.one_of(st.integers(0, BITS - 1), st.sampled_from([0, 63, 64, 127, 128, 191, 199]))
contents = st.one_of(
    st.integers(0, (1 << 256) - 1),
    st.sampled_from([0, (1 << 256) - 1, 1 << 63, 1 << 255, (1 << 256) - 1 - (1 << 63), (1 << 64) - 1]),
)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("function", [set_bit, clear_bit, bit_is_set], ids=["set_bit", "clear_bit", "test_bit"])
def test_one_bit_is_read_and_changed_and_no_other(kind: str, function: Any) -> None:
    """Each answers with the bit as it was; the integer says what is left."""

    @modest
    @given(contents, bit_numbers)
    def check(value: int, bit: int) -> None:
        memory = make_bitmap(kind, value)
        assert memory.call(function, AT, bit) == value >> bit & 1
        after = {set_bit: value | 1 << bit, clear_bit: value & ~(1 << bit), bit_is_set: value}[function]
        assert value_of(memory) == after

    check()


@pytest.mark.parametrize("kind", KINDS)
def test_a_search_finds_the_first_bit_at_or_after_its_start(kind: str) -> None:
    """Set or clear, also in the sign bit, never past the end of the array; the length need not fill a word."""

    @modest
    @given(contents, st.integers(0, 256), st.integers(0, 300))
    def check(value: int, bits: int, start: int) -> None:
        memory = make_bitmap(kind, value)
        expected = next_bit(value, bits, start)
        assert memory.call(find_next_bit, AT, bits, start) == expected
        assert memory.call(find_next_zero_bit, AT, bits, start) == next_bit(~value, bits, start)

    check()


@pytest.mark.parametrize("kind", KINDS)
def test_searches_visit_every_set_bit_once(kind: str) -> None:
    """From one to the next until the end."""

    @settings(max_examples=40, deadline=None)
    @given(contents)
    def check(value: int) -> None:
        memory, found, bit = make_bitmap(kind, value), [], -1
        while (bit := memory.call(find_next_bit, AT, BITS, bit + 1)) < BITS:
            found.append(bit)
        assert found == [n for n in range(BITS) if value >> n & 1]

    check()


@pytest.mark.parametrize(("bits", "words"), [(0, 0), (1, 1), (63, 1), (64, 1), (65, 2), (1024, 16)])
def test_words_are_counted_up(bits: int, words: int, execution: str) -> None:
    """A bit that is begun costs a whole word."""
    counted = plain(bitmap_words)(bits) if execution == "plain" else bitmap_words(bits)
    assert counted == words


@pytest.mark.parametrize("value", [0, -1])
def test_filling_stays_within_the_array(value: int, execution: str) -> None:
    """All words of the array, and the guards on both sides as they were."""
    memory = make_bitmap(execution, 0x1234)
    memory.call(bitmap_fill, AT, 4, value)
    assert value_of(memory) == value & ((1 << 256) - 1)
