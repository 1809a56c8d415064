"""Every design plays every workload: the same operations, nothing broken, nothing lost."""

import pytest

from shmreclaim.designs import NAMES
from shmreclaim.executions.native import RunSettings
from shmreclaim.result import RunRecord
from shmreclaim.switches import KNOWN
from shmreclaim.workload import Workload
from tests.designs.expected import MAPPED, WITH_RWSEM, WITHOUT_LOCK
from tests.executions.workloads import SHIPPED, TRACE, load, play

MANY_TIMES = 5
"""How many times as often the design without a map calls shrinkers, at least; the recording gives about 20."""
SOME_RUNS = 10


@pytest.mark.stress
@pytest.mark.parametrize(
    ("name", "cpus", "nodes"), [*((name, cpus, 1) for name in SHIPPED for cpus in (2, 4)), ("churn", 4, 2)]
)
def test_all_designs_play_the_same_operations_and_break_nothing(name: str, cpus: int, nodes: int) -> None:
    """What was planned was played, every object is accounted for, ids stay small, each CPU is a process."""
    workload = load(name, cpus, nodes)
    records = {design: play(workload, design) for design in NAMES}
    for record in records.values():
        _all_was_played(record, workload)
        _nothing_is_broken(record)
        assert len({worker.pid for worker in record.workers}) == cpus
    _the_same_objects_were_added(list(records.values()))
    if name == TRACE:
        calls = {design: record.reclaim.shrinker_calls for design, record in records.items()}
        assert calls["no_map"] > MANY_TIMES * max(calls[design] for design in MAPPED), calls


def _all_was_played(record: RunRecord, workload: Workload) -> None:
    played = {op: one.count + one.skipped + sum(one.failed.values()) for op, one in record.ops.items()}
    assert played == workload.planned()
    assert [worker.ops for worker in record.workers] == [len(stream) for stream in workload.streams]
    for one in record.ops.values():
        assert one.latency.count == one.count + sum(one.failed.values())


def _nothing_is_broken(record: RunRecord) -> None:
    assert record.invariants.violations == []
    assert record.invariants.checked > 0
    objects = record.objects
    assert objects.added == objects.deleted + objects.freed + objects.remaining
    assert record.ids.max_id + 1 <= record.ids.peak_live


def _the_same_objects_were_added(records: list[RunRecord]) -> None:
    """Where nothing failed and nothing was skipped, for want of memory or because reclaim is under way."""
    whole = [r for r in records if not any(one.failed or one.skipped for one in r.ops.values())]
    assert len({record.objects.added for record in whole}) <= 1


@pytest.mark.stress
def test_the_cpus_run_at_the_same_time() -> None:
    """At planned times every CPU is busy from begin to end: the spans of all overlap, each in its own process."""
    workload = load(TRACE, 4)
    for design in NAMES:
        workers = play(workload, design, RunSettings(speed=20)).workers
        assert len({worker.pid for worker in workers}) == 4
        assert max(worker.started_ns for worker in workers) < min(worker.ended_ns for worker in workers)


@pytest.mark.stress
@pytest.mark.parametrize("design", WITH_RWSEM)
def test_readers_without_end_make_trylocks_fail(design: str) -> None:
    """Somewhere in a few runs of `starvation`: CPUs do meet."""
    workload = load("starvation", 4)
    assert any(play(workload, design).reclaim.trylock_failed for _ in range(SOME_RUNS))


@pytest.mark.stress
@pytest.mark.parametrize("design", WITHOUT_LOCK)
def test_walks_without_a_lock_never_fail(design: str) -> None:
    """The same workload, as many runs as the others need at most to fail; grace periods of SRCU are short."""
    workload = load("starvation", 4)
    variant = f"{design}+srcu_gp_us=100" if "srcu_gp_us" in KNOWN[design] else design
    for _ in range(3):
        record = play(workload, variant)
        _nothing_is_broken(record)
        assert record.reclaim.trylock_failed == 0
        assert record.reclaim.passes > 0


@pytest.mark.stress
def test_a_mutex_is_only_ever_held_for_writing() -> None:
    """The record says so by leaving the other mode out; every hold took time, and none longer than all together."""
    locks = play(load(TRACE, 2)).locks
    assert set(locks["cgroup_mutex"]) == {"write"}
    assert set(locks["shrinker_rwsem"]) == {"read", "write"}
    for uses in locks.values():
        for use in uses.values():
            hold = use.holdtime_ns
            assert use.contentions <= use.acquisitions
            assert hold.min <= hold.max <= hold.total
