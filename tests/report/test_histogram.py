"""Histogram and Jain's index against numpy, over any values."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shmreclaim.machine import histogram as compiled_side
from shmreclaim.machine.compile import plain
from shmreclaim.result import N_BUCKETS, SUB_BITS, Histogram, bucket_bounds, bucket_of, jain

nanoseconds = st.integers(min_value=0, max_value=(1 << 42) - 1)
many = st.lists(nanoseconds, min_size=1, max_size=200)
PERCENTS = (1, 50, 90, 99, 99.9, 100)


@given(nanoseconds)
def test_a_value_lies_within_the_bounds_of_its_bucket(value: int) -> None:
    """The two directions of the bucket rule agree."""
    low, high = bucket_bounds(int(bucket_of(value)))
    assert low <= value <= high


@given(nanoseconds)
def test_a_bucket_is_at_most_three_percent_wide(value: int) -> None:
    """A bucket holds one value below 64, else it is at most 1/32 as wide as its least value."""
    low, high = bucket_bounds(int(bucket_of(value)))
    assert (high - low + 1) * 32 <= low or low == high


def test_buckets_leave_no_gap_and_do_not_overlap() -> None:
    """Each bucket begins where the one before it ended, from 0 to 2**42."""
    bounds = [bucket_bounds(index) for index in range(N_BUCKETS)]
    assert bounds[0] == (0, 0)
    assert all(low == before + 1 for (_, before), (low, _) in pairwise(bounds))
    assert bounds[-1][1] == (1 << 42) - 1


@given(st.integers(min_value=0, max_value=(1 << 62)))
def test_workers_and_results_count_by_the_same_rule(value: int) -> None:
    """What a CPU counts in shared memory is read back by the rule it was counted by; the last bucket takes the rest."""
    assert (compiled_side.N_BUCKETS, compiled_side.SUB_BITS) == (N_BUCKETS, SUB_BITS)
    assert plain(compiled_side.bucket_of)(value) == int(bucket_of(value))


@given(many, st.sampled_from(PERCENTS))
def test_a_percentile_is_within_three_percent_of_numpys(values: list[int], p: float) -> None:
    """The rank (`inverted_cdf`) is the oracle."""
    exact = int(np.percentile(values, p, method="inverted_cdf"))
    found = Histogram.of(values).percentile(p)
    assert found is not None
    assert abs(found - exact) <= 0.03 * exact


@given(many, st.sampled_from(PERCENTS))
def test_a_percentile_is_never_above_the_greatest_value(values: list[int], p: float) -> None:
    """A bucket's midpoint may lie above every value in it; what is reported may not."""
    found = Histogram.of(values).percentile(p)
    assert found is not None
    assert found <= max(values)


@given(st.lists(many, max_size=5))
def test_merging_histograms_is_counting_all_their_values_in_one(parts: list[list[int]]) -> None:
    """Counts, greatest value and sum are those of all values together."""
    merged = Histogram.merge(map(Histogram.of, parts))
    whole = Histogram.of([value for part in parts for value in part])
    assert (merged.counts == whole.counts).all()
    assert (merged.count, merged.max, merged.total) == (whole.count, whole.max, whole.total)


def test_an_empty_histogram_has_no_percentiles() -> None:
    """None, not 0: an operation that never ran was not fast."""
    empty = Histogram.of([])
    assert empty.percentile(50) is None
    assert empty.latency().max is None


def test_counts_of_another_shape_are_refused() -> None:
    """A row of the wrong length is a mistake in the caller, seen at once."""
    with pytest.raises(ValueError, match="1216 buckets"):
        Histogram.from_counts(np.zeros(10, np.int64), 0)


def test_a_histogram_keeps_its_own_copy_of_the_counts() -> None:
    """The segment that the counts came from may go away."""
    counts = np.zeros(N_BUCKETS, np.int64)
    histogram = Histogram.from_counts(counts, 0)
    counts[5] = 1
    assert histogram.count == 0


@pytest.mark.parametrize(
    ("shares", "index"), [([3, 3, 3], 1.0), ([7, 0, 0, 0], 0.25), ([0, 0], 1.0), ([], 1.0), ([1, 3], 0.8)]
)
def test_jains_index_is_one_for_equal_shares_and_one_nth_for_a_monopoly(shares: list[float], index: float) -> None:
    """(sum x)^2 / (n * sum x^2); nobody served means nobody preferred."""
    assert jain(shares) == pytest.approx(index)
