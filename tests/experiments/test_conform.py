"""Traces against do_shrink_slab's formulas: real ones match, made ones are told by era, one wrong number is found."""

import gzip
from importlib.resources import files
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from shmreclaim.errors import UsageError
from shmreclaim.experiments.conform import ERAS, ConformOptions, conform
from shmreclaim.machine.compile import plain
from shmreclaim.mm.shrinker import Arithmetic, scan_carry, scan_delta, scan_target

DATA = files("shmreclaim.workload") / "data"
RECORDED = {"containers-24.ftrace.gz": 6249, "dropcaches-1000x5.ftrace.gz": 20294}
SB = "super_cache_scan+0x0/0x210"


def check(path, **how):
    """Conform the file at `path`."""
    return conform(ConformOptions(Path(path), **how))


class Maker:
    """Writes calls as a kernel of one era would trace them."""

    def __init__(self, era, seeks=2, batch=128):
        """Start at second 1."""
        self.era, self.seeks, self.batch = era, seeks, batch
        self.now, self.lines = 1_000_000, []

    def figures(self, f, p, d, scan):
        """Compute delta, total_scan, what is left, carry; a share of `scan` (0 to 1) of the target is scanned."""
        delta = plain(scan_delta)(self.era, f, p, self.seeks, self.batch)
        target = plain(scan_target)(self.era, f, d, delta, p)
        scanned = int(target * scan)
        carry = plain(scan_carry)(self.era, f, d, delta, scanned)
        return delta, target, target - scanned, carry

    def event(self, pid, text):
        """Append an event, 50 microseconds after the one before."""
        self.now += 50
        self.lines.append(f" sh-{pid} [000] ..... {self.now // 10**6}.{self.now % 10**6:06d}: mm_shrink_slab_{text}")

    def start(self, f, p, d, delta, target, pid=7, shrinker="aa"):
        """A call begins."""
        counts = f"objects to shrink {d} gfp_flags GFP_KERNEL cache items {f} delta {delta} total_scan {target}"
        self.event(pid, f"start: {SB} {shrinker}: nid: 0 {counts} priority {p}")

    def end(self, d, new, left, pid=7, shrinker="aa"):
        """A call returns."""
        counts = f"unused scan count {d} new scan count {new} total_scan {left} last shrinker return val 0"
        self.event(pid, f"end: {SB} {shrinker}: nid: 0 {counts}")

    def call(self, f, p, d=0, scan=0.0, add=(0, 0, 0), **who):
        """A whole call; `add` spoils delta, total_scan and carry."""
        delta, target, left, carry = self.figures(f, p, d, scan)
        self.start(f, p, d, delta + add[0], target + add[1], **who)
        self.end(d, carry + add[2], left, **who)

    def save(self, folder):
        """Write the trace."""
        path = folder / "made.ftrace"
        path.write_text("\n".join(self.lines) + "\n")
        return path


@pytest.mark.parametrize(("name", "rows"), RECORDED.items())
def test_every_call_of_a_shipped_recording_matches_5_13(name, rows, tmp_path):
    """All three figures of all calls, and no other era does as well."""
    result = check(DATA / name)
    assert (result.era, result.ambiguous) == ("v5.13+", [])
    assert (result.rows, result.matched, result.mismatches) == (rows, rows, [])
    assert result.unused == {}
    assert all(fit.matched < rows for era, fit in result.eras.items() if era != "v5.13+")


def test_calls_that_others_added_to_are_explained_by_what_these_left():
    """Seven calls of the container recording ended with more than their own carry."""
    assert check(DATA / "containers-24.ftrace.gz").eras["v5.13+"].carry_with_others == 7


def test_what_was_inferred_is_said_with_what_else_would_fit():
    """Superblocks of two kinds; 0 and 8 cannot be told apart where all calls are at priority 0."""
    found = {(each.function, each.seeks): each for each in check(DATA / "dropcaches-1000x5.ftrace.gz").inferred}
    assert found["super_cache_scan", 2].alternatives == []
    assert found["super_cache_scan", 2].telling == found["super_cache_scan", 2].rows == 1083
    assert found["super_cache_scan", 0].alternatives == [8]


