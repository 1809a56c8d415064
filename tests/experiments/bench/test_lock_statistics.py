"""From what processes counted to what a reader reads: bypasses, percentiles, Jain, names."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shmreclaim.experiments.bench.locks import loops
from shmreclaim.experiments.bench.locks.fold import by_name, fold, kinds, ratios
from shmreclaim.experiments.bench.locks.ground import LOG_ROOM, SCENE, Ground
from shmreclaim.experiments.bench.locks.play import ModeSample, median_of_chunks
from shmreclaim.lock_figures import LockFigures, Ratio, StreamFigures, Survival
from shmreclaim.machine.compile import plain
from shmreclaim.result import Histogram


def sample(scale: float = 1.0, waits: Histogram | None = None, bypass: int = 3, **other: object) -> ModeSample:
    """One round; figures in proportion to `scale`."""
    fields = {
        "uncontended_ns": 10 * scale, "ops_per_s": 1e6 * scale, "pair_ops_per_s": 2e6 * scale, "jain": 0.9,
        "waits": Histogram.of([int(100 * scale)]) if waits is None else waits, "bypass": bypass,
        "handoffs": Histogram.of([int(1000 * scale)]), "unserved": 1,
    }  # fmt: skip
    return ModeSample(**fields | other)


def lock(scale: float = 1.0, **other: object) -> LockFigures:
    """An exclusive lock that was measured in three rounds."""
    return LockFigures(called="compiled", exclusive=fold([sample(scale)] * 3), **other)


@given(st.permutations(range(12)), st.lists(st.booleans(), min_size=12, max_size=12))
def test_bypasses_are_what_pairs_of_grants_say(tickets: list[int], reads: list[bool]) -> None:
    """Of each grant: how many before it have a later ticket; the most of its class. Interpreted, beside a count."""
    memory = [0] * SCENE.SIZE
    for k, (ticket, read) in enumerate(zip(tickets, reads, strict=True)):
        memory[SCENE.log + k] = ticket * 2 + read
    for of in (0, 1):
        passed = [
            sum(earlier > ticket for earlier in tickets[:k]) for k, ticket in enumerate(tickets) if reads[k] == of
        ]
        assert plain(loops.count_bypasses)(memory, 0, 12, of) == max(passed, default=0)


def test_a_full_log_is_counted_in_machine_code() -> None:
    """The first to ask is served last: everybody went past."""
    with Ground(1, 1) as ground:
        for k in range(LOG_ROOM):
            ground.memory[ground.scene + SCENE.log + k] = ((k + 1) % LOG_ROOM) * 2
        assert loops.count_bypasses(ground.address, ground.scene, LOG_ROOM, 0) == LOG_ROOM - 1


@given(st.lists(st.floats(0.5, 2.0), min_size=6, max_size=9))
def test_figures_are_medians_and_lie_within_their_intervals(scales: list[float]) -> None:
    """All that are sampled."""
    found = fold([sample(scale) for scale in scales])
    ordered = sorted(10 * scale for scale in scales)
    assert found.uncontended_ns == pytest.approx((ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2)
    for name in ("uncontended_ns", "ops_per_s", "pair_ops_per_s", "jain", "handoff_ns"):
        low, high = getattr(found, f"{name}_ci")
        assert low <= getattr(found, name) <= high


def test_extremes_are_those_of_all_rounds() -> None:
    """The longest bypass and the longest wait are no medians; what was not served is a sum."""
    rounds = [sample(waits=Histogram.of([5, top]), bypass=top) for top in (7, 900, 11)]
    found = fold(rounds)
    assert (found.longest_bypass, found.unserved) == (900, 3)
    assert found.wait_ns is not None
    assert (found.wait_ns.max, found.wait_ns.samples, found.wait_ns.p50) == (900, 6, 5)


def test_what_nobody_measured_is_none() -> None:
    """No hand-off to a sleeper, no second process, nobody served."""
    empty = Histogram.of([])
    found = fold([sample(waits=empty, handoffs=empty, pair_ops_per_s=None)])
    assert (found.wait_ns, found.handoff_ns, found.handoff_ns_ci, found.pair_ops_per_s) == (None, None, None, None)
    assert by_name(LockFigures(called="python", exclusive=found))["exclusive.p99"] is None


def test_every_figure_that_a_threshold_may_name_has_a_value() -> None:
    """Of a lock with one mode, and of one with two."""
    survival = Survival(reader=True, writer=False)
    exclusive = lock(survives_kill=survival)
    assert set(by_name(exclusive)) >= set(kinds(("exclusive",)))
    stream = StreamFigures(tries=1, p50=1, p99=2, p99_9=3, max=4)
    mode = fold([sample(pair_ops_per_s=None)])
    shared = LockFigures(
        called="python", read=mode, write=mode, survives_kill=survival, writer_starved=True, stream=stream
    )
    found = by_name(shared)
    assert set(found) >= set(kinds(("read", "write")))
    assert (found["read.survives"], found["write.survives"], found["write.starved"]) == (1.0, 0.0, 1.0)
    assert (found["stream.p99.9"], found["read.bypass"], found["write.uncontended"]) == (3, 3, 10.0)


def test_ratios_are_told_only_of_what_was_measured() -> None:
    """And say whether they are as wanted."""
    locks = {"shmreclaim.Mutex (compiled)": lock(0.5), "glibc robust mutex": lock(1.0)}
    (found,) = ratios(locks)
    assert (found.what, found.found, found.met) == ("Mutex (compiled) / glibc robust mutex", 0.5, True)
    assert not Ratio(what="", found=0.71, sign="<=", wanted=0.7).met
    assert not Ratio(what="", found=9.9, sign=">=", wanted=10).met


def test_the_first_call_is_not_in_the_figure() -> None:
    """It may take a thousand times as long, and must not decide how many are timed at once."""
    calls: list[int] = []

    def timed(pairs: int) -> int:
        calls.append(pairs)
        return 10_000_000 if len(calls) == 1 else 20 * pairs

    assert median_of_chunks(timed, 0.001) == 20
    assert math.log2(max(calls)) > 10
