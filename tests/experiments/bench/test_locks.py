"""What the bench of locks does with real processes: what it measures, and whom it catches."""

import contextlib
import time
from pathlib import Path

import multiprocess
import pytest

from shmreclaim.errors import UsageError
from shmreclaim.experiments.bench.locks import bench_locks
from shmreclaim.experiments.bench.locks.candidates import BUSTED, OURS, PEERS, Candidate, choose
from shmreclaim.experiments.bench.locks.deaths import Deaths
from shmreclaim.experiments.bench.locks.ground import LOG_ROOM, Ground
from shmreclaim.experiments.bench.locks.options import LockOptions
from shmreclaim.experiments.bench.locks.play import PARTS, BrokenError, Play, Setting, act, play
from shmreclaim.experiments.bench.locks.session import make_ready
from shmreclaim.experiments.bench.locks.stream import write_in_stream
from shmreclaim.experiments.bench.locks.troupe import FailedError, Troupe
from tests.experiments.bench import lock_breeds as breeds
from tests.experiments.bench.silent import Silent

ALL = (*OURS, *PEERS)
BY_NAME = {each.name: each for each in ALL}
SETTING = Setting(readers=2, writers=1, hold=None, think=None, arrival=None, seconds=0.05)


def no_signals() -> None:
    """The test's own process handles none."""


@pytest.fixture(autouse=True, scope="module")
def _ready() -> None:
    """Players are forked with all that they call."""
    make_ready(Silent())


@pytest.fixture(autouse=True)
def _nobody_is_left() -> None:
    """No play leaves a process behind."""
    yield
    assert multiprocess.active_children() == []


# --- plays -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("candidate", ALL, ids=[each.name for each in ALL])
def test_every_lock_is_played_in_each_of_its_modes(candidate: Candidate) -> None:
    """Somebody gets it, each wait is counted, nobody is where he must not be."""
    if not candidate.installed:
        pytest.skip(f"{candidate.package} is not installed")
    found = play(candidate, SETTING, no_signals)
    assert tuple(found) == candidate.modes
    for sample in found.values():
        assert sample.uncontended_ns > 0
        assert 0 < sample.jain <= 1
        assert sample.waits.count > 0
        assert (sample.pair_ops_per_s is None) == (len(found) == 2)
    assert sum(sample.ops_per_s for sample in found.values()) > 0


@pytest.mark.parametrize(
    "candidate",
    [BUSTED, breeds.LETS_EVERYBODY_IN, breeds.LETS_READERS_IN, breeds.LETS_WRITERS_IN],
    ids=lambda candidate: candidate.name,
)
def test_a_lock_that_lets_in_whom_it_must_not_is_caught(candidate: Candidate) -> None:
    """By a count that changes are lost of, or by who is seen half way."""
    setting = Setting(readers=2, writers=2, hold=100_000, think=0, arrival=None, seconds=0.1)
    with pytest.raises(BrokenError, match="changes under the lock"):
        play(candidate, setting, no_signals)


def test_changes_that_are_lost_are_missed() -> None:
    """Even where nobody was seen half way: six had the lock, five changes are there."""
    with Ground(SETTING.processes, PARTS) as ground:
        this = Play(BUSTED, SETTING, ground, "")
        ground.parts[PARTS - 2].set(0, ops=6)
        for count, broken in ((6, False), (5, True)):
            ground.set("first", count)
            ground.set("second", count)
            with pytest.raises(BrokenError) if broken else contextlib.nullcontext():
                this.samples()


def test_processes_that_never_end_are_ended() -> None:
    """A lock that is never released keeps all but one."""
    setting = Setting(readers=2, writers=1, hold=0, think=0, arrival=None, seconds=0.02, grace=0.5)
    with pytest.raises(FailedError, match="3 of 3 processes"):
        play(breeds.IS_NEVER_RELEASED, setting, no_signals)


@pytest.mark.parametrize("called", [" (compiled)", ""])
@pytest.mark.parametrize(("mode", "of_a_reader", "counts"), [("read", 1, 0), ("read", 0, 1), ("write", 1, 1)])
def test_a_hand_off_is_to_one_who_waited_for_that_release(
    called: str, mode: str, of_a_reader: int, counts: int, tmp_path: Path
) -> None:
    """No reader waits for a reader. The release is made up: by another process, long after this one began to wait."""
    candidate = BY_NAME[f"shmreclaim.RwLock{called}"]
    with Ground(1, 1) as ground:
        way = candidate.make(ground, tmp_path)()[mode]
        part = ground.parts[0]
        part.set(0, slot=ground.tasks.slot(), end=time.monotonic_ns() + 10**10)
        ground.set("tickets", LOG_ROOM - 2)
        ground.set("released_at", time.monotonic_ns() + 10**10)
        ground.set("released_by", 8 * 2 + of_a_reader)
        act(ground, part, 0, way, "take_in_turn")
        assert ground.get("grants") == 2
        assert part.histogram(0, "handoffs").count == counts


