"""Deaths as programs meet them: who gets the lock, how soon, and what that one is told."""

import contextlib
import mmap
import os
import pickle
import random
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from shmreclaim import Mutex, OwnerDied, RwLock, lock_arena
from shmreclaim.locks.arenas import tasks_named
from shmreclaim.machine.cpu import CPU
from shmreclaim.machine.layout import HEADER
from shmreclaim.sync.lockdep import LOCK
from tests.sync.crew import PATIENCE, until, until_asleep

HOLDS = ["mutex", "read", "write"]


class Held:
    """A lock, and a child that holds it one way until it is ended."""

    def __init__(self, how: str, lock: Any = None) -> None:
        """Make the lock; fork the child, wait until it holds."""
        self.how = how
        self.lock: Any = lock or (Mutex() if how == "mutex" else RwLock())
        ready, tell = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            acquire(self.lock, how)
            os.write(tell, b"x")
            while True:
                signal.pause()
        os.read(ready, 1)
        os.close(ready)
        os.close(tell)
        self.running = True

    def end(self, number: int = signal.SIGKILL) -> None:
        """End the child, and wait until it has."""
        if self.running:
            os.kill(self.pid, number)
            os.kill(self.pid, signal.SIGCONT)
            os.waitpid(self.pid, 0)
            self.running = False


def acquire(lock: Any, how: str, *args: Any, **kwargs: Any) -> bool:
    """Take a lock one way."""
    return bool(getattr(lock, "acquire" if how == "mutex" else f"acquire_{how}")(*args, **kwargs))


def release(lock: Any, how: str) -> None:
    """Give it up."""
    getattr(lock, "release" if how == "mutex" else f"release_{how}")()


def exclusively(how: str) -> str:
    """The way to hold a lock that no other holder allows, for one that is held some way."""
    return "mutex" if how == "mutex" else "write"


def waiting(lock: Any) -> int:
    """How many are queued on a lock."""
    side = lock._side if isinstance(lock, Mutex) else lock._read
    return int(side.tasks.words[side.at + LOCK.waiters]).bit_count()


def until_waiting(lock: Any, count: int) -> None:
    """Wait until so many are queued."""
    until(lambda: waiting(lock) == count, f"{count} to queue")


@pytest.fixture(params=HOLDS)
def held(request: pytest.FixtureRequest) -> Iterator[Held]:
    """A child that holds a mutex, or an RwLock for read or for write."""
    held = Held(request.param)
    yield held
    held.end()


def test_after_a_death_the_lock_is_there_at_once(held: Held) -> None:
    """For a call that waits for nothing, too; one is told, and only once."""
    held.end()
    how = exclusively(held.how)
    assert acquire(held.lock, how, False) is True
    assert held.lock.recovered is True
    release(held.lock, how)
    assert held.lock.recovered is False
    assert acquire(held.lock, how) is True
    assert held.lock.recovered is False
    release(held.lock, how)


@pytest.mark.parametrize("how", ["try_read", "try_write"])
def test_a_try_after_a_writers_death_gets_the_lock(how: str) -> None:
    """It does not take the dead for a holder."""
    held = Held("write")
    held.end()
    assert getattr(held.lock, how)() is True
    assert held.lock.recovered is True


def test_who_waits_gets_the_lock_when_its_holder_dies(held: Held) -> None:
    """Without a timeout, without a poll: it sleeps until the death wakes it."""
    how = exclusively(held.how)
    outcome: list[Any] = []

    def wait() -> None:
        outcome.append(acquire(held.lock, how))
        outcome.append(held.lock.recovered)
        release(held.lock, how)

    thread = threading.Thread(target=wait)
    thread.start()
    until(lambda: waiting(held.lock) == 1, "the thread to queue")
    held.end()
    thread.join(PATIENCE)
    assert outcome == [True, True]


def test_a_stopped_holder_is_not_robbed(held: Held) -> None:
    """It is alive; when it goes on it still has the lock."""
    os.kill(held.pid, signal.SIGSTOP)
    until_stopped(held.pid)
    assert acquire(held.lock, exclusively(held.how), timeout=0.5) is False
    os.kill(held.pid, signal.SIGCONT)
    assert acquire(held.lock, exclusively(held.how), False) is False


