"""A result as JSON: the whole of it, its fields in their order."""

import contextlib
import os
import tempfile
from pathlib import Path

import msgspec
import numpy as np

from shmreclaim.errors import SetupError, UsageError
from shmreclaim.result import Record


def encode(result: Record) -> str:
    """Give the JSON text, indented, with a newline at its end."""
    return msgspec.json.format(msgspec.json.encode(result, enc_hook=_plain), indent=2).decode() + "\n"


def _plain(value: object) -> object:
    """Give the plain number in a numpy one: workloads may carry those among their parameters."""
    if isinstance(value, np.generic):
        return value.item()
    raise NotImplementedError(f"{type(value).__name__} has no form in JSON")


def check_writable(path: Path) -> None:
    """Refuse a path that cannot be written, before minutes of measuring are spent on it."""
    if path.is_dir():
        raise UsageError(f"--json {path} is a folder", remedy="Name a file.")
    if not path.parent.is_dir():
        raise UsageError(f"--json {path}: there is no folder {path.parent}", remedy="Make it, or name another.")
    target = path if path.exists() else path.parent
    if not os.access(target, os.W_OK):
        raise SetupError(f"--json {path}: no permission to write there", remedy="Name another file.")


def write(result: Record, path: Path) -> None:
    """Write the JSON to `path`, whole or not at all; a device or a pipe is written as it comes."""
    text = encode(result)
    try:
        if path.exists() and not path.is_file():
            path.write_text(text, encoding="utf-8")
        else:
            _replace(path, text)
    except OSError as error:
        raise SetupError(
            f"cannot write the result to {path}: {error.strerror}", remedy="Free some space, or name another file."
        ) from None


def _replace(path: Path, text: str) -> None:
    """Write beside `path`, then rename: a reader sees the old file or the new one."""
    target = path.resolve()  # a symbolic link stays one
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
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
