"""Sleeping on a word, and knowing who a process is."""

import errno
import os
import time

import pytest

from shmreclaim.errors import InternalError
from shmreclaim.machine import process
from shmreclaim.machine.futex import EAGAIN, EINTR, EPERM, ETIMEDOUT
from tests.both import KINDS, Memory
from tests.machine import programs

SOON = 20_000_000


def test_errno_values_are_the_operating_systems() -> None:
    """They are compiled in as numbers."""
    assert (EPERM, EINTR, EAGAIN, ETIMEDOUT) == (errno.EPERM, errno.EINTR, errno.EAGAIN, errno.ETIMEDOUT)


@pytest.mark.parametrize("kind", KINDS)
def test_a_word_that_differs_is_not_slept_on(kind: str) -> None:
    """-EAGAIN, whatever the deadline."""
    memory = Memory(kind, 8)
    memory.set_word(3, 5)
    assert memory.call(programs.sleep, 3, 4, 0) == -EAGAIN


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_low_half_of_a_word_is_compared(kind: str) -> None:
    """The kernel sees 32 bits: a word that differs above looks the same."""
    memory = Memory(kind, 8)
    memory.set_word(3, 5 | 1 << 40)
    assert memory.call(programs.sleep, 3, 5, 1) == -ETIMEDOUT


def test_a_sleep_ends_at_its_deadline() -> None:
    """An absolute time on the clock; not before it."""
    memory = Memory("compiled", 8)
    deadline = time.monotonic_ns() + SOON
    assert memory.call(programs.sleep, 3, 0, deadline) == -ETIMEDOUT
    assert time.monotonic_ns() >= deadline


def test_waking_where_nobody_sleeps_wakes_nobody() -> None:
    """0, and no harm."""
    assert Memory("compiled", 8).call(programs.wake, 3, 100) == 0


def test_a_lone_plain_task_that_would_sleep_for_ever_says_so() -> None:
    """With the word and its value."""
    with pytest.raises(InternalError, match="for ever on word 3"):
        Memory("plain", 8).call(programs.sleep, 3, 0, 0)


def test_a_process_is_itself_and_alive() -> None:
    """By pid and start time; another start time is another process."""
    me, started = os.getpid(), process.start_time(os.getpid())
    assert started > 0
    assert process.is_alive(me, started)
    assert not process.is_alive(me, started + 1)
    assert not process.is_alive(0, 0)


def test_a_zombie_is_not_alive() -> None:
    """It has a start time until it is waited for, and runs nothing."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    started = process.start_time(pid)
    assert started > 0
    assert not process.is_alive(pid, started)
    os.waitpid(pid, 0)
    assert process.start_time(pid) == 0
    assert not process.is_alive(pid, started)


def test_a_process_whose_name_has_spaces_and_brackets_is_read_right() -> None:
    """/proc/PID/stat has the name in brackets, unescaped."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        with open("/proc/self/comm", "w") as comm:  # noqa: PTH123 - procfs
            comm.write("a) S 1 (b")
        os.write(writer, b"x")
        time.sleep(60)
        os._exit(0)
    os.read(reader, 1)
    started = process.start_time(pid)
    alive = process.is_alive(pid, started)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    os.close(reader)
    os.close(writer)
    assert alive
    assert abs(started - process.start_time(os.getpid())) < 100 * 3600 * 24


def test_this_boot_has_a_number_and_this_machine_a_description() -> None:
    """Stable, and fit for a signed word."""
    assert 0 <= process.boot_id() < 1 << 62
    assert process.boot_id() == process.boot_id()
    assert process.machine_description()["cores"] == len(process.cores()) >= 1
