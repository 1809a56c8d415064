"""What is no segment of ours, or was damaged, is refused by a clear error: nothing crashes, nothing else is touched."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shmreclaim import Mutex, RwLock
from shmreclaim.errors import SetupError, ShmreclaimError
from shmreclaim.executions.segments import look_at
from shmreclaim.locks import lock_arena, unlink
from shmreclaim.locks.arenas import tasks_named
from shmreclaim.machine.arena import Arena
from shmreclaim.machine.cpu import CPU
from shmreclaim.machine.layout import HEADER
from shmreclaim.machine.process import start_time
from shmreclaim.sync.lockdep import LOCK
from tests.cli import runner

SHM = Path("/dev/shm")
WILD = st.one_of(st.integers(-(1 << 63), (1 << 63) - 1), st.integers(-3, 5000), st.just(1 << 62))


@pytest.fixture
def name() -> Iterator[str]:
    """A name of a lock that no other test has."""
    name = f"test-strangers.{os.getpid()}"
    yield name
    unlink(name)


@pytest.fixture
def file() -> Iterator[Path]:
    """A place in shared memory, of this process."""
    path = SHM / f"shmreclaim.{os.getpid()}.{start_time(os.getpid())}.stranger"
    yield path
    path.unlink(missing_ok=True)


@pytest.mark.parametrize(
    "wrong", ["shmreclaim.a/b", "shmreclaim./../../etc/passwd", "shmreclaim.a\0b", "shmreclaim." + "x" * 245, "\ud800"]
)
def test_a_name_that_is_none_is_refused_unopened(wrong: str) -> None:
    """Each of its own kind: a path, a NUL, too long, half a surrogate pair."""
    with pytest.raises(SetupError, match="is not the name of a segment"):
        Arena.attach(wrong)


def test_the_longest_name_is_looked_for() -> None:
    """255 bytes are a file's name."""
    with pytest.raises(SetupError, match="there is no segment"):
        Arena.attach("shmreclaim." + "x" * 244)


@pytest.mark.parametrize("size", [0, 1, 8, HEADER.SIZE * 8 - 1])
def test_a_file_shorter_than_a_header_is_refused(file: Path, size: int) -> None:
    """Both sizes are named."""
    file.write_bytes(bytes(size))
    with pytest.raises(SetupError, match=f"has {size} bytes, less than its header's {HEADER.SIZE * 8}"):
        Arena.attach(file.name)


def test_a_file_of_no_whole_words_is_refused(file: Path) -> None:
    """Its header says otherwise, rounded."""
    with Arena.create(512) as arena:
        file.write_bytes(arena.words.tobytes() + b"abc")
    with pytest.raises(SetupError, match="has 4099 bytes, which are no whole words"):
        Arena.attach(file.name)


def test_another_kind_of_file_is_refused(file: Path) -> None:
    """A pipe would never answer."""
    os.mkfifo(file)
    with pytest.raises(SetupError, match="is no segment but another kind of file"):
        Arena.attach(file.name)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_another_users_segment_is_refused_with_both_users() -> None:
    """Though root could read it."""
    with Arena.create(512) as arena:
        os.chown(SHM / arena.name, 65534, 65534)
        with pytest.raises(SetupError, match="belongs to user 65534, not to 0"):
            Arena.attach(arena.name)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_is_refused_by_the_mode() -> None:
    """As a stranger sees it."""
    with Arena.create(512) as arena:
        code = (
            "import os\n"
            "from shmreclaim.machine.arena import Arena\n"
            "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
            f"try: Arena.attach({arena.name!r})\n"
            "except Exception as error: print(type(error).__name__, str(error).splitlines()[0])"
        )
        found = runner.probe(code).stdout
    assert found.startswith(f"SetupError cannot open the shared-memory segment {arena.name}: ")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kernel", -8), ("kernel", 1 << 20), ("locks", -1), ("locks", 1 << 62), ("cpus", 3), ("cpus", 1 << 20),
        ("nr_cpus", -1), ("nr_cpus", 1 << 40), ("cpu_stride", 0), ("cpu_stride", -520), ("brk", 1 << 50), ("brk", -1),
    ],
)  # fmt: skip
def test_a_header_that_leads_outside_is_refused_with_the_place(field: str, value: int) -> None:
    """Before anything is mapped or followed."""
    with lock_arena() as arena:
        Mutex(arena)
        before = arena.memory[getattr(HEADER, field)]
        arena.memory[getattr(HEADER, field)] = value
        with pytest.raises(SetupError, match=r"segment .* of \d+ words has (kernel|locks|cpus|brk) at word -?\d+"):
            Arena.attach(arena.name)
        arena.memory[getattr(HEADER, field)] = before


def _damage(name: str, change: Callable[[Arena, int], None]) -> None:
    """Change a named lock's segment from outside; `change` gets it and where the lock is."""
    other = Arena.attach(f"shmreclaim.lock.{name}")
    change(other, other.memory[HEADER.locks])
    other.close()


def _set(field: int, value: int) -> Callable[[Arena, int], None]:
    return lambda arena, lock: arena.memory.__setitem__(lock + field, value)


def _set_slot(field: int, value: int) -> Callable[[Arena, int], None]:
    return lambda arena, _: arena.memory.__setitem__(arena.memory[HEADER.cpus] + field, value)


