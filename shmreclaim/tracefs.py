"""The kernel's tracefs: find it, and record the events that are read here into an instance of our own.

Model: Documentation/trace/ftrace.rst (trace_pipe, buffer_size_kb, per_cpu/*/stats, instances) and
kernel/trace/trace.c. What is relied on:
T1  A directory made in instances/ is a buffer of its own with events of its own; nothing global is changed.
T2  Reading trace_pipe consumes. Without blocking it gives EAGAIN where there is nothing, and a line
    `CPU:n [LOST m EVENTS]` where the writer overtook it.
T3  Removing the directory disables its events and frees its buffers; EBUSY while any of its files is open.
T4  A mount in a mount namespace of our own is seen by nobody else and ends with this process.

Nothing here knows what it is told to record; times are those of the clock `global`, one order for all CPUs.

Limits: a process that is killed (SIGKILL) leaves its instance behind, named shmreclaim-<pid>; rmdir removes it.
"""

import contextlib
import ctypes
import errno
import os
import re
import select
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from shmreclaim.errors import SetupError
from shmreclaim.signals import held_signals

USUAL = (Path("/sys/kernel/tracing"), Path("/sys/kernel/debug/tracing"))
NEEDED = ("vmscan:mm_shrink_slab_start", "vmscan:mm_shrink_slab_end")
"""Without these there is nothing to read; without others something is."""
_CHUNK = 1 << 16
_LOOK = 0.1
"""Seconds between two words about progress, and between two looks at the clock and at `stop` while nothing happens."""
_CLONE_NEWNS, _MS_REC, _MS_PRIVATE = 0x20000, 0x4000, 0x40000


@dataclass
class Recorded:
    """How a recording went."""

    lines: int = 0
    bytes: int = 0
    lost: int = 0
    """Events that the buffers had no room for."""
    seconds: float = 0.0
    missing: list[str] = field(default_factory=list)
    """Events that this kernel does not have."""


def find_tracefs() -> Path:
    """Give the root of tracefs: where it usually is, where it is mounted, or mounted for this process alone."""
    for place in (*USUAL, *_mounted()):
        if _is_folder(place / "instances"):
            return place
    if os.geteuid() != 0:
        raise _not_root()
    return _mount_privately(USUAL[0])


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except PermissionError:  # tracefs is closed to all but root; is_dir() answers for what is missing only
        return False


def _mounted() -> list[Path]:
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return []
    return [Path(line.split()[1]) for line in mounts if line.split()[2:3] == ["tracefs"]]


def _not_root() -> SetupError:
    return SetupError(
        "recording a kernel's events takes root",
        cause="tracefs is closed to all others.",
        remedy="Run it with sudo, or as root.",
    )


def _mount_privately(place: Path) -> Path:
    """Mount tracefs at `place` in a mount namespace of our own: T4."""
    libc = ctypes.CDLL(None, use_errno=True)

    def must(result: int, what: str) -> None:
        if result != 0:
            why = os.strerror(ctypes.get_errno())
            raise SetupError(
                f"there is no tracefs, and {what} failed: {why}",
                cause="The kernel was built without CONFIG_TRACING, or a container or lockdown forbids it.",
                remedy="As root of the machine itself: mount -t tracefs nodev /sys/kernel/tracing",
            )

    must(0 if place.is_dir() else _no_such_place(), f"finding {place}")
    must(libc.unshare(_CLONE_NEWNS), "leaving the mount namespace")
    must(libc.mount(b"none", b"/", None, ctypes.c_ulong(_MS_REC | _MS_PRIVATE), None), "making mounts private")
    must(libc.mount(b"nodev", bytes(place), b"tracefs", ctypes.c_ulong(0), None), f"mounting it at {place}")
    return place


def _no_such_place() -> int:
    ctypes.set_errno(errno.ENOENT)
    return -1


def record(
    root: Path,
    events: tuple[str, ...],
    sink: BinaryIO,
    limits: "Limits",
    told: Callable[[float, int], None],
) -> Recorded:
    """Record `events` into `sink`; `told` hears now and then the seconds and bytes. Nothing is left in tracefs.

    Whatever tracefs refuses is a SetupError; an OSError is the sink's.
    """
    recorded = Recorded(missing=[event for event in events if not _is_folder(_folder(root, event))])
    lacking = [event for event in NEEDED if event in recorded.missing]
    if lacking:
        raise _no_event(root, lacking)
    with _instance(root) as instance:
        _write(instance / "tracing_on", "0")
        _write(instance / "trace_clock", "global")
        _write(instance / "buffer_size_kb", str(limits.buffer_kib))
        for event in events:
            if event not in recorded.missing:
                _write(_folder(instance, event) / "enable", "1")
        _follow(instance, sink, limits, recorded, told)
        recorded.lost = _lost(instance)
    return recorded


