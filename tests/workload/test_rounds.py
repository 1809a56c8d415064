"""Streams that end as they began, so that they can be played again and again."""

from collections.abc import Sequence

import numpy as np
import pytest

from shmreclaim.errors import UsageError
from shmreclaim.workload import (
    Memory,
    Op,
    Workload,
    load_scenario,
    make_stream,
    preset_names,
    repeatable,
    with_long_hold,
)

Row = tuple[int, ...]


def by_hand(*streams: Sequence[Row], setup: Sequence[Row] = ()) -> Workload:
    """Make a workload of rows `(when, op, memcg, shrinker, nid, count, arg)`."""
    return Workload(
        kind="scenario",
        name="by hand",
        seed=1,
        nodes=1,
        memory=Memory(1024, 16, 20, 24),
        n_memcgs=10,
        n_shrinkers=10,
        setup=make_stream(list(setup)),
        streams=tuple(make_stream(list(rows)) for rows in streams),
    )


def online(handle: int, parent: int = 0) -> Row:
    """Bring a memcg online."""
    return (0, Op.MEMCG_ONLINE, handle, 0, 0, 0, parent)


def offline(handle: int) -> Row:
    """Take it offline."""
    return (0, Op.MEMCG_OFFLINE, handle, 0, 0, 0, 0)


def mount(handle: int) -> Row:
    """Register."""
    return (0, Op.REGISTER, 0, handle, 0, 0, 1)


def umount(handle: int) -> Row:
    """Unregister."""
    return (7, Op.UNREGISTER, 0, handle, 0, 0, 0)


def begun_or_ended(row: np.void) -> tuple[tuple[bool, int], int]:
    """Which memcg or superblock a row is about, and whether there is one more or one less of it."""
    is_memcg = row["op"] in (Op.MEMCG_ONLINE, Op.MEMCG_OFFLINE)
    handle = int(row["memcg"] if is_memcg else row["shrinker"])
    return (bool(is_memcg), handle), 1 if row["op"] in (Op.REGISTER, Op.MEMCG_ONLINE) else -1


def appended(workload: Workload) -> list[tuple[str, int, int]]:
    """What stands behind CPU 0's stream now: operation, memcg, shrinker."""
    rows = repeatable(workload).streams[0][len(workload.streams[0]) :]
    return [(Op(int(row["op"])).label, int(row["memcg"]), int(row["shrinker"])) for row in rows]


def test_what_a_stream_leaves_is_taken_away_children_first() -> None:
    """In the opposite order of its making."""
    found = appended(by_hand([online(1), mount(3), online(2, 1), mount(4), umount(4)]))
    assert found == [("memcg_offline", 2, 0), ("unregister", 0, 3), ("memcg_offline", 1, 0)]


def test_what_a_stream_took_from_the_setup_comes_back_parents_first() -> None:
    """With the rows that made it; what was made again meanwhile stays."""
    setup = [online(1), online(2, 1), mount(3), mount(4)]
    found = appended(by_hand([offline(2), offline(1), umount(4), umount(3), mount(3)], setup=setup))
    assert found == [("memcg_online", 1, 0), ("memcg_online", 2, 0), ("register", 0, 4)]


def test_a_stream_that_ends_as_it_began_stays_as_it_is() -> None:
    """Every stream of `torture` does."""
    workload = load_scenario("torture", cpus=3, nodes=2, seed=5)
    for before, after in zip(workload.streams, repeatable(workload).streams, strict=True):
        assert np.array_equal(before, after)


@pytest.mark.parametrize("preset", preset_names())
def test_every_preset_can_be_played_in_rounds(preset: str) -> None:
    """Nothing is made twice, nothing unmade twice, over two rounds of each CPU."""
    workload = repeatable(load_scenario(preset, cpus=4, nodes=1, seed=1))
    there = {begun: 1 for begun, _ in map(begun_or_ended, workload.setup[workload.setup["op"] <= 3])}
    for stream in workload.streams:
        for thing, change in [*map(begun_or_ended, stream[stream["op"] <= 3])] * 2:
            there[thing] = there.get(thing, 0) + change
            assert there[thing] in (0, 1), f"{thing}: {there[thing]}"


def test_two_cpus_that_make_the_same_are_refused() -> None:
    """In rounds they would make it twice."""
    with pytest.raises(UsageError, match="CPUs 0 and 1 both make or unmake memcg 5"):
        repeatable(by_hand([online(5)], [offline(5)]))
    with pytest.raises(UsageError, match="CPUs 0 and 1 both make or unmake superblock 5"):
        repeatable(by_hand([mount(5)], [umount(5)]))


def test_a_cpu_without_anything_to_do_is_refused() -> None:
    """It would go round for ever."""
    with pytest.raises(UsageError, match="CPU 1 has nothing to do"):
        repeatable(by_hand([online(1)], []))


def test_a_long_hold_is_one_slow_scan_in_each_round_of_cpu_0() -> None:
    """A superblock of its own, so that nothing else is changed."""
    workload = load_scenario("torture", cpus=2, nodes=1, seed=1)
    changed = with_long_hold(workload, 5_000_000)
    assert changed.n_shrinkers == workload.n_shrinkers + 1
    rows = [row for row in changed.streams[0] if row["shrinker"] == workload.n_shrinkers]
    assert [Op(int(row["op"])) for row in rows] == [Op.REGISTER, Op.LRU_ADD, Op.UNREGISTER]
    assert rows[0]["count"] == 5_000_000
    assert len(changed.streams[0]) == len(workload.streams[0]) + 4
    assert np.array_equal(changed.streams[1], workload.streams[1])


def test_torture_asks_for_every_operation_but_rest() -> None:
    """On every CPU."""
    for stream in load_scenario("torture", cpus=4, nodes=1, seed=1).streams:
        assert set(np.unique(stream["op"])) >= set(Op) - {Op.IDLE, Op.DROP_CACHES}
    assert "drop_caches" in load_scenario("torture", cpus=4, nodes=1, seed=1).planned()
