"""What a lock costs: ours beside glibc's, from compiled loops and from Python, alone and contended.

    python bench/locks.py [--json] [--quick]

Candidates take turns, in short samples, so that whatever else the machine does hits all of them alike. Peers
that are not installed are named and left out. Ratios to what the design asks for stand at the end.
"""

import importlib
import json
import multiprocessing
import sys
import tempfile
import time
import timeit
from collections.abc import Callable
from pathlib import Path
from typing import Any

import multiprocess
import pthread_calls as glibc
from measure import arguments, machine_line

from shmreclaim.experiments.bench.turns import Figure, take_turns
from shmreclaim.locks import Mutex, RwLock
from shmreclaim.machine.arena import Arena
from shmreclaim.machine.atomics import (
    clock_ns,
    fetch_add_acquire,
    fetch_add_release,
    load_acquire,
    read_once,
    write_once,
)
from shmreclaim.machine.compile import compiled, entry_point, link
from shmreclaim.machine.cpu import CPU, make_cpus
from shmreclaim.machine.layout import HEADER, LINE
from shmreclaim.machine.process import cores, machine_description
from shmreclaim.sync.lockdep import LOCK
from shmreclaim.sync.mutex import mutex_init, mutex_lock, mutex_unlock
from shmreclaim.sync.rcu import rcu_read_lock, rcu_read_unlock
from shmreclaim.sync.rwsem import down_read, down_write, rwsem_init, up_read, up_write
from shmreclaim.sync.spinlock import spin_lock, spin_unlock

CPUS = 4
PAIRS = 20_000
CALLS = 10_000
RUN_NS = 200_000_000
LEAD_NS = 20_000_000
"""How long before the start of a contended run its processes are made."""

Section = dict[str, Figure]
Result = dict[str, Section]


# --- compiled loops: lock and unlock, so many times; ns for all ---------------------------------------


@compiled
def atomic_pairs(mem: Any, _cpu: int, word: int, pairs: int) -> int:
    """Two atomic additions: less no lock can cost that others may see."""
    start = clock_ns()
    for _ in range(pairs):
        fetch_add_acquire(mem, word, 1)
        fetch_add_release(mem, word, -1)
    return clock_ns() - start


@compiled
def spinlock_pairs(mem: Any, cpu: int, lock: int, pairs: int) -> int:
    """Spinlock."""
    start = clock_ns()
    for _ in range(pairs):
        spin_lock(mem, cpu, lock)
        spin_unlock(mem, cpu, lock)
    return clock_ns() - start


@compiled
def mutex_pairs(mem: Any, cpu: int, lock: int, pairs: int) -> int:
    """Mutex."""
    start = clock_ns()
    for _ in range(pairs):
        mutex_lock(mem, cpu, lock)
        mutex_unlock(mem, cpu, lock)
    return clock_ns() - start


@compiled
def read_pairs(mem: Any, cpu: int, lock: int, pairs: int) -> int:
    """Rwsem for read."""
    start = clock_ns()
    for _ in range(pairs):
        down_read(mem, cpu, lock)
        up_read(mem, cpu, lock)
    return clock_ns() - start


@compiled
def write_pairs(mem: Any, cpu: int, lock: int, pairs: int) -> int:
    """Rwsem for write."""
    start = clock_ns()
    for _ in range(pairs):
        down_write(mem, cpu, lock)
        up_write(mem, cpu, lock)
    return clock_ns() - start


@compiled
def rcu_pairs(mem: Any, cpu: int, _lock: int, pairs: int) -> int:
    """RCU read section."""
    start = clock_ns()
    for _ in range(pairs):
        rcu_read_lock(mem, cpu)
        rcu_read_unlock(mem, cpu)
    return clock_ns() - start


@compiled
def glibc_mutex_pairs(mem: Any, _cpu: int, lock: int, pairs: int) -> int:
    """A mutex of glibc."""
    start = clock_ns()
    for _ in range(pairs):
        glibc.mutex_lock(mem + 8 * lock)
        glibc.mutex_unlock(mem + 8 * lock)
    return clock_ns() - start


@compiled
def glibc_read_pairs(mem: Any, _cpu: int, lock: int, pairs: int) -> int:
    """A rwlock of glibc, for read."""
    start = clock_ns()
    for _ in range(pairs):
        glibc.rwlock_rdlock(mem + 8 * lock)
        glibc.rwlock_unlock(mem + 8 * lock)
    return clock_ns() - start


