"""Segments in shared memory: which there are, whose they are, and away with those of the dead.

Nothing in a segment is trusted: its name is taken apart, its header is read into memory of this process, and whether
anybody uses it the kernel is asked (machine/usage.py). What is no file of this user's is not even opened. No numba.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import stat
import struct
import time
from collections.abc import Iterator

from shmreclaim import __version__
from shmreclaim.errors import SetupError
from shmreclaim.inspection import Cleaned, Cleaning, Segment, Segments
from shmreclaim.machine.layout import HEADER, MAGIC, VERSION, layout_hash
from shmreclaim.machine.names import PREFIX, SHM
from shmreclaim.machine.process import is_alive
from shmreclaim.machine.usage import claim_unused, is_in_use

MADE_BY = re.compile(rf"{PREFIX}\.([0-9]{{1,10}})\.([0-9]{{1,20}})\.[0-9]+", re.ASCII)
"""The name of a segment that a process made for itself: its pid, when that started, a number."""
NAMED_LOCK = f"{PREFIX}.lock."
FAILED = "it cannot be removed"
MOST_CPUS = 64
LONGEST_AGE_S = 10 * 366 * 24 * 3600

READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
WRITE = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def find_segments() -> Segments:
    """Every segment of the machine, the oldest first."""
    with _folder() as folder:
        found = [segment for segment, _ in _look_at_all(folder)]
    return Segments(version=__version__, segments=found)


def clean_segments(*, dry_run: bool = False, named: bool = False) -> Cleaning:
    """Remove the segments of this user's dead, and if `named` the locks of a name that nobody has; say what and why."""
    with _folder() as folder:
        done = [_clean(folder, segment, inode, dry_run, named) for segment, inode in _look_at_all(folder)]
    return Cleaning(version=__version__, dry_run=dry_run, segments=done)


def look_at(name: str) -> Segment:
    """The segment of a name; raises SetupError if there is none."""
    with _folder() as folder:
        found = _look(folder, name)
    if found is None:
        raise SetupError(f"there is no segment {name}", remedy="See: shmreclaim list")
    return found[0]


