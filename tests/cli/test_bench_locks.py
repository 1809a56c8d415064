"""`shmreclaim bench locks` as users run it: wrong use, exit codes, signals, a parent that is killed."""

import csv
import json
import signal
from pathlib import Path

import pytest

from tests.cli import runner
from tests.executions.command import Command, await_true, send

SHORT = ("bench", "locks", "--quick", "--seconds", "1")

WRONG = [
    ("--peers nonesuch", "--peers nonesuch: there is no such peer"),
    ("--cpus 1", "are not --cpus 1"),
    ("--cpus many", "'many' is not a whole number"),
    ("--hold -1", "--hold -1 is out of range"),
    ("--arrival fast", "'fast' is not a number"),
    ("--arrival 5 --think 5", "--arrival and --think were both given"),
    ("--threshold write.p98<1ms", "there is no figure 'write.p98'"),
    ("--threshold nobody:write.p99<1ms", "nobody has no write.p99, or is not measured"),
    ("--peers none --threshold glibc\u00a0mutex:exclusive.p99<1ms", "has no exclusive.p99, or is not measured"),
    ("--csv --markdown", "--csv and --markdown were both given"),
    ("--json /nonesuch/result.json", "there is no folder /nonesuch"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=[arguments for arguments, _ in WRONG])
def test_wrong_use_is_refused_with_a_message_that_names_it(arguments: str, message: str) -> None:
    """Exit code 1, on stderr alone, before anything is measured."""
    found = runner.run("bench", "locks", *arguments.split(" "))
    assert (found.returncode, found.stdout) == (1, "")
    assert message in found.stderr
    assert "Traceback" not in found.stderr
    assert "compiling" not in found.stderr


@pytest.mark.stress
def test_figures_go_to_a_file_and_to_a_table_of_values(tmp_path: Path) -> None:
    """CSV on standard output has a row for each lock and mode, the JSON all of it; progress is on standard error."""
    path = tmp_path / "locks.json"
    found = runner.run(*SHORT, "--peers", "none", "--csv", "--json", str(path), "--arrival", "1000", "--cpus", "2")
    assert found.returncode == 0
    result = json.loads(path.read_text(encoding="utf-8"))
    assert (result["schema_version"], result["bench"], result["loop"]) == (1, "locks", "open, Poisson arrivals")
    assert list(result["locks"]) == [
        "shmreclaim.Mutex (compiled)",
        "shmreclaim.RwLock (compiled)",
        "shmreclaim.Mutex",
        "shmreclaim.RwLock",
    ]
    assert [lock["called"] for lock in result["locks"].values()] == ["compiled", "compiled", "python", "python"]
    rows = list(csv.DictReader(found.stdout.splitlines()))
    for row in rows:
        figures = result["locks"][row["lock"]][row["mode"]]
        assert float(row["ops_per_s"]) == pytest.approx(figures["ops_per_s"])
        assert float(row["wait_p99_ns"]) == pytest.approx(figures["wait_ns"]["p99"])
    assert len(rows) == 6
    assert "killing holders" in found.stderr


@pytest.mark.stress
def test_a_lock_that_does_nothing_ends_the_bench_with_exit_code_2() -> None:
    """`busted` shows that the bench would notice; the others have their figures."""
    found = runner.run(*SHORT, "--peers", "busted", "--threshold", "exclusive.jain<0")
    assert found.returncode == 2
    assert "busted is refused: exclusion broken: " in found.stdout
    assert "shmreclaim.RwLock-R" in found.stdout


@pytest.mark.stress
def test_a_threshold_that_fails_ends_the_bench_with_exit_code_4() -> None:
    """Each is printed with what was found."""
    found = runner.run(
        *SHORT, "--peers", "none", "--threshold", "exclusive.jain<0", "--threshold", "shmreclaim.RwLock:read.p50<1s"
    )
    assert found.returncode == 4
    lines = [line.split() for line in found.stdout.splitlines()]
    assert [line[-1] for line in lines if line[:1] == ["exclusive.jain<0"]] == ["FAILED", "FAILED"]
    assert [line[-1] for line in lines if line[:1] == ["shmreclaim.RwLock:read.p50<1s"]] == ["passed"]


@pytest.mark.stress
def test_one_number_is_one_number() -> None:
    """For a script."""
    found = runner.run(*SHORT, "--peers", "none", "--format", "simple")
    assert found.returncode == 0
    assert float(found.stdout) > 0


@pytest.mark.stress
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("line", ["compiling", "killing holders", "a writer beside readers", "shmreclaim.Mutex"])
def test_a_signal_ends_the_bench_at_once(line: str, number: int, code: int, tmp_path: Path) -> None:
    """Wherever it is: no traceback, no process, no segment, no file."""
    with Command("bench", "locks", "--quick", "--peers", "multiprocessing", TMPDIR=str(tmp_path)) as command:
        command.await_line(line)
        send(command, number, to_group=True)
        found, out, err = command.end()
        assert (found, out) == (code, "")
        assert "Traceback" not in err
        command.assert_nothing_is_left()
        assert list(tmp_path.iterdir()) == []


@pytest.mark.stress
@pytest.mark.parametrize("line", ["killing holders", "a writer beside readers", "shmreclaim.Mutex"])
def test_the_processes_of_the_bench_die_with_it(line: str, tmp_path: Path) -> None:
    """Killed with SIGKILL, it cannot clean up; no segment of it had a name even so."""
    with Command("bench", "locks", "--quick", "--peers", "multiprocessing", TMPDIR=str(tmp_path)) as command:
        command.await_line(line)
        await_true(lambda: len(command.running()) > 1, "its players")
        send(command, signal.SIGKILL, to_group=False)
        assert command.end()[0] == -signal.SIGKILL
        command.assert_nothing_is_left()
