"""How much a shrinker is asked to scan: the golden vectors of every era, the rules, and the loop on a superblock."""

from collections.abc import Callable

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from shmreclaim.machine.compile import plain
from shmreclaim.mm.shrinker import (
    SHRINK_EMPTY,
    SHRINK_STOP,
    SHRINKER,
    Arithmetic,
    deferred_word,
    scan_carry,
    scan_delta,
    scan_target,
)
from shmreclaim.mm.state import GFP_KERNEL, GFP_NOFS, MM, Event
from shmreclaim.mm.superblock import SHRINK_CONTROL, SUPERBLOCK, shrink_control
from shmreclaim.mm.vmscan import do_shrink_slab
from tests.emulated import Emulated, add, mkdir, mount, touch

V4_16, V4_19, V5_0, V5_13 = Arithmetic

Outcome = tuple[int, int, int, int, int, int]
"""delta, target, calls, scanned, what is left of the target, what is carried over."""

VECTORS: list[tuple[tuple[int, int, int, int, int], Outcome | None, Outcome, Outcome]] = [
    # freeable, deferred, priority, batch, seeks: in 4.19, from 5.0, from 5.13
    ((1, 0, 12, 128, 2), (1, 1, 1, 1, 0, 0), (0, 0, 0, 0, 0, 0), (0, 0, 0, 0, 0, 0)),
    ((1, 0, 0, 128, 2), (2, 2, 1, 2, 0, 0), (2, 2, 1, 2, 0, 0), (2, 2, 1, 2, 0, 0)),
    ((100, 0, 12, 1024, 2), (100, 100, 1, 100, 0, 0), (0, 0, 0, 0, 0, 0), (0, 0, 0, 0, 0, 0)),
    ((100, 0, 0, 1024, 2), (200, 200, 1, 200, 0, 0), (200, 200, 1, 200, 0, 0), (200, 200, 1, 200, 0, 0)),
    ((300, 0, 0, 128, 2), (600, 600, 4, 512, 88, 88), (600, 600, 4, 512, 88, 88), (600, 600, 4, 512, 88, 88)),
    ((5000, 0, 12, 128, 2), (128, 128, 1, 128, 0, 0), (2, 2, 0, 0, 2, 2), (2, 2, 0, 0, 2, 2)),
    ((5000, 0, 6, 128, 2), (156, 156, 1, 128, 28, 28), (156, 156, 1, 128, 28, 28), (156, 156, 1, 128, 28, 28)),
    ((64, 63, 12, 128, 2), (64, 127, 1, 127, 0, 0), (0, 32, 0, 0, 32, 63), (0, 0, 0, 0, 0, 63)),
    (
        (10000, 5000, 3, 128, 2),
        (2500, 7500, 58, 7424, 76, 76),
        (2500, 7500, 58, 7424, 76, 76),
        (2500, 3125, 24, 3072, 53, 4428),
    ),
    (
        (10000, 100000, 3, 128, 2),
        (2500, 20000, 156, 19968, 32, 82532),
        (2500, 20000, 156, 19968, 32, 82532),
        (2500, 15000, 117, 14976, 24, 20000),
    ),
    (
        (10000, 0, 0, 128, 1),
        (40000, 20000, 156, 19968, 32, 20032),
        (40000, 20000, 156, 19968, 32, 20032),
        (40000, 20000, 156, 19968, 32, 20000),
    ),
    ((10000, 0, 0, 128, 64), (625, 625, 4, 512, 113, 113), (625, 625, 4, 512, 113, 113), (625, 625, 4, 512, 113, 113)),
    (
        (1_000_000, 0, 12, 1024, 2),
        (1024, 1024, 1, 1024, 0, 0),
        (488, 488, 0, 0, 488, 488),
        (488, 488, 0, 0, 488, 488),
    ),
    (
        (1_000_000, 3_000_000, 12, 1024, 2),
        (1024, 500000, 488, 499712, 288, 2501312),
        (488, 500000, 488, 499712, 288, 2500776),
        (488, 1220, 1, 1024, 196, 2000000),
    ),
    (
        (1_000_000, 3_000_000, 0, 1024, 2),
        (2000000, 2000000, 1953, 1999872, 128, 3000128),
        (2000000, 2000000, 1953, 1999872, 128, 3000128),
        (2000000, 2000000, 1953, 1999872, 128, 2000000),
    ),
    ((1000, 0, 12, 128, 0), None, (500, 500, 3, 384, 116, 116), (500, 500, 3, 384, 116, 116)),
    (
        (93689873, 4994376020, 12, 1024, 2),  # a kswapd of 2021, in the cover letter of nr_deferred per memcg
        (45746, 46844936, 45747, 46844928, 8, 4947576838),
        (45746, 46844936, 45747, 46844928, 8, 4947576838),
        (45746, 1265076, 1235, 1264640, 436, 187379746),
    ),
]
CELLS = [
    pytest.param(era, given, wanted, id=f"{era.name}-" + ",".join(map(str, given)))
    for given, in_4_19, in_5_0, in_5_13 in VECTORS
    for era, wanted in ((V4_16, in_5_0 if given[4] else None), (V4_19, in_4_19), (V5_0, in_5_0), (V5_13, in_5_13))
    if wanted is not None
]

