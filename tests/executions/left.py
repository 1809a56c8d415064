"""What a run may leave behind: processes and segments, looked for from outside."""

import contextlib
import os
from pathlib import Path

from tests.conftest import segments_of

__all__ = ["MARK", "holders_of", "marked", "segments_of"]

MARK = "SHMRECLAIM_TEST_MARK"
"""Environment variable that a test gives a command, and that all its processes inherit."""


def holders_of(creator: int) -> list[int]:
    """Other processes that have a segment mapped which `creator` made, removed or not."""
    return [pid for pid in _pids() if f"/dev/shm/shmreclaim.{creator}.".encode() in _read(pid, "maps")]


def marked(value: str) -> list[str]:
    """Processes that run with MARK set to `value`, with their command lines; zombies do not run."""
    wanted = f"{MARK}={value}".encode()
    found = [pid for pid in _pids() if wanted in _read(pid, "environ").split(b"\0")]
    return [f"{pid}: {_read(pid, 'cmdline').replace(chr(0).encode(), b' ').decode()}" for pid in found]


def _pids() -> list[int]:
    return [
        int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and entry.name != str(os.getpid())
    ]


def _read(pid: int, name: str) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/{name}").read_bytes()
    return b""
