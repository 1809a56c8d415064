"""Ctrl-C, SIGTERM and worse, while the command compiles, starts its workers, or runs: nothing stays behind."""

import os
import pty
import signal
import sys
import time
import uuid
from pathlib import Path

import pytest

from tests.cli import runner
from tests.executions.command import Command, await_true, send
from tests.executions.left import MARK, marked, segments_of

LONG_RUN = ("compare", "--speed", "0.5", "--repeat", "1", "--designs", "davydov", "--cpus", "2")
"""Twelve seconds, if nobody ends it."""


@pytest.mark.stress
@pytest.mark.parametrize("to_group", [False, True], ids=["to the command", "to the group"])
@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    ids=["SIGINT", "SIGTERM", "SIGHUP"],
)
def test_a_signal_in_the_middle_of_a_run_ends_all_of_it(number: int, code: int, to_group: bool) -> None:
    """A terminal sends it to every process of the group, `kill` to one."""
    with Command(*LONG_RUN) as command:
        command.await_running()
        send(command, number, to_group=to_group)
        began = time.monotonic()
        found, out, err = command.end()
        assert time.monotonic() - began < 5
        assert (found, out) == (code, "")
        assert err == "run 1 of 1, davydov: started\n"
        command.assert_nothing_is_left()


@pytest.mark.stress
@pytest.mark.parametrize("delay_s", [0.0, 0.1, 0.4, 0.9, 1.6, 2.1])
def test_ctrl_c_while_workers_start_prints_no_traceback(delay_s: float) -> None:
    """Not of the command, not of the fork server, not of a worker, wherever it hits them."""
    with Command(*LONG_RUN) as command:
        command.await_line("run 1 of 1")
        time.sleep(delay_s)
        send(command, signal.SIGINT, to_group=True)
        code, _, err = command.end()
        assert (code, err) == (130, "run 1 of 1, davydov: started\n")
        command.assert_nothing_is_left()


@pytest.mark.stress
@pytest.mark.parametrize("delay_s", [0.3, 1.5])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)], ids=["SIGINT", "SIGKILL"])
def test_a_signal_while_compiling_ends_the_compilers(number: int, code: int, delay_s: float, tmp_path: Path) -> None:
    """They are processes too; an empty cache makes the command start them."""
    with Command(*LONG_RUN, SHMRECLAIM_CACHE_DIR=str(tmp_path)) as command:
        await_true(lambda: any("spawn_main" in line for line in command.running()), "a compiler")
        time.sleep(delay_s)
        send(command, number, to_group=number == signal.SIGINT)
        found, _, err = command.end()
        assert found == code
        assert "Traceback" not in err
        command.assert_nothing_is_left()


@pytest.mark.stress
def test_workers_die_with_a_command_that_is_killed() -> None:
    """Nobody can clean up then but the kernel: the processes go, the segment stays."""
    with Command(*LONG_RUN) as command:
        command.await_running()
        send(command, signal.SIGKILL, to_group=False)
        code, _, err = command.end()
        assert code == -signal.SIGKILL
        assert "Traceback" not in err
        command.assert_no_process_is_left()
        assert len(command.segments()) == 1


@pytest.mark.stress
def test_a_killed_worker_ends_the_command_with_exit_code_3() -> None:
    """And a message that names it."""
    with Command(*LONG_RUN) as command:
        workers = command.await_running()
        os.kill(workers[0], signal.SIGKILL)
        code, out, err = command.end()
        assert (code, out) == (3, "")
        assert f"shmreclaim: CPU 0 (pid {workers[0]}) was killed by SIGKILL; the run was stopped:" in err
        assert "Traceback" not in err
        command.assert_nothing_is_left()


@pytest.mark.stress
def test_a_run_ends_with_its_terminal(compiled_once: None) -> None:
    """A window that is closed: the kernel sends SIGHUP, and nothing can be written any more."""
    mark = uuid.uuid4().hex
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(runner.PACKAGE_ROOT)
        os.execve(sys.executable, [sys.executable, "-m", "shmreclaim", *LONG_RUN], runner.environment() | {MARK: mark})
    workers = "spawn_main", "forkserver"
    await_true(lambda: segments_of(pid) and len(marked(mark)) >= 5, "its workers")
    assert any(name in line for line in marked(mark) for name in workers)
    os.close(terminal)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code == 129
    await_true(lambda: not marked(mark), lambda: f"these to end: {marked(mark)}", 5)
    assert segments_of(pid) == []


@pytest.mark.stress
def test_a_stopped_worker_ends_with_its_run() -> None:
    """It takes no signal but that one that cannot be held back."""
    with Command(*LONG_RUN) as command:
        workers = command.await_running()
        os.kill(workers[0], signal.SIGSTOP)
        send(command, signal.SIGTERM, to_group=False)
        code, out, _ = command.end()
        assert (code, out) == (143, "")
        command.assert_nothing_is_left()


@pytest.mark.stress
def test_stopped_workers_die_with_a_command_that_is_killed() -> None:
    """The kernel ends them, whatever they do."""
    with Command(*LONG_RUN) as command:
        for worker in command.await_running():
            os.kill(worker, signal.SIGSTOP)
        send(command, signal.SIGKILL, to_group=False)
        command.end()
        command.assert_no_process_is_left()
