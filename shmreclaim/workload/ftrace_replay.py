"""From what recorded tasks did to rows of ops: a model of what every list holds decides what to add before a pass.

Rules I2 to I5 of `shmreclaim.workload.ftrace` are here. Rows are made for tasks; which CPU plays a task is decided later,
so a row is given to the task that owns what it touches: objects of a mounted superblock to the task that mounted
it, because only the CPU that registers a shrinker may fill it.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from shmreclaim.workload.ftrace_history import Call, History, Memcg, Moment, Step
from shmreclaim.workload.ftrace_identity import Identities, Shrinker
from shmreclaim.workload.ops import Op

MAX_FOUND = 1 << 17
MAX_OBJECTS = 2_000_000

Row = tuple[Moment, tuple[int, ...]]
"""A moment, and `(op, memcg, shrinker, nid, count, arg)`."""


@dataclass(frozen=True)
class _List:
    """One list of objects, and the task whose CPU may add to it."""

    shrinker: Shrinker
    memcg: int
    nid: int


@dataclass
class Replay:
    """The rows of every task, and what had to be changed on the way."""

    nodes: int
    unused: Counter[str]
    rows: dict[int, list[Row]] = field(default_factory=lambda: defaultdict(list))
    holds: dict[_List, int] = field(default_factory=dict)
    """The model: how many objects each list holds; what is missing is 0."""
    added: int = 0

    def lives(self, history: History, identities: Identities) -> None:
        """Make the rows of memcgs and mounts."""
        for memcg in history.memcgs:
            parent = memcg.parent.handle if memcg.parent else 0
            self._row(memcg.pid, memcg.made, Op.MEMCG_ONLINE, memcg=memcg.handle, arg=parent)
            if memcg.removed[0] != float("inf"):
                self._row(memcg.pid, memcg.removed, Op.MEMCG_OFFLINE, memcg=memcg.handle)
        for mount, shrinker in identities.mounted.items():
            payer = mount.memcg.handle if mount.memcg else 0
            self._row(mount.pid, mount.called, Op.REGISTER, memcg=payer, shrinker=shrinker.handle, arg=1)
            if mount.umount_called[0] != float("inf"):
                self._row(mount.pid, mount.umount_called, Op.UNREGISTER, shrinker=shrinker.handle)
