"""A recording of a real kernel as a workload: `load_trace`.

Source: the tracepoints of KERNEL.md 14 in ftrace's text form (`ftrace_text`, `ftrace_events`), told as what the tasks
did (`ftrace_history`, rules H1 to H6), with superblocks named (`ftrace_identity`, rules M1 to M5).

Kept from the recording
    the order of each task's operations and their times (ns since the first event); who made and removed which
    memcg and what parent it has; who mounted and unmounted when (the planned start is when the system call began);
    every pass with its memcg, node and priority; how many objects each call found.

Inferred, because a trace does not say it
I1  Tasks are dealt to CPUs, the busiest first, each to the CPU with the fewest operations so far; tasks whose memcgs
    are parent and child share a CPU. A memcg is removed on the CPU that made it, whoever called rmdir.
I2  Before a pass, objects are added or deleted up to the number that each call found, at the time the pass began.
    Between calls a list is taken to hold what was found less what was freed. Half of a superblock's objects are inodes,
    half (rounded up) dentries.
I3  A drop_caches leaves every list empty. Its calls do not say whose objects they met: of a shrinker it called there
    were at least as many as one call found and as all calls freed; what the lists of all memcgs lack of that is given
    to the root. A mounted superblock's objects are given to the memcg that mounted it.
I4  Shrinkers that existed before the recording are registered in `setup` and stay. Objects of one that is not
    memcg-aware are the root's.
I5  Reclaim from outside all memcgs at priorities above 0 is a pass over the root.

Not used
    what the page LRU gave (mm_vmscan_*_reclaim_end): a recorded pass is replayed as slab reclaim only, so page cache
    would pile up; deferred counts, delta and total_scan, which each design's own arithmetic gives; whether an object
    was busy: here every object can be freed, so a drop frees more than the kernel did.

Limits: see `ftrace_text` and `ftrace_replay` (MAX_FOUND, MAX_OBJECTS). Memory is sized so that no allocation fails even
if nothing is ever freed. A thread or child of a container's process that made no memcg itself counts as outside.
"""

import heapq
import operator
from collections import Counter, defaultdict
from itertools import accumulate
from pathlib import Path

from shmreclaim.workload import recordings
from shmreclaim.workload.ftrace_history import History, Moment, read_history
from shmreclaim.workload.ftrace_identity import Identities, identify
from shmreclaim.workload.ftrace_replay import Replay, Row
from shmreclaim.workload.ftrace_text import Recording
from shmreclaim.workload.ops import Memory, Op, Stream, Workload, make_stream
from shmreclaim.workload.shape import Shape

_MAX_WHEN = 1 << 62
_PAGE = 4096
_DENTRY, _INODE, _SUPERBLOCK, _MEMCG, _LIST = 192, 704, 2048, 4096, 128
"""Bytes of one; a list is one of (superblock, kind, memcg, node), which kernels before 5.18 made for all."""
_LEAST_PAGES = 4096


def load_trace(path: Path | None, *, cpus: int, nodes: int, seed: int) -> Workload:
    """Read the recording at `path`, the shipped one if None, as a workload for `cpus` CPUs."""
    shape = Shape(cpus, nodes, seed)
    name, recording = _read(path)
    history = read_history(recording)
    identities = identify(history)
    replay = Replay(history, identities, nodes)
    streams = _streams(replay.rows, _deal(history, replay.rows, cpus), history.start, cpus)
    setup: list[tuple[int, ...]] = [
        (0, Op.REGISTER, 0, shrinker.handle, 0, 0, int(shrinker.aware)) for shrinker in identities.before
    ]
    return Workload(
        kind="trace",
        name=name,
        seed=shape.seed,
        nodes=nodes,
        memory=_memory(history, identities, replay),
        n_memcgs=len(history.memcgs) + 1,
        n_shrinkers=identities.count,
        setup=make_stream(setup),
        streams=streams,
        parameters=_parameters(recording, history, identities, replay),
        notes=_notes(recording, history, cpus),
    )


def _read(path: Path | None) -> tuple[str, Recording]:
    if path is None:
        return recordings.CONTAINERS, recordings.read_shipped(recordings.CONTAINERS)
    return path.name, recordings.read_file(path, "; without --trace the shipped recording is used")


