"""Which segments there are, and which of them go: those of the dead, and no other."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shmreclaim import Mutex
from shmreclaim.executions.segments import clean_segments, find_segments
from shmreclaim.inspection import Cleaned, Segment
from shmreclaim.locks import lock_arena, unlink
from shmreclaim.machine.arena import Arena
from shmreclaim.machine.layout import HEADER
from shmreclaim.machine.process import start_time
from tests.cli import runner

SHM = Path("/dev/shm")


@pytest.fixture
def name() -> Iterator[str]:
    """A name of a lock that no other test has."""
    name = f"test-segments.{os.getpid()}"
    yield name
    unlink(name)


@pytest.fixture
def place() -> Iterator[Callable[[str], Path]]:
    """Gives a path in shared memory for a name behind the prefix; whatever is there goes with the test."""
    made: list[Path] = []

    def path(end: str) -> Path:
        made.append(SHM / f"shmreclaim.{end}")
        return made[-1]

    yield path
    for each in made:
        each.unlink(missing_ok=True)


def a_dead_process() -> tuple[int, int]:
    """Pid and start time of one that is no more."""
    child = os.fork()
    if child == 0:
        signal.pause()
    started = start_time(child)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return child, started


def left_behind(words: int = 512) -> str:
    """The segment of a process that was killed."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, Arena.create(words).name.encode())
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    found = os.read(reader, 200).decode()
    os.close(reader)
    os.close(writer)
    return found


def listed(name: str) -> Segment:
    """What `list` says of a segment."""
    (found,) = [each for each in find_segments().segments if each.name == name]
    return found


def cleaned(name: str, **options: bool) -> Cleaned:
    """What `clean` says of it: dry, so that nothing of anybody else's goes."""
    (found,) = [each for each in clean_segments(dry_run=True, **options).segments if each.segment.name == name]
    return found


def cleaned_for_good(name: str, *options: str) -> str:
    """What `clean` does, in a world in which there is no other segment: the line about this one."""
    code = (
        "import os, sys\n"
        "from shmreclaim.executions import segments\n"
        "everything = os.listdir\n"
        "def only(folder='.'):\n"
        f"    return [name for name in everything(folder) if not isinstance(folder, int) or name == {name!r}]\n"
        "segments.os.listdir = only\n"
        "from shmreclaim.cli import main\n"
        f"sys.exit(main(['clean', *{options!r}]))"
    )
    return runner.probe(code).stdout.splitlines()[0]


def test_a_segment_of_a_living_process_is_alive_and_stays() -> None:
    """Whatever else is said of it."""
    with Arena.create(1024) as arena:
        found = listed(arena.name)
        assert (found.state, found.pid, found.size, found.note) == ("alive", os.getpid(), 8192, "")
        assert found.age_s < 60
        assert cleaned(arena.name).why == f"process {os.getpid()}, which made it, is alive"
        assert cleaned_for_good(arena.name).startswith(f"left: {arena.name}, 8.0 KiB: process {os.getpid()}")
        assert (SHM / arena.name).exists()


def test_a_segment_of_a_dead_process_goes() -> None:
    """That is what clean is for; a dry run says so and does nothing."""
    name = left_behind()
    pid = int(name.split(".")[1])
    assert listed(name).state == "dead"
    assert cleaned(name).removed is True
    assert (SHM / name).exists()
    assert cleaned_for_good(name) == f"removed: {name}, 4.0 KiB: process {pid}, which made it, is dead"
    assert not (SHM / name).exists()


def test_a_reused_pid_is_told_by_its_start_time(place: Callable[[str], Path]) -> None:
    """This process has the pid, and is not who made it."""
    path = place(f"{os.getpid()}.1.0")
    path.write_bytes(bytes(4096))
    found = listed(path.name)
    assert (found.state, found.pid, found.note) == ("dead", os.getpid(), "never finished")


MAPPER = """
import sys
from shmreclaim.machine.arena import Arena
arena = Arena.attach(sys.argv[1])
print("mapped", flush=True)
sys.stdin.read()
"""


