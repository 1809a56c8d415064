"""Mutex and RwLock as programs use them: threads, processes, signals, `with`, wrong use."""

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import multiprocess
import pytest

from shmreclaim.errors import SetupError
from shmreclaim.locks import Mutex, RwLock, lock_arena
from shmreclaim.locks.arenas import tasks_in, tasks_named
from shmreclaim.machine.cpu import CPU, MAX_CPUS
from shmreclaim.machine.life import FUTEX_OWNER_DIED
from shmreclaim.sync.lockdep import LOCK

PATIENCE = 30.0
FORK = multiprocess.get_context("fork")


class Ways:
    """One way to hold a lock, for tests that hold for all."""

    def __init__(self, kind: str) -> None:
        """Make a lock of its own: "mutex", "read" or "write"."""
        self.kind = kind
        self.lock: Any = Mutex() if kind == "mutex" else RwLock()
        suffix = "" if kind == "mutex" else f"_{kind}"
        self.acquire: Callable[..., bool] = getattr(self.lock, "acquire" + suffix)
        self.release: Callable[..., None] = getattr(self.lock, "release" + suffix)
        self.hold = self.lock if kind == "mutex" else getattr(self.lock, kind)()
        self.block: Callable[[], bool] = self.lock.acquire if kind == "mutex" else self.lock.acquire_write
        self.unblock: Callable[[], None] = self.lock.release if kind == "mutex" else self.lock.release_write


@pytest.fixture(params=["mutex", "read", "write"])
def way(request: pytest.FixtureRequest) -> Ways:
    """A mutex, an RwLock for read, an RwLock for write."""
    return Ways(request.param)


@pytest.fixture
def mutex() -> Mutex:
    """A mutex of its own."""
    return Mutex()


@pytest.fixture
def lock() -> RwLock:
    """A reader-writer lock of its own."""
    return RwLock()


def name_and_place(lock: Mutex | RwLock) -> tuple[str, int]:
    """Where a lock is, as its pickle says."""
    side = lock._side if isinstance(lock, Mutex) else lock._read
    return side.tasks.arena.name, side.at


def waiters(lock: Mutex | RwLock) -> int:
    """How many are queued on a lock."""
    name, at = name_and_place(lock)
    return int(tasks_named(name).words[at + LOCK.waiters]).bit_count()


def until(condition: Callable[[], bool]) -> None:
    """Let others run until a condition holds."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0)


def in_thread(function: Callable[[], Any]) -> Any:
    """What a function gives, or raises, in another thread."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(function())
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(PATIENCE)
    return outcome[0]


def in_child(function: Callable[[], int]) -> int:
    """What a function gives in a forked child, as its exit code."""
    child = FORK.Process(target=lambda: os._exit(function()))
    child.start()
    child.join(PATIENCE)
    assert child.exitcode is not None, "the child hangs"
    return int(child.exitcode)


# --- what every way to hold a lock has in common -------------------------------------------------------


def test_a_lock_is_taken_and_given_up(way: Ways) -> None:
    """Again and again; both say what threading.Lock says."""
    for _ in range(3):
        assert way.acquire() is True
        assert way.release() is None


def test_a_with_statement_holds_it(way: Ways) -> None:
    """And gives it up, also when its body raises."""
    with way.hold:
        assert in_thread(lambda: _try(way)) is False
    with pytest.raises(KeyError), way.hold:
        raise KeyError
    assert _try(way) is True


def _try(way: Ways) -> bool:
    """Try to get it exclusively, and give it up again."""
    if not (way.lock.acquire(False) if way.kind == "mutex" else way.lock.try_write()):
        return False
    way.unblock()
    return True


def test_giving_up_what_one_does_not_hold_raises_and_changes_nothing(way: Ways) -> None:
    """Never held, held by another thread, given up twice."""
    with pytest.raises(RuntimeError, match="does not have"):
        way.release()
    way.acquire()
    assert isinstance(in_thread(way.release), RuntimeError)
    assert in_thread(lambda: _try(way)) is False
    way.release()
    with pytest.raises(RuntimeError, match="does not have"):
        way.release()
    assert _try(way) is True


