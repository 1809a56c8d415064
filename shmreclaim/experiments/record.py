"""Record a real kernel's reclaim into a file: what `record` does between its options and its report."""

import gzip
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from shmreclaim import files, tracefs
from shmreclaim.errors import SetupError
from shmreclaim.ranges import expect_number, expect_whole
from shmreclaim.signals import interrupt_is_asked
from shmreclaim.workload.ftrace_events import EVENTS

LEAST_BUFFER, MOST_BUFFER = 4, 1 << 21


@dataclass(frozen=True)
class RecordOptions:
    """Where to and how long; refused with a UsageError when a value is out of range."""

    out: Path
    seconds: float = 10.0
    buffer_kib: int = 8192

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        expect_number("seconds", self.seconds)
        expect_whole("buffer", self.buffer_kib, LEAST_BUFFER, MOST_BUFFER, "It is in KiB for each CPU.")


def record(options: RecordOptions, told: Callable[[float, float, int], None]) -> tracefs.Recorded:
    """Record until the time is over or Ctrl-C comes; `told` hears the seconds done, those in all, and the bytes."""
    files.check_writable(options.out, "-o")
    root = tracefs.find_tracefs()
    try:
        # Ctrl-C is asked for until the file is in its place, but not before it is open: a pipe may wait for its reader.
        with ExitStack() as asked, files.written_whole(options.out) as file:
            stop = asked.enter_context(interrupt_is_asked())
            return _record(root, file, options, tracefs.Limits(options.seconds, options.buffer_kib, stop), told)
    except OSError as error:
        raise SetupError(
            f"cannot write the recording to {options.out}: {error.strerror}",
            remedy="Free some space, or name another file.",
        ) from None


def _record(
    root: Path,
    file: BinaryIO,
    options: RecordOptions,
    limits: tracefs.Limits,
    told: Callable[[float, float, int], None],
) -> tracefs.Recorded:
    def tell(elapsed: float, size: int) -> None:
        told(elapsed, options.seconds, size)

    tell(0, 0)
    if options.out.suffix != ".gz":
        return tracefs.record(root, EVENTS, file, limits, tell)
    with gzip.GzipFile(fileobj=file, mode="wb", filename="", mtime=0) as packed:
        return tracefs.record(root, EVENTS, cast(BinaryIO, packed), limits, tell)
