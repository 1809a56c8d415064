"""One number for everything that compiled code and the words of a segment mean: a hash of the sources.

Two processes that share a segment must agree on it, and machine code made from other sources must not be used.
"""

import functools
import hashlib
import platform
import sys
from importlib import metadata
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent
COMPILED_LAYERS = ("machine", "lib", "sync", "mm", "designs", "kernel.py", "locks", "workers")


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
