"""Ends of programs, threads and heirs while they have a lock, and what may come in between: the others are told."""

import gc
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from shmreclaim.errors import SetupError
from shmreclaim.locks import Mutex, OwnerDied, Semaphore, lock_arena
from shmreclaim.locks.arenas import anonymous_lock, unlink
from shmreclaim.machine import life, tasks
from shmreclaim.machine.cpu import CPU, GENERATION
from shmreclaim.machine.layout import HEADER
from shmreclaim.machine.process import cores
from shmreclaim.machine.tasks import PID_BITS, Tasks
from shmreclaim.sync.lockdep import LOCK
from shmreclaim.sync.robust import take_over
from shmreclaim.sync.spinlock import PARKED
from tests.sync.crew import PATIENCE, Crew, until, until_asleep


@pytest.fixture
def name() -> Iterator[str]:
    """A name for a lock, free again afterwards."""
    free = f"test.{uuid.uuid4().hex}"
    yield free
    unlink(free)


PROGRAMS = {
    "a module keeps it": "lock = pickle.loads(data); lock.acquire(); print()",
    "a function kept it": "def f(): pickle.loads(data).acquire()\nf(); print()",
    "a thread that ended kept it": "def f(): pickle.loads(data).acquire(); print()\n"
    "thread = threading.Thread(target=f); thread.start(); thread.join(); gc.collect(); input()",
    "a daemon thread keeps it": "def f(): pickle.loads(data).acquire(); print(); time.sleep(99)\n"
    "threading.Thread(target=f, daemon=True).start(); input()",
}


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_a_program_or_thread_that_ends_in_order_with_a_lock_leaves_it_to_the_next(program: str) -> None:
    """Whatever was unmapped by then: the kernel finds the life of its thread."""
    mutex = Mutex()
    code = f"import gc, pickle, threading, time\ndata = {pickle.dumps(mutex)!r}\n{program}"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == b"\n"
        if "daemon" in program:
            child.stdin.close()
        assert mutex.acquire(timeout=PATIENCE)
        assert mutex.recovered


def test_a_lock_of_a_name_that_was_unlinked_and_one_of_the_same_name_are_two(name: str) -> None:
    """Also in a process that has both; that the old one is still used harms none."""
    old = Mutex(name=name)
    old.acquire()
    unlink(name)
    new = Mutex(name=name)
    assert new.acquire(False) is True
    assert (old.locked(), new.locked()) == (True, True)
    assert pickle.loads(pickle.dumps(new)).locked()
    old.release()
    assert (old.locked(), new.locked()) == (False, True)


def die_with(lock: Any) -> int:
    """Let a process end that has a lock; its pid."""
    pid = os.fork()
    if pid == 0:
        lock.acquire()
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    return pid


def fork_as(pid: int) -> int:
    """Fork a child that has a pid which was somebody else's; 0 in the child. Skips where that cannot be asked for."""
    for _ in range(100):
        try:
            Path("/proc/sys/kernel/ns_last_pid").write_text(str(pid - 1), encoding="ascii")
        except OSError as error:
            pytest.skip(f"nobody may choose pids here: {error}")
        child = os.fork()
        if child == 0 and os.getpid() == pid:
            return 0
        if child == 0:
            os._exit(0)
        if child == pid:
            return child
        os.waitpid(child, 0)
    pytest.skip(f"others were always given pid {pid}")


def test_a_process_that_has_the_pid_of_a_dead_holder_has_not_its_lock() -> None:
    """It may not give it up, waits for it as others do, and is told of the death."""
    mutex = Mutex()
    dead = die_with(mutex)
    child = fork_as(dead)
    if child == 0:
        found = 0
        try:
            mutex.release()
        except RuntimeError:
            found |= 1
        found |= 2 if mutex.acquire(timeout=PATIENCE) else 0
        found |= 4 if mutex.recovered else 0
        os._exit(found)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1 | 2 | 4
    assert mutex.acquire(timeout=PATIENCE)
    assert mutex.recovered  # the child exited with it


def test_a_repair_that_takes_other_locks_and_fails_leaves_the_news_to_the_next() -> None:
    """What it hears of those is not taken for what it is about."""
    other = Mutex()

    def fail(_died: OwnerDied) -> None:
        with other:
            raise KeyError

    mutex = Mutex(on_owner_died=fail)
    die_with(mutex)
    for _ in range(2):
        with pytest.raises(KeyError):
            mutex.acquire()
    assert not mutex.locked()
    assert not mutex.recovered