eras = st.sampled_from(Arithmetic)
counts = st.one_of(st.integers(0, 300), st.integers(0, 1 << 40))
few = st.integers(1, 3000)
priorities = st.integers(0, 12)
seeks = st.integers(1, 64)
batches = st.sampled_from([1, 32, 128, 1024])


def via(execution: str, function: Callable[..., int]) -> Callable[..., int]:
    """A function of numbers alone, interpreted or compiled."""
    return plain(function) if execution == "plain" else function


def scan(freeable: int, target: int, batch: int) -> tuple[int, int]:
    """The rule of the loop, told once more: how many calls, and what is left."""
    calls, left = 0, target
    while left >= batch or left >= freeable:
        left -= min(batch, left)
        calls += 1
    return calls, left


def work_out(execution: str, era: int, vector: tuple[int, int, int, int, int]) -> Outcome:
    """Everything that one call of a shrinker comes to, if each scan does what it was asked."""
    freeable, deferred, priority, batch, seeks = vector
    delta = via(execution, scan_delta)(era, freeable, priority, seeks, batch)
    target = via(execution, scan_target)(era, freeable, deferred, delta, priority)
    calls, left = scan(freeable, target, batch)
    carry = via(execution, scan_carry)(era, freeable, deferred, delta, target - left)
    return delta, target, calls, target - left, left, carry


@pytest.mark.parametrize(("era", "vector", "wanted"), CELLS)
def test_every_golden_vector_comes_out(
    execution: str, era: Arithmetic, vector: tuple[int, int, int, int, int], wanted: Outcome
) -> None:
    """Delta, target, calls, scanned, left and carry."""
    assert work_out(execution, era, vector) == wanted