@pytest.mark.parametrize(
    ("field", "figure"), [("delta", "delta"), ("total_scan", "total_scan"), ("new scan count", "carry")]
)
@pytest.mark.parametrize("name", RECORDED)
def test_one_wrong_number_in_a_real_recording_is_found(name, field, figure, tmp_path):
    """The number is 1 too high: that figure of that call, with what it should be and what it is."""
    lines = gzip.decompress((DATA / name).read_bytes()).decode().split("\n")
    kind = "slab_end" if field.startswith("new") else "slab_start"
    candidates = [
        i for i, line in enumerate(lines) if kind in line and "cache_scan" in line and f"{field} 0" not in line
    ]
    at = candidates[len(candidates) // 2]
    before, _, rest = lines[at].partition(f" {field} ")
    number, _, after = rest.partition(" ")
    lines[at] = f"{before} {field} {int(number) + 1} {after}"
    path = tmp_path / "spoilt.ftrace"
    path.write_text("\n".join(lines))
    result = check(path)
    assert (result.era, result.mismatched) == ("v5.13+", 1)
    wrong = {each.figure: each for each in result.mismatches}
    assert (wrong[figure].expected, wrong[figure].found) == (int(number), int(number) + 1)


CALLS = st.lists(
    st.tuples(st.integers(1, 10**6), st.integers(0, 12), st.integers(0, 10**6), st.sampled_from([0.0, 0.5, 1.0])),
    min_size=1,
    max_size=12,
)


@pytest.mark.parametrize("era", Arithmetic, ids=lambda era: era.name)
@settings(max_examples=40, deadline=None)
@given(calls=CALLS, seeks=st.sampled_from([0, 1, 2, 4]), batch=st.sampled_from([128, 1024]))
def test_a_made_trace_is_recognised_as_its_era(tmp_path_factory, era, calls, seeks, batch):
    """All calls match, and the era is the best one or named among those that fit as well."""
    maker = Maker(era, seeks or (0 if era >= Arithmetic.V5_0 else 2), batch)
    for f, p, d, scan in calls:
        maker.call(f, p, d, scan)
    result = check(maker.save(tmp_path_factory.mktemp("made")))
    assert result.eras[ERAS[era]].matched == result.rows == len(calls)
    assert ERAS[era] in (result.ambiguous or [result.era])
    others = [name for name, fit in result.eras.items() if fit.matched == result.rows]
    assert result.ambiguous == (others if len(others) > 1 else [])


TELLS = {
    Arithmetic.V4_19: [(100, 12, 0, 1.0), (5000, 12, 0, 1.0)],
    Arithmetic.V5_13: [(10000, 3, 5000, 1.0)],
}


@pytest.mark.parametrize(("era", "calls"), TELLS.items(), ids=lambda value: getattr(value, "name", ""))
def test_calls_that_only_one_era_makes_leave_no_ambiguity(era, calls, tmp_path):
    """The golden vectors that the eras differ in."""
    maker = Maker(era)
    for f, p, d, scan in calls:
        maker.call(f, p, d, scan)
    result = check(maker.save(tmp_path))
    assert (result.era, result.ambiguous, result.mismatched) == (ERAS[era], [], 0)


def test_seeks_of_0_tell_5_0_from_4_16(tmp_path):
    """Before, it would have divided by zero; a share of a half at priority 1 is no other seeks."""
    maker = Maker(Arithmetic.V5_0, seeks=0)
    maker.call(1000, 3)
    maker.call(1001, 2, d=400, scan=0.5)
    result = check(maker.save(tmp_path))
    assert result.era == "v5.0 to v5.12"
    assert result.inferred[0].seeks == 0
    assert result.inferred[0].alternatives == []


def test_a_shrinker_cannot_change_its_seeks(tmp_path):
    """Each call alone would fit some value, together they fit none: the fewer are wrong."""
    maker = Maker(Arithmetic.V5_13)
    for _ in range(3):
        maker.call(1000, 2)
    maker.seeks = 4
    maker.call(1000, 2)
    result = check(maker.save(tmp_path))
    assert [(each.figure, each.expected, each.found) for each in result.mismatches] == [("delta", 500, 250)]


def _overlapping(folder, excess, *fetched):
    """Task 7 is in a call while task 8 calls, fetches 0 and leaves 40; task 7's new count has `excess` on top.

    For each number `fetched`, task 8 calls once more: it owes 2 itself, scans 8, and may leave no more than 8.
    """
    maker = Maker(Arithmetic.V5_13)
    delta, target, left, carry = maker.figures(1000, 2, 0, 0.5)
    maker.start(1000, 2, 0, delta, target)
    maker.call(80, 2, pid=8)
    for d in fetched:
        maker.call(4, 2, d=d, scan=1.0, pid=8)
    maker.end(0, carry + excess, left)
    return check(maker.save(folder))


def test_an_excess_must_be_what_a_concurrent_call_left(tmp_path):
    """40 is, 39 and 41 are not."""
    fit = _overlapping(tmp_path, 40)
    assert (fit.mismatched, fit.eras["v5.13+"].carry_with_others) == (0, 1)
    assert [_overlapping(tmp_path, excess).mismatched for excess in (39, 41, -1)] == [1, 1, 1]


def test_what_a_chain_of_calls_left_explains_an_excess(tmp_path):
    """The second call fetched the 40 of the first, scanned 8 and left 8, which is the most it may leave."""
    assert _overlapping(tmp_path, 8, 40).mismatched == 0


def test_what_another_memcgs_counter_was_left_with_explains_no_excess(tmp_path):
    """A call that fetched 30 during this one met another counter: this one held 0 and then 40."""
    assert _overlapping(tmp_path, 8, 30).mismatched == 1
    assert _overlapping(tmp_path, 40, 30).mismatched == 0


CONCURRENT = Path(__file__).parent / "two-drops.ftrace.gz"
"""Of a 6.18 kernel on which two tasks wrote to drop_caches at the same time, for five seconds."""


def test_a_recording_of_concurrent_drops_matches(tmp_path):
    """14 of its calls ended with more than their own carry; their tasks went on to other memcgs' counters meanwhile."""
    result = check(CONCURRENT)
    assert (result.era, result.rows, result.matched) == ("v5.13+", 613, 613)
    assert result.eras["v5.13+"].carry_with_others == 14


def test_a_carry_that_is_wrong_by_one_is_found_beside_concurrent_calls_as_well(tmp_path):
    """The new count of every eighth call that has one, one after the other; few are right by chance."""
    lines = gzip.decompress(CONCURRENT.read_bytes()).decode().split("\n")
    path, found = tmp_path / "spoilt.ftrace", 0
    ends = [i for i, line in enumerate(lines) if "slab_end" in line and "new scan count 0" not in line][::8]
    for at in ends:
        before, _, rest = lines[at].partition(" new scan count ")
        number, _, after = rest.partition(" ")
        spoilt = f"{before} new scan count {int(number) + 1} {after}"
        path.write_text("\n".join([*lines[:at], spoilt, *lines[at + 1 :]]))
        found += check(path).mismatched > 0
    assert len(ends) > 20
    assert found > 0.95 * len(ends)


def test_interleaved_calls_of_tasks_and_shrinkers_are_not_mixed_up(tmp_path):
    """Two tasks in the same shrinker and one in two, ending in another order: each end finds its start."""
    maker = Maker(Arithmetic.V5_13)
    opened = []
    for pid, shrinker, f, p, d in [(7, "aa", 1000, 2, 70), (8, "aa", 500, 1, 80), (7, "bb", 300, 0, 90)]:
        delta, target, left, carry = maker.figures(f, p, d, 0.0)
        maker.start(f, p, d, delta, target, pid=pid, shrinker=shrinker)
        opened.append((d, carry, left, pid, shrinker))
    for k in (0, 2, 1):
        maker.end(*opened[k])
    result = check(maker.save(tmp_path))
    assert (result.rows, result.matched, result.unused) == (3, 3, {})


def test_halves_and_contradictions_are_counted_not_checked(tmp_path):
    """A start whose end is lost, an end without start, an end that says another deferred count."""
    maker = Maker(Arithmetic.V5_13)
    maker.start(10, 0, 0, 20, 20)
    maker.call(100, 0)
    maker.end(0, 0, 0, pid=9)
    maker.start(10, 0, 0, 20, 20)
    maker.end(5, 25, 20)
    result = check(maker.save(tmp_path))
    assert (result.rows, result.starts, result.ends) == (1, 3, 3)
    assert result.unused == {
        "starts without an end": 1,
        "ends without a start": 1,
        "ends that contradict the start before them (another node or deferred count)": 1,
    }


def test_no_more_mismatches_are_kept_than_asked_for_but_all_are_counted(tmp_path):
    """Ten wrong carries, three shown."""
    maker = Maker(Arithmetic.V5_13)
    for _ in range(10):
        maker.call(1000, 2, scan=1.0, add=(0, 0, 5))
    result = check(maker.save(tmp_path), mismatches=3)
    assert (result.mismatched, result.mismatched_figures, len(result.mismatches)) == (10, 10, 3)


def test_a_trace_of_a_kernel_before_4_16_is_refused_with_the_reason(tmp_path):
    """It has no priority, so that nothing can be checked."""
    maker = Maker(Arithmetic.V5_13)
    maker.call(1000, 2)
    path = maker.save(tmp_path)
    path.write_text(path.read_text().replace(" priority 2", ""))
    with pytest.raises(UsageError, match=r"holds no pair.*\n.*before 4.16"):
        check(path)
