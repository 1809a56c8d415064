"""Workloads that can be played again and again: each CPU's stream ends as it began, and somebody holds locks long."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from shmreclaim.errors import UsageError
from shmreclaim.workload.ops import OP_DTYPE, Op, Stream, Workload

_ENDS = {Op.REGISTER: Op.UNREGISTER, Op.MEMCG_ONLINE: Op.MEMCG_OFFLINE}
_BEGINNINGS = {end: beginning for beginning, end in _ENDS.items()}
Life = tuple[Op, int]
"""What a handle stands for: how it begins, and its number."""


def repeatable(workload: Workload) -> Workload:
    """The same, and behind each stream what undoes it: what it left is taken away, what it took from the setup is back.

    Raises UsageError for a workload in which two CPUs make or unmake the same thing, or a CPU has nothing to do.
    """
    setup = _lives(workload.setup)
    owners: dict[Life, int] = {}
    streams = []
    for cpu, stream in enumerate(workload.streams):
        if not len(stream):
            raise UsageError(f"CPU {cpu} has nothing to do in {workload.name}", remedy="Ask for fewer --cpus.")
        mine = _lives(stream)
        for life in mine:
            other = owners.setdefault(life, cpu)
            if other != cpu:
                raise UsageError(
                    f"{workload.name} cannot be played in rounds: CPUs {other} and {cpu} both make or unmake "
                    f"{'memcg' if life[0] == Op.MEMCG_ONLINE else 'superblock'} {life[1]}"
                )
        streams.append(np.concatenate([stream, _undoing(mine, setup, int(stream["when"][-1]))]))
    return replace(workload, streams=tuple(streams))


def with_long_hold(workload: Workload, ns: int) -> Workload:
    """The same, and once in each round of CPU 0's stream a scan holds its locks for `ns`: that of a slow superblock."""
    sb, stream = workload.n_shrinkers, workload.streams[0]
    rows = np.zeros(4, OP_DTYPE)
    rows["op"] = [Op.REGISTER, Op.LRU_ADD, Op.SHRINK_SLAB, Op.UNREGISTER]
    rows["shrinker"] = [sb, sb, 0, sb]
    rows["count"] = [ns, 1, 0, 0]
    rows["arg"] = [1, 0, 0, 0]
    middle = len(stream) // 2
    rows["when"] = stream["when"][middle] if len(stream) else 0
    changed = np.concatenate([stream[:middle], rows, stream[middle:]])
    return replace(workload, n_shrinkers=sb + 1, streams=(changed, *workload.streams[1:]))


def _lives(stream: Stream) -> dict[Life, np.void | None]:
    """Of each handle that a stream begins or ends, its last beginning; None for one that is not there at the end."""
    found: dict[Life, np.void | None] = {}
    for row in stream[stream["op"] <= Op.MEMCG_OFFLINE]:
        op = Op(int(row["op"]))
        beginning = _BEGINNINGS.get(op, op)
        handle = int(row["memcg"] if beginning == Op.MEMCG_ONLINE else row["shrinker"])
        found.pop((beginning, handle), None)
        found[beginning, handle] = row if op == beginning else None
    return found


def _undoing(mine: dict[Life, np.void | None], setup: dict[Life, np.void | None], when: int) -> Stream:
    """What leads from the end of a stream to its beginning: last made, first unmade; then the setup's, in its order."""
    extra = [life for life, row in mine.items() if row is not None and setup.get(life) is None]
    missing = [row for life, row in setup.items() if row is not None and life in mine and mine[life] is None]
    rows = np.zeros(len(extra) + len(missing), OP_DTYPE)
    for k, (beginning, handle) in enumerate(reversed(extra)):
        rows[k]["op"] = _ENDS[beginning]
        rows[k]["memcg" if beginning == Op.MEMCG_ONLINE else "shrinker"] = handle
    for k, row in enumerate(missing, start=len(extra)):
        rows[k] = row
    rows["when"] = when
    return rows