@settings(deadline=None)
@given(eras, counts, counts, priorities, batches, seeks)
def test_compiled_and_plain_agree(
    era: int, freeable: int, deferred: int, priority: int, batch: int, seeks: int
) -> None:
    """On whatever a cache and its debt may be."""
    delta = plain(scan_delta)(era, freeable, priority, seeks, batch)
    assert scan_delta(era, freeable, priority, seeks, batch) == delta
    target = plain(scan_target)(era, freeable, deferred, delta, priority)
    assert scan_target(era, freeable, deferred, delta, priority) == target
    for scanned in (0, target // 2, target):
        carry = plain(scan_carry)(era, freeable, deferred, delta, scanned)
        assert scan_carry(era, freeable, deferred, delta, scanned) == carry


@settings(deadline=None)
@given(eras, counts, counts, priorities, batches, seeks)
def test_no_call_scans_more_than_twice_the_cache(
    era: int, freeable: int, deferred: int, priority: int, batch: int, seeks: int
) -> None:
    """However large the debt is; and never less than nothing."""
    delta = plain(scan_delta)(era, freeable, priority, seeks, batch)
    assert 0 <= plain(scan_target)(era, freeable, deferred, delta, priority) <= 2 * freeable


@settings(deadline=None)
@given(eras, few, few, priorities, batches, seeks)
def test_I8_what_is_owed_is_scanned_or_carried_over(
    era: int, freeable: int, deferred: int, priority: int, batch: int, seeks: int
) -> None:
    """Deferred after = deferred before + delta - scanned, not below 0, and since 5.13 not above twice the cache."""
    delta, _, _, scanned, _, carry = work_out("plain", era, (freeable, deferred, priority, batch, seeks))
    kept = max(deferred + delta - scanned, 0)
    assert carry == (min(kept, 2 * freeable) if era == V5_13 else kept)


@settings(deadline=None)
@given(counts, priorities, batches, seeks)
def test_pressure_rises_as_the_priority_falls(freeable: int, priority: int, batch: int, seeks: int) -> None:
    """One step is worth twice as much, but for what the shift cuts off."""
    for era in Arithmetic:
        now, more = (plain(scan_delta)(era, freeable, p, seeks, batch) for p in (priority + 1, priority))
        assert more >= now


@pytest.mark.parametrize("era", [V4_16, V4_19, V5_0])
def test_a_debt_that_overflowed_counts_as_the_cache(execution: str, era: Arithmetic) -> None:
    """A negative sum: the whole cache is the target, half of it if nobody presses; the debt is kept as it was."""
    assert via(execution, scan_target)(era, 1000, -5000, 0, 12) == 500
    assert via(execution, scan_target)(era, 1000, -5000, 500, 1) == 1000
    assert via(execution, scan_carry)(era, 1000, -5000, 0, 500) == 0


# --- the loop itself, on a real superblock ---------------------------------------------------------------


def prepared(kernel: Emulated, era: int, deferred: int, batch: int, objects: tuple[int, int]) -> tuple[int, int]:
    """Superblock 1 with dentries and inodes of memcg 1 and a debt; it, and the word of the debt."""
    kernel.set_word(kernel.word_of_mm(MM.arithmetic), era)
    kernel.play([mount(1), mkdir(1), add(1, 1, objects[0]), add(1, 1, objects[1], inodes=1)])
    sb = kernel.sb(1)
    debt = kernel.call(deferred_word, sb, 0)
    kernel.set_word(debt, deferred)
    kernel.set_word(sb + SHRINKER.batch, batch)
    sc = plain(shrink_control)(kernel.cpus[0])
    kernel.set_word(sc + SHRINK_CONTROL.nid, 0)
    kernel.set_word(sc + SHRINK_CONTROL.gfp, GFP_KERNEL)
    return sb, debt


def freed_by_one_scan(dentries: int, inodes: int, n: int) -> tuple[int, int]:
    """How many dentries and inodes one scan of `n` frees: each its share over the sum + 1, and one more."""
    share = dentries + inodes + 1
    return min(dentries, n * dentries // share + 1), min(inodes, n * inodes // share + 1)


def freed_by(dentries: int, inodes: int, target: int, batch: int) -> int:
    """How many objects all scans of one call free."""
    freeable = left = dentries + inodes
    freed, left = 0, target
    while left >= batch or left >= freeable:
        n = min(batch, left)
        gone = freed_by_one_scan(dentries, inodes, n)
        dentries, inodes = dentries - gone[0], inodes - gone[1]
        freed += sum(gone)
        left -= n
    return freed


@pytest.mark.parametrize("era", list(Arithmetic))
@pytest.mark.parametrize(
    ("objects", "deferred", "priority", "batch"),
    [
        ((60, 40), 0, 0, 1024),
        ((60, 40), 0, 3, 16),
        ((100, 0), 37, 2, 32),
        ((40, 90), 1000, 1, 8),
        ((0, 5), 3, 12, 0),
        ((1, 0), 0, 0, 128),
    ],
    ids=str,
)
def test_one_call_frees_what_the_arithmetic_says(
    kernel: Emulated, era: Arithmetic, objects: tuple[int, int], deferred: int, priority: int, batch: int
) -> None:
    """Objects are really gone, the debt is really noted, and the oracles find everything in order."""
    sb, debt = prepared(kernel, era, deferred, batch, objects)
    batch = batch or 128
    _, target, calls, _, _, carry = work_out("plain", era, (sum(objects), deferred, priority, batch, 2))
    freed = kernel.call(do_shrink_slab, kernel.cpus[0], sb, kernel.memcg(1), priority, debt)
    assert freed == freed_by(*objects, target, batch)
    assert kernel.word(debt) == carry
    assert kernel.event(Event.SCAN_CALLS) == calls
    assert kernel.mm("nr_objects") == sum(objects) - freed
    assert kernel.oracles() == []


def test_an_empty_shrinker_keeps_its_debt(kernel: Emulated) -> None:
    """Nothing is scanned and the word is not touched; where the era has SHRINK_EMPTY, the count says it."""
    sb, debt = prepared(kernel, V4_16, 77, 1024, (0, 0))
    arguments = (kernel.cpus[0], sb, kernel.memcg(1), 0, debt)
    assert kernel.call(do_shrink_slab, *arguments) == 0
    kernel.set_word(kernel.word_of_mm(MM.has_shrink_empty), 1)
    assert kernel.call(do_shrink_slab, *arguments) == SHRINK_EMPTY
    assert kernel.word(debt) == 77
    assert kernel.event(Event.SCAN_CALLS) == 0


def test_a_superblock_that_is_not_born_is_not_counted(kernel: Emulated) -> None:
    """Not even as empty: its objects may be on their way."""
    sb, debt = prepared(kernel, V4_16, 0, 1024, (10, 0))
    kernel.set_word(kernel.word_of_mm(MM.has_shrink_empty), 1)
    kernel.set_word(sb + SUPERBLOCK.born, 0)
    assert kernel.call(do_shrink_slab, kernel.cpus[0], sb, kernel.memcg(1), 0, debt) == 0


def test_a_scan_that_must_stop_defers_its_whole_target(kernel: Emulated) -> None:
    """Without __GFP_FS: each call adds its delta to the debt, and before 5.13 without an end."""
    assert SHRINK_STOP == -1
    sb, debt = prepared(kernel, V4_16, 0, 1024, (60, 40))
    sc = plain(shrink_control)(kernel.cpus[0])
    kernel.set_word(sc + SHRINK_CONTROL.gfp, GFP_NOFS)
    for k in range(1, 6):
        assert kernel.call(do_shrink_slab, kernel.cpus[0], sb, kernel.memcg(1), 0, debt) == 0
        assert kernel.word(debt) == k * 200
    kernel.set_word(kernel.word_of_mm(MM.arithmetic), V5_13)
    kernel.call(do_shrink_slab, kernel.cpus[0], sb, kernel.memcg(1), 0, debt)
    assert kernel.word(debt) == 200
    assert kernel.event(Event.OBJECTS_FREED) == 0


def test_looking_at_a_referenced_object_costs_as_much_as_freeing_it(kernel: Emulated) -> None:
    """A scan of objects that were all used frees none, and the next frees them: the second chance is one."""
    sb, debt = prepared(kernel, V4_16, 0, 8, (32, 0))
    kernel.play([touch(1, 1, 32)])
    arguments = (kernel.cpus[0], sb, kernel.memcg(1), 1, debt)
    assert kernel.call(do_shrink_slab, *arguments) == 0
    assert kernel.event(Event.SCAN_CALLS) == 4
    assert kernel.call(do_shrink_slab, *arguments) == freed_by(32, 0, 32, 8)
