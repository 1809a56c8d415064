"""Sums over CPUs, against slots filled by hand."""

from collections.abc import Iterator

import pytest

from shmreclaim.executions import collect
from shmreclaim.kernel import OP_COUNTS
from shmreclaim.machine.arena import Arena
from shmreclaim.machine.cpu import CPU, LOCKSTAT_WORDS, OP_WORDS, make_cpus
from shmreclaim.machine.histogram import HISTOGRAM, bucket_of
from shmreclaim.machine.layout import HEADER, LINE
from shmreclaim.mm.state import GROWTH_HISTOGRAM, MM, Event
from shmreclaim.result import Ids, LockUse, Objects, Range
from shmreclaim.sync.lockdep import LOCKSTAT, READ, WRITE, LockClass
from shmreclaim.workload.ops import Op

CPUS = 3
"""Two that play, and a kswapd."""


class Board:
    """A segment with CPU slots, to write figures into."""

    def __init__(self, arena: Arena) -> None:
        """Fill in what every run has."""
        self.arena = arena
        self.slots = make_cpus(arena, CPUS)
        self.mm = arena.allocate(MM.SIZE)
        arena.memory[HEADER.kernel] = self.mm
        arena.memory[self.mm + MM.max_id] = -1
        for k, slot in enumerate(self.slots):
            for at, value in ((CPU.pid, 100 + k), (CPU.started, 1000 + k), (CPU.ended, 5000 + 10 * k)):
                arena.memory[slot + at] = value

    def counts(self, cpu: int, op: Op, **figures: int) -> None:
        """Write what a CPU counted of an operation."""
        for name, value in figures.items():
            self.arena.memory[self.slots[cpu] + CPU.ops + op * OP_WORDS + getattr(OP_COUNTS, name)] = value

    def took(self, cpu: int, which: int, *values: int) -> None:
        """Count durations in one of a CPU's histograms."""
        at = self.slots[cpu] + CPU.histograms + which * HISTOGRAM.SIZE
        for value in values:
            self.arena.memory[at + HISTOGRAM.buckets + bucket_of(value)] += 1
            self.arena.memory[at + HISTOGRAM.total] += value
            self.arena.memory[at + HISTOGRAM.max] = max(value, self.arena.memory[at + HISTOGRAM.max])

    def lock(self, cpu: int, klass: LockClass, mode: int, **figures: int) -> None:
        """Write lock_stat's figures of a CPU."""
        at = self.slots[cpu] + CPU.lockstats + (klass * 2 + mode) * LOCKSTAT_WORDS
        for name, value in figures.items():
            self.arena.memory[at + getattr(LOCKSTAT, name)] = value

    def event(self, cpu: int, event: Event, n: int) -> None:
        """Write an event's counter."""
        self.arena.memory[self.slots[cpu] + CPU.events + event] = n

    def gather(self, checked: int = 0, violations: tuple[str, ...] = ()) -> collect.RunRecord:
        """Make the record; the last slot is a kswapd's."""
        return collect.gather(self.arena, self.slots[: CPUS - 1], self.slots, checked, list(violations))


@pytest.fixture
def board() -> Iterator[Board]:
    """An empty one."""
    with Arena.create(HEADER.SIZE + CPUS * CPU.SIZE + MM.SIZE + 4 * LINE) as arena:
        yield Board(arena)


def test_a_run_without_anything_is_all_zeros(board: Board) -> None:
    """No operation, no lock, no id."""
    record = board.gather()
    assert (record.ops, record.locks, record.jain) == ({}, {}, {})
    assert record.longest_wait_ns == 0
    assert record.growth.count == 0
    assert record.ids == Ids(peak_live=0, max_id=-1)


def test_an_operation_is_the_sum_over_the_cpus(board: Board) -> None:
    """Done, skipped, and failed by the name of the error; names that did not occur are left out."""
    board.counts(0, Op.REGISTER, done=5, skipped=1, failed_enomem=2, time=50)
    board.counts(1, Op.REGISTER, done=7, failed_enospc=1, failed_enomem=1, failed_other=4, time=70)
    board.counts(1, Op.TOUCH, skipped=3)
    record = board.gather()
    assert set(record.ops) == {"register", "touch"}
    one = record.ops["register"]
    assert (one.count, one.skipped, one.failed) == (12, 1, {"ENOMEM": 3, "ENOSPC": 1, "other": 4})
    assert (record.ops["touch"].count, record.ops["touch"].skipped) == (0, 3)


def test_histograms_of_the_cpus_are_added(board: Board) -> None:
    """Counts and totals add, the greatest is the greatest of any; each operation has its own."""
    board.counts(0, Op.ALLOC, done=2, time=1)
    board.took(0, Op.ALLOC, 10, 20)
    board.took(1, Op.ALLOC, 5_000)
    board.took(1, Op.IDLE, 7)
    latency = board.gather().ops["alloc"].latency
    assert (latency.count, latency.total, latency.max) == (3, 5_030, 5_000)
    assert latency.percentile(50) == 20


