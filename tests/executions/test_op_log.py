"""The log of operations: one entry for each that was asked for, with what was counted in it and no more."""

import pytest

from shmreclaim.executions.native import RunSettings
from shmreclaim.workload.drop_caches import drop_caches
from shmreclaim.workload.ops import Op
from tests.executions.workloads import by_hand, idle, play, register

DROP = (0, Op.DROP_CACHES, 0, 0, 0, 0, 0)


def test_each_operation_of_a_logged_kind_has_an_entry() -> None:
    """In the order in which it was done; those of other kinds have none."""
    record = play(
        by_hand([register(0), DROP, idle(1_000_000), DROP], [register(1)]),
        settings=RunSettings(log_ops=(Op.REGISTER, Op.DROP_CACHES)),
    )
    assert [(each.cpu, each.op) for each in record.log] == [
        (0, "register"), (0, "drop_caches"), (0, "drop_caches"), (1, "register"),
    ]  # fmt: skip


def test_entries_follow_each_other_in_time() -> None:
    """Each began after the one before was over, and after its CPU's start; an idle CPU's entry says how long it was."""
    record = play(by_hand([DROP, idle(2_000_000), DROP]), settings=RunSettings(log_ops=(Op.DROP_CACHES, Op.IDLE)))
    first, slept, last = record.log
    assert 0 <= first.at_ns <= first.at_ns + first.ns <= slept.at_ns
    assert slept.at_ns + slept.ns <= last.at_ns
    assert slept.ns >= 2_000_000


def test_nothing_is_logged_unless_asked_for() -> None:
    """The default."""
    assert play(by_hand([register(0), DROP])).log == []


def test_the_setup_is_not_logged() -> None:
    """It is not measured; nor does a setup with more such operations than the stream leave the log's room."""
    workload = by_hand([register(9)], setup=[register(k) for k in range(8)])
    record = play(workload, settings=RunSettings(log_ops=(Op.REGISTER,)))
    assert [each.op for each in record.log] == ["register"]


@pytest.mark.parametrize("design", ["no_map", "v6_7"])
def test_what_the_entries_counted_is_what_the_run_counted(design: str) -> None:
    """Where every operation of the stream is logged."""
    record = play(drop_caches(20, 2, 3), design, RunSettings(log_ops=(Op.DROP_CACHES,)))
    assert sum(each.events.get("shrinker_calls", 0) for each in record.log) == record.reclaim.shrinker_calls
    assert sum(each.events.get("objects_freed", 0) for each in record.log) == record.objects.freed == 80
    assert sum(each.ns for each in record.log) <= record.wall_s * 1e9
