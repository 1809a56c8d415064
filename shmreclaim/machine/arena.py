"""The segment: one POSIX shared-memory object, reserved in full, mapped once, checked when attached.

Limits: private to one user (mode 0600) and one boot of one machine. Whoever creates a segment removes it;
the name carries the creator's pid and start time so that one left behind can be told from a live one, and whoever has
one mapped says so (machine/usage.py). What a header says is checked before it is mapped: a segment may be damaged, of
another version, or be truncated by its owner at any time.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import mmap
import os
import resource
import stat
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import numpy as np
import posix_ipc
from numpy.typing import NDArray

from shmreclaim.errors import InternalError, SetupError
from shmreclaim.machine.layout import HEADER, LINE, MAGIC, VERSION, layout_hash, round_up
from shmreclaim.machine.names import PREFIX, SHM, is_segment_name
from shmreclaim.machine.process import boot_id, start_time
from shmreclaim.machine.usage import begin_use

_counter = itertools.count()


class Arena:
    """A mapped segment: `words` for people and tests, `address` for compiled code, `memory` for plain bodies."""

    def __init__(self, name: str, mapping: mmap.mmap, *, owner: bool, inode: int = 0) -> None:
        """Wrap a mapping; use `create` or `attach`."""
        self.name = name
        self.owner = owner
        self.inode = inode
        """Which of those that have had this name; no two that are mapped have the same."""
        self._creator = os.getpid()
        self._mapping = mapping
        self.words: NDArray[np.int64] = np.frombuffer(mapping, np.int64)
        self.memory = memoryview(mapping).cast("q")
        self.address = int(self.words.ctypes.data)

    @classmethod
    def create(cls, words: int) -> Arena:
        """Reserve a zeroed segment of that many 64-bit words; raises SetupError if memory does not suffice."""
        pid = os.getpid()
        name = f"{PREFIX}.{pid}.{start_time(pid)}.{next(_counter)}"
        size = round_up(words * 8, mmap.PAGESIZE)
        segment = _open(name, posix_ipc.O_CREX)
        try:
            begin_use(segment.fd)
            _reserve(segment.fd, size)
            arena = cls(name, mmap.mmap(segment.fd, size), owner=True, inode=os.fstat(segment.fd).st_ino)
        except BaseException:
            posix_ipc.unlink_shared_memory("/" + name)
            raise
        finally:
            segment.close_fd()
        arena._write_header(size // 8)
        return arena

    @classmethod
    def named(cls, name: str, words: int, fill: Callable[[Arena], object]) -> Arena:
        """Attach to the segment of a name of the caller's own; make it, and let `fill` make what is in it, if need be.

        Who makes it has a file lock meanwhile, and the others wait; where that one died half way, the next begins anew.
        The segment stays until `unlink`. Raises SetupError as create and attach do.
        """
        name = f"{PREFIX}.{name}"
        segment = _open_to_make(name)
        try:
            if _is_unfinished(segment.fd):
                return cls._made(name, segment.fd, round_up(words * 8, mmap.PAGESIZE), fill)
            return cls._attached(name, segment.fd)  # not by its name, which may be unlinked by now
        finally:
            fcntl.flock(segment.fd, fcntl.LOCK_UN)  # closing would not do: a mapping has a descriptor of its own
            segment.close_fd()

    @classmethod
    def _made(cls, name: str, fd: int, size: int, fill: Callable[[Arena], object]) -> Arena:
        """Make a segment in what is open, from nothing; where that fails, there is no such name after."""
        try:
            os.ftruncate(fd, 0)
            _reserve(fd, size)
            arena = cls(name, mmap.mmap(fd, size), owner=False, inode=os.fstat(fd).st_ino)
            arena._write_header(size // 8, fill)
        except BaseException:
            posix_ipc.unlink_shared_memory("/" + name)
            raise
        return arena

    @classmethod
    def inherited(cls, words: int) -> Arena:
        """Make a zeroed segment for this process and those that it forks: it never has a name, so none is left."""
        size = round_up(words * 8, mmap.PAGESIZE)
        name = f"inherited memory {next(_counter)} of process {os.getpid()}"
        flags = mmap.MAP_SHARED | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE
        arena = cls(name, mmap.mmap(-1, size, flags), owner=False)
        arena._write_header(size // 8)
        return arena

    @classmethod
    def private(cls, words: int) -> Arena:
        """Make a zeroed segment that no other process can attach and that goes with this one; it has no name."""
        size = round_up(words * 8, mmap.PAGESIZE)
        arena = cls("", mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), owner=False)
        arena._write_header(size // 8)
        return arena

    @classmethod
    def attach(cls, name: str) -> Arena:
        """Map an existing segment; raises SetupError unless it is whole, ours and of this very layout."""
        if not is_segment_name(name):
            raise SetupError(f"{name!r} is not the name of a segment of shmreclaim", remedy="See: shmreclaim list")
        segment = _open_in_use(name, 0)
        try:
            return cls._attached(name, segment.fd)
        finally:
            segment.close_fd()

    @classmethod
    def _attached(cls, name: str, fd: int) -> Arena:
        """Check what is open, and map it."""
        status = os.fstat(fd)
        check_header(name, status.st_size, os.pread(fd, HEADER.SIZE * 8, 0))
        try:
            mapping = mmap.mmap(fd, status.st_size)
        except (OSError, ValueError, OverflowError) as error:  # ValueError: it is shorter by now
            raise SetupError(f"segment {name} of {status.st_size} bytes cannot be mapped: {error}") from None
        return cls(name, mapping, owner=False, inode=status.st_ino)

    def _write_header(self, nwords: int, fill: Callable[[Arena], object] | None = None) -> None:
        pid = os.getpid()
        fields = {
            HEADER.version: VERSION, HEADER.layout_hash: layout_hash(), HEADER.boot_id: boot_id(),
            HEADER.owner_pid: pid, HEADER.owner_start: start_time(pid), HEADER.nwords: nwords,
            HEADER.created: int(time.time()), HEADER.brk: HEADER.SIZE,
        }  # fmt: skip
        for offset, value in fields.items():
            self.memory[offset] = value
        if fill is not None:
            fill(self)
        self.memory[HEADER.magic] = MAGIC  # last: a header with the magic is complete

    def allocate(self, words: int) -> int:
        """Give a cache-line aligned block for the whole life of the segment; only the creator, before others attach."""
        at = round_up(self.memory[HEADER.brk], LINE)
        if at + words > self.memory[HEADER.nwords]:
            raise InternalError(f"segment of {self.memory[HEADER.nwords]} words cannot hold {at + words}")
        self.memory[HEADER.brk] = at + words
        return at

    def view(self, at: int, words: int) -> NDArray[np.int64]:
        """See `words` words from offset `at` as an array; raises IndexError outside the segment."""
        if not 0 <= at <= at + words <= len(self.words):
            raise IndexError(f"words {at}..{at + words} are outside a segment of {len(self.words)}")
        return self.words[at : at + words]

    def remove(self) -> None:
        """Remove the name, if this is the owner and no child that it forked; who has mapped it keeps the memory."""
        if self.owner and self._creator == os.getpid():
            self.owner = False
            with contextlib.suppress(posix_ipc.ExistentialError):
                posix_ipc.unlink_shared_memory("/" + self.name)

    def keep(self) -> None:
        """Leave the name when this is closed: somebody wants to look at what is in it."""
        self.owner = False

    @staticmethod
    def unlink(name: str) -> None:
        """Remove the name of a segment made by `named`, if there is one; who has mapped it keeps the memory."""
        with contextlib.suppress(posix_ipc.ExistentialError):
            posix_ipc.unlink_shared_memory(f"/{PREFIX}.{name}")

    def close(self) -> None:
        """Unmap; the owner also removes the name. Twice is harmless."""
        self.remove()
        self.memory.release()
        self.words = np.empty(0, np.int64)
        with contextlib.suppress(BufferError):  # a caller still holds a view: unmapped when that goes
            self._mapping.close()

    def __enter__(self) -> Self:
        """Use as a context manager."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close."""
        self.close()


