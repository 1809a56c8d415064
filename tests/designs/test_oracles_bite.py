"""An oracle that finds nothing proves nothing: designs that are broken on purpose, each found out by the right one."""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from shmreclaim.designs import FUNCTIONS
from shmreclaim.executions import native
from shmreclaim.executions.oracles import check_at_rest
from shmreclaim.machine.cpu import CPU
from shmreclaim.mm.mount import mount as mount_superblock
from shmreclaim.mm.shrinker_map import map_clear_bit, map_set_bit
from shmreclaim.workload import Memory, Workload, make_stream
from tests.designs import broken
from tests.designs.expected import MAPPED
from tests.designs.rows import LIFE
from tests.emulated import Emulated, Row, add, idle, mkdir, mount, rmdir, shrink, touch, umount

BROKEN = "tests.designs.broken"
RACE_ROUNDS = 600
RACE_PASSES = 200_000
PAUSE_NS = 20_000


@pytest.fixture
def kernel(request: pytest.FixtureRequest) -> Iterator[Emulated]:
    """A kernel with the broken design that the test names; `--import-mode=importlib` finds it by its dotted path."""
    with Emulated(f"{BROKEN}.{request.param}", "plain") as kernel:
        yield kernel


def found_by(*cells: tuple[str, list[Row], str]) -> pytest.MarkDecorator:
    """Designs, what to play on them, and what the oracles must say."""
    return pytest.mark.parametrize(("kernel", "rows", "verdict"), cells, indirect=["kernel"], ids=[c[0] for c in cells])


FIRST = [mkdir(1), mount(0)]


@found_by(
    ("forgets_the_bit", [add(1, 0, 3)], "I2: memcg 1 holds 3 objects of shrinker 0 on node 0, its bit is clear"),
    ("does_not_grow", [add(1, 0, 3)], "I3: shrinker 0 has an object in memcg"),
    ("does_not_grow", [], "I3: memcg 1 has a map of 0 bits, id 0 is live"),
    ("leaks_the_id", [umount(0)], "I7: 1 ids are taken, 0 memcg-aware shrinkers are registered"),
    ("never_reuses_an_id", [umount(0), mount(1)], "I6: id 1 was given with at most 1 shrinkers at a time"),
    ("calls_after_unregister", [add(1, 0, 3), umount(0), shrink(1)], "I1: "),
    ("leaves_objects_behind", [add(1, 0, 3), rmdir(1)], "memcg 1 was not reparented"),
    ("moves_objects_without_a_bit", [mkdir(2, 1), add(2, 0, 3), rmdir(2)], "I2: memcg 1 holds 3 objects"),
    ("frees_an_object_twice", [add(0, 0, 3), umount(0)], "freed while its state is 0x6b6b6b6b: twice"),
    ("charges_for_nothing", [], "memcg 1 is charged 1 lines, 0 are allocated"),
    ("leaves_the_lock_held", [shrink(1)], "locks held"),
    ("leaves_the_lock_held", [shrink(1), shrink(1)], "taken again by a CPU that holds it"),
    ("blocks_in_reclaim", [shrink(1)], "I9: reclaim blocked for shrinker_rwsem (at "),
)
def test_a_broken_design_is_found_by_its_oracle(kernel: Emulated, rows: list[Row], verdict: str) -> None:
    """Some rows on one CPU are enough."""
    kernel.play([*FIRST, *rows])
    found = kernel.oracles()
    assert any(verdict in text for text in found), found


@pytest.mark.parametrize("design", MAPPED)
def test_I2_a_bit_that_was_cleared_over_a_filled_list_is_reported(design: str) -> None:
    """In every kind of map, and on each node; of the others nothing is said."""
    with Emulated(design, "plain") as kernel:
        kernel.play([*FIRST, add(1, 0, 3), add(1, 0, 4, nid=1)])
        assert kernel.oracles() == []
        for nid, count in ((0, 3), (1, 4)):
            kernel.call(map_clear_bit, kernel.cpus[0], kernel.memcg(1), nid, 0)
            assert kernel.oracles() == [
                f"I2: memcg 1 holds {count} objects of shrinker 0 on node {nid}, its bit is clear"
            ]
            kernel.call(map_set_bit, kernel.cpus[0], kernel.memcg(1), nid, 0)