def test_waiting_for_oneself_raises_and_changes_nothing(way: Ways) -> None:
    """A call that may give up says no, at once."""
    way.acquire()
    with pytest.raises(RuntimeError, match="would wait for itself"):
        way.acquire()
    assert way.acquire(False) is False
    assert way.acquire(timeout=60) is False
    way.release()
    assert _try(way) is True


@pytest.mark.parametrize(
    ("args", "error", "text"),
    [
        ((False, 1), ValueError, "can't specify a timeout for a non-blocking call"),
        ((True, -2), ValueError, "must be a non-negative number"),
        ((True, float("nan")), ValueError, "must be a non-negative number"),
        ((True, threading.TIMEOUT_MAX * 2), OverflowError, "too large"),
        ((True, float("inf")), OverflowError, "too large"),
        ((True, "soon"), TypeError, "not supported"),
        ((1, 2, 3), TypeError, "positional argument"),
    ],
)
def test_bad_arguments_raise_as_with_threading_lock(
    way: Ways, args: tuple[Any, ...], error: type[Exception], text: str
) -> None:
    """And nothing is held afterwards."""
    with pytest.raises(error, match=text):
        way.acquire(*args)
    assert _try(way) is True


def test_a_release_with_arguments_is_a_type_error(way: Ways) -> None:
    """The lock stays held."""
    way.acquire()
    with pytest.raises(TypeError):
        way.release(1)
    way.release()


@pytest.mark.parametrize("timeout", [0, 0.05])
def test_a_timed_wait_ends_in_time(way: Ways, timeout: float) -> None:
    """Not before; and the lock forgets it."""
    way.block()
    start = time.monotonic()
    assert in_thread(lambda: way.acquire(timeout=timeout)) is False
    assert time.monotonic() - start >= timeout
    assert waiters(way.lock) == 0
    way.unblock()
    assert way.acquire(True, threading.TIMEOUT_MAX) is True
    way.release()


def test_a_waiting_thread_lets_other_threads_run_and_gets_the_lock(way: Ways) -> None:
    """It gives up the GIL while it waits."""
    way.block()
    got: list[bool] = []
    thread = threading.Thread(target=lambda: got.append(way.acquire()))
    thread.start()
    until(lambda: waiters(way.lock) == 1)
    assert got == []
    way.unblock()
    thread.join(PATIENCE)
    assert got == [True]


def test_a_forked_child_does_not_own_what_its_parent_holds(way: Ways) -> None:
    """It can neither give it up nor get past it."""
    way.acquire()

    def child() -> int:
        try:
            way.release()
        except RuntimeError:
            return 10 + _try(way)
        return 1

    assert in_child(child) == 10
    way.release()
    assert _try(way) is True


def test_a_forked_child_waits_for_its_parent(way: Ways) -> None:
    """And gets the lock when the parent gives it up."""
    way.block()
    child = FORK.Process(target=lambda: os._exit(way.acquire()))
    child.start()
    until(lambda: waiters(way.lock) == 1)
    way.unblock()
    child.join(PATIENCE)
    assert child.exitcode == 1


def test_ctrl_c_ends_a_wait_at_once_and_leaves_the_lock_clean(way: Ways) -> None:
    """KeyboardInterrupt comes out of acquire; nobody is queued, nothing is held."""
    way.block()

    def wait() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            way.acquire()
        except KeyboardInterrupt:
            os._exit(7)
        os._exit(1)

    child = FORK.Process(target=wait)
    child.start()
    until(lambda: waiters(way.lock) == 1)
    while child.is_alive():  # the first may come before it sleeps
        os.kill(child.pid, signal.SIGINT)
        child.join(0.01)
    assert child.exitcode == 7
    assert waiters(way.lock) == 0
    way.unblock()
    assert _try(way) is True


def test_a_signal_handler_that_returns_does_not_shorten_a_wait(way: Ways) -> None:
    """Handlers run while it waits, and it waits for the rest of its time."""
    way.block()

    def wait() -> None:
        heard: list[int] = []
        signal.signal(signal.SIGUSR1, lambda number, _frame: heard.append(number))
        start = time.monotonic()
        taken = way.acquire(timeout=0.5)
        os._exit(7 if heard and not taken and time.monotonic() - start >= 0.5 else 1)

    child = FORK.Process(target=wait)
    child.start()
    until(lambda: waiters(way.lock) == 1)
    while child.is_alive():
        os.kill(child.pid, signal.SIGUSR1)
        child.join(0.05)
    assert child.exitcode == 7
    way.unblock()


