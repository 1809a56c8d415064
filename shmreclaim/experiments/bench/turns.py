"""How benches sample: subjects that take turns, medians with their confidence intervals, lines through them.

Subjects take turns (A B C, C B A, ...), so that a machine that slows down half way slows all of them, and the order
within a round favours none. A figure is the median of its samples with an interval from the order of the samples
alone: nothing is assumed of how they are distributed, and one sample that was disturbed moves neither.
"""

import math
import statistics
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np

Key = TypeVar("Key", bound=Hashable)

CONFIDENCE = 0.95
FLAT_WITHIN = 1.5
"""A cost that grows by less than this over the whole range counts as flat."""
LINEAR_WITHIN = 1 / 3
"""A cost counts as linear if no point is further than this, of its own value, from the line."""


class Figure(NamedTuple):
    """The median of the samples of one subject, and the interval that holds the true one with 95 % confidence."""

    median: float
    low: float
    high: float
    samples: int

    @classmethod
    def of(cls, samples: Sequence[float]) -> Self:
        """Sum up samples; fewer than six cannot give so much confidence, and the interval is their whole range."""
        ordered = sorted(samples)
        low = rank_of_low(len(ordered))
        return cls(statistics.median(ordered), ordered[low], ordered[-1 - low], len(ordered))

    @property
    def within(self) -> float:
        """How far the farther end of the interval is from the median: what is printed after ±."""
        return max(self.high - self.median, self.median - self.low)

    def plain(self) -> dict[str, float]:
        """Give everything by name."""
        return {**self._asdict(), "within": self.within}

    def named(self, name: str) -> dict[str, Any]:
        """Give what a record of a result holds of it: `name`, and beside it `name_ci`, the interval."""
        return {name: self.median, f"{name}_ci": (self.low, self.high)}


def rank_of_low(samples: int) -> int:
    """How many of so many ordered samples may be left out at each end, the median still between with CONFIDENCE.

    Each sample is below the true median with probability 1/2. With `rank` left out at an end, the median is beyond the
    first one kept only if at most `rank` samples are on that side of it: a sum of binomial probabilities, which may
    take half of what confidence leaves.
    """
    below, rank = 0.0, -1
    while rank < samples:
        below += math.comb(samples, rank + 1) / 2**samples
        if below > (1 - CONFIDENCE) / 2:
            break
        rank += 1
    return max(rank, 0)


def turns(keys: Collection[Key], repeats: int, warm_up: int = 1) -> Iterator[tuple[Key, bool]]:
    """Name who is to be sampled next, and whether that counts: in rounds, `warm_up` of them before those that do."""
    order = list(keys)
    for turn in range(-warm_up, repeats):
        yield from ((key, turn >= 0) for key in (reversed(order) if turn % 2 else order))


def take_turns(
    subjects: Mapping[Key, Callable[[], float]],
    repeats: int,
    tell: Callable[[int, int], None] = lambda _done, _total: None,
) -> dict[Key, Figure]:
    """Sample every subject `repeats` times, in turns; a figure of each."""
    return {key: Figure.of(values) for key, values in sample_in_turns(subjects, repeats, tell).items()}


def sample_in_turns(
    subjects: Mapping[Key, Callable[[], float]],
    repeats: int,
    tell: Callable[[int, int], None] = lambda _done, _total: None,
) -> dict[Key, list[float]]:
    """Sample every subject `repeats` times, in turns, and `tell` before each sample how far that is."""
    samples: dict[Key, list[float]] = {key: [] for key in subjects}
    for done, (key, counts) in enumerate(turns(subjects, repeats), start=1):
        tell(done, len(subjects) * (repeats + 1))
        sample = subjects[key]()
        if counts:
            samples[key].append(sample)
    return samples


def settled(sample: Callable[[int], float], least_ns: float) -> Callable[[], float]:
    """Make a subject of a loop: `sample(count)` takes ns for `count` turns of it; ns a turn, over at least `least_ns`.

    How many turns that takes is found out here, in a first run that does not count.
    """
    count = 1
    while (took := sample(count)) < least_ns / 2:
        count *= max(2, min(16, round(least_ns / max(took, 1.0))))
    return lambda: sample(count) / count


# --- how a cost grows ------------------------------------------------------------------------------


class Fit(NamedTuple):
    """The line through some points, each weighted by its own size, and what kind of growth that is."""

    fixed: float
    each: float
    off: float
    """How far the worst point is from the line, as a part of its own value."""
    growth: float
    """The cost at the largest size over that at the smallest."""
    verdict: str


def fit(points: Mapping[int, float]) -> Fit:
    """Fit cost = fixed + each * size to costs by size, and judge it: flat, linear or neither."""
    sizes, costs = np.array(list(points), float), np.array(list(points.values()))
    line, *_ = np.linalg.lstsq(np.stack([1 / costs, sizes / costs], axis=1), np.ones(len(costs)), rcond=None)
    off = float(np.abs((line[0] + line[1] * sizes) / costs - 1).max())
    growth = float(costs[-1] / costs[0])
    if growth < FLAT_WITHIN:
        verdict = "flat"
    else:
        verdict = "linear" if off < LINEAR_WITHIN else "neither flat nor linear"
    return Fit(float(line[0]), float(line[1]), off, growth, verdict)