@pytest.mark.parametrize("name", ["shmreclaim.Mutex (compiled)", "shmreclaim.Mutex"])
def test_of_a_mutex_that_all_want_there_are_hand_offs(name: str) -> None:
    """From one who held it asleep to one who slept."""
    handoffs = play(BY_NAME[name], SETTING, no_signals)["exclusive"].handoffs
    assert handoffs.count > 0
    assert (handoffs.percentile(50) or 0) > 0


@pytest.mark.parametrize("name", ["shmreclaim.Mutex (compiled)", "shmreclaim.Mutex"])
def test_in_an_open_loop_every_planned_arrival_counts(name: str) -> None:
    """What a lock that is asked for too often could not serve has waited, too: until the end."""
    setting = Setting(readers=1, writers=1, hold=1_000_000, think=None, arrival=1_000, seconds=0.1)
    sample = play(BY_NAME[name], setting, no_signals)["exclusive"]
    assert 160 < sample.waits.count < 240  # planned at random: 200 on average
    assert sample.unserved > 50  # 100 holds fit in, and one more of each at the end
    tenth = sample.waits.percentile(10)
    assert tenth is not None
    assert tenth > 1e6  # who is served counts from its planned time; from asking on, most would have the lock at once


@pytest.mark.parametrize("name", ["shmreclaim.Mutex (compiled)", "shmreclaim.Mutex"])
def test_arrivals_are_the_same_for_the_same_seed(name: str) -> None:
    """All locks are asked at the same times."""
    setting = Setting(readers=1, writers=1, hold=0, think=None, arrival=1_000, seconds=0.05, seed=7)
    counts = {play(BY_NAME[name], setting, no_signals)["exclusive"].waits.count for _ in range(2)}
    assert len(counts) == 1


# --- deaths ------------------------------------------------------------------------------------------------


def test_who_survives_the_death_of_its_holder_is_found_out() -> None:
    """A file and a robust mutex do, semaphores and plain mutexes do not; a lock without readers has no such answer."""
    names = ["glibc mutex", "glibc robust mutex", "glibc rwlock", "multiprocessing.Lock"]
    found = Deaths(no_signals).try_all([breeds.IS_A_FILE, breeds.IS_SLOW, *(BY_NAME[name] for name in names)])
    fates = {name: (survival.reader, survival.writer) for name, survival in found.items()}
    assert fates == {
        "is a file": (True, True),
        "is slow": (None, True),
        "glibc mutex": (None, False),
        "glibc robust mutex": (None, True),
        "glibc rwlock": (False, False),
        "multiprocessing.Lock": (None, False),
    }
    assert found["is a file"].reader_ns is not None
    assert found["glibc mutex"].writer_ns is None


# --- a writer beside readers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("candidate", "starves"),
    [
        (breeds.STARVES_WRITERS, True),
        (BY_NAME["glibc rwlock (prefers writers)"], False),
        (BY_NAME["shmreclaim.RwLock (compiled)"], False),
        (BY_NAME["shmreclaim.RwLock"], False),
    ],
    ids=lambda value: value.name if isinstance(value, Candidate) else "",
)
def test_a_writer_that_starves_is_told_from_one_that_does_not(candidate: Candidate, starves: bool) -> None:
    """Beside three readers that are never all out."""
    starved, figures = write_in_stream(candidate, 0.3, 2.0, no_signals)
    assert starved == starves
    assert figures.max is not None
    if starves:
        assert figures.max >= 2e9
    else:
        assert figures.tries > 1


# --- processes ---------------------------------------------------------------------------------------------------


