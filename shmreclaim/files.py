"""Files that are written whole or not at all."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from shmreclaim.errors import SetupError, UsageError


def check_writable(path: Path, option: str) -> None:
    """Refuse a path that cannot be written, before time is spent on what should go there."""
    if path.is_dir():
        raise UsageError(f"{option} {path} is a folder", remedy="Name a file.")
    if not path.parent.is_dir():
        raise UsageError(f"{option} {path}: there is no folder {path.parent}", remedy="Make it, or name another.")
    target = path if path.exists() else path.parent
    if not os.access(target, os.W_OK):
        raise SetupError(f"{option} {path}: no permission to write there", remedy="Name another file.")


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that takes the place of `path` when the block ends; if it fails, `path` is as before.

    A device or a pipe is written as it comes.
    """
    if path.exists() and not path.is_file():
        with path.open("wb") as file:
            yield file
        return
    target = path.resolve()  # a symbolic link stays one
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(_usual_mode(target))
        Path(name).replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise


def _usual_mode(target: Path) -> int:
    """Permissions that an ordinary `open` would leave: those of the file there, else what the umask allows."""
    if target.exists():
        return target.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
