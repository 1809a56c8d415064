"""From the text of a user's file to a module, the same in every process of a command.

The process that was called keeps the text in the cache folder, under a hash of it (`keep`); it and its workers make
the module from that (`load`). Tracebacks and messages name the user's file and its lines.
"""

from __future__ import annotations

import contextlib
import linecache
import os
import sys
import types
from pathlib import Path

import msgspec

from shmreclaim.errors import SetupError
from shmreclaim.files import written_whole
from shmreclaim.machine import layout
from shmreclaim.machine.compile import folder_of, forget_old, stamp_source
from shmreclaim.machine.sources import build
from shmreclaim.plugins.choice import Design

TEXT = "design.json"


class Kept(msgspec.Struct, frozen=True):
    """What is kept of a file."""

    file: bytes
    source: bytes


def keep(design: Design) -> None:
    """Keep what was read, for other processes to load; files that were not used for long are forgotten."""
    folder = _folder(design.module)
    forget_old(folder.parent)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.utime(folder)
    with written_whole(folder / TEXT) as file:
        file.write(msgspec.json.encode(Kept(os.fsencode(design.file), design.source)))


def load(name: str) -> types.ModuleType:
    """Give the module of a design that was kept; what its text raises when it runs comes out of here."""
    if name in sys.modules:
        return sys.modules[name]
    try:
        kept = msgspec.json.decode((_folder(name) / TEXT).read_bytes(), type=Kept)
    except OSError as error:
        raise SetupError(
            f"the text of design {name} is not in the cache: {error}",
            cause="Usually the cache was emptied, or shmreclaim changed, while it ran.",
            remedy="Run it again.",
        ) from None
    return _make(name, kept)


def _make(name: str, kept: Kept) -> types.ModuleType:
    path = os.fsdecode(kept.file)
    code = compile(kept.source, path, "exec", dont_inherit=True)
    stamp_source(path, _stamp(name))
    lines = kept.source.decode("utf-8", "replace").splitlines(keepends=True)
    linecache.cache[path] = (len(kept.source), None, lines, path)  # None: not looked up in the file again
    module = types.ModuleType(name)
    module.__file__ = path
    sys.modules[name] = module
    try:
        with contextlib.redirect_stdout(sys.stderr):  # standard output is for the result
            exec(code, vars(module))
    except BaseException:
        del sys.modules[name]
        layout.forget(name)
        raise
    return module


def _stamp(name: str) -> str:
    return f"plugins/{name.rpartition('.')[2]}"


def _folder(name: str) -> Path:
    """Of its text, which is the same however it is compiled."""
    return folder_of(build(journaled=False)) / _stamp(name)
