"""The command as users start it, in a process group of its own; what it leaves behind is found by a mark."""

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Self

from shmreclaim.machine.cpu import CPU
from shmreclaim.machine.layout import HEADER
from tests.cli import runner
from tests.executions.left import MARK, marked, segments_of

MAIN = "import sys; from shmreclaim.cli import main; sys.exit(main())"
PATIENCE_S = 60.0


class Command:
    """A started command; as a context manager it is killed where a test failed half way."""

    def __init__(self, *arguments: str, before: str = "", code: str = MAIN, path: str = "", **environment: str) -> None:
        """Start it; `before` are statements that it runs first, `path` is a folder that modules are looked for in."""
        self.mark = uuid.uuid4().hex
        self._stderr = b""
        known = runner.environment()
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", f"{before}\n{code}", *arguments],
            env=known | {"PYTHONPATH": f"{path}:{known['PYTHONPATH']}"} | environment | {MARK: self.mark},
            cwd=runner.PACKAGE_ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        """Use as a context manager."""
        return self

    def __exit__(self, *exception: object) -> None:
        """End the command, and what a failed test left of it."""
        self.process.kill()
        self.process.communicate()
        for name in self.segments():
            Path("/dev/shm", name).unlink(missing_ok=True)

    def running(self) -> list[str]:
        """Its processes, with their command lines."""
        return marked(self.mark)

    def segments(self) -> list[str]:
        """Names of its segments that are there."""
        return segments_of(self.process.pid)

    def await_line(self, beginning: str) -> None:
        """Wait until it has written such a line on stderr."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._stderr += line
            if line.decode().startswith(beginning):
                return
        raise AssertionError(f"no line begins with {beginning!r}: {self._stderr.decode()}")

    def await_running(self) -> list[int]:
        """Wait until its workers play; gives their pids."""
        await_true(lambda: self._header(HEADER.phase) == 1, "its workers to play")
        (name,) = self.segments()
        words = memoryview(Path("/dev/shm", name).read_bytes()).cast("q")
        first, count, stride = (words[at] for at in (HEADER.cpus, HEADER.nr_cpus, HEADER.cpu_stride))
        return [words[first + k * stride + CPU.pid] for k in range(count)]

    def _header(self, at: int) -> int:
        for name in self.segments():
            try:
                with Path("/dev/shm", name).open("rb") as segment:
                    return int.from_bytes(segment.read(HEADER.SIZE * 8)[at * 8 :][:8], "little")
            except FileNotFoundError:
                continue
        return -1

    def end(self) -> tuple[int, str, str]:
        """Wait for its end: exit code, stdout, stderr."""
        out, err = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, out.decode(), (self._stderr + err).decode()

    def assert_nothing_is_left(self, within_s: float = 2.0) -> None:
        """No process of it, whatever became of its parent, and no segment."""
        self.assert_no_process_is_left(within_s)
        assert self.segments() == []

    def assert_no_process_is_left(self, within_s: float = 2.0) -> None:
        """A fork server may need a moment to see that it is alone."""
        await_true(lambda: not self.running(), lambda: f"these to end: {self.running()}", within_s)


def await_true(holds: Callable[[], object], what: str | Callable[[], str], within_s: float = PATIENCE_S) -> None:
    """Look again and again."""
    deadline = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {within_s:g} s for {what if isinstance(what, str) else what()}")
        time.sleep(0.01)


def compare(*arguments: str, before: str = "") -> tuple[int, str, str]:
    """Run `compare` to its end and see that it left nothing behind: exit code, stdout, stderr."""
    return _run(Command("compare", *arguments, before=before))


def run_code(code: str) -> tuple[int, str, str]:
    """The same for a program that calls the command."""
    return _run(Command(code=code))


def _run(command: Command) -> tuple[int, str, str]:
    with command:
        found = command.end()
        command.assert_nothing_is_left()
    return found


def send(command: Command, number: int, *, to_group: bool) -> None:
    """Send a signal to the command alone, or as a terminal does to all that belongs to it."""
    if to_group:
        os.killpg(command.process.pid, number)
    else:
        command.process.send_signal(number)
