"""What an atomic means, plain, is what the machine does, compiled; on any words, wrap included."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shmreclaim.machine.atomics import wrap
from shmreclaim.machine.histogram import N_BUCKETS, bucket_of, histogram_add
from shmreclaim.result import bucket_of as result_bucket_of
from tests.both import KINDS, Memory
from tests.machine import programs
from tests.machine.programs import CHANGES, EXCHANGES, LOADS, STORES

LOW, HIGH = -(1 << 63), (1 << 63) - 1
WORDS = st.integers(LOW, HIGH) | st.sampled_from([LOW, LOW + 1, -1, 0, 1, HIGH - 1, HIGH]) | st.integers(-100, 100)
AT = 3


def outcome(kind: str, before: int, function: Callable[..., int], *args: int) -> tuple[int, int]:
    """What a function returns and leaves in the word."""
    memory = Memory(kind, 8)
    memory.set_word(AT, before)
    return memory.call(function, *args), memory.word(AT)


def agree(before: int, function: Callable[..., int], *args: int) -> tuple[int, int]:
    """The outcome, which must be the same in both kinds."""
    plain, machine = (outcome(kind, before, function, *args) for kind in KINDS)
    assert plain == machine
    return plain


@pytest.mark.parametrize("name", CHANGES)
@settings(max_examples=150, deadline=None)
@example(before=HIGH, value=1)
@example(before=LOW, value=-1)
@given(before=WORDS, value=WORDS)
def test_a_change_returns_what_was_there_and_wraps_at_64_bits(name: str, before: int, value: int) -> None:
    """xchg, add, or, and, in every order that has a name."""
    meaning: dict[str, Callable[[int, int], Any]] = {
        "xchg": lambda _, b: b,
        "fetch_add": lambda a, b: wrap(a + b),
        "fetch_or": lambda a, b: a | b,
        "fetch_and": lambda a, b: a & b,
    }
    base = next(key for key in sorted(meaning, key=len, reverse=True) if name.startswith(key))
    found = agree(before, programs.change, CHANGES.index(name), AT, value)
    assert found == (before, meaning[base](before, value))


@pytest.mark.parametrize("name", EXCHANGES)
@settings(max_examples=100, deadline=None)
@given(before=WORDS, expected=WORDS, new=WORDS, same=st.booleans())
def test_a_compare_exchange_stores_only_over_what_it_expects(
    name: str, before: int, expected: int, new: int, same: bool
) -> None:
    """And returns what was there either way."""
    expected = before if same else expected
    found = agree(before, programs.exchange, EXCHANGES.index(name), AT, expected, new)
    assert found == (before, new if before == expected else before)


@pytest.mark.parametrize("name", LOADS)
@given(value=WORDS)
@settings(max_examples=30, deadline=None)
def test_a_load_gives_the_word(name: str, value: int) -> None:
    """And leaves it."""
    assert agree(value, programs.load, LOADS.index(name), AT) == (value, value)


@pytest.mark.parametrize("name", STORES)
@given(before=WORDS, value=WORDS)
@settings(max_examples=30, deadline=None)
def test_a_store_replaces_the_word(name: str, before: int, value: int) -> None:
    """And returns 0."""
    assert agree(before, programs.store, STORES.index(name), AT, value) == (0, value)


@given(word=WORDS)
@settings(max_examples=200, deadline=None)
def test_bits_are_counted_alike(word: int) -> None:
    """Lowest bit (64 if none), number of bits, highest bit of a positive word."""
    found, _ = agree(0, programs.bits, word)
    text = f"{word & ((1 << 64) - 1):064b}"
    lowest = 64 if word == 0 else len(text) - 1 - text.rindex("1")
    assert found == lowest << 16 | text.count("1") << 8 | (word.bit_length() - 1 if word > 0 else 0)


def test_a_neighbouring_word_is_never_touched() -> None:
    """An index is an index of words."""
    memory = Memory("compiled", 8)
    memory.call(programs.change, 0, AT, -1)
    assert memory.words() == [0, 0, 0, -1, 0, 0, 0, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_barriers_hints_and_the_clock_run(kind: str) -> None:
    """The clock does not go back."""
    memory = Memory(kind, 8)
    assert memory.call(programs.barriers_and_hints) == 0
    first, second = memory.call(programs.now), memory.call(programs.now)
    assert 0 < first <= second


@pytest.mark.parametrize("kind", KINDS)
def test_the_cpu_clock_is_that_of_this_thread(kind: str) -> None:
    """Between two readings of Python's own."""
    memory = Memory(kind, 8)
    before = time.thread_time_ns()
    found = memory.call(programs.ran)
    assert before <= found <= time.thread_time_ns()


# --- histograms ------------------------------------------------------------------------------------------


def rule(value: int) -> int:
    """The bucket of a value, as its reader computes it."""
    if value < 64:
        return value
    e = value.bit_length() - 1
    return min((e - 5) * 32 + (value >> (e - 5)), N_BUCKETS - 1)


@given(value=st.integers(0, HIGH) | st.integers(0, 5000))
@settings(max_examples=300, deadline=None)
@example(value=63)
@example(value=64)
@example(value=HIGH)
def test_a_value_goes_into_the_bucket_where_it_is_looked_for(value: int) -> None:
    """Written in shared memory and read by `result` by one rule."""
    assert bucket_of(value) == rule(value) == result_bucket_of(value)


def test_buckets_are_narrower_than_3_percent_up_to_an_hour() -> None:
    """From the least to the greatest value of each."""
    bounds: dict[int, list[int]] = {}
    values = sorted(
        {v + d for e in range(42) for v in ((1 << e) + (1 << e) * k // 64 for k in range(64)) for d in (-1, 0)}
    )
    for value in values:
        bounds.setdefault(rule(max(value, 0)), []).append(max(value, 0))
    assert all(each[-1] - each[0] <= 0.032 * max(each[0], 1) for each in bounds.values())
    assert rule(3600 * 10**9) < N_BUCKETS - 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_histogram_counts_sums_and_keeps_the_greatest(kind: str) -> None:
    """A negative time counts as none."""
    memory = Memory(kind, N_BUCKETS + 2)
    for value in (5, 5, 1000, -3):
        memory.call(histogram_add, 0, value)
    assert (memory.word(0), memory.word(1)) == (1000, 1010)
    assert [memory.word(2 + rule(v)) for v in (5, 1000, 0)] == [2, 1, 1]