def test_a_segment_that_somebody_has_mapped_stays_though_its_maker_is_dead() -> None:
    """Until that one ends, too."""
    name = left_behind()
    with subprocess.Popen(
        [sys.executable, "-c", MAPPER, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as mapper:
        assert mapper.stdout is not None
        assert mapper.stdout.readline() == "mapped\n"
        assert listed(name).state == "in use"
        assert cleaned_for_good(name) == f"left: {name}, 4.0 KiB: a process has it mapped"
        mapper.kill()
    assert cleaned_for_good(name).startswith("removed: ")


def test_a_named_lock_is_nobodys_and_stays_unless_it_is_asked_for(name: str) -> None:
    """It outlives its creators on purpose; while a process has it, not even --named takes it."""
    segment = f"shmreclaim.lock.{name}"
    mutex = Mutex(name=name)
    assert (listed(segment).kind, listed(segment).state, listed(segment).pid) == ("named lock", "in use", None)
    assert cleaned(segment, named=True).why == "a process has it mapped"
    del mutex


def test_a_named_lock_that_nobody_has_goes_when_it_is_asked_for(name: str) -> None:
    """And only then."""
    segment = f"shmreclaim.lock.{name}"
    runner.probe(f"from shmreclaim import Mutex; Mutex(name={name!r}).acquire()")
    assert listed(segment).state == "unused"
    assert "clean --named removes it" in cleaned_for_good(segment)
    assert (SHM / segment).exists()
    assert cleaned_for_good(segment, "--named").endswith("nobody uses it")
    assert not (SHM / segment).exists()


def test_a_name_that_goes_while_it_is_opened_is_looked_for_again(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or this process would have a lock that nobody who comes later finds."""
    from shmreclaim.machine import arena as module

    real, calls = module.begin_use, []

    def begin(fd: int) -> None:
        calls.append(fd)
        if len(calls) == 1:
            unlink(name)
        real(fd)

    monkeypatch.setattr(module, "begin_use", begin)
    mutex = Mutex(name=name)
    assert len(calls) == 2
    with mutex:
        probe = f"from shmreclaim import Mutex; print(Mutex(name={name!r}).acquire(False))"
        assert runner.probe(probe).stdout == "False\n"


def test_a_lock_segment_is_told_from_a_run() -> None:
    """By what its header says."""
    with lock_arena() as arena:
        Mutex(arena)
        assert (listed(arena.name).kind, listed(arena.name).cpus) == ("locks", None)


def test_a_segment_of_another_version_is_named_and_its_age_told() -> None:
    """Only what every version has is read."""
    with Arena.create(1024) as arena:
        arena.memory[HEADER.layout_hash] += 1
        arena.memory[HEADER.nr_cpus] = 17
        arena.memory[HEADER.created] -= 7200
        found = listed(arena.name)
        assert (found.kind, found.cpus, found.note) == ("unknown", None, "made by another version of shmreclaim")
        assert 7200 <= found.age_s < 7300


@pytest.mark.parametrize("make", ["symlink", "folder", "fifo", "socket"])
def test_what_is_no_file_is_named_not_followed_and_not_removed(
    make: str, place: Callable[[str], Path], tmp_path: Path
) -> None:
    """Though its name be that of a dead process's segment."""
    pid, started = a_dead_process()
    path = place(f"{pid}.{started}.0")
    target = tmp_path / "target"
    target.write_bytes(bytes(4096))
    made: socket.socket | None = None
    if make == "symlink":
        path.symlink_to(target)
    elif make == "folder":
        path.mkdir()
    elif make == "fifo":
        os.mkfifo(path)
    else:
        made = socket.socket(socket.AF_UNIX)
        made.bind(str(path))
    found = listed(path.name)
    assert (found.state, found.note) == ("unknown", "not a segment: no regular file")
    assert cleaned_for_good(path.name).startswith(f"left: {path.name}")
    assert os.path.lexists(path)
    assert target.exists()
    if make == "folder":
        path.rmdir()
    if made is not None:
        made.close()


def test_a_file_of_ours_with_a_strange_name_stays(place: Callable[[str], Path]) -> None:
    """Nobody can say who made it; what a terminal would act upon is not printed."""
    path = place(f"\x1b[2J.{os.getpid()}")
    path.write_bytes(bytes(64))
    assert listed(path.name).state == "unknown"
    line = cleaned_for_good(path.name)
    assert line.startswith(f"left: shmreclaim.?[2J.{os.getpid()}, 64 B: never finished")
    assert path.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_a_segment_of_another_user_is_named_and_neither_opened_nor_removed() -> None:
    """Though root could."""
    name = left_behind()
    os.chown(SHM / name, 65534, 65534)
    try:
        found = listed(name)
        assert (found.note, found.kind, found.state) == ("another user's", "unknown", "dead")
        assert cleaned_for_good(name).endswith("it is another user's")
        assert (SHM / name).exists()
    finally:
        (SHM / name).unlink()


def test_a_name_that_is_another_file_by_now_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look and the removal anything may happen."""
    from shmreclaim.executions import segments

    name = left_behind()
    looked = segments._look_at_all

    def replaced(folder: int) -> list[tuple[Segment, int]]:
        found = [each for each in looked(folder) if each[0].name == name]
        other = SHM / f"{name}.new"
        other.write_bytes(bytes(4096))
        other.rename(SHM / name)
        return found

    monkeypatch.setattr(segments, "_look_at_all", replaced)
    (done,) = clean_segments().segments
    assert (done.removed, done.why) == (False, "it is another one by now")
    (SHM / name).unlink()


def test_a_segment_that_somebody_maps_before_it_is_removed_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever began to use it since the look has it."""
    from shmreclaim.executions import segments

    name = left_behind()
    looked, mapped = segments._look_at_all, []

    def and_mapped(folder: int) -> list[tuple[Segment, int]]:
        found = [each for each in looked(folder) if each[0].name == name]
        mapped.append(Arena.attach(name))
        return found

    monkeypatch.setattr(segments, "_look_at_all", and_mapped)
    (done,) = clean_segments().segments
    assert (done.removed, done.why) == (False, "a process has it mapped")
    mapped[0].close()
    (SHM / name).unlink()


def test_list_and_clean_do_not_import_numba_or_numpy() -> None:
    """They are to answer at once."""
    for command in ("list", "clean --dry-run"):
        code = (
            "import sys; from shmreclaim.cli import main\n"
            f"main({command.split()!r})\n"
            "print([name for name in ('numba', 'numpy', 'multiprocess') if name in sys.modules], file=sys.stderr)"
        )
        assert runner.probe(code).stderr == "[]\n"
