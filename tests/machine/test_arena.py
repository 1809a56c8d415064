"""Segments: made, attached to, refused, removed."""

import os
import re
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from shmreclaim.errors import InternalError, SetupError
from shmreclaim.machine.arena import Arena, free_bytes
from shmreclaim.machine.layout import HEADER, LINE
from shmreclaim.machine.names import PREFIX, SHM
from shmreclaim.machine.process import start_time
from tests.conftest import segments_of


@pytest.fixture
def arena() -> Iterator[Arena]:
    """A segment of one page."""
    with Arena.create(512) as arena:
        yield arena


def test_a_segment_is_private_named_after_its_maker_and_zeroed(arena: Arena) -> None:
    """Mode 0600; the name carries pid and start time, so that one left behind can be told."""
    assert arena.name.startswith(f"{PREFIX}.{os.getpid()}.{start_time(os.getpid())}.")
    assert stat.S_IMODE((Path(SHM) / arena.name).stat().st_mode) == 0o600
    assert not arena.words[HEADER.SIZE :].any()
    assert arena.address == arena.words.ctypes.data


def test_two_attachments_see_each_other(arena: Arena) -> None:
    """Through words, memory and address alike."""
    other = Arena.attach(arena.name)
    arena.memory[100] = 7
    other.words[101] = -8
    assert (other.words[100], arena.words[101]) == (7, -8)
    assert other.address != arena.address
    other.close()
    assert (Path(SHM) / arena.name).exists()


def test_a_segment_disappears_with_its_owner_and_twice_is_harmless() -> None:
    """Closing removes the name."""
    arena = Arena.create(512)
    arena.close()
    arena.close()
    assert not (Path(SHM) / arena.name).exists()


def test_a_view_that_outlives_a_segment_still_reads() -> None:
    """The memory goes when the last view does."""
    arena = Arena.create(512)
    arena.words[200] = 9
    view = arena.view(200, 1)
    arena.close()
    assert view[0] == 9


def test_a_removed_segment_can_be_used_but_not_attached() -> None:
    """The name goes first, the memory later."""
    with Arena.create(512) as arena:
        arena.remove()
        arena.words[100] = 1
        with pytest.raises(SetupError, match=f"there is no segment {arena.name}"):
            Arena.attach(arena.name)


def test_a_forked_child_that_closes_does_not_remove_its_parents_segment(arena: Arena) -> None:
    """Only the process that made it owns the name."""
    pid = os.fork()
    if pid == 0:
        arena.close()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert (Path(SHM) / arena.name).exists()


def test_a_process_that_is_killed_leaves_a_segment_that_names_it() -> None:
    """So that `clean` can tell it from a live one."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writer, Arena.create(512).name.encode())
        os.kill(os.getpid(), signal.SIGKILL)
    name = os.read(reader, 100).decode()
    os.waitpid(pid, 0)
    os.close(reader)
    os.close(writer)
    assert segments_of(pid) == [name]
    (Path(SHM) / name).unlink()


@pytest.mark.parametrize("field", ["magic", "version", "layout_hash", "boot_id", "nwords"])
def test_a_segment_with_another_header_is_refused_with_both_values(arena: Arena, field: str) -> None:
    """Another program, version, layout, boot, or a wrong size."""
    offset = getattr(HEADER, field)
    right = arena.memory[offset]
    arena.memory[offset] = right - 1
    with pytest.raises(SetupError, match=f"has {field} {right - 1}, this program has {right}"):
        Arena.attach(arena.name)


def test_a_segment_that_is_shorter_than_its_header_is_refused(arena: Arena) -> None:
    """Both sizes are named."""
    os.truncate(Path(SHM) / arena.name, 64)
    with pytest.raises(SetupError, match=f"has 64 bytes, less than its header's {HEADER.SIZE * 8}"):
        Arena.attach(arena.name)


@pytest.mark.parametrize("name", ["elsewhere", "../etc/passwd", f"{PREFIX}./../x", ""])
def test_a_name_that_is_not_ours_is_refused_unopened(name: str) -> None:
    """No path leads out of the folder."""
    with pytest.raises(SetupError, match="is not the name of a segment"):
        Arena.attach(name)


def test_more_than_there_is_fails_with_both_sizes_and_leaves_nothing() -> None:
    """At once, not as a SIGBUS later."""
    free = os.statvfs(SHM)
    before = segments_of(os.getpid())
    words = free.f_bavail * free.f_frsize // 8 + (1 << 30)
    with pytest.raises(SetupError, match=r"shared memory of \d+ KiB is needed, /dev/shm has \d+ KiB free"):
        Arena.create(words)
    assert segments_of(os.getpid()) == before


def test_allocations_start_on_cache_lines_and_do_not_overlap(arena: Arena) -> None:
    """Whatever their sizes; the header keeps its own."""
    sizes = (1, LINE, LINE + 1, 3)
    blocks = [arena.allocate(size) for size in sizes]
    assert all(block % LINE == 0 for block in blocks)
    ends = [HEADER.SIZE] + [block + size for block, size in zip(blocks, sizes, strict=True)]
    assert all(end <= block for end, block in zip(ends[:-1], blocks, strict=True))


def test_a_segment_that_is_full_says_so(arena: Arena) -> None:
    """With what it has and what was asked."""
    with pytest.raises(InternalError, match="segment of 512 words cannot hold"):
        arena.allocate(513)
    assert arena.allocate(8) == HEADER.SIZE


def test_an_inherited_segment_is_shared_with_forked_children_and_has_no_name_at_all() -> None:
    """Nothing appears in /dev/shm; what a child writes its parent reads; two are two."""
    before = sorted(Path(SHM).glob(f"*{os.getpid()}*"))
    with Arena.inherited(512) as arena, Arena.inherited(512) as other:
        assert sorted(Path(SHM).glob(f"*{os.getpid()}*")) == before
        pid = os.fork()
        if pid == 0:
            arena.memory[HEADER.SIZE] = 7
            os._exit(0)
        os.waitpid(pid, 0)
        assert (arena.memory[HEADER.SIZE], other.memory[HEADER.SIZE]) == (7, 0)
        assert arena.name != other.name
        with pytest.raises(SetupError, match="not the name of a segment"):
            Arena.attach(arena.name)


@pytest.mark.parametrize(("at", "words"), [(-1, 1), (0, 513), (512, 1), (3, -4)])
def test_a_view_outside_the_segment_is_refused(arena: Arena, at: int, words: int) -> None:
    """Offsets are checked where they enter Python."""
    with pytest.raises(IndexError, match="are outside a segment of 512"):
        arena.view(at, words)


def test_without_shared_memory_what_is_free_is_what_memory_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever then makes a segment is told that /dev/shm is not there."""
    monkeypatch.setattr("shmreclaim.machine.arena.SHM", str(tmp_path / "nowhere"))
    assert free_bytes() > 1 << 20


def test_no_more_is_free_than_shared_memory_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """However much memory there is: /proc, a file system without a free block, stands for a full one."""
    monkeypatch.setattr("shmreclaim.machine.arena.SHM", "/proc")
    assert free_bytes() == 0


def test_no_more_is_free_than_memory_has() -> None:
    """Where /dev/shm may be larger than that: less than the kernel says is available, and not nothing."""
    before = _mem_available()
    found = free_bytes()
    assert 1 << 20 < found < max(before, _mem_available())


def _mem_available() -> int:
    (kib,) = re.findall(r"^MemAvailable: +(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return int(kib) * 1024