def _deal(history: History, rows: dict[int, list[Row]], cpus: int) -> dict[int, int]:
    """Give each task its CPU: I1."""
    groups: dict[int, list[int]] = defaultdict(list)
    family = _families(history)
    for pid in history.pids:
        groups[family[pid]].append(pid)
    sizes = {head: sum(len(rows.get(pid, ())) for pid in pids) for head, pids in groups.items()}
    loads = [(0, cpu) for cpu in range(cpus)]
    cpu_of: dict[int, int] = {}
    for head in sorted(groups, key=lambda head: -sizes[head]):
        load, cpu = loads[0]
        heapq.heapreplace(loads, (load + sizes[head], cpu))
        cpu_of.update(dict.fromkeys(groups[head], cpu))
    return cpu_of


def _families(history: History) -> dict[int, int]:
    """Name for each task the head of those whose memcgs are parent and child of its own (union and find)."""
    head = {pid: pid for pid in history.pids}

    def find(pid: int) -> int:
        while head[pid] != pid:
            head[pid] = head[head[pid]]
            pid = head[pid]
        return pid

    for memcg in history.memcgs:
        if memcg.parent is not None:
            head[find(memcg.pid)] = find(memcg.parent.pid)
    return {pid: find(pid) for pid in history.pids}


def _streams(rows: dict[int, list[Row]], cpu_of: dict[int, int], start: float, cpus: int) -> tuple[Stream, ...]:
    dealt: list[list[Row]] = [[] for _ in range(cpus)]
    for pid, cpu in cpu_of.items():
        dealt[cpu] += rows.get(pid, [])
    for mine in dealt:
        mine.sort(key=operator.attrgetter("moment"))
    return tuple(make_stream([(_when(row, start), *row[1:]) for row in mine]) for mine in dealt)


def _when(row: Row, start: float) -> int:
    return min(int(row.moment[0] - start), _MAX_WHEN)


def _memory(history: History, identities: Identities, replay: Replay) -> Memory:
    """Twice what is needed if nothing is freed, on every node."""
    live = Counter[str]()
    peak_memcgs = _peak([(m.made, m.removed) for m in history.memcgs]) + 1
    peak_superblocks = _peak([(m.called, m.umount_returned) for m in history.mounts]) + len(identities.before)
    for row in (row for rows in replay.rows.values() for row in rows if row.op == Op.LRU_ADD):
        live["inode" if row.arg else "dentry"] += row.amount
    size = live["dentry"] * _DENTRY + live["inode"] * _INODE + peak_memcgs * _MEMCG
    size += peak_superblocks * (_SUPERBLOCK + peak_memcgs * replay.nodes * 2 * _LIST)
    pages = max(_LEAST_PAGES, 2 * -(-size // _PAGE))
    least = pages // 64
    return Memory(pages, watermark_min=least, watermark_low=least * 5 // 4, watermark_high=least * 3 // 2)


def _peak(lives: list[tuple[Moment, Moment]]) -> int:
    """Count how many of `lives` overlap at most."""
    changes = sorted([(begin, 1) for begin, _ in lives] + [(end, -1) for _, end in lives])
    return max(accumulate(change for _, change in changes), default=0)


def _parameters(recording: Recording, history: History, identities: Identities, replay: Replay) -> dict[str, object]:
    drops = sum(step.first.drop for step in history.steps)
    return {
        "events": recording.event_lines,
        "events_used": len(recording.events),
        "tasks": len(history.pids),
        "memcgs": len(history.memcgs),
        "mounts": len(history.mounts),
        "shrinkers_before": len(identities.before),
        "calls": len(identities.of_call),
        "passes": len(history.steps) - drops,
        "drops": drops,
        "objects_added": replay.added,
        "span_ns": int(history.span),
        "unused": {reason: count for reason, count in sorted(history.unused.items()) if count},
    }


def _notes(recording: Recording, history: History, cpus: int) -> tuple[str, ...]:
    notes = [f"{count:,} {reason}" for reason, count in sorted(history.unused.items()) if count]
    if len(history.pids) < cpus:
        notes.append(f"{cpus} CPUs play {len(history.pids)} recorded task(s): some have nothing to do")
    return (*recording.remarks, *notes)
