"""Imported by the fork server, for what the import does: it loads all compiled code, once.

Each worker is forked from that process and so starts with everything in memory.
"""

import sys
from types import TracebackType

from shmreclaim.workers.lifeline import follow_parent


def _complain(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Say nothing where a fork was refused or the parent went away: the parent knows, and has the better message."""
    if not isinstance(error, OSError | EOFError):
        sys.__excepthook__(kind, error, trace)


def _load() -> None:
    from shmreclaim.workers.units import load_all  # takes a second: the parent may end meanwhile

    load_all()


follow_parent()
_load()
sys.excepthook = _complain
