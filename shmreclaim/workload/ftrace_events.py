"""One line of an ftrace text: the events that are read, and how a line says them.

Source: Documentation/trace/ftrace.rst (the line), include/trace/events/vmscan.h and cgroup.h (the
tracepoints), kernel/trace/trace_syscalls.c (system calls). Read loosely on purpose: a flag column of any width or none,
a tgid column, event names as the kernel prints them (`sys_mount(...)`) or as `trace-cmd report` does
(`sys_enter_mount: ...`), and fields that other kernels have between the ones used here.

Limits: the latency format (`trace_options latency-format`) has no usable times and is not read.
"""

import re
from collections.abc import Callable
from typing import NamedTuple


class ShrinkStart(NamedTuple):
    """mm_shrink_slab_start: a shrinker was called and found `items`; `priority` is None before v4.16.

    A workload needs no more; a line without the other figures is one all the same, and they are None.
    """

    function: str
    pointer: str
    nid: int
    items: int
    priority: int | None
    deferred: int | None = None
    """What earlier calls owed: "objects to shrink"."""
    delta: int | None = None
    total_scan: int | None = None


class ShrinkEnd(NamedTuple):
    """mm_shrink_slab_end: the call returned and had freed so many objects. Figures a line lacks are None."""

    pointer: str
    freed: int
    nid: int | None = None
    deferred: int | None = None
    """The start's once more: "unused scan count"."""
    owed: int | None = None
    """The counter after this call's share was added: "new scan count"."""
    left: int | None = None
    """Of the start's total_scan."""


class CgroupMkdir(NamedTuple):
    """cgroup_mkdir in hierarchy `root`."""

    root: int
    id: int
    path: str


class CgroupRmdir(NamedTuple):
    """cgroup_rmdir in hierarchy `root`."""

    root: int
    id: int


class MountCall(NamedTuple):
    """sys_mount was entered; `dir_name` is the caller's pointer, not a path."""

    dir_name: str
    flags: int


class MountReturn(NamedTuple):
    """sys_mount returned; 0 is success."""

    result: int


class UmountCall(NamedTuple):
    """sys_umount was entered; `name` is the caller's pointer."""

    name: str


class UmountReturn(NamedTuple):
    """sys_umount returned; 0 is success."""

    result: int


class ReclaimEdge(NamedTuple):
    """mm_vmscan_*_reclaim_begin or _end: what follows belongs to another reclaim."""


Body = (
    ShrinkStart
    | ShrinkEnd
    | CgroupMkdir
    | CgroupRmdir
    | MountCall
    | MountReturn
    | UmountCall
    | UmountReturn
    | ReclaimEdge
)


class Event(NamedTuple):
    """An event a workload can be made from; `time` is in ns of the trace's own clock."""

    time: int
    pid: int
    comm: str
    body: Body


class OtherLine(NamedTuple):
    """A line that gives no event: `reason` is None for headers and blanks, which nobody misses."""

    reason: str | None
    times: int = 1
    is_event: bool = False
    """It has an event's form, of whatever tracepoint: the file is a trace."""


# Every repetition is bounded, or followed by a character it cannot itself match: no line costs more than linear time.
_LINE = re.compile(
    r"\s*(\S.{0,79}?)-(\d{1,10})\s+(?:\([\s\d-]{1,16}\)\s+)?\[\d{1,5}\]\s+"
    r"(?:[^\s:]{1,16}\s+)?(\d{1,10})(?:\.(\d{1,9}))?:\s+(\w{1,80})(?:[:\s(]\s*|$)(.*)",
    re.ASCII,
)
_LOST = re.compile(r"\s*(?:CPU:\d{1,5}\s+)?\[LOST (?:(\d{1,18}) )?EVENTS\]", re.ASCII)
_WRITTEN = re.compile(r"#\s*entries-in-buffer/entries-written:\s*(\d{1,18})/(\d{1,18})", re.ASCII)
_CALLED = re.compile(r"(\S{1,200})(?: \[\S{1,64}\])? (\S{1,40}): (.*)", re.ASCII)
_FIGURE = re.compile(
    r"\b(nid:(?= \d{1,9}\b)|priority(?= \d{1,3}\b)|cache items(?= \d)|objects to shrink|delta|total_scan"
    r"|unused scan count|new scan count|last shrinker return val) (-?\d{1,20})\b",
    re.ASCII,
)
_CGROUP = re.compile(r"root=(\d{1,10}) id=(\d{1,20}) level=\d{1,10} path=(.{1,4096})", re.ASCII)
_DIR_NAME = re.compile(r"\bdir_name: (?:0x)?([0-9a-f]{1,16})\b", re.ASCII)
_NAME = re.compile(r"\bname: (?:0x)?([0-9a-f]{1,16})\b", re.ASCII)
_FLAGS = re.compile(r"\bflags: (?:0x)?([0-9a-f]{1,16})\b", re.ASCII)
_RESULT = re.compile(r"(?:-> )?(-?)(?:0x)?([0-9a-f]{1,16})\s*$", re.ASCII)


