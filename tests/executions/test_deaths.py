"""A worker that dies, or fails, ends the run at once; nothing of it stays."""

import os
import re
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from shmreclaim.errors import Inconclusive, InternalError, SetupError, ShmreclaimError
from shmreclaim.executions import native
from tests.executions.command import await_true, run_code
from tests.executions.left import holders_of, segments_of
from tests.executions.workloads import by_hand, idle, play

SOON_S = 5.0
LONG = by_hand([idle(60_000_000_000)], [idle(60_000_000_000)], [idle(60_000_000_000)])


def _parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def fork_server(workers: list[int]) -> int:
    """Their parent."""
    return _parent_of(workers[0])


def _killed_in_the_middle(choose: Callable[[list[int]], int], number: int) -> tuple[ShmreclaimError, list[int]]:
    """Play something long; kill one of the processes that have the segment mapped; the error, and all of them."""
    workers: list[int] = []
    killed: list[float] = []

    def kill() -> None:
        await_true(lambda: len(holders_of(os.getpid())) == LONG.cpus + LONG.nodes, "all workers")
        workers.extend(sorted(holders_of(os.getpid())))
        killed.append(time.monotonic())
        os.kill(choose(workers), number)

    killer = threading.Timer(0.1, kill)
    killer.start()
    try:
        with pytest.raises(ShmreclaimError) as caught:
            play(LONG)
        ended = time.monotonic()
    finally:
        killer.join()
    assert ended - killed[0] < SOON_S
    if choose is fork_server:  # its children are ended by the kernel, not by us
        await_true(lambda: holders_of(os.getpid()) == [], "its children to end", SOON_S)
    assert holders_of(os.getpid()) == []
    assert segments_of(os.getpid()) == []
    return caught.value, workers


@pytest.mark.parametrize("which", [0, 2], ids=["the first CPU", "the last CPU"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["SIGKILL", "SIGTERM"])
def test_a_worker_killed_from_outside_is_named(which: int, number: signal.Signals) -> None:
    """The verdict is inconclusive: nobody knows what it would have found."""
    error, workers = _killed_in_the_middle(lambda workers: workers[which], number)
    assert isinstance(error, Inconclusive)
    assert f"(pid {workers[which]}) was killed by {number.name}; the run was stopped:" in str(error)
    assert f"(pid {workers[which]}, dead), in idle for" in str(error)
    assert "Usually somebody killed it" in str(error)


def test_a_killed_kswapd_is_named_too() -> None:
    """It runs no stream, but without it the run is not what was asked for."""
    error, workers = _killed_in_the_middle(lambda workers: workers[-1], signal.SIGKILL)
    assert isinstance(error, Inconclusive)
    assert str(error).startswith(f"kswapd0 (pid {workers[-1]}) was killed by SIGKILL")


def test_workers_die_with_their_fork_server() -> None:
    """And the next run starts a new one."""
    error, _ = _killed_in_the_middle(fork_server, signal.SIGKILL)
    assert isinstance(error, Inconclusive)
    assert "went away with its fork server" in str(error) or "was killed by SIGKILL" in str(error)
    assert play(by_hand([idle(1)])).workers[0].ops == 1


def test_a_worker_that_crashes_is_a_fault_of_ours() -> None:
    """Nobody outside sends SIGSEGV."""
    error, workers = _killed_in_the_middle(lambda workers: workers[1], signal.SIGSEGV)
    assert isinstance(error, InternalError)
    assert f"(pid {workers[1]}) was killed by SIGSEGV" in str(error)


def test_an_error_of_a_worker_is_raised_here_whole() -> None:
    """With its class, so its exit code, and its three parts."""
    with pytest.raises(SetupError) as caught:
        play(by_hand([idle(1)], [idle(1)]), "tests.executions.broken.refused_in_worker")
    assert str(caught.value) == "the worker was refused\nA test asked for it.\nNothing to do."
    assert caught.value.exit_code == 1


COMPARE = """
import sys
from shmreclaim import designs
designs.NAMES = ("tests.executions.broken.{design}",)
from shmreclaim.cli import main
sys.exit(main(["compare", "--repeat", "1", "--cpus", "3"]))
"""


def test_a_worker_that_fails_with_an_error_of_ours_prints_no_traceback() -> None:
    """Nor does it print anything: the command does, once, however many workers failed."""
    code, out, err = run_code(COMPARE.format(design="refused_in_worker"))
    assert (code, out) == (1, "")
    assert err.endswith("started\nshmreclaim: the worker was refused\nA test asked for it.\nNothing to do.\n")
    assert "Traceback" not in err


def test_a_worker_that_fails_unexpectedly_shows_its_traceback() -> None:
    """That is our own fault (exit code 5), and the traceback is what a report of it needs."""
    code, out, err = run_code(COMPARE.format(design="failing_in_worker"))
    assert (code, out) == (5, "")
    assert "ZeroDivisionError: a test asked for it" in err
    assert re.search(r"shmreclaim: InternalError: (CPU \d|kswapd0) \(pid \d+\) failed; its message is above\n", err)


def test_a_worker_that_cannot_attach_is_such_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a source was edited between the start of the command and that of its workers."""
    wrong = native.cpu_worker.Orders

    def orders(**fields: object) -> object:
        return wrong(**fields | {"segment": "shmreclaim.1.1.1"})

    monkeypatch.setattr(native.cpu_worker, "Orders", orders)
    with pytest.raises(SetupError, match=r"there is no segment shmreclaim\.1\.1\.1"):
        play(by_hand([idle(1)]))


def test_a_run_leaves_no_descriptor_and_no_mapping() -> None:
    """However often a program calls it."""

    def has() -> tuple[int, int]:
        descriptors = list(Path("/proc/self/fd").iterdir())
        return len(descriptors), Path("/proc/self/maps").read_text().count("/dev/shm/shmreclaim.")

    play(by_hand([idle(1)]))
    before = has()
    for _ in range(3):
        play(by_hand([idle(1)], [idle(1)]))
    assert has() == before
