"""An ftrace text file, plain or gzip: bytes in, events in the order of their times out.

The kind of file is told by its first bytes, not by its name. Buffers may be concatenated (of several CPUs, of several
recordings): headers are allowed anywhere, and the events are sorted by time, equal times in the order of the file.

Limits: a line longer than MAX_LINE bytes is skipped and counted. A text of more than MAX_TEXT bytes or MAX_LINES lines
is refused, because a gzip file of one megabyte can unfold to a thousand. After MAX_EVENTS events the rest is left
unread, and a remark says so. The binary formats of trace-cmd and perf are refused with what to do instead.
"""

import gzip
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BufferedReader

from shmreclaim.errors import UsageError
from shmreclaim.workload.ftrace_events import Event, OtherLine, parse_line

MAX_LINE = 8192
MAX_TEXT = 1 << 30
MAX_LINES = 10_000_000
MAX_EVENTS = 1_000_000
_BLOCK = 1 << 18

_GZIP = b"\x1f\x8b"
_FOREIGN = (
    (b"\x17\x08\x44tracing", "a binary file of trace-cmd", "Turn it into text: trace-cmd report FILE > trace.txt"),
    (b"PERFILE2", "a binary file of perf", "Record with trace-cmd or tracefs instead; perf's text has another form."),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", "Unpack it first: zstd -d FILE"),
    (b"\xfd7zXZ", "compressed with xz", "Unpack it first: xz -d FILE"),
    (b"BZh", "compressed with bzip2", "Unpack it first: bzip2 -d FILE"),
)
_HOW_TO_RECORD = (
    "Record the events: shmreclaim record -o FILE as root; or by hand vmscan:mm_shrink_slab_start and _end, "
    "cgroup:cgroup_mkdir and cgroup_rmdir, and syscalls:sys_{enter,exit}_{mount,umount}, and save "
    "/sys/kernel/tracing/trace."
)


@dataclass
class Recording:
    """What was read of one file: its events, and by reason how much was not used."""

    events: list[Event] = field(default_factory=list)
    event_lines: int = 0
    """Lines in the form of an event, of any tracepoint."""
    unused: Counter[str] = field(default_factory=Counter)
    remarks: list[str] = field(default_factory=list)
    head: bytes = b""
    """How the text begins, unpacked: tells what a file that is no trace is instead."""


def read_recording(source: BufferedReader, name: str) -> Recording:
    """Read a whole trace; `name` is what an error calls the file."""
    recording = Recording()
    for line in _lines(source, name, recording):
        _take(line, recording)
        if len(recording.events) >= MAX_EVENTS:
            recording.remarks.append(f"reading stopped after {MAX_EVENTS:,} events; the rest of the file was not used")
            break
    if not recording.events:
        raise _unusable(name, recording)
    recording.events.sort(key=lambda event: event.time)
    return recording


def _take(line: str, recording: Recording) -> None:
    read = parse_line(line)
    if isinstance(read, OtherLine):
        recording.event_lines += read.is_event
        if read.reason is not None and read.times:
            recording.unused[read.reason] += read.times
    else:
        recording.event_lines += 1
        recording.events.append(read)


def _lines(source: BufferedReader, name: str, recording: Recording) -> Iterator[str]:
    """Yield the lines without their ends, however long the file says they are."""
    rest, skipping, total = b"", False, 0
    for block in _blocks(source, name, recording):
        *whole, rest = (rest + block).split(b"\n")
        if whole and skipping:
            del whole[0]
            skipping = False
        total += len(whole)
        if total > MAX_LINES:
            raise _too_long(name, f"{MAX_LINES:,} lines")
        yield from _short_enough(whole, recording)
        if len(rest) > MAX_LINE:
            recording.unused[_LONG] += not skipping
            rest, skipping = b"", True
    if rest and not skipping:
        yield from _short_enough([rest], recording)


_LONG = f"lines longer than {MAX_LINE} bytes"


def _short_enough(lines: list[bytes], recording: Recording) -> Iterator[str]:
    for line in lines:
        if len(line) > MAX_LINE:
            recording.unused[_LONG] += 1
        else:
            yield line.decode("utf-8", "replace")


def _blocks(source: BufferedReader, name: str, recording: Recording) -> Iterator[bytes]:
    """Yield the unpacked text; what precedes the damage in a cut or broken gzip file is still good."""
    stream = gzip.GzipFile(fileobj=source) if source.peek(2).startswith(_GZIP) else source
    total = 0
    try:
        while block := stream.read1(_BLOCK):
            recording.head = recording.head or block[:24]
            total += len(block)
            if total > MAX_TEXT:
                raise _too_long(name, f"{MAX_TEXT >> 20} MiB of text")
            yield block
    except EOFError:
        recording.remarks.append("the gzip file ends too early; what it holds up to there was used")
    except (gzip.BadGzipFile, zlib.error) as error:
        recording.remarks.append(f"the gzip file is damaged ({error}); what it holds up to there was used")


def _too_long(name: str, limit: str) -> UsageError:
    return UsageError(
        f"{name} holds more than {limit}",
        cause="Reading it whole would take minutes and gigabytes.",
        remedy="Give a part of it, for instance: zcat -f FILE | head -n 1000000 > part.ftrace",
    )


def _unusable(name: str, recording: Recording) -> UsageError:
    for magic, what, remedy in _FOREIGN:
        if recording.head.startswith(magic):
            return UsageError(f"{name} is {what}, not an ftrace text file", remedy=remedy)
    what = f"{name} holds no event that is read here"
    return UsageError(what, cause=_found(recording), remedy=_HOW_TO_RECORD)


def _found(recording: Recording) -> str:
    if not recording.head and not recording.remarks:
        return "It is empty."
    parts = [f"{count:,} {reason}" for reason, count in recording.unused.most_common()] + recording.remarks
    if not recording.event_lines:
        parts.insert(0, f"it begins with {recording.head!r}")
    return f"Found: {'; '.join(parts)}."