def test_a_read_section_that_was_not_left_is_reported() -> None:
    """Of RCU and of SRCU, with the CPU."""
    with Emulated("v6_4_srcu", "plain") as kernel:
        for offset, which in ((CPU.rcu, "RCU"), (CPU.srcu, "SRCU")):
            kernel.set_word(kernel.cpus[2] + offset, 1)
            assert (
                f"CPU 2 at the end: {which} read section not ended (1)" in check_at_rest(kernel.arena, kernel.cpus)[1]
            )
            kernel.set_word(kernel.cpus[2] + offset, 0)
        assert kernel.oracles() == []


@pytest.mark.parametrize("kernel", ["publishes_before_growth"], indirect=True)
def test_I4_what_was_published_before_growth_is_found_when_growth_fails(kernel: Emulated) -> None:
    """Too late to take it back: at some amount of memory a live id is beyond a map."""
    kernel.play([mkdir(k) for k in range(1, 6)])
    verdicts = set()
    room = kernel.spare()
    for lines in range(room):
        kernel.leave(lines)
        kernel.stop_reclaiming()
        sb = kernel.call(mount_superblock, kernel.cpus[0], 0, 1, 0)
        kernel.stop_reclaiming(yes=False)
        verdicts |= {text.split(":")[0] for text in kernel.oracles()}
        kernel.leave(room)
        if sb > 0:
            kernel.set_word(kernel.mm("shrinker_table"), sb)
            kernel.play([umount(0)])
        if "I3" in verdicts:
            break
    assert verdicts == {"I3"}


@pytest.mark.parametrize("kernel", ["loses_memory"], indirect=True)
def test_memory_that_is_never_freed_shows_in_a_second_life(kernel: Emulated) -> None:
    """The budget and the heap agree on it, so it takes a comparison: the same rows end with less."""
    kernel.play(LIFE)
    once = kernel.free()
    kernel.play(LIFE)
    assert kernel.oracles() == []
    assert kernel.free() < once


def race() -> Workload:
    """One CPU adds an object, and soon another; the other CPU reclaims all the time.

    The second comes when the first was just freed, so the list is found empty when it comes, sooner or later.
    """
    adds: list[Row] = []
    for k in range(RACE_ROUNDS):
        adds += [add(1, 0, 1), *[touch(0, 0, 1)] * (k % 16), add(1, 0, 1), idle(PAUSE_NS)]
    return Workload(
        kind="scenario",
        name="race",
        seed=1,
        nodes=1,
        memory=Memory(pages_per_node=1024, watermark_min=8, watermark_low=16, watermark_high=24),
        n_memcgs=2,
        n_shrinkers=1,
        setup=make_stream([mkdir(1), mount(0)]),
        streams=(make_stream(adds), make_stream([shrink(1)] * RACE_PASSES)),
    )


def verdicts_of_race(design: str) -> list[str]:
    """What the oracles say after it."""
    return native.run(race(), design, native.RunSettings(), lambda *_: None).invariants.violations


@pytest.mark.stress
def test_P20_a_bit_that_is_cleared_too_late_is_lost(compiled_once: None) -> None:
    """Two processes; the object that came between the second count and the clearing is never found again."""
    found = verdicts_of_race(f"{BROKEN}.clears_the_bit_last")
    assert any(text.startswith("I2: memcg 1 holds") for text in found), found


@pytest.mark.stress
def test_P20_a_bit_that_is_cleared_in_time_is_not_lost(compiled_once: None) -> None:
    """The same race on the real design."""
    assert verdicts_of_race("davydov") == []


@pytest.mark.parametrize("path", sorted(Path(broken.__path__[0]).glob("[a-z]*.py")), ids=lambda path: path.stem)
def test_a_broken_design_is_whole_and_says_what_is_wrong_with_it(path: Path) -> None:
    """All functions are there, and the docstring begins with what it is for."""
    module = import_module(f"{BROKEN}.{path.stem}")
    assert all(hasattr(module, name) for name in FUNCTIONS)
    assert (module.__doc__ or "").startswith("Test-only: ")
