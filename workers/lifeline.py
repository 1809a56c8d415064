"""What ties a process to the one that started it: it dies with that one, and leaves signals to it.

A terminal sends Ctrl-C to all of them at once, but only the one that was called knows how to end a run, and where
nothing is half done (`shmreclaim.signals`).
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import types
from contextlib import suppress
from typing import Any

import multiprocess
from multiprocess import resource_tracker

from shmreclaim.signals import ENDING

PR_SET_PDEATHSIG = 1


def start(process: Any) -> None:
    """Start a process that keeps signals blocked until it calls `follow_parent`, and does not run the main module.

    What we start needs nothing of the caller's main module; without a guard in it, it would start itself again.
    """
    resource_tracker.ensure_running()  # where it has to be started, it ends by unblocking signals
    main = sys.modules["__main__"]
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        process.start()
    finally:
        sys.modules["__main__"] = main
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def die_with(parent: int) -> None:
    """Die when the process that forked this one does; at once, if it is not `parent` any more."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def follow_parent() -> None:
    """Die with the process that started this one, and let it decide how a run ends, and what standard output gets."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    parent = multiprocess.parent_process()
    if parent is not None and not parent.is_alive():  # it died before the line above
        os._exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
    with suppress(OSError):  # there is no standard error
        os.dup2(2, 1)