def test_a_lock_that_is_garbage_may_be_found_while_another_is_made() -> None:
    """The collector runs where it likes, in the middle of making one too."""

    def make() -> None:
        circle: list[Any] = [Mutex()]
        circle.append(circle)
        del circle
        anonymous_lock(lambda _address, _at: gc.collect())

    thread = threading.Thread(target=make, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_who_only_raises_a_count_has_a_life_too() -> None:
    """Should it end before it has woken anybody, those who wait are told."""
    with lock_arena() as arena:
        semaphore = Semaphore(0, arena)
        words = semaphore._place.tasks.words
        semaphore.release()
        assert int(words[HEADER.lives]).bit_count() == 1


def occupy(slots: Tasks) -> None:
    """Leave no slot free."""
    for slot in slots.every:
        if slots.words[slot + CPU.claim] == 0:
            slots.words[slot + CPU.claim] = os.getpid()  # claimed by somebody that lives, and never settled


def test_nobody_takes_over_the_slot_of_a_task_that_lives_though_its_process_is_not_seen() -> None:
    """It may be in another namespace, or its main thread has ended: only the kernel's mark says that a task ended."""
    with lock_arena() as arena:
        mutex = Mutex(arena)
        slots = mutex._side.tasks
        mutex.acquire()
        mine = slots.slot()
        slots.words[mine + CPU.claim] = slots.words[mine + CPU.lived] = (1 << PID_BITS) - 1  # above any pid
        occupy(slots)
        with pytest.raises(SetupError, match="task slots"):
            Tasks(arena, slots._locks)._inherit(1)


class _KilledAtLine:
    """Ends its process at the n-th line of what a task does to settle."""

    def __init__(self, left: int) -> None:
        self.left = left

    def __call__(self, frame: FrameType, event: str, _argument: object) -> "_KilledAtLine | None":
        if frame.f_code.co_filename not in (life.__file__, tasks.__file__):
            return None
        self.left -= event == "line"
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return self


@pytest.mark.stress
def test_an_heir_that_ends_while_it_takes_a_slot_over_leaves_all_to_the_next() -> None:
    """At any line of it; what its predecessor held is had at once, by one who is told."""
    for line in range(1, 200):
        with lock_arena() as arena:
            mutex = Mutex(arena)
            die_with(mutex)
            occupy(mutex._side.tasks)
            pid = os.fork()
            if pid == 0:
                sys.settrace(_KilledAtLine(line))
                mutex._side.tasks.slot()
                os._exit(7)
            if os.waitpid(pid, 0)[1] == 7 << 8:
                break
            assert mutex.acquire(timeout=PATIENCE), f"killed at line {line}, it kept the lock"
            assert mutex.recovered
    assert 20 < line < 199


@pytest.mark.parametrize("word", [1, 1 | PARKED])
def test_who_saw_the_wait_lock_of_a_dead_task_before_its_heir_took_it_over_does_not_get_it(word: int) -> None:
    """It compares the word, which the heir changed."""
    with Crew(1) as crew:
        lock = crew.arena.allocate(LOCK.SIZE)
        crew.arena.words[lock + LOCK.wait_lock] = word
        crew.arena.words[crew.cpus[1] + CPU.spin] = 1 | GENERATION
        crew.call(take_over, crew.cpus[1], lock)
        assert crew.word(lock + LOCK.wait_lock) != word
        assert crew.word(lock + LOCK.wait_lock) & 0xFFFF == 1


def _waits(lock: Mutex, *, stays: bool) -> int:
    """Let a process wait for a lock, have it, and end, or stay."""
    queued = int(lock._side.tasks.words[lock._side.at + LOCK.waiters])
    pid = os.fork()
    if pid == 0:
        lock.acquire()
        lock.release()
        time.sleep(3 * PATIENCE if stays else 0)
        os._exit(0)
    until(lambda: lock._side.tasks.words[lock._side.at + LOCK.waiters] != queued, "it to queue")
    until_asleep(pid)
    return pid


@pytest.fixture
def slow_core() -> Iterator[int]:
    """A core that somebody keeps busy, so that an idle task there runs late."""
    if len(cores()) < 2:
        pytest.skip("needs a core beside the busy one")
    busy, *free = cores()
    pid = os.fork()
    if pid == 0:
        os.sched_setaffinity(0, {busy})
        end = time.monotonic() + 4 * PATIENCE  # not for ever, whatever becomes of the test
        while time.monotonic() < end:
            pass
        os._exit(0)
    os.sched_setaffinity(0, set(free))
    yield busy
    os.sched_setaffinity(0, {busy, *free})
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


@pytest.mark.stress
def test_a_sleeper_that_is_granted_its_lock_as_another_task_ends_passes_the_news_on(slow_core: int) -> None:
    """The kernel tells of an end to one sleeper: that one may have no more need to look."""
    first, second = Mutex(), Mutex()
    holder = os.fork()
    if holder == 0:
        second.acquire()
        time.sleep(3 * PATIENCE)
    until(second.locked, "a holder")
    first.acquire()
    granted = _waits(first, stays=True)
    os.sched_setaffinity(granted, {slow_core})
    os.sched_setscheduler(granted, os.SCHED_IDLE, os.sched_param(0))
    waiter = _waits(second, stays=False)
    first.release()
    os.kill(holder, signal.SIGKILL)
    try:
        until(lambda: os.waitpid(waiter, os.WNOHANG)[0] == waiter, "the waiter to get the dead one's lock")
    finally:
        for pid in (holder, granted, waiter):
            _end(pid)


def _end(pid: int) -> None:
    """End a child, if it has not yet."""
    try:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        pass
