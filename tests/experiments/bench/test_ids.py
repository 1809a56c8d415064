"""`bench ids`: every kind of ids does what is timed."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from shmreclaim.experiments.bench import ids, ids_compiled, ids_python
from shmreclaim.experiments.bench.ids_compiled import CompiledIds
from shmreclaim.experiments.bench.ids_python import PythonIds
from tests.conftest import segments_of
from tests.experiments.bench.silent import Silent

LIVE = 100
COMPILED = list(ids_compiled.KINDS)
PYTHON = [name for name, kind in ids_python.KINDS.items() if kind.package is None]


@pytest.fixture(params=[*COMPILED, *PYTHON, "sortedcontainers, threading.Lock"])
def subject(request: pytest.FixtureRequest) -> Iterator[ids.Subject]:
    """Each kind with LIVE ids in use."""
    if request.param in ids_compiled.KINDS:
        made: ids.Subject = CompiledIds(ids_compiled.KINDS[request.param], LIVE)
    else:
        kind = ids_python.KINDS[request.param]
        if kind.package:
            pytest.importorskip(kind.package)
        made = PythonIds(kind, LIVE)
    with closing(made):
        yield made


def test_a_batch_gives_the_ids_again_that_it_removed(subject: ids.Subject) -> None:
    """So that the next one finds the same; every id is found after it, and the ids are those below LIVE."""
    for _ in range(3):
        removal, allocation = subject.batch(LIVE // 2)
        assert min(removal, allocation) > 0
    assert subject.find(LIVE) > 0
    assert next_id(subject) == LIVE


def next_id(subject: ids.Subject) -> int:
    """The smallest free id."""
    if isinstance(subject, CompiledIds):
        return subject.alloc()
    assert isinstance(subject, PythonIds)
    assert subject.allocate(1) > 0
    return max(subject.things)


def test_compiled_and_python_loops_touch_the_same_ids() -> None:
    """In the same order: one far from the other."""
    expected, id_ = [], 0
    for _ in range(LIVE):
        id_ = ids_compiled.step_on(id_, LIVE)
        expected.append(id_)
    python = PythonIds(ids_python.KINDS["dict, threading.Lock"], LIVE)
    assert python.touched(LIVE) == expected
    assert sorted(expected) == list(range(LIVE))


@pytest.mark.parametrize("free", [ids_python.heap, ids_python.sorted_list])
def test_the_smallest_free_id_is_taken_first(free: Callable[[], ids_python.FreeIds]) -> None:
    """Whatever the order in which they were put back."""
    if free is ids_python.sorted_list:
        pytest.importorskip("sortedcontainers")
    kept = free()
    for id_ in (5, 1, 9, 3):
        kept.put(id_)
    assert [kept.take() for _ in range(4)] == [1, 3, 5, 9]
    assert not kept.ids


@pytest.mark.usefixtures("compiled_once")
def test_a_peer_that_is_not_installed_is_named_and_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything else is measured: three operations at three sizes, with intervals around the medians."""
    monkeypatch.setitem(sys.modules, "sortedcontainers", None)  # what an import of it meets that fails
    found = ids.bench_ids(quick=True, progress=Silent())
    assert found.not_installed == ["sortedcontainers"]
    assert list(found.ids) == list(found.kinds) == [*COMPILED, *PYTHON]
    for operations in found.ids.values():
        assert list(operations) == ["find", "alloc", "remove"]
        for costs in operations.values():
            assert list(costs) == [10, 1_000, 100_000]
            assert all(cost.ns_ci[0] <= cost.ns <= cost.ns_ci[1] for cost in costs.values())


def test_a_segment_of_ids_has_no_name() -> None:
    """Nothing can be left behind."""
    with closing(CompiledIds(ids_compiled.KINDS["idr"], LIVE)):
        assert segments_of(os.getpid()) == []
