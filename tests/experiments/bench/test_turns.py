"""How benches sample and sum up."""

import random
from statistics import median

import pytest

from shmreclaim.experiments.bench.turns import Figure, fit, rank_of_low, settled, take_turns, turns

TABLE = {6: 1, 8: 1, 9: 2, 11: 2, 12: 3, 15: 4, 20: 6, 25: 8, 30: 10, 50: 18}
"""Rank of the sample at the lower end, from 1, as statistics textbooks print it for 95 % (Conover, table A3)."""


@pytest.mark.parametrize(("samples", "rank"), TABLE.items())
def test_the_interval_begins_at_the_sample_that_tables_name(samples: int, rank: int) -> None:
    """And ends as many from the other end."""
    assert rank_of_low(samples) + 1 == rank
    figure = Figure.of(range(1, samples + 1))
    assert (figure.low, figure.high, figure.samples) == (rank, samples + 1 - rank, samples)


def test_the_interval_holds_the_true_median_as_often_as_it_says() -> None:
    """Of a lopsided distribution, too: 2,000 times 15 samples, seeded; by table 96.5 % of them."""
    draw = random.Random(1)
    true = median(draw.expovariate(1) for _ in range(100_001))
    figures = [Figure.of([draw.expovariate(1) for _ in range(15)]) for _ in range(2_000)]
    assert 0.955 < sum(figure.low <= true <= figure.high for figure in figures) / 2_000 < 0.975


@pytest.mark.parametrize("samples", range(1, 6))
def test_fewer_than_six_samples_give_their_whole_range(samples: int) -> None:
    """No interval of so few has 95 %."""
    figure = Figure.of(range(samples, 0, -1))
    assert (figure.median, figure.low, figure.high) == (median(range(1, samples + 1)), 1, samples)


def test_the_farther_end_of_the_interval_is_what_is_printed() -> None:
    """On whichever side it is."""
    assert Figure(10.0, 9.0, 14.0, 6).within == 4.0
    assert Figure(10.0, 5.0, 11.0, 6).within == 5.0


def test_a_figure_has_its_interval_beside_it_under_its_name() -> None:
    """What `bench diff` looks for."""
    assert Figure(10.0, 9.0, 14.0, 6).named("ns") == {"ns": 10.0, "ns_ci": (9.0, 14.0)}


def test_subjects_take_turns_there_and_back() -> None:
    """The warm-up goes backwards and does not count."""
    assert list(turns("ab", 2)) == [("b", False), ("a", False), ("a", True), ("b", True), ("b", True), ("a", True)]


def test_the_warm_up_is_in_no_figure() -> None:
    """A subject that is slow at first: its median and its interval know nothing of that."""
    slow_first = iter([1000.0, 1.0, 2.0, 3.0])
    told: list[tuple[int, int]] = []
    found = take_turns({"it": lambda: next(slow_first)}, 3, lambda done, total: told.append((done, total)))
    assert found == {"it": Figure(2.0, 1.0, 3.0, 3)}
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_loop_is_lengthened_until_it_takes_long_enough() -> None:
    """A turn costs 10 ns here, and at least half of 1,000 ns is asked for."""
    counts: list[int] = []

    def loop(count: int) -> float:
        counts.append(count)
        return 10.0 * count

    assert settled(loop, 1_000.0)() == 10.0
    assert counts[-1] * 10 >= 500
    assert all(count * 10 < 500 for count in counts[:-2])


@pytest.mark.parametrize(
    ("costs", "verdict"),
    [
        ({1: 100, 8: 110, 64: 149}, "flat"),
        ({1: 110, 8: 180, 64: 740}, "linear"),
        ({1: 100, 8: 800, 64: 900}, "neither flat nor linear"),
    ],
)
def test_growth_is_told_by_its_kind(costs: dict[int, float], verdict: str) -> None:
    """The second is 100 + 10 * size."""
    assert fit(costs).verdict == verdict


def test_a_line_is_found_again() -> None:
    """From costs that lie on it."""
    line = fit({size: 100.0 + 10.0 * size for size in (1, 8, 64, 512)})
    assert (line.fixed, line.each, line.off) == pytest.approx((100.0, 10.0, 0.0))