def free_bytes() -> int:
    """How large a segment could be now: what is free of SHM and, since that may be more, of memory."""
    try:
        shm = os.statvfs(SHM)
    except OSError:  # it is not there: `create` says so, and what to do
        return available_memory()
    return min(shm.f_bavail * shm.f_frsize, available_memory())


def available_memory() -> int:
    """What the kernel thinks can be had without swapping, less a tenth: processes need some too."""
    with Path("/proc/meminfo").open(encoding="ascii") as lines:
        found = next((line.split()[1] for line in lines if line.startswith("MemAvailable:")), None)
    return sys.maxsize if found is None else (int(found) << 10) // 10 * 9


def check_header(name: str, size: int, header: bytes) -> None:
    """Raise SetupError unless a file of `size` bytes that begins so is a segment of this very layout.

    What is not of it is refused before anything else in it is looked at; then, whatever leads out of the segment.
    """
    if len(header) < HEADER.SIZE * 8:
        raise SetupError(f"segment {name} has {len(header)} bytes, less than its header's {HEADER.SIZE * 8}")
    words = struct.unpack(f"{HEADER.SIZE}q", header)
    wanted = {
        "magic": MAGIC, "version": VERSION, "layout_hash": layout_hash(), "boot_id": boot_id(), "nwords": size // 8,
    }  # fmt: skip
    for field, value in wanted.items():
        found = words[getattr(HEADER, field)]
        if found != value:
            raise SetupError(
                f"segment {name} has {field} {found}, this program has {value}",
                cause="Usually it was made by another version of shmreclaim, or it is damaged.",
                remedy="If nothing uses it, remove it: shmreclaim clean, or rm " + f"{SHM}/{name}",
            )
    if size % 8:
        raise SetupError(f"segment {name} has {size} bytes, which are no whole words", cause="Usually it is damaged.")
    for field, length in _places(words).items():
        at = words[getattr(HEADER, field)]
        if at and not HEADER.SIZE <= at <= words[HEADER.nwords] - length:
            raise SetupError(
                f"segment {name} of {words[HEADER.nwords]} words has {field} at word {at}",
                cause="Usually it is damaged.",
                remedy="If nothing uses it, remove it: shmreclaim clean, or rm " + f"{SHM}/{name}",
            )


