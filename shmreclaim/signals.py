"""The signals that end a program, and what they wait for: something that may not be left half done.

An exception out of a handler may come anywhere, and many a library swallows it. A mask (pthread_sigmask) would not
help: it holds for one thread, libraries start others (numpy's OpenBLAS does), and a signal that any of them takes
still runs Python's handler in the main thread. So it is the handlers that wait.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What may end the process that was called, in an order of its own."""


class Held:
    """Keeps the signals that came while their handlers wait; calling it serves them."""

    def __init__(self) -> None:
        """Hold nothing yet."""
        self._came: list[int] = []
        self._handlers: dict[int, Any] = {}

    def __call__(self) -> None:
        """Run the handlers of what came; one that raises does so from here."""
        while self._came:
            number = self._came.pop(0)
            self._handlers[number](number, None)

    @contextmanager
    def let_through(self) -> Iterator[None]:
        """Serve signals at once for a while: for work that may be left anywhere, between steps that may not.

        One that comes as this ends is served or held, never lost.
        """
        try:
            self.release()
            yield
        finally:
            self.hold()

    def hold(self) -> None:
        """Let handlers wait from now on; a signal whose handler is not Python's, or that is ignored, stays as it is."""
        if threading.current_thread() is not threading.main_thread():
            return  # handlers run in the main thread, and nobody else may change them
        for number in ENDING:
            handler = signal.getsignal(number)
            if callable(handler) and handler != self._note:
                self._handlers[number] = handler
                signal.signal(number, self._note)

    def release(self) -> None:
        """Let handlers run again, first for what came. One that was changed meanwhile stays changed."""
        for number, handler in self._handlers.items():
            if signal.getsignal(number) == self._note:
                signal.signal(number, handler)
        self()

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._came.append(number)


@contextmanager
def held_signals() -> Iterator[Held]:
    """Let the handlers of signals that end this process wait until what this gives is called, or until the end."""
    held = Held()
    try:
        held.hold()
        yield held
    finally:
        held.release()


@contextmanager
def interrupt_is_asked() -> Iterator[Callable[[], bool]]:
    """Let Ctrl-C be asked for instead of served: gives a function that tells whether it came.

    For work whose unfinished result is worth keeping. Other signals are served as ever.
    """
    came = False

    def note(_number: int, _frame: FrameType | None) -> None:
        nonlocal came
        came = True

    before = signal.getsignal(signal.SIGINT)
    if before != signal.SIG_IGN:
        signal.signal(signal.SIGINT, note)
    try:
        yield lambda: came
    finally:
        signal.signal(signal.SIGINT, before)
