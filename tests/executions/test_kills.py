"""Workers are killed, again and again, and the run goes on as if they had not been."""

import os
import signal
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from shmreclaim.designs import NAMES
from shmreclaim.errors import Inconclusive
from shmreclaim.executions import crash_points, native, stress
from shmreclaim.executions.chaos import ChaosPlan
from shmreclaim.executions.nursed import NursedCrew
from shmreclaim.executions.reaper import Reaper
from shmreclaim.machine.arena import Arena
from shmreclaim.machine.crash_points import CrashPoint
from shmreclaim.machine.layout import HEADER
from shmreclaim.mm.slab import CHUNK_WORDS, HEAP
from shmreclaim.mm.state import MM
from shmreclaim.result import RunRecord
from shmreclaim.workload import Op, Workload, load_scenario, repeatable
from tests.executions.workloads import Row, by_hand, idle, load, play

KILLS = 200
TORTURE = repeatable(load_scenario("torture", cpus=4, nodes=2, seed=1))
USED_CHUNKS = 64
"""Of the heap: more than ALL_OPS use."""
POINTS_OF_V4_19 = crash_points.of_design("v4_19")


@pytest.fixture(autouse=True)
def _journaled(journaled_once: None) -> None:
    """Code that logs what it does is compiled."""


def stubborn(record: RunRecord, workload: Workload) -> None:
    """Assert that everything was played, nothing twice, and nothing is broken."""
    assert record.invariants.violations == []
    assert [worker.ops for worker in record.workers] == [len(stream) for stream in workload.streams]
    played = {op: one.count + one.skipped + sum(one.failed.values()) for op, one in record.ops.items()}
    assert played == workload.planned()


@pytest.mark.stress
@pytest.mark.parametrize("design", NAMES)
def test_a_run_of_any_design_survives_200_kills(design: str) -> None:
    """At random moments and random points, workers stopped besides; all invariants hold at each quiet point."""
    chaos = ChaosPlan(stop=True, kill_rate=150, seed=5, crash_points=crash_points.of_design(design))
    kills = 0
    while kills < KILLS:
        plan = stress.Plan(seconds=3.0, quiet_s=0.5, keep=False, timeout=60.0, chaos=replace(chaos, seed=5 + kills))
        found = stress.run(TORTURE, design, plan, lambda _: None)
        assert found.evidence is None, found.evidence
        assert sum(found.chaos.recoveries.values()) == found.chaos.kills > 0
        assert found.quiet_points > 0
        assert found.chaos.longest_recovery_ns == found.recovery_ns.max > 0
        kills += found.chaos.kills


@pytest.mark.stress
@pytest.mark.parametrize("design", ["v4_19", "v6_7"])
def test_every_operation_is_played_once_however_many_are_killed_in_it(design: str) -> None:
    """By several CPUs, to the end of what was planned."""
    workload = load("churn", 4)
    reaper = Reaper(ChaosPlan(kill_rate=300, seed=7))
    stubborn(play(workload, design, native.RunSettings(kills=reaper)), workload)
    assert len(reaper.recoveries) > 10


STEPS = {
    "registration": ("register_shrinker", "_alloc_shrinker_id", "idr_alloc_gfp"),
    "online": ("cgroup_mkdir", "memcg_online", "maps_alloc_online"),
    "offline": ("cgroup_rmdir", "_take_offline"),
    "reparent": ("memcg_offline_kmem", "list_lru_drain"),
    "lru add": ("list_lru_add", "list_lru_link"),
    "isolate": ("_isolate", "list_lru_walk_one"),
    "free": ("object_free", "slab_free", "kfree"),
    "charge": ("try_charge", "page_counter_try_charge"),
    "grace period": ("wait_for_readers", "_wait_for_reader", "rcu_do_batch"),
}
"""What each step of v4_19's operations is done by."""


GROWTH = ("_expand_all", "_expand_one", "map_grow", "map_replace", "map_publish")


def killed_in(workload: Workload, functions: Sequence[str], seconds: float) -> set[str]:
    """Kill there, of v4_19, and nowhere else; where somebody died."""
    points = crash_points.called(functions, POINTS_OF_V4_19, "v4_19")
    chaos = ChaosPlan(kill_rate=300, seed=2, crash_points=points, nowhere_else=True)
    plan = stress.Plan(seconds=seconds, quiet_s=0.5, keep=False, timeout=60.0, chaos=chaos)
    found = stress.run(workload, "v4_19", plan, lambda _: None)
    assert found.evidence is None, found.evidence
    assert sum(found.chaos.crash_points.values()) == sum(found.chaos.recoveries.values()) == found.chaos.kills > 0
    return {name.split(".")[1].split(":")[0] for name, kills in found.chaos.crash_points.items() if kills}


