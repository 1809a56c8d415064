"""`shmreclaim stress` as its user meets it: exit codes, what is printed, the line to repeat."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli import runner

pytestmark = pytest.mark.stress
QUICK = ("--design", "v6_7", "--cpus", "2", "--seconds", "0.5")
BROKEN = ("--design", "v4_19+cyclic_ids", "--cpus", "2", "--seconds", "20")


@pytest.fixture
def folder(compiled_once: None, tmp_path: Path) -> Iterator[Path]:
    """Where the command is run; what reports there say was kept in shared memory goes."""
    yield tmp_path
    for report in tmp_path.glob("stress-*.txt"):
        for name in re.findall(r"^segment: /dev/shm/(\S+)", report.read_text("utf-8"), re.MULTILINE):
            Path("/dev/shm", name).unlink(missing_ok=True)


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `stress` there."""
    command = [sys.executable, "-W", "error", "-m", "shmreclaim", "stress", *arguments]
    options = {"env": runner.environment(), "cwd": folder, "capture_output": True, "text": True, "timeout": 100}
    return subprocess.run(command, check=False, **options)


def test_a_design_that_holds_ends_with_0_and_its_figures(folder: Path) -> None:
    """Every section of a comparison, and the pace; nothing is left."""
    found = run(folder, *QUICK, "--chaos", "stop", "--stutter", "--shuffle", "--long-hold", "5", "--seed", "3")
    assert found.returncode == 0, found.stderr
    for title in ("register ", "growth ", "shrink_slab ", "reclaim ", "oracles ", "throughput ", "chaos "):
        assert re.search(rf"^{title}", found.stdout, re.MULTILINE), title
    last = found.stdout.splitlines()[-1]
    assert last.startswith("end, SUCCESS, 1 design held: shmreclaim stress --scenario torture --cpus 2 ")
    assert last.endswith("--design v6_7 --chaos stop --stutter --shuffle --long-hold 5")
    assert list(folder.iterdir()) == []


def test_a_violation_ends_with_2_and_the_line_it_prints_does_it_again(folder: Path) -> None:
    """The same invariant, from the same seed."""
    first = run(folder, *BROKEN)
    assert first.returncode == 2, first.stderr
    assert "v4_19+cyclic_ids failed: violation" in first.stdout
    assert re.search(r"^  I6: id \d+ was given", first.stdout, re.MULTILINE)
    assert re.search(r"^  segment: /dev/shm/shmreclaim\.\S+, kept: see shmreclaim inspect", first.stdout, re.MULTILINE)
    (again,) = re.findall(r"^  again:   shmreclaim stress (.*)$", first.stdout, re.MULTILINE)
    second = run(folder, *shlex.split(again))
    assert second.returncode == 2
    assert re.search(r"^  I6: id \d+ was given", second.stdout, re.MULTILINE)
    assert len(list(folder.glob("stress-v4_19+cyclic_ids-*.txt"))) == 2


def test_a_mutant_that_is_caught_ends_with_0(folder: Path) -> None:
    """And is told with what caught it."""
    found = run(folder, "--mutant", "cyclic-ids")
    assert found.returncode == 0, found.stderr
    assert re.search(r"^  cyclic-ids +v4_19\+cyclic_ids +[\d.]+ s +I6: id ", found.stdout, re.MULTILINE)
    assert found.stdout.splitlines()[-1].startswith("end: 1 of 1 mutants caught: shmreclaim stress ")
    assert re.search(r"^cyclic-ids: caught: I6: id .*, [\d.]+ s$", found.stderr, re.MULTILINE)


def test_live_says_how_it_goes_where_nobody_watches(folder: Path) -> None:
    """A line a second, on standard error."""
    found = run(folder, *QUICK, "--live")
    assert found.returncode == 0
    assert re.search(r"^v6_7: \d+ s, [\d,]+ ops, [\d,]+ ops/s, \d+ quiet points, 0 stops, 0 kills$", found.stderr, re.M)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--chaos", "kill", "--mutant", "all"], "--mutant all and --chaos kill were both given"),
        (["--seconds", "soon"], "'soon' is not a number"),
        (["--design", "all,v6_7"], "there is no design 'all'"),
        (["--mutant", "none-such"], "there is no mutant 'none-such'"),
    ],
)
def test_wrong_usage_ends_with_1_and_says_why(tmp_path: Path, arguments: list[str], words: str) -> None:
    """Nothing is started for it."""
    found = run(tmp_path, *arguments)
    assert found.returncode == 1
    assert words in found.stderr
    assert found.stdout == ""
