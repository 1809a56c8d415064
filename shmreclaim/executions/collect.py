"""From the words of a segment to a RunRecord: sums over the CPUs of what each counted for itself."""

from __future__ import annotations

import errno

from shmreclaim.kernel import OP_COUNTS
from shmreclaim.machine.arena import Arena
from shmreclaim.machine.cpu import CPU, LOCKSTAT_WORDS, OP_WORDS
from shmreclaim.machine.histogram import HISTOGRAM, N_BUCKETS
from shmreclaim.machine.layout import HEADER
from shmreclaim.machine.op_log import LOGGED, log_of
from shmreclaim.mm.shrinker import SHRINKER
from shmreclaim.mm.state import GROWTH_HISTOGRAM, MM, Event
from shmreclaim.result import (
    Histogram,
    Ids,
    Invariants,
    LockUse,
    LoggedOp,
    Objects,
    OpRun,
    Range,
    Reclaim,
    RunRecord,
    WorkerSpan,
    jain,
)
from shmreclaim.sync.lockdep import LOCKSTAT, READ, WRITE, LockClass
from shmreclaim.workload.ops import Op

MUTEXES = (
    LockClass.CGROUP_MUTEX,
    LockClass.LIST_LRUS_MUTEX,
    LockClass.MAP_MUTEX,
    LockClass.SHRINKER_MUTEX,
    LockClass.SRCU_GP_MUTEX,
)
FAILURES = {
    OP_COUNTS.failed_enomem: errno.errorcode[errno.ENOMEM],
    OP_COUNTS.failed_enospc: errno.errorcode[errno.ENOSPC],
    OP_COUNTS.failed_other: "other",
}


def gather(arena: Arena, players: list[int], slots: list[int], checked: int, violations: list[str]) -> RunRecord:
    """Make the record of a run that is over; `players` are the CPUs with a stream, `slots` all of them."""
    mm = arena.memory[HEADER.kernel]
    workers = [_span(arena, slot) for slot in players]
    locks = _locks(arena, slots)
    wall = max(w.ended_ns for w in workers) - min(w.started_ns for w in workers)
    return RunRecord(
        wall_s=wall / 1e9,
        ops={op.label: _op(arena, players, op) for op in Op if _planned(arena, players, op)},
        reclaim=_reclaim(arena, slots),
        growth=_histogram(arena, slots, GROWTH_HISTOGRAM),
        locks=locks,
        jain={op.label: _jain(arena, players, op) for op in Op if _planned(arena, players, op)},
        longest_wait_ns=max((use.waittime_ns.max for uses in locks.values() for use in uses.values()), default=0),
        objects=_objects(arena, slots),
        ids=Ids(peak_live=arena.memory[mm + MM.peak_ids], max_id=arena.memory[mm + MM.max_id]),
        invariants=Invariants(checked=checked, violations=violations),
        workers=workers,
        events={each.name.lower(): event(arena, slots, each) for each in Event},
        scans=_scans(arena, mm),
        log=[_logged(arena, slot, at) for slot in players for at in log_of(arena, slot)],
    )


def _logged(arena: Arena, slot: int, at: int) -> LoggedOp:
    memory = arena.memory
    return LoggedOp(
        op=Op(memory[at + LOGGED.op]).label,
        cpu=memory[slot + CPU.id] - 1,
        at_ns=memory[at + LOGGED.since] - memory[slot + CPU.started],
        ns=memory[at + LOGGED.time],
        cpu_ns=memory[at + LOGGED.cpu_time],
        events={e.name.lower(): memory[at + LOGGED.events + e] for e in Event if memory[at + LOGGED.events + e]},
    )


def event(arena: Arena, slots: list[int], which: Event) -> int:
    """Sum of one counter over CPUs."""
    return sum(arena.memory[slot + CPU.events + which] for slot in slots)


def _span(arena: Arena, slot: int) -> WorkerSpan:
    memory = arena.memory
    return WorkerSpan(
        cpu=memory[slot + CPU.id] - 1,
        pid=memory[slot + CPU.pid],
        started_ns=memory[slot + CPU.started],
        ended_ns=memory[slot + CPU.ended],
        ops=memory[slot + CPU.ops_done],
    )


def _scans(arena: Arena, mm: int) -> dict[int, int]:
    """Scans of every superblock there is, by its handle."""
    memory, first = arena.memory, arena.memory[mm + MM.shrinker_table]
    mounted = {k: memory[first + k] for k in range(memory[mm + MM.nr_shrinker_handles])}
    return {k: memory[sb + SHRINKER.nr_scans] for k, sb in mounted.items() if sb}


