"""What a command ends with, whatever happened: exit codes, messages, signals, readers that leave."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.cli import runner

RESULT = "from tests.report.samples import make_result, LOST_BIT\nreturn make_result({violations})"
FINE = RESULT.format(violations="")
BROKEN = RESULT.format(violations="(LOST_BIT,)")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (FINE, 0),
        ("raise errors.UsageError('what')", 1),
        ("raise errors.SetupError('what')", 1),
        ("raise OSError(28, 'No space left on device')", 1),
        (BROKEN, 2),
        ("raise errors.ModelViolation('what')", 2),
        ("raise errors.Inconclusive('what')", 3),
        ("raise errors.InternalError('what')", 5),
        ("raise ZeroDivisionError('what')", 5),
        ("raise KeyboardInterrupt", 130),
    ],
)
def test_a_command_ends_with_the_code_of_what_happened(body: str, code: int) -> None:
    """0 ok, 1 usage or environment, 2 an invariant broke, 3 inconclusive, 5 our own fault, 130 Ctrl-C."""
    found = runner.run("compare", body=body)
    assert found.returncode == code
    assert "Traceback" not in found.stderr


def test_an_error_is_one_message_with_cause_and_remedy() -> None:
    """On stderr, each part a line."""
    found = runner.run("compare", body="raise errors.SetupError('what', cause='cause', remedy='remedy')")
    assert (found.stdout, found.stderr) == ("", "shmreclaim: what\ncause\nremedy\n")


def test_a_fault_of_ours_says_so() -> None:
    """And how to report it."""
    found = runner.run("compare", body="1 / 0")
    assert "ZeroDivisionError: division by zero" in found.stderr
    assert "This is a fault of shmreclaim, not yours." in found.stderr
    assert "SHMRECLAIM_DEBUG=1 shmreclaim compare" in found.stderr


def test_debug_prints_the_traceback_of_our_fault() -> None:
    """Only where it was asked for."""
    found = runner.run("--debug", "compare", body="1 / 0")
    assert found.returncode == 5
    assert "Traceback" in found.stderr


def test_the_table_goes_to_stdout() -> None:
    """And nothing to stderr but progress."""
    found = runner.run("compare", body=FINE)
    assert found.stdout.startswith("shmreclaim 0.1.0: compare")
    assert found.stderr == ""


def test_json_on_stdout_is_alone_there() -> None:
    """The table goes to stderr, so that a program can read the result."""
    found = runner.run("compare", "--json", "-", body=FINE)
    assert json.loads(found.stdout)["schema_version"] == 1
    assert found.stderr.startswith("shmreclaim 0.1.0: compare")


def test_json_is_written_even_when_an_invariant_broke(tmp_path: Path) -> None:
    """The violations are in it; the exit code still says 2."""
    path = tmp_path / "result.json"
    found = runner.run("compare", "--json", str(path), body=BROKEN)
    assert found.returncode == 2
    assert len(json.loads(path.read_text())["designs"]["davydov"]["invariants"]["violations"]) == 1


def test_a_reader_that_leaves_ends_the_command_quietly() -> None:
    """As in `shmreclaim compare | head -1`."""
    read, write = os.pipe()
    os.close(read)
    try:
        found = runner.run("compare", body=FINE, stdout=write)
    finally:
        os.close(write)
    assert (found.returncode, found.stderr) == (0, "")


def test_a_full_disk_below_stdout_is_an_error_of_the_environment() -> None:
    """Exit code 1, and no table lost in silence."""
    with Path("/dev/full").open("w") as full:
        found = runner.run("compare", body=FINE, stdout=full)
    assert found.returncode == 1
    assert "cannot write to standard output: No space left on device" in found.stderr


WAIT = """
import signal
try:
    print('ready', flush=True)
    while True:
        signal.pause()
finally:
    print('cleaned up', flush=True)
"""


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    ids=str,
)
def test_a_signal_unwinds_in_order(number: signal.Signals, code: int) -> None:
    """Every `finally` runs: there processes are ended and segments removed."""
    out = _interrupt(WAIT, number)
    assert out == ("cleaned up", code)


def test_a_second_signal_does_not_cut_the_clean_up_short() -> None:
    """An impatient Ctrl-C would leave half of it behind."""
    body = WAIT.replace("finally:", "finally:\n    signal.raise_signal(signal.SIGINT)")
    assert _interrupt(body, signal.SIGTERM) == ("cleaned up", 143)


def _interrupt(body: str, number: signal.Signals) -> tuple[str, int]:
    with runner.start("compare", body=body) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        try:
            out, _ = process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return out.strip(), process.returncode
