"""Recordings of a real kernel: those that come with shmreclaim, files of the user's, and the drop_caches in one.

| shipped | what was recorded, on a 6.18 kernel with 2 CPUs |
|---|---|
| CONTAINERS | 24 container processes under memory limits: 6,249 calls of shrinkers, every event the reader knows |
| DROPS | 1,000 memcgs with a mount each, then 5 times drop_caches: 20,294 calls, no other event |
"""

from importlib.resources import files
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import NamedTuple

from shmreclaim.errors import UsageError
from shmreclaim.workload.ftrace_history import read_history
from shmreclaim.workload.ftrace_text import Recording, read_recording

CONTAINERS = "containers-24.ftrace.gz"
DROPS = "dropcaches-1000x5.ftrace.gz"


class RecordedDrop(NamedTuple):
    """One drop_caches of a recording, all its rounds together."""

    time: int
    """When its first call was made, in ns of the trace's clock."""
    calls: int
    """Calls of shrinkers that found something: one that counts 0 leaves no event."""
    freed: int


def read_shipped(name: str) -> Recording:
    """Read a recording that comes with shmreclaim."""
    data = (files("shmreclaim.workload") / "data" / name).read_bytes()
    return read_recording(BufferedReader(BytesIO(data)), name)


def read_file(path: Path, hint: str = "") -> Recording:
    """Read a recording of the user's; `hint` ends the message if that cannot be done."""
    try:
        with path.open("rb") as source:
            return read_recording(source, str(path))
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        remedy = f"Give an ftrace text file, plain or .gz{hint}."
        raise UsageError(f"The trace {str(path)!r} cannot be read: {reason}", remedy=remedy) from error


def recorded_drops(recording: Recording) -> tuple[RecordedDrop, ...]:
    """Tell what each drop_caches did, in their order.

    Rule H5 of `ftrace_history` finds them: calls at priority 0 by a task outside all memcgs, with no long pause. Two
    that follow each other within DROP_PAUSE are taken for one.
    """
    drops = (step for step in read_history(recording).steps if step.first.drop)
    return tuple(
        RecordedDrop(int(drop.first.moment[0]), len(drop.calls), sum(call.freed for call in drop.calls))
        for drop in drops
    )
