"""Stress: all CPUs come to rest now and then, and everything is checked; what goes wrong leaves evidence."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from shmreclaim.designs import NAMES
from shmreclaim.executions import stress
from shmreclaim.executions.chaos import ChaosPlan
from shmreclaim.machine.cpu import KEPT_RECENT
from shmreclaim.result import Evidence
from shmreclaim.workload import Workload, load_scenario, repeatable, with_long_hold
from tests.executions.left import segments_of
from tests.executions.workloads import by_hand, idle, register

pytestmark = pytest.mark.stress
CPUS = 3
LONG = 60_000_000_000


def torture(seed: int = 1, nodes: int = 1) -> Workload:
    """What `stress` plays."""
    return repeatable(load_scenario("torture", cpus=CPUS, nodes=nodes, seed=seed))


def run(design: str, workload: Workload | None = None, **plan: object) -> stress.StressRun:
    """Run it and tell nobody how far it is; `keep` nothing unless asked."""
    settings = stress.Plan(**{"seconds": 20.0, "quiet_s": 0.2, "keep": False} | plan)  # type: ignore[arg-type]
    return stress.run(torture() if workload is None else workload, design, settings, lambda _: None)


def evidence_of(found: stress.StressRun) -> Evidence:
    """What is there, or the test ends here."""
    assert found.evidence is not None, "nothing broke"
    return found.evidence


@pytest.fixture
def _kept_segments_go() -> Iterator[None]:
    """Remove what a run keeps."""
    yield
    for name in segments_of(os.getpid()):
        Path("/dev/shm", name).unlink()


@pytest.mark.parametrize("design", NAMES)
def test_a_design_holds_while_workers_are_stopped_moved_and_rested(design: str) -> None:
    """With slow scans too, on two nodes; all of it was done, and checked while it went on."""
    workload = with_long_hold(torture(seed=3, nodes=2), 5_000_000)
    chaos = ChaosPlan(stop=True, shuffle=True, seed=3)
    found = run(design, workload, seconds=1.2, chaos=chaos, stutter=True)
    assert found.evidence is None, found.evidence
    assert found.quiet_points > 0
    assert found.chaos.stops > 0
    assert found.record.invariants.violations == []
    assert all(worker.ops > 0 for worker in found.record.workers)


@pytest.mark.parametrize("design", ["v4_19", "v6_7"])
def test_a_design_holds_while_workers_are_killed_and_stopped(journaled_once: None, design: str) -> None:
    """Others go on for them; quiet points come all the same, and everything holds there."""
    chaos = ChaosPlan(stop=True, shuffle=True, kill_rate=40.0, seed=3)
    found = run(design, seconds=2.0, chaos=chaos, stutter=True, timeout=30.0)
    assert found.evidence is None, found.evidence
    assert found.quiet_points > 0
    assert found.chaos.kills >= sum(found.chaos.recoveries.values()) > 0
    assert found.chaos.longest_recovery_ns > 0
    assert all(worker.ops > 0 for worker in found.record.workers)


def test_a_number_of_operations_is_played_to_the_last_one() -> None:
    """Each CPU its share, more than a round of it; the streams are the same every time."""
    played = sum(len(stream) for stream in torture().streams)
    for _ in range(2):
        found = run("v6_7", seconds=None, ops=2 * played)
        assert [worker.ops for worker in found.record.workers] == [-(-2 * played // CPUS)] * CPUS
        assert found.evidence is None


def test_a_quiet_point_finds_what_is_broken_while_the_run_goes_on() -> None:
    """Ids in turn break nothing on line: it takes a look at the whole segment."""
    found = run("v4_19+cyclic_ids")
    proof = evidence_of(found)
    assert proof.failed == "violation"
    assert proof.violations[0].startswith("I6: id ")
    assert found.quiet_points == 1
    assert found.record.invariants.violations == proof.violations
    assert found.record.wall_s < 20, "it was found at the end only"


def test_what_cpus_find_broken_themselves_ends_the_run_before_a_quiet_point() -> None:
    """Reclaim that blocks is noted by whoever does."""
    found = run("v4_19+blocking_reclaim", quiet_s=60.0)
    assert evidence_of(found).failed == "violation"
    assert re.match(r"CPU \d+: I9: reclaim blocked for shrinker_rwsem \(at \d+\)", evidence_of(found).violations[0])
    assert found.quiet_points == 0


def test_the_evidence_has_the_last_operations_of_every_cpu_in_order_of_time() -> None:
    """All of them ended: the CPUs rested when it was found. Nobody holds anything."""
    proof = evidence_of(run("v4_19+cyclic_ids"))
    times = [float(line.split()[0]) for line in proof.recent]
    assert times == sorted(times)
    cpus = [line.split("CPU ")[1].split()[0] for line in proof.recent]
    assert {cpu: cpus.count(cpu) for cpu in cpus} == {str(cpu): KEPT_RECENT for cpu in range(CPUS)}
    assert not any("goes on" in line for line in proof.recent)
    assert len(proof.standings) == CPUS + 1
    assert all("holds" not in line and "waits" not in line for line in proof.standings)


@pytest.mark.usefixtures("_kept_segments_go")
def test_the_segment_of_a_run_that_broke_is_kept_where_that_is_asked_for() -> None:
    """That of one that held is not."""
    assert run("v4_19", seconds=0.2, keep=True).evidence is None
    assert segments_of(os.getpid()) == []
    proof = evidence_of(run("v4_19+cyclic_ids", keep=True))
    assert segments_of(os.getpid()) == [proof.segment]
    run("v4_19+cyclic_ids", keep=False)
    assert segments_of(os.getpid()) == [proof.segment]


def test_a_cpu_that_does_not_come_to_rest_is_a_hang_with_its_operation() -> None:
    """CPU 0 keeps the lock that CPU 1 waits for."""
    workload = repeatable(by_hand([register(0), idle(LONG)], [idle(100_000_000), register(1)]))
    proof = evidence_of(run("tests.executions.broken.forgotten_lock", workload, timeout=0.5))
    assert proof.failed == "hang"
    assert proof.what.startswith("not all CPUs came to rest within 0.5 s:")
    assert any("holds list_lrus_mutex" in line for line in proof.standings)
    assert any("waits for list_lrus_mutex" in line for line in proof.standings)
    assert re.search(r"CPU 0 +idle +goes on", proof.recent[-1]) or re.search(r"register +goes on", proof.recent[-1])


def test_throughput_is_told_for_every_stretch_between_quiet_points() -> None:
    """Stretches add up to the run, rests left out."""
    found = run("v6_7", seconds=1.0)
    assert found.quiet_points >= 3
    assert found.quiet_points <= len(found.throughput) <= found.quiet_points + 1
    assert all(rate > 0 for rate in found.throughput)