def parse_line(line: str) -> Event | OtherLine:
    """Read one line: the event it holds, or why it holds none."""
    found = _LINE.match(line)
    if found is None:
        return _other(line)
    comm, pid, seconds, fraction, name, rest = found.groups()
    parser = _PARSERS.get(name)
    if parser is None:
        return OtherLine("events of other tracepoints", is_event=True)
    body = parser(rest)
    if body is None:
        return OtherLine(f"{name} events whose fields could not be read", is_event=True)
    return Event(_nanoseconds(seconds, fraction), int(pid), comm, body)


def _nanoseconds(seconds: str, fraction: str | None) -> int:
    # A clock without a point (counter, x86-tsc) has no known unit; its order is what counts.
    return int(seconds) if fraction is None else int(seconds) * 1_000_000_000 + int(fraction.ljust(9, "0"))


def _other(line: str) -> OtherLine:
    if lost := _LOST.match(line):
        return OtherLine("events lost while recording ([LOST EVENTS])", int(lost[1] or 1))
    if written := _WRITTEN.match(line):
        overwritten = int(written[2]) - int(written[1])
        return OtherLine("events overwritten in the ring buffer before it was read", max(0, overwritten))
    if not line.strip() or line.startswith("#"):
        return OtherLine(None)
    return OtherLine("lines that are no event")


def _shrink_start(text: str) -> Body | None:
    called = _CALLED.match(text)
    if called is None:
        return None
    function, pointer, rest = called.groups()
    figures = _figures(rest)
    if "cache items" not in figures:
        return None
    return ShrinkStart(
        function,
        pointer,
        figures.get("nid:", 0),
        figures["cache items"],
        figures.get("priority"),
        figures.get("objects to shrink"),
        figures.get("delta"),
        figures.get("total_scan"),
    )


def _shrink_end(text: str) -> Body | None:
    called = _CALLED.match(text)
    if called is None:
        return None
    figures = _figures(called[3])
    if "last shrinker return val" not in figures:
        return None
    return ShrinkEnd(
        called[2],
        figures["last shrinker return val"],
        figures.get("nid:"),
        figures.get("unused scan count"),
        figures.get("new scan count"),
        figures.get("total_scan"),
    )


def _figures(text: str) -> dict[str, int]:
    """Give the figures by the words before them, wherever in the line a kernel puts them."""
    return {name: int(value) for name, value in _FIGURE.findall(text)}


def _mkdir(text: str) -> Body | None:
    made = _CGROUP.match(text)
    return CgroupMkdir(int(made[1]), int(made[2]), made[3].rstrip()) if made else None


def _rmdir(text: str) -> Body | None:
    gone = _CGROUP.match(text)
    return CgroupRmdir(int(gone[1]), int(gone[2])) if gone else None


def _mount_call(text: str) -> Body | None:
    where, flags = _DIR_NAME.search(text), _FLAGS.search(text)
    return MountCall(where[1], int(flags[1], 16) if flags else 0) if where else None


def _umount_call(text: str) -> Body | None:
    where = _NAME.search(text)
    return UmountCall(where[1]) if where else None


def _result(text: str) -> int | None:
    found = _RESULT.match(text)
    return int(found[1] + found[2], 16) if found else None


def _mount_return(text: str) -> Body | None:
    result = _result(text)
    return None if result is None else MountReturn(result)


def _umount_return(text: str) -> Body | None:
    result = _result(text)
    return None if result is None else UmountReturn(result)


def _mount(text: str) -> Body | None:
    return _mount_return(text) if text.startswith("->") else _mount_call(text)


def _umount(text: str) -> Body | None:
    return _umount_return(text) if text.startswith("->") else _umount_call(text)


def _reclaim_edge(_text: str) -> Body | None:
    return ReclaimEdge()


_PARSERS: dict[str, Callable[[str], Body | None]] = {
    "mm_shrink_slab_start": _shrink_start,
    "mm_shrink_slab_end": _shrink_end,
    "cgroup_mkdir": _mkdir,
    "cgroup_rmdir": _rmdir,
    "sys_mount": _mount,
    "sys_enter_mount": _mount_call,
    "sys_exit_mount": _mount_return,
    "sys_umount": _umount,
    "sys_enter_umount": _umount_call,
    "sys_exit_umount": _umount_return,
    "mm_vmscan_memcg_reclaim_begin": _reclaim_edge,
    "mm_vmscan_memcg_reclaim_end": _reclaim_edge,
    "mm_vmscan_direct_reclaim_begin": _reclaim_edge,
    "mm_vmscan_direct_reclaim_end": _reclaim_edge,
}

EVENTS = (
    "vmscan:mm_shrink_slab_start",
    "vmscan:mm_shrink_slab_end",
    "vmscan:mm_vmscan_memcg_reclaim_begin",
    "vmscan:mm_vmscan_memcg_reclaim_end",
    "vmscan:mm_vmscan_direct_reclaim_begin",
    "vmscan:mm_vmscan_direct_reclaim_end",
    "cgroup:cgroup_mkdir",
    "cgroup:cgroup_rmdir",
    "syscalls:sys_enter_mount",
    "syscalls:sys_exit_mount",
    "syscalls:sys_enter_umount",
    "syscalls:sys_exit_umount",
)
"""The tracepoints these lines come from, as `group:name`: what to record."""
