"""From what recorded tasks did to rows of ops: a model of what every list holds decides what to add before a pass.

Rules I2 to I5 of `shmreclaim.workload.ftrace` are here. Rows are made for tasks; which CPU plays a task is decided
later. A row belongs to the task that may do it: objects of a mounted superblock to the task that mounted it, because
only the CPU that registers a shrinker may fill it.
"""

from collections import Counter, defaultdict
from typing import NamedTuple

from shmreclaim.workload.ftrace_history import NEVER, Call, History, Memcg, Moment, Step
from shmreclaim.workload.ftrace_identity import Identities, Shrinker
from shmreclaim.workload.ops import Op

MAX_FOUND = 1 << 17
MAX_OBJECTS = 2_000_000


class Row(NamedTuple):
    """One op of a task: a moment, then the fields of `OP_DTYPE` after `when`, in its order."""

    moment: Moment
    op: Op
    memcg: int = 0
    shrinker: int = 0
    nid: int = 0
    amount: int = 0
    arg: int = 0


class _List(NamedTuple):
    """A list of objects."""

    shrinker: Shrinker
    memcg: int
    nid: int


class Replay:
    """The rows of every task, and the model they come from."""

    def __init__(self, history: History, identities: Identities, nodes: int) -> None:
        """Make all rows at once."""
        self.nodes = nodes
        self.unused = history.unused
        self.rows: dict[int, list[Row]] = defaultdict(list)
        self.added = 0
        self._shrinker_of = identities.of_call
        self._holds: dict[_List, int] = {}
        self._memcgs(history.memcgs)
        self._mounts(identities)
        for step in history.steps:
            self._step(step)

    def _memcgs(self, memcgs: list[Memcg]) -> None:
        for memcg in memcgs:
            parent = _handle(memcg.parent)
            self.rows[memcg.pid].append(Row(memcg.made, Op.MEMCG_ONLINE, memcg=memcg.handle, arg=parent))
            if memcg.removed != NEVER:
                self.rows[memcg.pid].append(Row(memcg.removed, Op.MEMCG_OFFLINE, memcg=memcg.handle))

    def _mounts(self, identities: Identities) -> None:
        for mount, shrinker in identities.mounted.items():
            register = Row(mount.called, Op.REGISTER, memcg=_handle(mount.memcg), shrinker=shrinker.handle, arg=1)
            self.rows[mount.pid].append(register)
            if mount.umount_called != NEVER:
                self.rows[mount.pid].append(Row(mount.umount_called, Op.UNREGISTER, shrinker=shrinker.handle))

    def _step(self, step: Step) -> None:
        at, pid = step.first.moment, step.first.pid
        calls = [call for call in step.calls if self._is_usable(call, at)]
        if step.first.drop:
            self._fill_for_drop(calls, at)
            self.rows[pid].append(Row(at, Op.DROP_CACHES))
            self._holds.clear()
            return
        memcg = step.memcg
        lists = [self._list(call, memcg, at) for call in calls]
        for call, where in zip(calls, lists, strict=True):
            self._fill(call, where, at, call.what.items)
        nid, priority = step.first.what.nid % self.nodes, step.first.what.priority or 0
        self.rows[pid].append(Row(at, Op.SHRINK_SLAB, memcg=_handle(memcg), nid=nid, arg=priority))
        for call, where in zip(calls, lists, strict=True):
            self._holds[where] = max(0, self._holds[where] - call.freed)

    def _is_usable(self, call: Call, at: Moment) -> bool:
        """Tell whether the shrinker can be filled at `at`, when its step begins."""
        self.unused["calls on nodes that the workload has not (taken modulo --nodes)"] += call.what.nid >= self.nodes
        mount = self._shrinker_of[call].mount
        usable = mount is None or (mount.called < at and call.moment < mount.umount_called)
        self.unused["calls of a superblock while it was mounted or unmounted"] += not usable
        return usable

    def _list(self, call: Call, memcg: Memcg | None, at: Moment) -> _List:
        shrinker = self._shrinker_of[call]
        mount = shrinker.mount
        if mount is not None and call.pid != mount.pid:
            memcg = mount.memcg if mount.memcg is not None and at < mount.memcg.removed else None
        return _List(shrinker, _handle(memcg) if shrinker.aware else 0, call.what.nid % self.nodes)

    def _fill_for_drop(self, calls: list[Call], at: Moment) -> None:
        """Put on lists what a drop_caches must have met: I3."""
        known: Counter[tuple[Shrinker, int]] = Counter()
        for where, held in self._holds.items():
            known[where.shrinker, where.nid] += held
        groups: dict[tuple[Shrinker, int], list[Call]] = defaultdict(list)
        for call in calls:
            groups[self._shrinker_of[call], call.what.nid % self.nodes].append(call)
        for key, group in groups.items():
            found, freed = max(call.what.items for call in group), sum(call.freed for call in group)
            there = max(found, freed)
            if there > known[key]:
                where = self._list(group[0], None, at)
                self._fill(group[0], where, at, self._holds.get(where, 0) + there - known[key])

    def _fill(self, call: Call, where: _List, at: Moment, wanted: int) -> None:
        """Bring the list to `wanted` objects, as far as the limits allow."""
        held = self._holds.get(where, 0)
        target = min(wanted, MAX_FOUND, held + MAX_OBJECTS - self.added)
        self.unused[f"objects not made (limits: {MAX_FOUND:,} a call, {MAX_OBJECTS:,} in all)"] += wanted - target
        self.added += max(0, target - held)
        self._holds[where] = target
        pid = where.shrinker.mount.pid if where.shrinker.mount else call.pid
        for inodes, change in enumerate(_split_change(held, target, where.shrinker.superblock)):
            if change:
                op = Op.LRU_ADD if change > 0 else Op.LRU_DEL
                row = Row(at, op, where.memcg, where.shrinker.handle, where.nid, abs(change), inodes)
                self.rows[pid].append(row)


def _split_change(held: int, target: int, superblock: bool) -> tuple[int, int]:
    """Dentries and inodes to add, or delete if negative; both have one sign, so no list is ever asked for too much."""
    if not superblock:
        return target - held, 0
    inodes = target // 2 - held // 2
    return target - held - inodes, inodes


def _handle(memcg: Memcg | None) -> int:
    return 0 if memcg is None else memcg.handle
