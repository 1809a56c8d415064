"""A result as JSON: the whole of it, its fields in their order."""

from pathlib import Path

import msgspec
import numpy as np

from shmreclaim import files
from shmreclaim.errors import SetupError


def encode(result: msgspec.Struct) -> str:
    """Give the JSON text, indented, with a newline at its end."""
    tree = _as_text(msgspec.to_builtins(result, enc_hook=_plain))
    return msgspec.json.format(msgspec.json.encode(tree), indent=2).decode() + "\n"


def _plain(value: object) -> object:
    """Give the plain number in a numpy one: workloads may carry those among their parameters."""
    if isinstance(value, np.generic):
        return value.item()
    raise NotImplementedError(f"{type(value).__name__} has no form in JSON")


def _as_text(value: object) -> object:
    """Replace what is no text in every string: a file's name may hold any byte, JSON may not."""
    match value:
        case str():
            return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        case dict():
            return {_as_text(key): _as_text(each) for key, each in value.items()}
        case list():
            return [_as_text(each) for each in value]
        case _:
            return value


def check_writable(path: Path) -> None:
    """Refuse a path that cannot be written, before minutes of measuring are spent on it."""
    files.check_writable(path, "--json")


def write(result: msgspec.Struct, path: Path) -> None:
    """Write the JSON to `path`, whole or not at all; a device or a pipe is written as it comes."""
    text = encode(result)
    try:
        with files.written_whole(path) as file:
            file.write(text.encode())
    except OSError as error:
        raise SetupError(
            f"cannot write the result to {path}: {error.strerror}", remedy="Free some space, or name another file."
        ) from None
