"""What the shipped recording of five drop_caches is made of: docs/performance.md says it, this counts it.

A round begins with the shrinkers that root has objects of. One superblock is called for root alone, so it is called
once a round and marks it; what is called before the mark, since the last memcg of the round before, belongs to it.
"""

from collections import Counter
from itertools import pairwise

import pytest

from shmreclaim.workload import recordings
from shmreclaim.workload.ftrace_history import Call, read_history

MEMCGS = 1000
Round = list[Call]


@pytest.fixture(scope="module")
def drops() -> list[list[Round]]:
    """The rounds of each drop."""
    history = read_history(recordings.read_shipped(recordings.DROPS))
    found = [step.calls for step in history.steps if step.first.drop]
    counts = [Counter(call.what.pointer for call in calls) for calls in found]
    everywhere = set.intersection(*(set(each) for each in counts))
    mark = min(everywhere, key=lambda shrinker: sum(each[shrinker] for each in counts))
    crowded = max(everywhere, key=lambda shrinker: sum(each[shrinker] for each in counts))
    return [_rounds(calls, mark, crowded) for calls in found]


def _rounds(calls: list[Call], mark: str, crowded: str) -> list[Round]:
    names = [call.what.pointer for call in calls]
    marks = [k for k, name in enumerate(names) if name == mark]
    starts = [max(k for k in range(at) if names[k] == crowded) + 1 for at in marks[1:]]
    return [calls[begin:end] for begin, end in pairwise([0, *starts, len(calls)])]


def freed(calls: Round) -> int:
    """Objects freed in a round."""
    return sum(call.freed for call in calls)


def test_the_five_drops_are_nineteen_rounds(drops: list[list[Round]]) -> None:
    """Which is all that the counts of calls differ by, but for the first round of all."""
    assert [len(rounds) for rounds in drops] == [3, 2, 5, 3, 6]
    lengths = [len(each) for rounds in drops for each in rounds]
    assert (lengths[0], min(lengths[1:]), max(lengths[1:])) == (2020, 1013, 1020)


def test_a_round_follows_one_that_freed_enough_and_each_must_free_twice_as_much(drops: list[list[Round]]) -> None:
    """The rule since 5.16, of all 19 rounds: freed, divided by two for every round before, is above 1."""
    for rounds in drops:
        goes_on = [freed(each) >> k > 1 for k, each in enumerate(rounds)]
        assert goes_on == [True] * (len(rounds) - 1) + [False]


def test_the_rule_before_5_16_is_refuted_by_the_last_drop(drops: list[list[Round]]) -> None:
    """Its sixth round freed 48 objects, which is more than ten; no seventh came."""
    assert [freed(each) for each in drops[4]] == [61, 72, 26, 26, 40, 48]


def test_every_round_asks_one_superblock_for_each_memcg_and_never_scans_it(drops: list[list[Round]]) -> None:
    """One object counted, nothing to scan computed: a superblock with seeks 0, of which half an object is none."""
    for each in (one for rounds in drops for one in rounds):
        ((crowded, calls),) = Counter(call.what.pointer for call in each if call.what.delta == 0).most_common(1)
        assert calls >= MEMCGS - 1
        alone = [call for call in each if call.what.pointer == crowded and call.what.items == 1]
        assert {call.freed for call in alone} == {0}
        assert len([call for call in each if call.what.pointer != crowded]) <= 20 or each is drops[0][0]


def test_only_the_first_round_frees_an_object_in_each_memcg(drops: list[list[Round]]) -> None:
    """Of a superblock with seeks 2: about as many calls again as there are memcgs."""
    first = Counter(call.what.pointer for call in drops[0][0] if call.what.delta == 2 and call.freed == 1)
    assert [calls >= MEMCGS - 5 for calls in first.values()] == [True]


def test_what_is_left_is_fifteen_calls_a_round(drops: list[list[Round]]) -> None:
    """19,007 calls of the superblock that is never scanned, 1,006 of the other in the first round, 281 besides."""
    calls = Counter(call.what.pointer for rounds in drops for each in rounds for call in each)
    (crowded, most), (other, _) = calls.most_common(2)
    first = sum(call.what.pointer == other for call in drops[0][0])
    assert (most, first, calls.total() - most - first) == (19_007, 1_006, 281)
    assert crowded != other


def test_what_the_other_calls_free_comes_back(drops: list[list[Round]]) -> None:
    """Every drop's first round finds something again, a second after the last: that is why rounds differ."""
    assert [freed(rounds[0]) for rounds in drops] == [5910, 90, 26, 110, 61]


def test_no_round_calls_a_shrinker_for_each_mount(drops: list[list[Round]]) -> None:
    """A thousand mounts, nine shrinkers: those of the mounts count nothing, so they leave no event."""
    assert len({call.what.pointer for rounds in drops for each in rounds for call in each}) <= 11
