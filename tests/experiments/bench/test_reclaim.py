"""`bench reclaim`: what each loop asks for, by counts, which do not vary."""

from collections.abc import Iterator

import pytest

from shmreclaim.designs import NAMES
from shmreclaim.errors import ModelViolation
from shmreclaim.executions.collect import event
from shmreclaim.experiments.bench import reclaim, reclaim_loops
from shmreclaim.experiments.bench.emulated import Emulated
from shmreclaim.machine.layout import HEADER
from shmreclaim.mm.memcg import MEMCG
from shmreclaim.mm.shrinker import Arithmetic
from shmreclaim.mm.state import MM, Event
from tests.experiments.bench.silent import Silent

MEMCGS, MOUNTS = 6, 64
BITS = 8

pytestmark = pytest.mark.usefixtures("compiled_once")


@pytest.fixture(params=NAMES)
def booted(request: pytest.FixtureRequest) -> Iterator[Emulated]:
    """A kernel of each design."""
    with Emulated(request.param, memcgs=MEMCGS, mounts=MOUNTS) as made:
        made.arena.memory[made.arena.memory[HEADER.kernel] + MM.arithmetic] = Arithmetic.V4_16
        yield made


def count(booted: Emulated, what: Event) -> int:
    """How often that happened so far."""
    return event(booted.arena, [booted.cpu], what)


def test_a_pass_asks_for_each_set_bit_or_without_maps_for_each_shrinker(booted: Emulated) -> None:
    """And frees nothing, so that the next pass does the same. The first one clears what growths set too many."""
    reclaim.put_objects(booted, 1, MOUNTS, BITS, 1)
    reclaim_loops.pass_loop(booted.mem, booted.cpu, booted.memcg(1), 1)
    before = count(booted, Event.SHRINKER_CALLS)
    assert reclaim_loops.pass_loop(booted.mem, booted.cpu, booted.memcg(1), 3) >= 0
    each = MOUNTS if booted.design == "no_map" else BITS
    assert count(booted, Event.SHRINKER_CALLS) - before == 3 * each
    booted.check()


def test_a_pass_over_the_tree_asks_for_every_memcg(booted: Emulated) -> None:
    """Once for each of its bits, and for the root as the design walks it."""
    for handle in range(1, MEMCGS + 1):
        reclaim.put_objects(booted, handle, MOUNTS, BITS, 1)
    reclaim_loops.tree_loop(booted.mem, booted.cpu, booted.memcg(0), 1)
    passes, calls = count(booted, Event.RECLAIM_PASSES), count(booted, Event.SHRINKER_CALLS)
    reclaim_loops.tree_loop(booted.mem, booted.cpu, booted.memcg(0), 1)
    assert count(booted, Event.RECLAIM_PASSES) - passes == MEMCGS + 2
    below = MEMCGS * (MOUNTS if booted.design == "no_map" else BITS)
    assert count(booted, Event.SHRINKER_CALLS) - calls - below in (0, MOUNTS)
    booted.check()


def test_freeing_frees_every_object_that_was_added(booted: Emulated) -> None:
    """Again and again: each time it adds them first."""
    with Emulated(booted.design, memcgs=reclaim.FREEING_MEMCG, mounts=reclaim.FREED_LISTS) as kernel:
        for _ in range(2):
            reclaim.free_all(kernel, reclaim.FREED_LISTS)
        assert count(kernel, Event.OBJECTS_FREED) == 2 * reclaim.FREED_LISTS * reclaim.FREED_ON_EACH
        kernel.check()


def test_a_kernel_whose_invariant_broke_gives_no_figures(booted: Emulated) -> None:
    """A charge that nothing stands for."""
    booted.arena.memory[booted.memcg(1) + MEMCG.usage] += 1
    with pytest.raises(ModelViolation, match=f"{booted.design}: invariants broken"):
        booted.check()


@pytest.mark.slow
def test_every_axis_is_measured_for_every_design() -> None:
    """At all its sizes, with intervals around the medians."""
    found = reclaim.bench_reclaim(quick=True, progress=Silent())
    assert list(found.axes) == list(reclaim.AXES)
    sizes = {"set bits": reclaim.SET_BITS, "memcgs, one": reclaim.MEMCGS, "memcgs, all": reclaim.MEMCGS}
    for name, axis in found.axes.items():
        assert list(axis.designs) == list(NAMES)
        for growth in axis.designs.values():
            assert tuple(growth.costs) == sizes.get(name, reclaim.REGISTERED)
            assert all(cost.ns_ci[0] <= cost.ns <= cost.ns_ci[1] for cost in growth.costs.values())
    assert {what: list(row) for what, row in found.each.items()} == {
        reclaim.FREE: list(NAMES),
        reclaim.SET: list(NAMES),
    }
