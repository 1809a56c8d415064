"""A segment that somebody truncates while it is in use: every read of what it lacks then is a SIGBUS.

Nobody can prevent it: whoever may open the segment may do that, which is its user and root. What can be done is to say
so. A worker dies of the signal, and its parent looks at the segment's size. The parent itself, which reads the segment
all the time, ends in its handler: there is nothing to go back to.

Limits: a handler of Python's own (signal.signal) would not do, it runs only after the read, which never ends; so this
one is called by the kernel. It is a full stop: it writes one message, removes the segment's name, and ends the process.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

from shmreclaim.errors import Inconclusive
from shmreclaim.machine.arena import Arena
from shmreclaim.machine.names import SHM

_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_int)


def size_of(arena: Arena) -> int | None:
    """Bytes that its file has now; None if its name is gone, or another's."""
    try:
        status = Path(SHM, arena.name).stat()
    except OSError:
        return None
    return status.st_size if status.st_ino == arena.inode else None


def is_truncated(arena: Arena) -> bool:
    """Whether its file is shorter than what is mapped."""
    size = size_of(arena)
    return size is not None and size < len(arena.words) * 8


def error(arena: Arena) -> Inconclusive:
    """What to say of it."""
    return Inconclusive(
        f"segment {arena.name} had {len(arena.words) * 8} bytes and has {size_of(arena)}; the run was stopped",
        cause="Somebody truncated it while it was in use.",
    )


@contextlib.contextmanager
def said_at_once(arena: Arena) -> Iterator[None]:
    """End this process with that message, should it read what its segment lacks; workers die with it."""
    if threading.current_thread() is not threading.main_thread():
        yield  # handlers are the main thread's
        return

    def end(_number: int) -> None:
        text = error(arena) if is_truncated(arena) else "a read of memory failed (SIGBUS)"
        os.write(2, f"shmreclaim: {text}\n".encode())
        arena.remove()
        os._exit(Inconclusive.exit_code)

    handler = _HANDLER(end)
    libc = ctypes.CDLL(None)
    libc.signal.restype = ctypes.c_void_p
    libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
    before = libc.signal(signal.SIGBUS, ctypes.cast(handler, ctypes.c_void_p))
    try:
        yield
    finally:
        libc.signal(signal.SIGBUS, before)