def _places(words: tuple[int, ...]) -> dict[str, int]:
    """The fields of a header that say where something is, with the words that it must have there."""
    count, stride = words[HEADER.nr_cpus], words[HEADER.cpu_stride]
    slots = count * stride if count > 0 and stride > 0 else 0 if count == stride == 0 else sys.maxsize
    return {"brk": 0, "kernel": LINE, "locks": LINE, "cpus": slots}


def _open_in_use(name: str, flags: int) -> posix_ipc.SharedMemory:
    """Open a segment of this user's and begin to use it; raises SetupError for what is none."""
    segment = _open(name, flags)
    try:
        refuse_strangers(name, segment.fd)
        begin_use(segment.fd)
    except BaseException:
        segment.close_fd()
        raise
    return segment


def _open_to_make(name: str) -> posix_ipc.SharedMemory:
    """Open a segment, or an empty one, while nobody else makes it.

    Its name may go before we have it to ourselves: who failed to make it removes that, and so does `clean`. What is
    left then is a segment that nobody else finds, so the name is looked for again.
    """
    while True:
        segment = _open_in_use(name, posix_ipc.O_CREAT)
        try:
            fcntl.flock(segment.fd, fcntl.LOCK_EX)
            if os.fstat(segment.fd).st_nlink:
                return segment
        except BaseException:
            segment.close_fd()
            raise
        segment.close_fd()


def _open(name: str, flags: int) -> posix_ipc.SharedMemory:
    try:
        return posix_ipc.SharedMemory("/" + name, flags=flags, mode=0o600)
    except posix_ipc.ExistentialError as error:
        raise SetupError(f"there is no segment {name}: {error}", remedy="See: shmreclaim list") from None
    except (posix_ipc.PermissionsError, OSError) as error:
        raise SetupError(
            f"cannot open the shared-memory segment {name}: {error}",
            cause=f"Usually {SHM} is not mounted, not writable, or the segment is another user's.",
        ) from None


def refuse_strangers(name: str, fd: int) -> None:
    """Raise SetupError for what is no file, and for another user's segment."""
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise SetupError(f"{SHM}/{name} is no segment but another kind of file")
    if status.st_uid != os.geteuid():
        raise SetupError(f"segment {name} belongs to user {status.st_uid}, not to {os.geteuid()}")


def _is_unfinished(fd: int) -> bool:
    """Whether a segment was not filled in to its end, so nobody else has mapped it. A wrong magic may be in use."""
    return os.pread(fd, 8, 8 * HEADER.magic) in (b"", bytes(8))


def _reserve(fd: int, size: int) -> None:
    """Claim every page now: a store into a page that cannot be had later would be a SIGBUS."""
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError as error:
        needed = f"shared memory of {size >> 10} KiB is needed"
        if error.errno == errno.EFBIG:
            limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
            raise SetupError(
                f"{needed}, a file may have {limit >> 10} KiB: {error.strerror}",
                cause="The limit of a file's size is lower (ulimit -f); shared memory is a file, too.",
                remedy="Raise it, or ask for less.",
            ) from None
        free = os.statvfs(SHM)
        raise SetupError(
            f"{needed}, {SHM} has {free.f_bavail * free.f_frsize >> 10} KiB free: {error.strerror}",
            cause=f"Usually {SHM} is small (64 MiB in a container) or segments were left behind in it.",
            remedy="Try `shmreclaim clean`; enlarge it (docker run --shm-size=1g) or ask for less.",
        ) from None
