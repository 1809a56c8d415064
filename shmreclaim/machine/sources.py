"""One number for everything that compiled code and the words of a segment mean: a hash of the sources.

Two processes that share a segment must agree on it, and machine code made from other sources must not be used.
"""

import contextlib
import functools
import hashlib
import os
import platform
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent
COMPILED_LAYERS = ("machine", "lib", "sync", "mm", "designs", "kernel.py", "locks", "workers")

_VARIABLE = "SHMRECLAIM_JOURNALED"
JOURNALED = os.environ.get(_VARIABLE) == "1"
"""Whether this process compiles every access to shared memory into one that is logged (machine/journal.py)."""


def build(*, journaled: bool = JOURNALED) -> str:
    """Name what is compiled from these sources, the one way or the other: both share a segment, but no machine code."""
    return source_hash() + ("-journaled" if journaled else "")


@contextlib.contextmanager
def build_of_children(*, journaled: bool) -> Iterator[None]:
    """Say how processes compile that are started meanwhile, and their children."""
    before = os.environ.get(_VARIABLE, "0")
    os.environ[_VARIABLE] = "1" if journaled else "0"
    try:
        yield
    finally:
        os.environ[_VARIABLE] = before


@functools.cache
def source_hash() -> str:
    """Hash every source that compiled code or a record can come from, and the versions that compile it."""
    digest = hashlib.sha256()
    for version in (sys.version, metadata.version("numba"), platform.machine()):
        digest.update(version.encode())
    for layer in COMPILED_LAYERS:
        path = PACKAGE / layer
        for source in filter(Path.exists, sorted(path.rglob("*.py")) if path.is_dir() else [path]):
            digest.update(str(source.relative_to(PACKAGE)).encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()[:16]