def _set_header(field: int, value: int) -> Callable[[Arena, int], None]:
    return lambda arena, _: arena.memory.__setitem__(field, value)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (_set(LOCK.kind, 77), "a lock at word"),
        (_set(LOCK.waiters, 1 << 60), "a lock at word"),
        (_set(LOCK.waiters, 1), "a lock at word"),
        (_set(LOCK.wait_lock, 60), "a lock at word"),
        (_set(LOCK.word, 54), "a lock at word"),
        (_set_slot(CPU.id, 0), "a slot 1 that says it is CPU 0"),
        (_set_slot(CPU.bit, 3), "its bit 0x3"),
        (_set_slot(CPU.spin, 9), "a slot 1"),
        (_set_header(HEADER.lives, 1 << 60), "lives 0x"),
        (_set_header(HEADER.announced, 1), "announced 0x1"),
        (_set_header(HEADER.locks, 0), "its lock at word 0"),
    ],
)
def test_a_named_lock_that_is_damaged_is_refused(name: str, change: Callable[[Arena, int], None], what: str) -> None:
    """Compiled code would find slots by these numbers that are none."""
    runner.probe(f"from shmreclaim import Mutex; Mutex(name={name!r})")
    _damage(name, change)
    with pytest.raises(SetupError, match=f"segment shmreclaim.lock.{name} has .*{what}"):
        Mutex(name=name)


def test_a_damaged_rwlock_is_refused_as_well(name: str) -> None:
    """By the number of its writer."""
    runner.probe(f"from shmreclaim import RwLock; RwLock(name={name!r})")
    _damage(name, _set(LOCK.word, 60 << 4 | 1))
    with pytest.raises(SetupError, match="names a task slot which is not there"):
        RwLock(name=name)


def test_a_chain_of_locks_that_comes_back_to_itself_has_an_end() -> None:
    """Each lock leads to one below it, or to none: whoever joins, dies or leaves walks along them."""
    with lock_arena(2) as arena:
        first, second = Mutex(arena), Mutex(arena)
        low, high = sorted((arena.memory[HEADER.locks], arena.memory[arena.memory[HEADER.locks] + LOCK.next]))
        arena.memory[low + LOCK.next] = high
        code = (
            "from shmreclaim.locks.arenas import tasks_named\n"
            f"tasks = tasks_named({arena.name!r}); tasks.slot(); print(tasks._locks.hold(tasks.address, tasks.slot()))"
        )
        assert runner.probe(code).stdout == "0\n"
        arena.memory[low + LOCK.next] = 0
        with first, second:
            pass


def test_a_life_that_is_no_mutex_is_refused(name: str) -> None:
    """Pthread would wait for an owner that there is not."""
    runner.probe(f"import os, signal; from shmreclaim import Mutex; m = Mutex(name={name!r}); m.acquire(); os._exit(0)")

    def scramble(arena: Arena, _lock: int) -> None:
        first, stride = arena.memory[HEADER.cpus], arena.memory[HEADER.cpu_stride]
        for k in range(arena.memory[HEADER.nr_cpus]):
            slot = first + k * stride
            claim = arena.memory[first + CPU.claim]
            arena.memory[slot + CPU.claim] = arena.memory[slot + CPU.lived] = claim
            arena.memory[slot + CPU.life] = 1 << 30 | 4242
            arena.memory[slot + CPU.life + 2] = 0

    _damage(name, scramble)
    code = f"""
from shmreclaim import Mutex
from shmreclaim.errors import SetupError
try:
    Mutex(name={name!r}).acquire(timeout=1)
except SetupError as error:
    print(error)
"""
    assert runner.probe(code).stdout.startswith("a task's life in shared memory is no robust mutex\n")


@settings(max_examples=300, deadline=None)
@given(changes=st.dictionaries(st.integers(0, HEADER.SIZE - 1), WILD, min_size=1, max_size=6))
def test_no_header_makes_attaching_fail_otherwise(changes: dict[int, int]) -> None:
    """Attached, or an error of ours; and `list` names it."""
    with lock_arena() as arena:
        Mutex(arena)
        for at, value in changes.items():
            arena.memory[at] = value
        assert look_at(arena.name).size == len(arena.words) * 8
        with contextlib.suppress(ShmreclaimError), Arena.attach(arena.name) as other:
            assert len(other.words) == len(arena.words)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_no_words_of_slots_and_locks_make_joining_fail_otherwise(data: st.DataObject) -> None:
    """The slots of the segment, or an error of ours."""
    with lock_arena(3) as arena:
        locks = [Mutex(arena), RwLock(arena), Mutex(arena)]
        first = arena.memory[HEADER.cpus]
        places = st.one_of(
            st.integers(HEADER.brk, HEADER.SIZE - 1),
            st.integers(first, first + 2 * CPU.lockstats),
            st.integers(arena.memory[HEADER.brk] - 4 * LOCK.SIZE, arena.memory[HEADER.brk] - 1),
        )
        for at, value in data.draw(st.dictionaries(places, WILD, min_size=1, max_size=6)).items():
            arena.memory[at] = value
        with contextlib.suppress(ShmreclaimError):
            assert len(tasks_named(arena.name, 0).every) <= 53
        del locks


@settings(max_examples=200, deadline=None)
@given(noise=st.binary(max_size=4096), size=st.integers(0, 40_000))
def test_no_file_makes_attaching_fail_otherwise(noise: bytes, size: int) -> None:
    """Never anything but an error of ours, at once."""
    file = SHM / f"shmreclaim.{os.getpid()}.{start_time(os.getpid())}.noise"
    file.write_bytes(noise)
    try:
        os.truncate(file, size)
        began = time.monotonic()
        with pytest.raises(SetupError):
            Arena.attach(file.name)
        assert time.monotonic() - began < 5
        assert look_at(file.name).size == size
    finally:
        file.unlink()


@settings(max_examples=300, deadline=None)
@given(name=st.text(max_size=300) | st.builds("shmreclaim.{}".format, st.text(max_size=300)))
def test_no_name_leads_out_of_shared_memory(name: str) -> None:
    """It is refused, or looked for there and not found."""
    with pytest.raises(SetupError):
        Arena.attach(name)
