"""`list`, `clean`, `inspect` and `top` as users meet them."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shmreclaim.machine.arena import Arena
from tests.cli import runner

HOLDER = """
import sys
from shmreclaim import Mutex
from shmreclaim.locks import lock_arena
with lock_arena() as arena, Mutex(arena):
    print(arena.name, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def segment() -> Iterator[str]:
    """The name of a segment with one lock, which a process holds."""
    with runner.start_probe(HOLDER, stdin=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        yield holder.stdout.readline().strip()
        holder.communicate()


def pid_of(segment: str) -> str:
    """Who made it."""
    return segment.split(".")[1]


def test_list_has_a_line_for_each_segment(segment: str) -> None:
    """Name, kind, owner, pid, state, age, CPUs, size."""
    found = runner.run("list")
    assert (found.returncode, found.stderr) == (0, "")
    (line,) = [line for line in found.stdout.splitlines() if line.startswith(segment)]
    _, kind, _, pid, state, age, unit, cpus = line.split()[:8]
    assert (kind, pid, state, cpus) == ("locks", pid_of(segment), "alive", "-")
    assert (int(age) < 60, unit in ("s", "min")) == (True, True)


def test_list_as_json_has_every_field(segment: str) -> None:
    """For scripts; the table goes to standard error then."""
    found = runner.run("list", "--json", "-")
    result = json.loads(found.stdout)
    assert result["schema_version"] == 1
    (mine,) = [each for each in result["segments"] if each["name"] == segment]
    assert (mine["kind"], mine["state"], mine["pid"]) == ("locks", "alive", int(pid_of(segment)))
    assert segment in found.stderr


def test_clean_says_what_it_leaves_and_why(segment: str) -> None:
    """Dry, so that nothing of anybody else's goes."""
    found = runner.run("clean", "--dry-run")
    assert found.returncode == 0
    assert f"left: {segment}, " in found.stdout
    assert f"process {pid_of(segment)}, which made it, is alive\n" in found.stdout
    assert found.stdout.splitlines()[-1].startswith(tuple("0123456789"))


@pytest.mark.parametrize("shorten", [False, True], ids=["whole name", "without prefix"])
def test_inspect_shows_who_holds_what(segment: str, shorten: bool) -> None:
    """By the whole name, or without what all begin with."""
    found = runner.run("inspect", segment.removeprefix("shmreclaim.") if shorten else segment)
    assert (found.returncode, found.stderr) == (0, "")
    (line,) = [line for line in found.stdout.splitlines() if line.startswith("  mutex at ")]
    assert line.endswith("task 1 (write)  -")
    assert "holds mutex at " in found.stdout


def test_inspect_as_json_has_every_part(segment: str) -> None:
    """The same as the report."""
    look = json.loads(runner.run("inspect", segment, "--json", "-").stdout)
    assert [lock["holders"] for lock in look["locks"]] == [[{"cpu": "task 1", "mode": "write", "ns": None}]]
    assert (look["kernel"], look["damage"], look["segment"]["name"]) == (None, [], segment)


@pytest.mark.parametrize("command", ["inspect", "top"])
def test_a_segment_that_is_not_there_is_named(command: str) -> None:
    """With where to find those that are."""
    found = runner.run(command, "1.2.3")
    assert (found.returncode, found.stdout) == (1, "")
    assert "shmreclaim: cannot look at segment shmreclaim.1.2.3: No such file or directory\n" in found.stderr
    assert "shmreclaim list" in found.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--count", "0"), "--count 0 is out of range"),
        (("--count", "x"), "'x' is not a whole number"),
        (("--interval", "0"), "--interval 0 is out of range"),
        (("--interval", "nan"), "--interval nan is out of range"),
    ],
)
def test_options_of_top_out_of_range_are_refused(segment: str, options: tuple[str, str], words: str) -> None:
    """With what would do."""
    found = runner.run("top", segment, *options)
    assert (found.returncode, found.stdout) == (1, "")
    assert words in found.stderr


@pytest.mark.parametrize(("options", "looks"), [((), 1), (("--count", "3", "--interval", "0.05"), 3)])
def test_top_in_a_pipe_looks_once_or_as_often_as_it_is_told(segment: str, options: tuple[str, ...], looks: int) -> None:
    """And ends."""
    found = runner.run("top", segment, *options)
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.count(f"{segment}: locks of ") == looks


def test_top_ends_when_its_segment_is_gone() -> None:
    """It says so; that is no error."""
    with Arena.create(4096) as arena:
        top = runner.start("top", arena.name, "--count", "1000000", "--interval", "0.05")
        assert top.stdout is not None
        assert arena.name in top.stdout.readline()
    _, err = top.communicate(timeout=60)
    assert top.returncode == 0
    assert f"cannot look at segment {arena.name}: No such file or directory" in err


def test_top_in_a_terminal_ends_with_ctrl_c(segment: str) -> None:
    """As everybody ends it: exit code 0."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(runner.PACKAGE_ROOT)
        command = [sys.executable, "-m", "shmreclaim", "top", segment, "--interval", "0.05"]
        os.execve(sys.executable, command, runner.environment() | {"TERM": "xterm"})
    text = b""
    while text.count(segment.encode()) < 3:  # it looks again and again
        text += os.read(terminal, 4096)
    os.write(terminal, b"\x03")
    deadline = time.monotonic() + 30
    try:
        while time.monotonic() < deadline:
            text += os.read(terminal, 4096)
    except OSError:  # it ended
        pass
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(terminal)
    assert (code, b"Traceback" in text) == (0, False)


def test_top_ended_by_a_signal_says_so_by_its_code(segment: str) -> None:
    """Only Ctrl-C is the usual way out."""
    top = runner.start("top", segment, "--count", "1000000", "--interval", "0.05")
    assert top.stdout is not None
    assert segment in top.stdout.readline()
    top.send_signal(signal.SIGTERM)
    top.communicate(timeout=60)
    assert top.returncode == 143


def test_a_reader_that_leaves_ends_top_without_a_word(segment: str) -> None:
    """`top | head`."""
    top = runner.start("top", segment, "--count", "20", "--interval", "0.05")
    assert top.stdout is not None
    assert top.stderr is not None
    top.stdout.readline()
    top.stdout.close()
    assert top.stderr.read() == ""
    assert top.wait(timeout=60) == 0
    top.stderr.close()


@pytest.mark.slow
@pytest.mark.parametrize("command", [("list",), ("clean", "--dry-run")])
def test_list_and_clean_answer_within_three_tenths_of_a_second(command: tuple[str, ...]) -> None:
    """The best of five, on a machine that does nothing else."""

    def once() -> float:
        began = time.monotonic()
        assert runner.run(*command).returncode == 0
        return time.monotonic() - began

    assert min(once() for _ in range(5)) < 0.3


def test_without_shared_memory_list_says_so(tmp_path: Path) -> None:
    """A machine may have no /dev/shm."""
    code = (
        "import sys\n"
        "from shmreclaim.executions import segments\n"
        f"segments.SHM = {str(tmp_path / 'nowhere')!r}\n"
        "from shmreclaim.cli import main\n"
        "sys.exit(main(['list']))"
    )
    found: subprocess.CompletedProcess[str] = runner.probe(code, check=False)
    assert (found.returncode, found.stdout) == (1, "")
    assert f"cannot look into {tmp_path}/nowhere: No such file or directory\n" in found.stderr