def _counts(arena: Arena, slot: int, op: Op) -> list[int]:
    return arena.view(slot + CPU.ops + op * OP_WORDS, OP_COUNTS.SIZE).tolist()


def _planned(arena: Arena, slots: list[int], op: Op) -> bool:
    return any(sum(_counts(arena, slot, op)[: OP_COUNTS.time]) for slot in slots)


def _op(arena: Arena, slots: list[int], op: Op) -> OpRun:
    sums = [sum(column) for column in zip(*(_counts(arena, slot, op) for slot in slots), strict=True)]
    return OpRun(
        count=sums[OP_COUNTS.done],
        latency=_histogram(arena, slots, op),
        failed={name: sums[at] for at, name in FAILURES.items() if sums[at]},
        skipped=sums[OP_COUNTS.skipped],
    )


def _jain(arena: Arena, slots: list[int], op: Op) -> float:
    """How evenly the CPUs that ask for an operation are served: over what each gets done in a second spent in it.

    What is done is counted in objects or pages where an operation is for several.
    """
    served = []
    for slot in slots:
        counts = _counts(arena, slot, op)
        if counts[OP_COUNTS.time]:
            served.append(counts[OP_COUNTS.units] / counts[OP_COUNTS.time])
    return jain(served)


def _histogram(arena: Arena, slots: list[int], which: int) -> Histogram:
    parts = []
    for slot in slots:
        at = slot + CPU.histograms + which * HISTOGRAM.SIZE
        parts.append(
            Histogram.from_counts(
                arena.view(at + HISTOGRAM.buckets, N_BUCKETS),
                arena.memory[at + HISTOGRAM.max],
                arena.memory[at + HISTOGRAM.total],
            )
        )
    return Histogram.merge(parts)


def _reclaim(arena: Arena, slots: list[int]) -> Reclaim:
    return Reclaim(
        passes=event(arena, slots, Event.RECLAIM_PASSES),
        trylock_failed=event(arena, slots, Event.TRYLOCK_FAILED),
        bailed_out=event(arena, slots, Event.BAILED_OUT),
        shrinker_calls=event(arena, slots, Event.SHRINKER_CALLS),
        objects_freed=event(arena, slots, Event.OBJECTS_FREED),
        pages_freed=event(arena, slots, Event.PAGES_FREED),
    )


def _objects(arena: Arena, slots: list[int]) -> Objects:
    return Objects(
        added=event(arena, slots, Event.OBJECTS_ADDED),
        deleted=event(arena, slots, Event.OBJECTS_DELETED),
        freed=event(arena, slots, Event.OBJECTS_FREED),
        remaining=arena.memory[arena.memory[HEADER.kernel] + MM.nr_objects],
    )


def _locks(arena: Arena, slots: list[int]) -> dict[str, dict[str, LockUse]]:
    locks: dict[str, dict[str, LockUse]] = {}
    for klass in LockClass:
        modes = {"write": WRITE} if klass in MUTEXES else {"read": READ, "write": WRITE}
        uses = {name: _use(arena, slots, klass, mode) for name, mode in modes.items()}
        if any(use.acquisitions or use.trylock_failed for use in uses.values()):
            locks[klass.name.lower()] = uses
    return locks


def _use(arena: Arena, slots: list[int], klass: LockClass, mode: int) -> LockUse:
    rows = [arena.view(slot + CPU.lockstats + (klass * 2 + mode) * LOCKSTAT_WORDS, LOCKSTAT_WORDS) for slot in slots]
    return LockUse(
        acquisitions=sum(int(row[LOCKSTAT.acquisitions]) for row in rows),
        contentions=sum(int(row[LOCKSTAT.contentions]) for row in rows),
        trylock_failed=sum(int(row[LOCKSTAT.trylock_failed]) for row in rows),
        waittime_ns=_range([row[LOCKSTAT.waittime_min :][:3].tolist() for row in rows]),
        holdtime_ns=_range([row[LOCKSTAT.holdtime_min :][:3].tolist() for row in rows]),
    )


def _range(rows: list[list[int]]) -> Range:
    """Put (min, max, total) triples of several CPUs together; a total of 0 says that there was none."""
    used = [row for row in rows if row[2]]
    if not used:
        return Range()
    return Range(min=min(r[0] for r in used), max=max(r[1] for r in used), total=sum(r[2] for r in used))