@contextlib.contextmanager
def _folder() -> Iterator[int]:
    try:
        folder = os.open(SHM, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise SetupError(f"cannot look into {SHM}: {error.strerror}", cause="Usually it is not mounted.") from None
    try:
        yield folder
    finally:
        os.close(folder)


def _look_at_all(folder: int) -> list[tuple[Segment, int]]:
    names = sorted(name for name in os.listdir(folder) if name.startswith(PREFIX + "."))
    found = [look for look in (_look(folder, name) for name in names) if look is not None]
    return sorted(found, key=lambda look: -look[0].age_s)


def _look(folder: int, name: str) -> tuple[Segment, int] | None:
    """What a name stands for, and the inode; None if it is gone."""
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return _describe(name, status, b"", None, "not a segment: no regular file"), status.st_ino
    if status.st_uid != os.geteuid():
        return _describe(name, status, b"", None, "another user's"), status.st_ino
    try:
        fd = os.open(name, READ, dir_fd=folder)
    except FileNotFoundError:
        return None
    except OSError as error:
        return _describe(name, status, b"", None, f"cannot be opened: {error.strerror}"), status.st_ino
    try:
        status = os.fstat(fd)  # of what was opened, whatever has the name by now
        header = os.pread(fd, HEADER.SIZE * 8, 0)
        return _describe(name, status, header, is_in_use(fd), ""), status.st_ino
    finally:
        os.close(fd)


def _describe(name: str, status: os.stat_result, header: bytes, used: bool | None, note: str) -> Segment:
    """All that a name, its file and its header say; `note` if there was nothing to be read."""
    words = struct.unpack(f"{HEADER.SIZE}q", header) if len(header) == HEADER.SIZE * 8 else (0,) * HEADER.SIZE
    ours = words[HEADER.magic] == MAGIC
    readable = ours and (words[HEADER.version], words[HEADER.layout_hash]) == (VERSION, layout_hash())
    made_by = MADE_BY.fullmatch(name)
    cpus = words[HEADER.nr_cpus] if readable and words[HEADER.kernel] else 0
    return Segment(
        name=name,
        kind=_kind(name, words if readable else None),
        owner=_user(status.st_uid),
        pid=int(made_by[1]) if made_by else None,
        state=_state(name, used) if stat.S_ISREG(status.st_mode) else "unknown",
        age_s=_age(words[HEADER.created] if ours else 0, status),
        cpus=cpus if 0 < cpus <= MOST_CPUS else None,
        size=status.st_size,
        note=note or _note(words[HEADER.magic], len(header), readable),
    )


def _kind(name: str, words: tuple[int, ...] | None) -> str:
    if name.startswith(NAMED_LOCK):
        return "named lock"
    if words is None:
        return "unknown"
    return "run" if words[HEADER.kernel] else "locks" if words[HEADER.nr_cpus] else "empty"


def _state(name: str, used: bool | None) -> str:
    """`used`: whether anybody has it mapped, None if that cannot be told."""
    made_by = MADE_BY.fullmatch(name)
    if made_by and is_alive(int(made_by[1]), int(made_by[2])):
        return "alive"
    if used:
        return "in use"
    if made_by:
        return "dead"
    return "unused" if name.startswith(NAMED_LOCK) and used is False else "unknown"


def _age(created: int, status: os.stat_result) -> float:
    """By the header, if that is sane."""
    age = time.time() - created
    return age if 0 <= age < LONGEST_AGE_S else max(0.0, time.time() - status.st_mtime)


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _note(magic: int, length: int, readable: bool) -> str:
    if magic == 0:
        return "never finished"
    if magic != MAGIC or length < HEADER.SIZE * 8:
        return "not a segment: no header"
    return "" if readable else "made by another version of shmreclaim"


def _clean(folder: int, segment: Segment, inode: int, dry_run: bool, named: bool) -> Cleaned:
    keep = _why_to_keep(segment, named)
    if keep:
        return Cleaned(segment=segment, removed=False, why=keep)
    if not dry_run:
        failed = _remove(folder, segment.name, inode)
        if failed:
            return Cleaned(segment=segment, removed=False, why=failed)
    return Cleaned(segment=segment, removed=True, why=_why_dead(segment))


def _why_dead(segment: Segment) -> str:
    return "nobody uses it" if segment.pid is None else f"process {segment.pid}, which made it, is dead"


def _why_to_keep(segment: Segment, named: bool) -> str:
    """Empty if there is no reason."""
    if segment.owner != _user(os.geteuid()):
        return "it is another user's"
    if segment.state == "alive":
        return f"process {segment.pid}, which made it, is alive"
    if segment.state == "in use":
        return "a process has it mapped"
    if segment.state == "unused" and not named:
        return "a named lock outlives those who use it; clean --named removes it"
    if segment.state not in ("dead", "unused"):
        return segment.note or "its name is none that shmreclaim gives"
    return ""


def _remove(folder: int, name: str, inode: int) -> str:
    """Remove a name, if it is still that file's and nobody begins to use it; why not, or nothing."""
    try:
        fd = os.open(name, WRITE, dir_fd=folder)
    except FileNotFoundError:
        return "it is gone already"
    except OSError as error:
        return f"{FAILED}: {error.strerror}"
    try:
        status = os.fstat(fd)
        if status.st_ino != inode or not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
            return "it is another one by now"
        if not claim_unused(fd):
            return "a process has it mapped"
        if os.stat(name, dir_fd=folder, follow_symlinks=False).st_ino != inode:
            return "it is another one by now"
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return "it is gone already"
    except OSError as error:
        return f"{FAILED}: {error.strerror}"
    finally:
        os.close(fd)
    return ""