@compiled
def glibc_write_pairs(mem: Any, _cpu: int, lock: int, pairs: int) -> int:
    """A rwlock of glibc, for write."""
    start = clock_ns()
    for _ in range(pairs):
        glibc.rwlock_wrlock(mem + 8 * lock)
        glibc.rwlock_unlock(mem + 8 * lock)
    return clock_ns() - start


# --- compiled loops that contend: operations made until the end of a run -------------------------------


@compiled
def wait_for_start(start: int) -> int:
    """Spin until the run begins."""
    now = clock_ns()
    while now < start:
        now = clock_ns()
    return now


@compiled
def add(mem: Any, word: int) -> int:
    """Change a word that the lock protects."""
    return write_once(mem, word, read_once(mem, word) + 1)


@compiled
def mutex_contended(mem: Any, cpu: int, lock: int, start: int) -> int:
    """Mutex."""
    wait_for_start(start)
    done = 0
    while clock_ns() < start + RUN_NS:
        for _ in range(16):
            mutex_lock(mem, cpu, lock)
            add(mem, lock + LOCK.SIZE)
            mutex_unlock(mem, cpu, lock)
        done += 16
    return done


@compiled
def write_contended(mem: Any, cpu: int, lock: int, start: int) -> int:
    """Rwsem for write."""
    wait_for_start(start)
    done = 0
    while clock_ns() < start + RUN_NS:
        for _ in range(16):
            down_write(mem, cpu, lock)
            add(mem, lock + LOCK.SIZE)
            up_write(mem, cpu, lock)
        done += 16
    return done


@compiled
def read_contended(mem: Any, cpu: int, lock: int, start: int) -> int:
    """Rwsem for read."""
    wait_for_start(start)
    done = 0
    while clock_ns() < start + RUN_NS:
        for _ in range(16):
            down_read(mem, cpu, lock)
            load_acquire(mem, lock + LOCK.SIZE)
            up_read(mem, cpu, lock)
        done += 16
    return done


@compiled
def glibc_mutex_contended(mem: Any, _cpu: int, lock: int, start: int) -> int:
    """A mutex of glibc."""
    wait_for_start(start)
    done = 0
    while clock_ns() < start + RUN_NS:
        for _ in range(16):
            glibc.mutex_lock(mem + 8 * lock)
            add(mem, lock + LOCK.SIZE)
            glibc.mutex_unlock(mem + 8 * lock)
        done += 16
    return done


def python_contended(lock: Any) -> Callable[[int, int, int, int], int]:
    """Operations that Python code makes on a lock with `acquire` and `release` until the end of a run."""

    def run(_mem: int, _cpu: int, _lock: int, start: int) -> int:
        while time.monotonic_ns() < start:
            pass
        done, end = 0, start + RUN_NS
        while time.monotonic_ns() < end:
            for _ in range(16):
                lock.acquire()
                lock.release()
            done += 16
        return done

    return run


# --- the bench -----------------------------------------------------------------------------------------