def until_stopped(pid: int) -> None:
    """Wait until a process is stopped."""
    _, status = os.waitpid(pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2, signal.SIGKILL])
def test_it_does_not_matter_what_ended_the_holder(held: Held, number: int) -> None:
    """Any signal."""
    held.end(number)
    assert acquire(held.lock, exclusively(held.how), timeout=PATIENCE) is True
    assert held.lock.recovered is True
    release(held.lock, exclusively(held.how))


def child_that_ends(end: Callable[[], object]) -> Mutex:
    """A mutex that a child took before it ended by itself."""
    mutex = Mutex()
    pid = os.fork()
    if pid == 0:
        mutex.acquire()
        end()
        os._exit(99)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    return mutex


@pytest.mark.parametrize("how", ["exit", "exec"])
def test_a_process_that_ends_or_becomes_another_program_gives_up_what_it_held(how: str) -> None:
    """It did not release; who comes next is told."""
    mutex = child_that_ends((lambda: os._exit(0)) if how == "exit" else lambda: os.execv("/bin/true", ["true"]))
    assert mutex.acquire(timeout=PATIENCE) is True
    assert mutex.recovered is True
    mutex.release()


def test_a_thread_that_ends_gives_up_what_it_held() -> None:
    """Owners are threads; its process lives on."""
    mutex = Mutex()
    thread = threading.Thread(target=mutex.acquire)
    thread.start()
    tid = thread.native_id
    thread.join(PATIENCE)
    assert mutex.acquire(timeout=PATIENCE) is True
    assert mutex.recovered is True
    assert mutex._side.who_died() == OwnerDied(tid or 0, "write")
    mutex.release()


def test_a_child_forked_while_its_parent_holds_owns_nothing_and_takes_nothing_along() -> None:
    """Its end is not its parent's."""
    mutex = Mutex()
    mutex.acquire()
    pid = os.fork()
    if pid == 0:
        with pytest.raises(RuntimeError):
            mutex.release()
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    assert mutex.locked()
    other: list[bool] = []
    thread = threading.Thread(target=lambda: other.append(mutex.acquire(timeout=0.2)))
    thread.start()
    thread.join(PATIENCE)
    assert other == [False]
    mutex.release()


def test_all_that_wait_get_in_after_a_death_and_one_is_told() -> None:
    """Three readers in processes of their own, behind a dead writer."""
    held = Held("write")
    told, pids = os.pipe(), []
    for _ in range(3):
        pid = os.fork()
        if pid == 0:
            held.lock.acquire_read()
            os.write(told[1], b"1" if held.lock.recovered else b"0")
            held.lock.release_read()
            os._exit(0)
        pids.append(pid)
    until(lambda: waiting(held.lock) == 3, "three readers to queue")
    for pid in pids:
        until_asleep(pid)
    held.end()
    for pid in pids:
        assert os.waitpid(pid, 0)[1] == 0
    assert sorted(os.read(told[0], 3)) == sorted(b"001")


def test_a_dead_waiter_keeps_nobody_waiting() -> None:
    """The one behind it is next."""
    lock = RwLock()
    lock.acquire_read()
    dead = os.fork()
    if dead == 0:
        lock.acquire_write()
        os._exit(1)
    until(lambda: waiting(lock) == 1, "a writer to queue")
    outcome: list[bool] = []
    thread = threading.Thread(target=lambda: outcome.append(lock.acquire_read() and lock.recovered))
    thread.start()
    until(lambda: waiting(lock) == 2, "a reader to queue")
    os.kill(dead, signal.SIGKILL)
    os.waitpid(dead, 0)
    thread.join(PATIENCE)
    assert outcome == [False], "a waiter held nothing: there is nothing to tell"


# --- the callback ----------------------------------------------------------------------------------


def test_a_repair_is_called_with_who_died_and_the_mutex_held() -> None:
    """By whoever gets it next, once."""
    calls: list[tuple[OwnerDied, bool]] = []
    mutex = Mutex(on_owner_died=lambda who: calls.append((who, mutex.locked())))
    held = Held("mutex", mutex)
    held.end()
    with mutex:
        pass
    with mutex:
        pass
    assert calls == [(OwnerDied(held.pid, "write"), True)]