def test_a_lock_travels_by_pickle_to_the_same_lock(way: Ways) -> None:
    """In this process it is another handle of it."""
    other = pickle.loads(pickle.dumps(way.lock))
    assert name_and_place(other) == name_and_place(way.lock)
    way.acquire()
    assert in_thread(lambda: other.acquire(False) if way.kind == "mutex" else other.try_write()) is False
    way.release()


PROGRAM = """
import pickle, sys
lock = pickle.loads(bytes.fromhex(sys.argv[1]))
attempt = getattr(lock, "try_write", None) or (lambda: lock.acquire(False))
print(attempt(), flush=True)
input()
print(attempt(), flush=True)
"""


def test_a_lock_travels_by_pickle_to_a_process_of_its_own(way: Ways) -> None:
    """Where it is mapped at another address: held here it is held there, given up here it is free there."""
    way.acquire()
    args = [sys.executable, "-c", PROGRAM, pickle.dumps(way.lock).hex()]
    with subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "False\n"
        way.release()
        assert child.communicate("\n", timeout=PATIENCE)[0] == "True\n"


@pytest.mark.parametrize("library", [multiprocess, multiprocessing], ids=["multiprocess", "multiprocessing"])
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_lock_is_an_argument_of_a_process(mutex: Mutex, library: Any, method: str) -> None:
    """Of either library, however it starts processes."""
    child = library.get_context(method).Process(target=Mutex.locked, args=(mutex,))
    child.start()
    child.join(PATIENCE)
    assert child.exitcode == 0


# --- between processes -----------------------------------------------------------------------------------


def _add_many(lock: Any, enter: Callable[[], bool], leave: Callable[[], None], path: Path, times: int) -> int:
    with path.open("r+b", buffering=0) as file:
        for _ in range(times):
            enter()
            file.seek(0)
            value = int(file.read() or b"0")
            file.seek(0)
            file.write(b"%d" % (value + 1))
            leave()
    return 0


