"""A segment that is truncated while a run uses it: a clear end, no crash, nothing left."""

import faulthandler
import os
import signal
import time
from pathlib import Path

import pytest

from shmreclaim.errors import Inconclusive
from shmreclaim.executions import truncation
from shmreclaim.machine.arena import Arena
from tests.executions.command import Command

RUN = ("compare", "--speed", "0.5", "--repeat", "1", "--designs", "davydov", "--cpus", "2")


@pytest.mark.stress
@pytest.mark.parametrize("size", [0, 4096, 1 << 20])
def test_a_run_whose_segment_is_truncated_says_so_and_leaves_nothing(size: int) -> None:
    """Whether a worker meets it first, or the command that watches."""
    with Command(*RUN) as command:
        command.await_running()
        (name,) = command.segments()
        before = Path("/dev/shm", name).stat().st_size
        os.truncate(f"/dev/shm/{name}", size)
        began = time.monotonic()
        code, out, err = command.end()
        assert time.monotonic() - began < 10
        assert (code, out) == (3, "")
        assert f"shmreclaim: segment {name} had {before} bytes and has {size}; the run was stopped\n" in err
        assert "Somebody truncated it while it was in use." in err
        assert "Traceback" not in err
        command.assert_nothing_is_left()


def test_who_reads_what_a_segment_lacks_ends_with_a_message() -> None:
    """And takes the name away."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(writer, 2)
        with Arena.create(4096) as arena, truncation.said_at_once(arena):
            os.truncate(f"/dev/shm/{arena.name}", 4096)
            assert arena.memory[4000] == 0
        os._exit(77)
    os.close(writer)
    with os.fdopen(reader) as text:
        told = text.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert (code, told.splitlines()[0].partition(" had ")[2]) == (
        Inconclusive.exit_code,
        "32768 bytes and has 4096; the run was stopped",
    )
    assert not list(Path("/dev/shm").glob(f"shmreclaim.{child}.*"))


def test_the_handler_is_gone_when_the_run_is() -> None:
    """A program that plays runs has its own again."""
    child = os.fork()
    if child == 0:
        faulthandler.disable()  # pytest's
        with Arena.create(4096) as arena:
            with truncation.said_at_once(arena):
                pass
            arena.remove()
            os.kill(os.getpid(), signal.SIGBUS)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGBUS
