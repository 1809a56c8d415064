"""The workload of `dropcaches`: the containers first, then one CPU that only drops."""

import numpy as np
import pytest

from shmreclaim.errors import UsageError
from shmreclaim.workload.drop_caches import MAX_CONTAINERS, drop_caches
from shmreclaim.workload.ops import Op


def test_each_container_is_a_memcg_with_a_mount_and_objects_of_both_kinds() -> None:
    """Made one after the other, as the series' script does: maps grow while earlier containers are there."""
    setup = drop_caches(3, objects=2, passes=5).setup
    assert setup["op"].tolist() == [Op.MEMCG_ONLINE, Op.REGISTER, Op.LRU_ADD, Op.LRU_ADD] * 3
    assert setup["memcg"].tolist() == [1] * 4 + [2] * 4 + [3] * 4
    assert setup["shrinker"][1::4].tolist() == [0, 1, 2]
    assert setup["arg"].tolist() == [0, 1, 0, 1] * 3
    assert setup["count"][2::4].tolist() == [2, 2, 2]


def test_one_cpu_does_nothing_but_drop_caches() -> None:
    """So that a pass is measured by itself."""
    workload = drop_caches(3, objects=2, passes=5)
    assert [stream["op"].tolist() for stream in workload.streams] == [[Op.DROP_CACHES] * 5]


def test_it_is_the_same_every_time() -> None:
    """Nothing is drawn."""
    one, other = drop_caches(20, 2, 5), drop_caches(20, 2, 5)
    assert np.array_equal(one.setup, other.setup)


@pytest.mark.parametrize(
    ("containers", "objects", "passes", "option"),
    [
        (0, 2, 5, "--containers 0"),
        (-1, 2, 5, "--containers -1"),
        (MAX_CONTAINERS + 1, 2, 5, "--containers 60001"),
        (10, 0, 5, "--objects 0"),
        (10, 1001, 5, "--objects 1001"),
        (10, 2, 0, "--passes 0"),
        (10, 2, 1001, "--passes 1001"),
    ],
)
def test_what_cannot_be_made_is_refused(containers: int, objects: int, passes: int, option: str) -> None:
    """With the option's name and its range."""
    with pytest.raises(UsageError, match=f"{option} is out of range"):
        drop_caches(containers, objects, passes)
