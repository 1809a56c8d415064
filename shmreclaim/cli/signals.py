"""Turn SIGINT, SIGTERM and SIGHUP into an orderly unwinding.

The first of them raises SystemExit in the main thread, so that every `finally` on the way out ends its processes
and removes its segment; later ones are ignored, or an impatient second Ctrl-C would leave half of it behind.
SIGQUIT still ends the program at once.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 128 + signal.SIGINT
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def unwind_in_order() -> None:
    """Install the handlers; a signal that the parent had ignored (nohup) stays ignored."""
    for number in _ENDING:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _end)


def _end(number: int, _frame: FrameType | None) -> None:
    for each in _ENDING:
        signal.signal(each, signal.SIG_IGN)
    raise SystemExit(128 + number)


@contextmanager
def interrupt_is_asked() -> Iterator[Callable[[], bool]]:
    """Let Ctrl-C be asked for instead of unwinding: gives a function that tells whether it came.

    For work whose unfinished result is worth keeping. SIGTERM and SIGHUP unwind as ever.
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