class Bench:
    """A segment with one of each lock."""

    def __init__(self, arena: Arena) -> None:
        """Make the locks."""
        self.arena = arena
        self.cpus = make_cpus(arena, CPUS)
        self.counts = arena.allocate(CPUS * LINE)
        link("shmreclaim.sync.", "shmreclaim.machine.")
        self.ours = {init: self._block(LOCK.SIZE) for init in (mutex_init, rwsem_init)}
        for init, lock in self.ours.items():
            init(arena.address, lock, 0)
        self.spinlock = self._block(2 * LINE)
        self.plain, self.robust, self.reader, self.writer = (self._block(LOCK.SIZE) for _ in range(4))
        glibc.init_mutex(self._address(self.plain), robust=False)
        glibc.init_mutex(self._address(self.robust), robust=True)
        glibc.init_rwlock(self._address(self.reader), kind=glibc.PREFER_READER)
        glibc.init_rwlock(self._address(self.writer), kind=glibc.PREFER_WRITER_NONRECURSIVE)

    def _block(self, words: int) -> int:
        return self.arena.allocate(words + LINE)

    def _address(self, lock: int) -> int:
        return self.arena.address + 8 * lock

    def uncontended(self) -> dict[str, Callable[[], float]]:
        """Candidates alone: ns for a lock and an unlock."""
        mutex, rwsem = self.ours[mutex_init], self.ours[rwsem_init]
        return {
            "two atomic additions": self._pairs(atomic_pairs, self.spinlock + LINE),
            "spinlock": self._pairs(spinlock_pairs, self.spinlock),
            "mutex": self._pairs(mutex_pairs, mutex),
            "rwsem read": self._pairs(read_pairs, rwsem),
            "rwsem write": self._pairs(write_pairs, rwsem),
            "rcu read section": self._pairs(rcu_pairs, 0),
            "glibc mutex": self._pairs(glibc_mutex_pairs, self.plain),
            "glibc robust mutex": self._pairs(glibc_mutex_pairs, self.robust),
            "glibc rwlock read": self._pairs(glibc_read_pairs, self.reader),
            "glibc rwlock write": self._pairs(glibc_write_pairs, self.reader),
            "glibc rwlock read, prefers writers": self._pairs(glibc_read_pairs, self.writer),
            "glibc rwlock write, prefers writers": self._pairs(glibc_write_pairs, self.writer),
        }

    def _pairs(self, loop: Callable[..., int], lock: int) -> Callable[[], float]:
        entry = entry_point(loop, 4)
        return lambda: entry(self.arena.address, self.cpus[0], lock, PAIRS) / PAIRS

    def contended(self, processes: int) -> dict[str, Callable[[], float]]:
        """Candidates fought over by so many processes: operations a second of all together."""
        mutex, rwsem = self.ours[mutex_init], self.ours[rwsem_init]
        compiled_loops = {
            "mutex": (mutex_contended, mutex),
            "rwsem write": (write_contended, rwsem),
            "rwsem read": (read_contended, rwsem),
            "glibc mutex": (glibc_mutex_contended, self.plain),
            "glibc robust mutex": (glibc_mutex_contended, self.robust),
        }
        candidates = {
            name: self._race(entry_point(loop, 4), lock, processes) for name, (loop, lock) in compiled_loops.items()
        }
        for name, lock in {"Mutex, from Python": Mutex(), "multiprocessing.Lock": multiprocessing.Lock()}.items():
            candidates[name] = self._race(python_contended(lock), 0, processes)
        return candidates

    def _race(self, loop: Callable[..., int], lock: int, processes: int) -> Callable[[], float]:
        def race() -> float:
            start = clock_ns() + LEAD_NS

            def play(k: int) -> None:
                self.arena.memory[self.counts + k * LINE] = loop(self.arena.address, self.cpus[k], lock, start)

            children = [multiprocess.get_context("fork").Process(target=play, args=(k,)) for k in range(processes)]
            for child in children:
                child.start()
            for child in children:
                child.join()
            return sum(self.arena.memory[self.counts + k * LINE] for k in range(processes)) / RUN_NS * 1e9

        return race