def test_growth_is_counted_wherever_it_happened(board: Board) -> None:
    """On the kswapd's slot too, which plays no operation."""
    board.took(0, GROWTH_HISTOGRAM, 300)
    board.took(2, GROWTH_HISTOGRAM, 500)
    growth = board.gather().growth
    assert (growth.count, growth.max, growth.total) == (2, 500, 800)


def test_lock_times_are_the_least_the_greatest_and_the_sum(board: Board) -> None:
    """A CPU that never took the lock has zeros, which are no least time."""
    board.lock(0, LockClass.SHRINKER_RWSEM, READ, acquisitions=4, contentions=1, trylock_failed=2,
               waittime_min=30, waittime_max=30, waittime_total=30,
               holdtime_min=5, holdtime_max=9, holdtime_total=28)  # fmt: skip
    board.lock(2, LockClass.SHRINKER_RWSEM, READ, acquisitions=1, trylock_failed=3,
               holdtime_min=2, holdtime_max=2, holdtime_total=2)  # fmt: skip
    board.lock(1, LockClass.SHRINKER_RWSEM, WRITE, acquisitions=1, contentions=1,
               waittime_min=700, waittime_max=700, waittime_total=700)  # fmt: skip
    record = board.gather()
    assert record.locks == {
        "shrinker_rwsem": {
            "read": LockUse(
                acquisitions=5, contentions=1, trylock_failed=5,
                waittime_ns=Range(min=30, max=30, total=30), holdtime_ns=Range(min=2, max=9, total=30),
            ),
            "write": LockUse(acquisitions=1, contentions=1, waittime_ns=Range(min=700, max=700, total=700)),
        }
    }  # fmt: skip
    assert record.longest_wait_ns == 700


def test_a_lock_that_was_only_tried_in_vain_is_reported(board: Board) -> None:
    """It is what the figure of failed trylocks is for; one that nobody touched is not."""
    board.lock(0, LockClass.S_UMOUNT, READ, trylock_failed=1)
    board.lock(0, LockClass.MAP_MUTEX, WRITE, acquisitions=1)
    locks = board.gather().locks
    assert set(locks) == {"s_umount", "map_mutex"}
    assert set(locks["map_mutex"]) == {"write"}
    assert locks["s_umount"]["read"].trylock_failed == 1


def test_events_of_kswapd_count_and_its_operations_do_not(board: Board) -> None:
    """What it freed was freed; but it is nobody's stream, and not among the workers."""
    for cpu, n in enumerate((1, 10, 100)):
        for k, event in enumerate(Event):
            board.event(cpu, event, n * (k + 1))
    record = board.gather()
    assert record.reclaim.passes == 111 * (Event.RECLAIM_PASSES + 1)
    assert record.reclaim.pages_freed == 111 * (Event.PAGES_FREED + 1)
    assert record.objects == Objects(
        added=111 * (Event.OBJECTS_ADDED + 1),
        deleted=111 * (Event.OBJECTS_DELETED + 1),
        freed=111 * (Event.OBJECTS_FREED + 1),
        remaining=0,
    )
    assert [worker.pid for worker in record.workers] == [100, 101]


def test_a_run_takes_from_the_first_begin_to_the_last_end(board: Board) -> None:
    """Of the CPUs that play; kswapd waits before and after."""
    assert board.gather().wall_s == pytest.approx((5010 - 1000) / 1e9)


def test_fairness_looks_at_what_each_cpu_got_done_in_its_time(board: Board) -> None:
    """Twice the work in twice the time is fair, in however many operations; nothing done in much time is not."""
    board.counts(0, Op.ALLOC, done=10, units=40, time=100)
    board.counts(1, Op.ALLOC, done=20, units=80, time=200)
    board.counts(0, Op.LRU_ADD, done=10, units=10, time=100)
    board.counts(1, Op.LRU_ADD, done=1, units=10, time=100)
    board.counts(0, Op.REGISTER, done=10, units=10, time=100)
    board.counts(1, Op.REGISTER, failed_enomem=1, time=900)
    jain = board.gather().jain
    assert jain["alloc"] == pytest.approx(1)
    assert jain["lru_add"] == pytest.approx(1)
    assert jain["register"] == pytest.approx(0.5)


def test_verdicts_are_passed_on(board: Board) -> None:
    """As the oracles gave them."""
    invariants = board.gather(checked=17, violations=("I2: lost",)).invariants
    assert (invariants.checked, invariants.violations) == (17, ["I2: lost"])
