"""The processes of a play: forked together, looked after, none of them left at its end.

They are forked from the process that has all machine code, so that a play starts in milliseconds. Each dies with its
parent. Handlers of signals are held back meanwhile (workers/lifeline.py) and taken where the parent waits.
"""

from __future__ import annotations

import ctypes
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any, Self

import multiprocess
from multiprocess import connection

from shmreclaim.errors import SetupError
from shmreclaim.workers.lifeline import follow_parent, start

PR_SET_TIMERSLACK = 29
POLL_S = 0.02
"""How often the parent looks at the clock and at signals. The players do not wait for it."""


class FailedError(Exception):
    """A lock could not be played with to the end."""


class Troupe:
    """A context manager: so many processes, `play(k)` in each; inside it they run, after it they are gone."""

    def __init__(self, size: int, play: Callable[[int], None], take_signals: Callable[[], None]) -> None:
        """Only keep what is needed; they are started by `with`. `take_signals` is of `lifeline.held_signals`."""
        self.size, self._play, self._take_signals = size, play, take_signals
        self._players: list[Any] = []

    def __enter__(self) -> Self:
        """Start all; if one cannot be started, end those that were."""
        try:
            for k in range(self.size):
                player = multiprocess.get_context("fork").Process(target=_perform, args=(self._play, k), daemon=True)
                start(player)
                self._players.append(player)
        except OSError as error:
            self.__exit__()
            raise SetupError(
                f"cannot start process {len(self._players) + 1} of {self.size}: {error}",
                cause="Usually the limit of processes is reached (ulimit -u).",
                remedy="Raise it, or ask for fewer --cpus.",
            ) from None
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        """End all that are left."""
        self.kill()
        for player in self._players:
            player.join()
            player.close()

    def kill(self) -> None:
        """Kill all that are left, with SIGKILL, and wait until they are dead."""
        for player in self._players:
            if player.exitcode is None:
                player.kill()
        for player in self._players:
            player.join()

    def wait(self, seconds: float) -> list[int]:
        """Wait until one ends, or so long; gives which are left, and raises if one failed."""
        connection.wait([player.sentinel for player in self._players if player.exitcode is None], timeout=seconds)
        self._take_signals()
        codes = [player.exitcode for player in self._players]  # asked once: one may end between two questions
        for code in codes:
            if code not in (None, 0):
                how = f"was ended by signal {-code}" if code < 0 else "failed; its message is above"
                raise FailedError(f"one of its processes {how}")
        return [k for k, code in enumerate(codes) if code is None]

    def wait_until(self, deadline: float, done: Callable[[], bool] = lambda: False) -> list[int]:
        """Wait until all have ended, `done` says so, or time.monotonic() passes the deadline; gives which are left."""
        left = list(range(self.size))
        while left and not done() and time.monotonic() < deadline:
            left = self.wait(POLL_S)
        return left


def _perform(play: Callable[[int], None], k: int) -> None:
    follow_parent()
    ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, 1)  # ns: who sleeps until a time is to be up at it
    try:
        play(k)
    except Exception:
        traceback.print_exc()
        sys.stderr.flush()
        sys.exit(1)