def from_python(folder: Path) -> tuple[dict[str, Callable[[], float]], list[str]]:
    """Candidates called from Python: ns for an acquire and a release; and the peers that are not installed."""
    mutex, lock, plain = Mutex(), RwLock(), multiprocessing.Lock()
    candidates = {
        "Mutex": _calls("a(); r()", mutex.acquire, mutex.release),
        "RwLock read": _calls("a(); r()", lock.acquire_read, lock.release_read),
        "RwLock write": _calls("a(); r()", lock.acquire_write, lock.release_write),
        "multiprocessing.Lock": _calls("a(); r()", plain.acquire, plain.release),
        "with Mutex": _calls("with a: pass", mutex),
        "with RwLock.read()": _calls("with a(): pass", lock.read),
        "with multiprocessing.Lock": _calls("with a: pass", plain),
    }
    missing = []
    for name, make in _PEERS.items():
        try:
            candidates[name] = _calls("a(); r()", *make(folder), calls=CALLS // 50)
        except ImportError:
            missing.append(name)
    return candidates, missing


def _prwlock(_folder: Path) -> tuple[Any, Any]:
    lock = importlib.import_module("prwlock").RWLock()
    return lock.acquire_read, lock.release


def _fasteners(folder: Path) -> tuple[Any, Any]:
    lock = importlib.import_module("fasteners").InterProcessReaderWriterLock(str(folder / "fasteners"))
    return lock.acquire_read_lock, lock.release_read_lock


def _filelock(folder: Path) -> tuple[Any, Any]:
    lock = importlib.import_module("filelock").ReadWriteLock(str(folder / "filelock"))
    return lock.acquire_read, lock.release


_PEERS = {"prwlock read": _prwlock, "fasteners read": _fasteners, "filelock read": _filelock}


def _calls(statement: str, acquire: Any, release: Any = None, calls: int = CALLS) -> Callable[[], float]:
    timer = timeit.Timer(statement, globals={"a": acquire, "r": release})
    return lambda: timer.timeit(calls) / calls * 1e9


def measure(repeats: int) -> tuple[Result, list[str]]:
    """All figures by section, and the peers that are not installed."""
    words = HEADER.SIZE + CPUS * CPU.SIZE + 64 * LINE
    few = max(repeats // 10, 2)
    with Arena.create(words) as arena, tempfile.TemporaryDirectory() as folder:
        bench = Bench(arena)
        python, missing = from_python(Path(folder))
        return {
            "compiled loop, uncontended, ns a pair": take_turns(bench.uncontended(), repeats),
            "from Python, uncontended, ns a pair": take_turns(python, repeats),
            "2 processes, operations/s": take_turns(bench.contended(2), few),
            "4 processes, operations/s": take_turns(bench.contended(4), few),
        }, missing


def targets(result: Result) -> list[tuple[str, float, str, float]]:
    """The ratios that the design asks for: what, found, at most or at least, wanted."""
    alone, python, two, four = ({n: figure.median for n, figure in section.items()} for section in result.values())
    multi = "multiprocessing.Lock"
    rows = [
        ("rwsem read / glibc rwlock read", alone["rwsem read"] / alone["glibc rwlock read"], "<=", 0.7),
        ("mutex / glibc robust mutex", alone["mutex"] / alone["glibc robust mutex"], "<=", 0.7),
        ("RwLock read / multiprocessing.Lock, from Python", python["RwLock read"] / python[multi], "<=", 1.3),
        ("Mutex / multiprocessing.Lock, from Python", python["Mutex"] / python[multi], "<=", 1.3),
        ("mutex / multiprocessing.Lock, 2 processes", two["mutex"] / two[multi], ">=", 10.0),
        ("mutex / multiprocessing.Lock, 4 processes", four["mutex"] / four[multi], ">=", 10.0),
    ]
    for name, wanted in (("prwlock read", 5.0), ("fasteners read", 100.0), ("filelock read", 100.0)):
        if name in python:
            rows.append((f"{name} / RwLock read, from Python", python[name] / python["RwLock read"], ">=", wanted))
    return rows


def show(result: Result, missing: list[str]) -> None:
    """Print everything as tables."""
    print(machine_line())
    if len(cores()) < CPUS:
        print(f"(runs with more processes than {len(cores())} measure the scheduler as well)")
    for title, figures in result.items():
        print(f"\n{title}: median (95 % interval)")
        for name, figure in figures.items():
            print(f"  {name:<38}{figure.median:>14,.1f}  ({figure.low:,.1f} to {figure.high:,.1f})")
    for name in missing:
        print(f"  {name:<38}{'not installed':>14}")
    print("\nratios, and what the design asks for")
    for what, found, sign, wanted in targets(result):
        met = found <= wanted if sign == "<=" else found >= wanted
        print(f"  {what:<50}{found:>8.2f}  {sign} {wanted:<6g}{'met' if met else 'MISSED'}")


def as_json(result: Result, missing: list[str]) -> str:
    """Everything as one object."""
    sections = {title: {name: figure._asdict() for name, figure in fs.items()} for title, fs in result.items()}
    ratios = {what: {"found": found, "wanted": f"{sign} {wanted:g}"} for what, found, sign, wanted in targets(result)}
    return json.dumps({"machine": machine_description(), **sections, "not_installed": missing, "ratios": ratios})


def main() -> int:
    """Parse, measure, print."""
    options = arguments("Measure what a lock costs: ours beside glibc's and Python's.").parse_args()
    result, missing = measure(5 if options.quick else 51)
    if options.json:
        print(as_json(result, missing))
    else:
        show(result, missing)
    return 0


if __name__ == "__main__":
    sys.exit(main())
