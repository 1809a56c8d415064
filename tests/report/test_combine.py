"""Several runs become one result."""

import msgspec
import numpy as np
import pytest

from shmreclaim.experiments.combine import combine
from shmreclaim.result import Histogram, LockUse, Objects, OpRun, Range, Reclaim
from tests.report.samples import make_run


def test_a_count_is_the_median_of_the_runs() -> None:
    """Of an odd number the middle one."""
    assert combine([make_run(calls=calls) for calls in (10, 500, 20)]).reclaim.shrinker_calls == 20


def test_of_an_even_number_of_runs_the_lower_median_counts() -> None:
    """So that every count was really observed."""
    assert combine([make_run(calls=calls) for calls in (10, 21)]).reclaim.shrinker_calls == 10


def test_percentiles_come_from_the_histograms_of_all_runs() -> None:
    """The slowest of all runs is the maximum, whichever run it was in."""
    runs = [make_with_register(values) for values in ([10] * 50, [20] * 50, [30] * 49 + [9_999])]
    latency = combine(runs).ops["register"].latency_ns
    assert (latency.p50, latency.p90, latency.max) == (20, 30, 9_999)


def make_with_register(values: list[int]):
    """One run whose registrations took `values`."""
    return msgspec.structs.replace(make_run(), ops={"register": OpRun(count=len(values), latency=Histogram.of(values))})


def test_the_rate_is_the_median_of_the_runs_rates_with_the_least_and_the_greatest() -> None:
    """240 registrations in 0.5, 1 and 2 s."""
    rate = combine([make_run(wall_s) for wall_s in (1.0, 0.5, 2.0)]).ops["register"].rate_per_s
    assert (rate.min, rate.median, rate.max) == (120, 240, 480)


def test_a_run_that_did_not_do_an_operation_counts_as_none_done() -> None:
    """Two runs without it make the median 0."""
    without = msgspec.structs.replace(make_run(), ops={})
    assert combine([make_run(), without, without]).ops["register"].count == 0


def test_a_failure_of_one_run_is_kept_by_name_and_found_in_that_run() -> None:
    """Its median is 0; the run itself tells."""
    failed = msgspec.structs.replace(
        make_run(), ops={"register": OpRun(count=9, failed={"EAGAIN": 1}, latency=Histogram.of([1] * 9))}
    )
    fine = msgspec.structs.replace(failed, ops={"register": OpRun(count=10, latency=Histogram.of([1] * 10))})
    result = combine([fine, failed, fine])
    assert result.ops["register"].failed == {"EAGAIN": 0}
    assert [run.failed for run in result.per_run] == [{}, {"register": {"EAGAIN": 1}}, {}]


def test_violations_of_every_run_are_kept_once_each() -> None:
    """The union, in order of appearance; checks are summed."""
    result = combine([make_run(violations=("a",)), make_run(violations=("b", "a")), make_run()])
    assert result.invariants.violations == ["a", "b"]
    assert result.invariants.checked == 3 * 123_456
    assert result.refused


def test_objects_of_a_combination_still_add_up() -> None:
    """They are those of one run, the one with the median of freed objects."""
    outcomes = [(100, 0, 70, 30), (90, 10, 60, 20), (80, 5, 50, 25)]
    runs = [
        msgspec.structs.replace(make_run(), objects=Objects(added=a, deleted=d, freed=f, remaining=r))
        for a, d, f, r in outcomes
    ]
    objects = combine(runs).objects
    assert objects.freed == 60
    assert objects.added == objects.deleted + objects.freed + objects.remaining


def test_the_least_wait_ignores_runs_that_never_waited() -> None:
    """A 0 there means none, as in lock_stat."""
    uses = [LockUse(acquisitions=1, waittime_ns=Range(min=low, max=high, total=high)) for low, high in ((0, 0), (5, 9))]
    runs = [msgspec.structs.replace(make_run(), locks={"map_mutex": {"write": use}}) for use in uses]
    waited = combine(runs).locks["map_mutex"]["write"].waittime_ns
    assert (waited.min, waited.max, waited.total) == (5, 9, 0)


def test_numpy_integers_become_plain_ones() -> None:
    """Counters come from shared memory as numpy integers; a result is plain data."""
    counts = dict.fromkeys(Reclaim.__struct_fields__, np.int64(3))
    result = combine([msgspec.structs.replace(make_run(), reclaim=Reclaim(**counts))])
    assert type(result.reclaim.passes) is int
    assert msgspec.json.encode(result)


def test_no_runs_cannot_be_combined() -> None:
    """There is no result of nothing."""
    with pytest.raises(ValueError, match="no run"):
        combine([])