@pytest.mark.parametrize("how", ["read", "write"])
def test_a_repair_has_the_lock_for_write_whoever_calls_it(how: str) -> None:
    """A reader goes in as a writer first, and reads afterwards."""
    states: list[str] = []
    lock = RwLock(on_owner_died=lambda _who: states.append(repr(lock).split()[0]))
    Held("write", lock).end()
    assert acquire(lock, how) is True
    assert states == ["<write-locked"]
    assert repr(lock).startswith("<read-locked by 1" if how == "read" else "<write-locked")
    assert lock.recovered is True
    release(lock, how)
    assert lock.recovered is False


@pytest.mark.parametrize("how", HOLDS)
def test_a_repair_that_fails_leaves_the_lock_free_and_the_news_to_the_next(how: str) -> None:
    """Its error comes out of acquire."""
    failures = [KeyError("no"), None]

    def repair(_who: OwnerDied) -> None:
        failure = failures.pop(0)
        if failure:
            raise failure

    lock: Any = Mutex(on_owner_died=repair) if how == "mutex" else RwLock(on_owner_died=repair)
    Held("mutex" if how == "mutex" else "write", lock).end()
    with pytest.raises(KeyError):
        acquire(lock, how)
    assert lock.recovered is False
    assert acquire(lock, how) is True
    assert failures == []
    assert lock.recovered is True
    release(lock, how)


def test_a_repair_travels_with_its_lock() -> None:
    """If it can be pickled."""
    mutex = Mutex(on_owner_died=print)
    assert pickle.loads(pickle.dumps(mutex))._side.repair is print


def test_the_dead_are_buried_by_who_comes_next_and_hold_nobody_up_afterwards() -> None:
    """Three of them, two with locks: their slots are free again, all locks are as if nobody had died."""
    with lock_arena(3) as arena:
        mutex, lock, other = Mutex(arena), RwLock(arena), Mutex(arena)
        for hold in (mutex.acquire, lock.acquire_read, lambda: other.acquire() and other.release()):
            pid = os.fork()
            if pid == 0:
                hold()
                os.kill(os.getpid(), signal.SIGKILL)
            os.waitpid(pid, 0)
        tasks = tasks_named(arena.name)
        assert mutex.acquire() is True
        assert mutex.recovered
        mutex.release()
        other.acquire(timeout=0)
        other.release()
        assert int(tasks.words[HEADER.announced]) == 0
        assert sum(tasks.words[slot + CPU.claim] != 0 for slot in tasks.every) == 1
        assert lock.acquire_write(False)
        assert lock.recovered
        lock.release_write()


def test_nobody_reads_what_a_dead_writer_left_before_it_is_set_right() -> None:
    """Three readers that wait behind it, and one that comes by trying; again and again."""
    for _ in range(20):
        words = memoryview(mmap.mmap(-1, 4096)).cast("q")

        def even_out(_who: OwnerDied, words: Any = words) -> None:
            time.sleep(0.002)
            words[1] = words[0]

        lock = RwLock(on_owner_died=even_out)
        dead, readers = _half_written(lock, words), []
        for k in range(3):
            readers.append(_reads(lock, words, tries=False))
            until_waiting(lock, k + 1)
        readers.append(_reads(lock, words, tries=True))
        os.kill(dead, signal.SIGKILL)
        os.waitpid(dead, 0)
        assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in readers] == [0] * 4


def _half_written(lock: RwLock, words: Any) -> int:
    """A child that stops for good between two words, writing."""
    ready, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        lock.acquire_write()
        words[0] += 1
        os.write(tell, b"x")
        signal.pause()
    os.read(ready, 1)
    os.close(ready)
    os.close(tell)
    return pid


def _reads(lock: RwLock, words: Any, *, tries: bool) -> int:
    """A child that reads both words, and ends with 0 if they are alike."""
    pid = os.fork()
    if pid == 0:
        while not (lock.try_read() if tries else lock.acquire_read()):
            os.sched_yield()
        alike = words[0] == words[1]
        lock.release_read()
        os._exit(0 if alike else 1)
    return pid


# --- many deaths -------------------------------------------------------------------------------------