@pytest.mark.stress
@pytest.mark.parametrize("kind", ["mutex", "write"])
def test_processes_exclude_each_other(tmp_path: Path, kind: str) -> None:
    """Four of them count in a file; no count is lost."""
    path = tmp_path / "count"
    path.write_bytes(b"0")
    way = Ways(kind)
    children = [
        FORK.Process(target=lambda: os._exit(_add_many(way.lock, way.acquire, way.release, path, 1000)))
        for _ in range(4)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(PATIENCE)
    assert [child.exitcode for child in children] == [0] * 4
    assert path.read_bytes() == b"4000"


@pytest.mark.stress
def test_threads_exclude_each_other(mutex: Mutex) -> None:
    """Eight of them; who is inside finds nobody else there."""
    inside: list[int] = []
    wrong: list[int] = []

    def work() -> None:
        for _ in range(200):
            with mutex:
                inside.append(1)
                time.sleep(0)
                wrong.extend([1] if len(inside) != 1 else [])
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert wrong == []
    assert not mutex.locked()


# --- readers and writers ---------------------------------------------------------------------------------


def test_readers_share_and_a_writer_does_not(lock: RwLock) -> None:
    """Each rule once, from another thread."""
    with lock.read():
        assert in_thread(lambda: lock.try_read() and lock.release_read() is None) is True
        assert in_thread(lock.try_write) is False
    with lock.write():
        assert in_thread(lock.try_read) is False
        assert in_thread(lock.try_write) is False


@pytest.mark.parametrize("held", ["read", "write"])
def test_nobody_becomes_a_writer_or_a_reader_on_top_of_what_he_holds(lock: RwLock, held: str) -> None:
    """Blocking raises, trying says no, and what is held stays held."""
    getattr(lock, f"acquire_{held}")()
    for wanted in ("read", "write"):
        with pytest.raises(RuntimeError, match=f"has the {held} lock already"):
            getattr(lock, f"acquire_{wanted}")()
        assert getattr(lock, f"try_{wanted}")() is False
    getattr(lock, f"release_{held}")()
    assert lock.try_write() is True


def test_giving_up_in_the_wrong_mode_raises_and_changes_nothing(lock: RwLock) -> None:
    """A reader does not write, a writer does not read."""
    with lock.read(), pytest.raises(RuntimeError, match="does not have the write lock"):
        lock.release_write()
    with lock.write(), pytest.raises(RuntimeError, match="does not have the read lock"):
        lock.release_read()
    assert lock.try_write() is True


def test_a_downgrade_turns_a_write_hold_into_a_read_share(lock: RwLock) -> None:
    """Readers may join, writers may not; only a writer can."""
    with pytest.raises(RuntimeError, match="does not have the write lock"):
        lock.downgrade()
    lock.acquire_write()
    lock.downgrade()
    assert in_thread(lock.try_write) is False
    assert in_thread(lambda: lock.try_read() and lock.release_read() is None) is True
    with pytest.raises(RuntimeError, match="does not have the write lock"):
        lock.downgrade()
    lock.release_read()
    assert lock.try_write() is True


def test_a_waiting_writer_is_seen_and_keeps_new_readers_out(lock: RwLock) -> None:
    """Contended while it waits; not before, not after."""
    lock.acquire_read()
    assert not lock.is_contended()
    writer = threading.Thread(target=lambda: lock.acquire_write() and lock.release_write())
    writer.start()
    until(lambda: waiters(lock) == 1)
    assert lock.is_contended()
    assert in_thread(lock.try_read) is False
    lock.release_read()
    writer.join(PATIENCE)
    assert not lock.is_contended()


@pytest.mark.stress
def test_a_writer_is_not_starved_by_readers_without_end(lock: RwLock) -> None:
    """Three processes read and read again; the writer gets in ten times."""

    def read() -> None:
        while True:
            with lock.read():
                time.sleep(0.001)

    readers = [FORK.Process(target=read, daemon=True) for _ in range(3)]
    for reader in readers:
        reader.start()
    try:
        until(lambda: "read-locked by 3" in repr(lock))
        assert all(lock.acquire_write(timeout=PATIENCE) and lock.release_write() is None for _ in range(10))
    finally:
        for reader in readers:
            reader.kill()
            reader.join()


# --- segments and slots ----------------------------------------------------------------------------------


def test_the_words_of_a_lock_that_is_gone_are_the_next_ones() -> None:
    """A program may make as many as it likes, as long as it does not keep them."""
    mutex = Mutex()
    place = name_and_place(mutex)
    mutex.acquire()
    del mutex
    again = Mutex()
    assert name_and_place(again) == place
    assert not again.locked()


@pytest.mark.parametrize("how", ["pickled", "forked", "a builtin is kept"])
def test_the_words_of_a_lock_stay_its_own_as_long_as_anybody_may_know_it(how: str) -> None:
    """Another process may have it, or what is left of it here."""
    lock = RwLock()
    place, kept = name_and_place(lock), None
    if how == "pickled":
        pickle.dumps(lock)
    elif how == "forked":
        in_child(lambda: 0)
    else:
        kept = lock.acquire_read
    del lock
    others = [RwLock() for _ in range(300)]
    assert place not in map(name_and_place, others)
    del kept


def test_locks_that_fill_a_segment_go_on_in_the_next() -> None:
    """300 at a time, each a lock of its own."""
    mutexes = [Mutex() for _ in range(300)]
    assert len({name_and_place(mutex) for mutex in mutexes}) == 300
    for mutex in mutexes:
        assert mutex.acquire(False) is True
    assert in_thread(lambda: any(mutex.acquire(False) for mutex in mutexes)) is False


def test_a_builtin_that_outlives_its_lock_still_works() -> None:
    """It keeps the memory mapped."""
    acquire = Mutex().acquire
    assert acquire() is True
    assert acquire(False) is False


def test_many_locks_share_an_arena() -> None:
    """As many as were asked for; they exclude only their own holders, and outlive the arena's name."""
    with lock_arena(3) as arena:
        first, second, third = Mutex(arena), RwLock(arena), Mutex(arena)
        with first:
            assert in_thread(lambda: third.acquire(False)) is True
            assert second.try_write() is True
    assert first.acquire() is True
    assert in_thread(lambda: first.acquire(False)) is False


def test_a_pickle_that_points_outside_its_segment_is_refused(mutex: Mutex) -> None:
    """Offsets are checked before compiled code follows them."""
    attach, (name, inode, _, repair) = mutex.__reduce__()
    for at in (-8, 1 << 40):
        with pytest.raises(IndexError, match="outside a segment"):
            attach(name, inode, at, repair)


def test_a_lock_whose_maker_is_gone_cannot_be_attached() -> None:
    """The message names the segment."""
    program = "import pickle; from shmreclaim import Mutex; print(pickle.dumps(Mutex()).hex())"
    data = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    with pytest.raises(SetupError, match=r"there is no segment shmreclaim\."):
        pickle.loads(bytes.fromhex(data))


def test_a_thread_that_ends_gives_its_slot_back(mutex: Mutex) -> None:
    """Otherwise all slots would be gone after as many threads."""
    for _ in range(2 * MAX_CPUS):
        assert in_thread(lambda: mutex.acquire() and mutex.release() is None) is True


def test_a_process_that_ends_gives_its_slot_back(mutex: Mutex) -> None:
    """Also if it is killed."""
    for _ in range(MAX_CPUS + 3):
        pid = os.fork()
        if pid == 0:
            mutex.acquire()
            mutex.release()
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(pid, 0)
    assert mutex.acquire(False) is True


def test_who_gets_the_slot_of_a_process_that_died_holding_holds_nothing() -> None:
    """Its number is in the lock's word; the lock is free again, and the next one is told."""
    with lock_arena(3) as arena:
        mutex, read, written = Mutex(arena), RwLock(arena), RwLock(arena)

        def die_holding() -> int:
            mutex.acquire()
            read.acquire_read()
            written.acquire_write()
            os.kill(os.getpid(), signal.SIGKILL)
            return 0

        tasks = tasks_named(arena.name)
        tasks.slot()
        in_child(die_holding)
        (dead,) = [slot for slot in tasks.every if tasks.words[slot + CPU.life] & FUTEX_OWNER_DIED]
        for slot in tasks.every:
            if tasks.words[slot + CPU.claim] == 0:
                tasks.words[slot + CPU.claim] = os.getpid()  # claimed by somebody that lives, and never settled
        found = in_thread(lambda: [tasks.slot(), mutex.locked(), read.try_write(), written.try_read()])
        assert found == [dead, False, True, True]
        assert mutex.acquire(False)
        assert mutex.recovered


def test_one_thread_more_than_there_are_slots_gets_a_clear_error() -> None:
    """Not a crash, not a wait; the others go on."""
    gate, inside = threading.Event(), threading.Semaphore(0)

    def stay(lock: RwLock) -> None:
        lock.acquire_read()
        inside.release()
        gate.wait(PATIENCE)
        lock.release_read()

    with lock_arena() as arena:
        lock = RwLock(arena)
        crowd = [threading.Thread(target=stay, args=(lock,)) for _ in range(MAX_CPUS)]
        for thread in crowd:
            thread.start()
        for _ in crowd:
            assert inside.acquire(timeout=PATIENCE)
        assert f"read-locked by {MAX_CPUS}" in repr(lock)
        with pytest.raises(SetupError, match=f"all {MAX_CPUS} task slots"):
            lock.acquire_read()
        gate.set()
        for thread in crowd:
            thread.join(PATIENCE)
        assert lock.acquire_write() is True


def test_a_damaged_header_is_refused() -> None:
    """What it says of slots is checked before compiled code trusts it."""
    with lock_arena() as arena:
        arena.words[9:12] = [1 << 40, MAX_CPUS, 8]
        with pytest.raises(SetupError, match="task slots of 8 words at word"):
            tasks_in(arena)


def test_a_lock_says_its_state(mutex: Mutex, lock: RwLock) -> None:
    """With its kind and its segment."""
    assert repr(mutex).startswith("<unlocked shmreclaim.Mutex object at 0x")
    with mutex, lock.read():
        assert repr(mutex).startswith("<locked ")
        assert repr(lock).startswith("<read-locked by 1 shmreclaim.RwLock object")
    with lock.write():
        assert repr(lock).startswith("<write-locked ")


def test_builtins_document_themselves(mutex: Mutex) -> None:
    """`help` and signatures work as for any builtin."""
    import inspect

    assert str(inspect.signature(mutex.acquire)) == "(blocking=True, timeout=-1)"
    assert "return whether" in (mutex.acquire.__doc__ or "")