@pytest.mark.stress
def test_workers_are_killed_at_crash_points_by_name() -> None:
    """In each step of each operation, and nowhere else."""
    died_in = killed_in(TORTURE, [name for names in STEPS.values() for name in names], 5.0)
    assert [step for step, functions in STEPS.items() if not died_in & {*functions}] == []


@pytest.mark.stress
def test_workers_are_killed_while_maps_grow() -> None:
    """In every step of that, which comes only while a machine is young."""
    growth = repeatable(load_scenario("growth", cpus=4, nodes=1, seed=1))
    assert killed_in(growth, GROWTH, 3.0) == {*GROWTH}


# --- one CPU: the very same memory as without deaths --------------------------------------------------


ALL_OPS: tuple[Row, ...] = (
    *((0, Op.REGISTER, 0, k, 0, 0, 1) for k in range(3)),
    (0, Op.REGISTER, 0, 3, 0, 0, 0),
    *((0, Op.MEMCG_ONLINE, memcg, 0, 0, 0, 0) for memcg in (1, 2)),
    (0, Op.MEMCG_ONLINE, 3, 0, 0, 0, 2),
    *((0, Op.LRU_ADD, memcg, sb, 0, 3, sb & 1) for memcg in (1, 2, 3) for sb in range(3)),
    (0, Op.TOUCH, 1, 1, 0, 2, 1),
    (0, Op.LRU_DEL, 2, 0, 0, 1, 0),
    (0, Op.CACHE_PAGES, 1, 0, 0, 8, 7),
    (0, Op.ALLOC, 2, 0, 0, 4, 7),
    (0, Op.SHRINK_SLAB, 1, 0, 0, 0, 0),
    (0, Op.MEMCG_OFFLINE, 3, 0, 0, 0, 0),
    (0, Op.UNREGISTER, 0, 1, 0, 0, 0),
    (0, Op.REGISTER, 0, 4, 0, 0, 1),
    (0, Op.DROP_CACHES, 0, 0, 0, 0, 0),
    (0, Op.MEMCG_OFFLINE, 1, 0, 0, 0, 0),
)
"""Every operation, with objects to free, to move to a parent, and to leave."""


class ShortLives:
    """Every process that plays CPU 0 dies after so many points; every one that plays kswapd, too."""

    def __init__(self, points: int) -> None:
        """Nobody has died yet."""
        self._points = points
        self.crew: NursedCrew

    def begin(self, crew: NursedCrew) -> None:
        """From the start."""
        self.crew = crew
        for k in range(crew.size):
            crew.limit_lives(k, self._points)

    def act(self, crew: NursedCrew) -> float:
        """Nothing more."""
        self.crew = crew
        return 1.0


class Trapped:
    """Whoever comes by a crash point for the first time dies there; as far as so many can be set at a time."""

    def __init__(self, points: tuple[CrashPoint, ...]) -> None:
        """None is set yet."""
        self._points = points
        self.crew: NursedCrew

    def begin(self, crew: NursedCrew) -> None:
        """From the start."""
        self.crew = crew
        for point in self._points:
            crew.set_trap(point.number)

    def act(self, crew: NursedCrew) -> float:
        """Nothing more."""
        self.crew = crew
        return 1.0