def test_tasks_of_one_segment_die_by_the_hundred_and_no_slot_is_lost() -> None:
    """More than there are slots, holding, one after the other; each is reported."""
    with lock_arena(2) as arena:
        mutex, lock = Mutex(arena), RwLock(arena)
        for _ in range(120):
            pid = os.fork()
            if pid == 0:
                mutex.acquire()
                lock.acquire_read()
                os.kill(os.getpid(), signal.SIGKILL)
            os.waitpid(pid, 0)
            with mutex, lock.write():
                assert mutex.recovered
                assert lock.recovered
        tasks = tasks_named(arena.name)
        assert sum(tasks.words[slot + CPU.claim] != 0 for slot in tasks.every) <= len(tasks.every)


WORKERS = 4
TOTAL, INSIDE, PAIR, STOP, DONE = 0, 8, 16, 24, 32
"""Words that the workers share: two counts, who is inside, and for each worker how often it was."""


class Melee:
    """Workers that take a mutex and an RwLock, count under them, and are killed at random."""

    def __init__(self, seed: int) -> None:
        """Make the locks, with repairs, and the shared words."""
        self.dice = random.Random(seed)
        self.words = memoryview(mmap.mmap(-1, 4096)).cast("q")
        self.mutex = Mutex(on_owner_died=self._recount)
        self.lock = RwLock(on_owner_died=self._even_out)
        self.pids = [self._start(k) for k in range(WORKERS)]

    def _recount(self, _who: OwnerDied) -> None:
        """A worker died between its two counts, or inside."""
        self.words[INSIDE] = 0
        self.words[TOTAL] = sum(self.words[DONE : DONE + WORKERS])

    def _even_out(self, _who: OwnerDied) -> None:
        """A writer died between its two words, or a reader did."""
        self.words[PAIR + 1] = self.words[PAIR]

    def _start(self, k: int) -> int:
        seed = self.dice.random()
        pid = os.fork()
        if pid == 0:
            dice, code = random.Random(seed), 1
            try:
                while not self.words[STOP]:
                    dice.choice([self._count, self._write, self._read])(k)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        return pid

    def _count(self, k: int) -> None:
        with self.mutex:
            assert self.words[INSIDE] == 0, "two owners"
            self.words[INSIDE] = k + 1
            self.words[TOTAL] += 1
            self.words[DONE + k] += 1
            assert self.words[INSIDE] == k + 1, "two owners"
            self.words[INSIDE] = 0

    def _write(self, _k: int) -> None:
        with self.lock.write():
            self.words[PAIR] += 1
            self.words[PAIR + 1] += 1

    def _read(self, _k: int) -> None:
        with self.lock.read():
            assert self.words[PAIR] == self.words[PAIR + 1], "a writer beside a reader"

    def kill_one(self) -> None:
        """Kill one of them a moment from now, and start another in its place."""
        time.sleep(self.dice.random() * 0.004)
        k = self.dice.randrange(WORKERS)
        os.kill(self.pids[k], signal.SIGKILL)
        _, status = os.waitpid(self.pids[k], 0)
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL, "a worker found something wrong"
        self.pids[k] = self._start(k)

    def end(self) -> list[int]:
        """Let all end by themselves; their exit codes."""
        self.words[STOP] = 1
        codes: list[int] = []
        for pid in self.pids:
            until_ended(pid, codes)
        return codes


def until_ended(pid: int, codes: list[int]) -> None:
    """Wait until a child ends, and keep its exit code; one that does not hangs."""

    def ended() -> bool:
        done, status = os.waitpid(pid, os.WNOHANG)
        codes.extend([os.waitstatus_to_exitcode(status)] if done else [])
        return bool(done)

    until(ended, f"worker {pid} to come out of its locks")


@pytest.mark.stress
@pytest.mark.parametrize("kills", [300, pytest.param(1000, marks=pytest.mark.slow)])
def test_kills_at_random_moments_leave_no_lock_stuck_no_two_owners_and_right_counts(kills: int) -> None:
    """Four workers; holders and waiters die, others take their places and their slots."""
    seed = random.randrange(1 << 30)
    melee = Melee(seed)
    try:
        for _ in range(kills):
            melee.kill_one()
        assert melee.end() == [0] * WORKERS
    except BaseException as error:
        error.add_note(f"seed {seed}")
        for pid in melee.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        raise
    with melee.mutex, melee.lock.write():
        assert melee.words[TOTAL] == sum(melee.words[DONE : DONE + WORKERS]) > 0
        assert melee.words[PAIR] == melee.words[PAIR + 1] > 0
