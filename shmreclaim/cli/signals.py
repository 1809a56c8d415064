"""Turn SIGINT, SIGTERM and SIGHUP into an orderly unwinding.

The first of them raises SystemExit in the main thread, so that every `finally` on the way out ends its processes
and removes its segment; later ones are ignored, or an impatient second Ctrl-C would leave half of it behind.
SIGQUIT still ends the program at once.
"""

import signal
from types import FrameType

from shmreclaim.signals import ENDING

INTERRUPTED = 128 + signal.SIGINT


def unwind_in_order() -> None:
    """Install the handlers; a signal that the parent had ignored (nohup) stays ignored."""
    for number in ENDING:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _end)


def _end(number: int, _frame: FrameType | None) -> None:
    for each in ENDING:
        signal.signal(each, signal.SIG_IGN)
    raise SystemExit(128 + number)