def memory_after(design: str, settings: native.RunSettings | None = None) -> NDArray[np.int64]:
    """The words of the emulated kernel after a run of ALL_OPS: its root record, its budgets, all of its heap in use."""
    workload, images = by_hand(ALL_OPS), []
    close = Arena.close

    def keep(arena: Arena) -> None:
        mm = arena.memory[HEADER.kernel]
        heap = arena.memory[mm + MM.heaps]
        chunks = arena.memory[heap + HEAP.used]
        end = arena.memory[heap + HEAP.first_chunk] + USED_CHUNKS * CHUNK_WORDS
        assert not any(arena.memory[chunks + USED_CHUNKS // 64 + k] for k in range(1, 4)), "more of the heap is in use"
        images.append(arena.view(mm, end - mm).copy())
        close(arena)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Arena, "close", keep)
        stubborn(play(workload, design, settings), workload)
    (image,) = images
    return image


def differ(one: NDArray[np.int64], other: NDArray[np.int64]) -> set[int]:
    """Where two memories are not the same."""
    return {*np.flatnonzero(one != other).tolist()}


def kill_by_points(design: str, points: int) -> None:
    """Let no process pass more points than these, and compare what is left with two runs in which all live."""
    once, again = memory_after(design), memory_after(design)
    lives = ShortLives(points)
    after = memory_after(design, native.RunSettings(kills=lives, timeout=900.0))
    assert lives.crew.deaths > 20
    assert differ(once, after) <= differ(once, again)  # times


@pytest.mark.stress
@pytest.mark.parametrize("design", NAMES)
def test_one_cpu_that_dies_all_the_time_leaves_the_memory_it_would_have_left(design: str) -> None:
    """Word by word, but for times: nothing is done twice, left out, or done in another order."""
    kill_by_points(design, 101)


@pytest.mark.stress
@pytest.mark.parametrize("design", ["v4_19", "v6_7"])
def test_one_cpu_that_dies_at_crash_points_leaves_the_memory_it_would_have_left(design: str) -> None:
    """Before statements, too."""
    once, again = memory_after(design), memory_after(design)
    trapped = Trapped(crash_points.of_design(design))
    after = memory_after(design, native.RunSettings(kills=trapped, timeout=900.0))
    died_at = [each.death.at for each in trapped.crew.recoveries]
    assert len({*died_at}) == len(died_at) > 50
    assert differ(once, after) <= differ(once, again)


@pytest.mark.slow
@pytest.mark.parametrize("points", [5, 13, 37])
@pytest.mark.parametrize("design", NAMES)
def test_so_it_does_wherever_it_dies(design: str, points: int) -> None:
    """Thousands of deaths in some twenty operations: before and after nearly each access that others see."""
    kill_by_points(design, points)


# --- what cannot be gone on with ------------------------------------------------------------------------


class OneKill:
    """Does something to the workers once, when all play."""

    def __init__(self, signum: int, *, nursery: bool = False) -> None:
        """A signal for worker 0, or for the process that starts workers."""
        self._signum, self._nursery = signum, nursery
        self._done = False

    def begin(self, crew: NursedCrew) -> None:
        """Nothing yet."""

    def act(self, crew: NursedCrew) -> float:
        """Once."""
        if not self._done:
            self._done = True
            if self._nursery:
                os.kill(crew.nursery.pid, self._signum)
            else:
                crew.order(0, self._signum)
        return 0.05


class Stranger:
    """Kills CPU 0, without asking whether anybody can go on."""

    def begin(self, crew: NursedCrew) -> None:
        """Nothing yet."""

    def act(self, crew: NursedCrew) -> float:
        """As soon as it plays."""
        for pid in crew.pids()[:1]:
            os.kill(pid, signal.SIGKILL)
        return 0.05


LONG = by_hand([idle(300_000_000), *ALL_OPS])


@pytest.mark.stress
def test_a_worker_that_ends_by_a_fault_of_its_own_is_not_succeeded() -> None:
    """The next one would only do the same."""
    with pytest.raises(native.WorkerCrashError, match=r"CPU 0 .* was killed by SIGSEGV"):
        play(LONG, "v6_7", native.RunSettings(kills=OneKill(signal.SIGSEGV)))


@pytest.mark.stress
def test_a_run_whose_nursery_is_killed_ends_inconclusively() -> None:
    """And no worker is left."""
    with pytest.raises(Inconclusive, match="the process that starts workers went away"):
        play(LONG, "v6_7", native.RunSettings(kills=OneKill(signal.SIGKILL, nursery=True)))


@pytest.mark.stress
def test_an_operation_too_long_to_be_repeated_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to do about it, if a stranger kills somebody in one. We do not: the same lives end nobody."""
    monkeypatch.setattr(native, "JOURNAL_ROOM", 8)
    stubborn(play(LONG, "v6_7", native.RunSettings(kills=ShortLives(150))), LONG)
    with pytest.raises(Inconclusive, match="killed in an operation of more than 8 accesses"):
        play(LONG, "v6_7", native.RunSettings(kills=Stranger()))
