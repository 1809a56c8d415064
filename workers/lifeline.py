"""What ties a process to the one that started it: it dies with that one, and leaves signals to it.

A terminal sends Ctrl-C to all of them at once, but only the one that was called knows how to end a run.
"""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import multiprocess

PR_SET_PDEATHSIG = 1
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What may end the process that was called, in an order of its own."""


@contextmanager
def held_signals() -> Iterator[Callable[[], None]]:
    """Let signals that end this process wait, but where what it gives is called: there they are taken.

    So whatever is begun inside is also finished or undone. A process started inside begins with them held as
    well, until it calls `follow_parent`.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)

    def take() -> None:
        try:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        finally:
            signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)

    try:
        yield take
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def follow_parent() -> None:
    """Die with the process that started this one, and let it decide how a run ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    parent = multiprocess.parent_process()
    if parent is not None and not parent.is_alive():  # it died before the line above
        os._exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