def test_a_player_that_fails_fails_the_bench(capfd: pytest.CaptureFixture[str]) -> None:
    """Its own message comes first; the others are ended."""
    with pytest.raises(FailedError, match="its message is above"), Troupe(2, lambda k: 1 // k, no_signals) as troupe:
        troupe.wait_until(float("inf"))
    assert "ZeroDivisionError" in capfd.readouterr().err


# --- all of it ---------------------------------------------------------------------------------------------------


def test_a_bench_gives_figures_of_what_is_sound_and_names_what_is_not() -> None:
    """Each lock under its name; refused ones have none, and fail their thresholds."""
    wanted = ("lets everybody in:exclusive.jain>0", "is a file:write.uncontended<1s", "is a file:read.survives==yes")
    options = LockOptions(seconds=1, quick=True, thresholds=wanted, hold=10_000)
    result = bench_locks(options, Silent(), [breeds.IS_A_FILE, breeds.LETS_EVERYBODY_IN])
    assert list(result.locks) == ["is a file"]
    assert list(result.broken) == ["lets everybody in"]
    assert [verdict.passed for verdict in result.thresholds] == [False, True, True]
    assert result.locks["is a file"].survives_kill is not None
    assert result.locks["is a file"].writer_starved is not None
    assert (result.readers, result.writers, result.rounds) == (3, 1, 3)


def test_a_peer_that_is_not_installed_is_named_and_skipped() -> None:
    """The others are measured."""
    absent = Candidate("nonesuch.Lock", "python", ("exclusive",), BUSTED.make, "nonesuch_package")
    result = bench_locks(LockOptions(seconds=1, quick=True), Silent(), [BY_NAME["glibc robust mutex"], absent])
    assert (list(result.locks), result.not_installed) == (["glibc robust mutex"], ["nonesuch_package"])


def test_a_lock_that_fails_by_itself_is_named_and_the_others_are_measured(capfd: pytest.CaptureFixture[str]) -> None:
    """Where it is made, or where it is used."""
    wrong = [breeds.CANNOT_BE_MADE, breeds.RAISES, breeds.RAISES_LATER]
    result = bench_locks(LockOptions(seconds=1, quick=True), Silent(), [*wrong, BY_NAME["glibc robust mutex"]])
    assert list(result.locks) == ["glibc robust mutex"]
    assert result.failed == {
        "cannot be made": "it cannot be made: OSError: no",
        "raises": "one of its processes failed; its message is above",
        "raises later": "one of its processes failed; its message is above",
    }
    err = capfd.readouterr().err
    assert "ValueError: not today" in err
    assert "ValueError: not any more" in err


# --- what may be asked for -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "split"),
    [
        ({}, (3, 1)),
        ({"cpus": 2}, (1, 1)),
        ({"cpus": 8}, (6, 2)),
        ({"cpus": 8, "writers": 1}, (7, 1)),
        ({"cpus": 8, "readers": 1}, (1, 7)),
        ({"readers": 2, "writers": 2, "cpus": 4}, (2, 2)),
        ({"writers": 5}, (3, 5)),
    ],
)
def test_processes_are_split_into_readers_and_writers(given: dict[str, int], split: tuple[int, int]) -> None:
    """What was not given follows from what was."""
    assert LockOptions(**given).split == split


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"readers": 0}, "--readers 0 is out of range"),
        ({"writers": -1}, "--writers -1 is out of range"),
        ({"cpus": 1}, "--readers 1 and --writers 1 are not --cpus 1"),
        ({"cpus": 4, "readers": 3, "writers": 3}, "are not --cpus 4"),
        ({"cpus": 55}, "55 processes asked for; at most 53"),
        ({"hold": -1}, "--hold -1 is out of range"),
        ({"think": -5}, "--think -5 is out of range"),
        ({"seconds": 0.0}, "--seconds 0 is out of range"),
        ({"arrival": 0.0}, "--arrival 0 is out of range"),
        ({"arrival": 1e7}, "--arrival 1e+07 is out of range"),
        ({"arrival": 10.0, "think": 5}, "--arrival and --think were both given"),
    ],
)
def test_what_cannot_be_measured_is_refused(given: dict[str, float], message: str) -> None:
    """With the option and its value."""
    with pytest.raises(UsageError) as refused:
        LockOptions(**given)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("peers", "names"),
    [
        ("none", []),
        ("all", [each.name for each in PEERS]),
        ("multiprocessing", ["multiprocessing.Lock", "multiprocessing.RLock"]),
        ("glibc mutex,multiprocessing.Lock", ["glibc mutex", "multiprocessing.Lock"]),
        ("busted", ["busted"]),
    ],
)
def test_peers_are_chosen_by_lock_or_by_package(peers: str, names: list[str]) -> None:
    """Ours come first, whatever is asked for."""
    assert [each.name for each in choose(peers)] == [*(each.name for each in OURS), *names]


def test_a_peer_that_does_not_exist_is_refused_and_those_that_do_are_named() -> None:
    """Packages and locks."""
    with pytest.raises(UsageError) as refused:
        choose("glibc,nonesuch")
    assert "--peers nonesuch: there is no such peer" in str(refused.value)
    assert "filelock.ReadWriteLock" in str(refused.value)


@pytest.mark.parametrize("text", ["nonesuch:write.p99<1ms", "shmreclaim.Mutex:write.p99<1ms", "write.p98<1ms"])
def test_a_wrong_threshold_is_refused_before_anything_is_measured(text: str) -> None:
    """Nobody waits a minute to be told of a typing error: not even compiling begins."""

    class Strict(Silent):
        def compiling(self, *_: int) -> None:
            raise AssertionError("it began")

    with pytest.raises(UsageError):
        bench_locks(LockOptions(peers="none", thresholds=(text,)), Strict())