@dataclass(frozen=True)
class Limits:
    """How long, with what buffer for each CPU, and whether somebody said stop."""

    seconds: float
    buffer_kib: int
    stop: Callable[[], bool]


def _no_event(root: Path, lacking: list[str]) -> SetupError:
    if os.geteuid() != 0:  # who may not look cannot tell
        return _not_root()
    return SetupError(
        f"this kernel has no event {', '.join(lacking)}",
        cause=f"There is no such folder below {root / 'events'}.",
        remedy="It takes a kernel with CONFIG_TRACEPOINTS and CONFIG_EVENT_TRACING.",
    )


def _folder(root: Path, event: str) -> Path:
    group, _, name = event.partition(":")
    return root / "events" / group / name


@contextlib.contextmanager
def _instance(root: Path) -> Iterator[Path]:
    """Make an instance and take it away again, whatever happens: T1 and T3."""
    instance = root / "instances" / f"shmreclaim-{os.getpid()}"
    with held_signals() as held:
        _make(instance)
        try:
            with held.let_through():
                yield instance
        finally:
            _remove(instance)


def _make(instance: Path) -> None:
    try:
        instance.mkdir()
    except OSError as error:
        raise _refused(f"making {instance}", error) from None


def _remove(instance: Path) -> None:
    """Remove the instance, or let it at least be silent."""
    try:
        instance.rmdir()
    except OSError as error:
        _write(instance / "tracing_on", "0")
        _write(instance / "events" / "enable", "0")
        raise SetupError(
            f"{instance} could not be removed: {error.strerror}",
            cause="Another program has one of its files open.",
            remedy=f"Its events are disabled. When that program is done: rmdir {instance}",
        ) from None


def _write(path: Path, value: str) -> None:
    try:
        file = os.open(path, os.O_WRONLY)  # one that is not there is not made
        try:
            os.write(file, value.encode("ascii"))
        finally:
            os.close(file)
    except OSError as error:
        raise _refused(f"writing {value} to {path}", error) from None


def _refused(what: str, error: OSError) -> SetupError:
    if error.errno in (errno.EACCES, errno.EPERM) and os.geteuid() != 0:
        return _not_root()
    return SetupError(
        f"tracefs refused {what}: {error.strerror}",
        cause="Too little memory for the buffers, a tracefs mounted read-only, or a kernel that is locked down.",
        remedy="Ask for a smaller --buffer, or see what dmesg says.",
    )


def _follow(
    instance: Path, sink: BinaryIO, limits: Limits, recorded: Recorded, told: Callable[[float, int], None]
) -> None:
    """Copy the pipe until the time is over or somebody said stop, then what is left in it: T2."""
    try:
        pipe = os.open(instance / "trace_pipe", os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        raise _refused("opening trace_pipe", error) from None
    try:
        _write(instance / "tracing_on", "1")
        began, due = time.monotonic(), 0.0
        while (elapsed := time.monotonic() - began) < limits.seconds and not limits.stop():
            if elapsed >= due:
                told(elapsed, recorded.bytes)
                due = elapsed + _LOOK
            if not _copy(pipe, sink, recorded):
                select.select([], [], [], min(_LOOK, limits.seconds - elapsed))
        _write(instance / "tracing_on", "0")
        recorded.seconds = time.monotonic() - began
        while _copy(pipe, sink, recorded):
            pass
    finally:
        os.close(pipe)


def _copy(pipe: int, sink: BinaryIO, recorded: Recorded) -> bool:
    """Copy what the pipe gives at once; False where it has nothing."""
    try:
        data = os.read(pipe, _CHUNK)
    except BlockingIOError:
        return False
    except OSError as error:
        raise _refused("reading trace_pipe", error) from None
    sink.write(data)
    recorded.bytes += len(data)
    recorded.lines += data.count(b"\n")
    return bool(data)


_FIGURE = re.compile(r"^(?:overrun|commit overrun|dropped events): (\d+)$", re.MULTILINE)


def _lost(instance: Path) -> int:
    """Sum what each CPU's stats say was overwritten or dropped."""
    try:
        texts = [path.read_text(encoding="ascii") for path in sorted(instance.glob("per_cpu/cpu*/stats"))]
    except OSError as error:
        raise _refused("reading stats", error) from None
    return sum(int(number) for text in texts for number in _FIGURE.findall(text))
