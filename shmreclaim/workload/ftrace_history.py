"""What the recorded tasks did: memcgs made and removed, superblocks mounted, reclaim passes, drop_caches.

Events in, a `History` out; nothing here knows of CPUs or op streams. All of it is in the order of a *moment*, (time,
number of the event): a trace's clock is coarse, and the order in the file tells equal times apart.

Rules, where the trace leaves a choice:
H1  A task's memcg is the newest one that it made and that is not removed yet. A task without one is outside all memcgs.
H2  A mount makes a superblock unless its flags say bind, remount, move or a propagation change.
H3  An umount takes the live mount of that task which has the same pointer as its name, otherwise the oldest one.
H4  A pass is a run of calls of one task in one memcg, on one node, at one priority, each shrinker once.
H5  A drop_caches is a run of calls at priority 0 by a task outside all memcgs, other than kswapd, with
    no pause of DROP_PAUSE between a return and the next call.
H6  A function in UNAWARE is only called by reclaim from outside all memcgs, so it makes its pass the root's.
"""

import math
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from shmreclaim.workload.ftrace_events import (
    Body,
    CgroupMkdir,
    CgroupRmdir,
    Event,
    MountCall,
    MountReturn,
    ReclaimEdge,
    ShrinkEnd,
    ShrinkStart,
    UmountCall,
    UmountReturn,
)
from shmreclaim.workload.ftrace_text import Recording

Moment = tuple[float, int]
"""A time in ns and the number of the event, to tell equal times apart."""
NEVER: Moment = (math.inf, 0)

DROP_PAUSE = 20_000_000
"""ns. Pauses recorded inside one drop_caches stay below 3 ms, those between two that a program issued above 77 ms."""

UNAWARE = frozenset(
    {
        "kfree_rcu_shrink_scan",
        "vmap_node_shrink_scan",
        "ext4_es_scan",
        "mb_cache_scan",
        "nfs_access_cache_scan",
        "rpcauth_cache_shrink_scan",
        "xfs_buftarg_shrink_scan",
        "xfs_inodegc_shrinker_scan",
        "shrink_huge_zero_page_scan",
        "shrink_huge_zero_folio_scan",
        "i915_gem_shrinker_scan",
        "ttm_pool_shrinker_scan",
        "mmu_shrink_scan",
        "dm_bufio_shrink_scan",
        "balloon_page_shrink",
    }
)
"""Functions of shrinkers registered without SHRINKER_MEMCG_AWARE."""

_NO_SUPERBLOCK = (1 << 5) | (1 << 12) | (1 << 13) | (1 << 17) | (1 << 18) | (1 << 19) | (1 << 20)
"""MS_REMOUNT, MS_BIND, MS_MOVE, MS_UNBINDABLE, MS_PRIVATE, MS_SLAVE, MS_SHARED."""
_LAST_PRIORITY = 12


@dataclass(eq=False)
class Memcg:
    """A memcg that a task made; handles start at 1, the root is 0 and has no record."""

    handle: int
    pid: int
    path: str
    parent: "Memcg | None"
    made: Moment
    removed: Moment = NEVER
    live_children: int = 0


@dataclass(eq=False)
class Mount:
    """A superblock that a task mounted: live from `called` on, gone when the umount returned."""

    pid: int
    memcg: Memcg | None
    dir_name: str
    called: Moment
    umount_called: Moment = NEVER
    umount_returned: Moment = NEVER


@dataclass(eq=False)
class Call:
    """One call of a shrinker, from its start and end events."""

    moment: Moment
    pid: int
    memcg: Memcg | None
    what: ShrinkStart
    drop: bool
    """Made by a drop_caches, as far as can be seen: H5."""
    freed: int = 0

    @property
    def function(self) -> str:
        """The function's name without offset and compiler's suffix."""
        return self.what.function.partition("+")[0].partition(".")[0]


@dataclass(eq=False)
class Step:
    """Calls that are one operation: a pass over one memcg's shrinkers, or a drop_caches."""

    calls: list[Call] = field(default_factory=list)
    pointers: set[str] = field(default_factory=set)
    last: float = 0
    """When the last of its events happened."""

    @property
    def first(self) -> Call:
        """The call it began with, which says when, who, and at which priority."""
        return self.calls[0]

    @property
    def memcg(self) -> Memcg | None:
        """Whose pass it is; H6."""
        aware = all(call.function not in UNAWARE for call in self.calls)
        return self.first.memcg if aware else None

    def goes_on_with(self, call: Call) -> bool:
        """Tell whether `call` belongs to this step: H4 and H5."""
        first = self.first
        if first.drop:
            return call.drop and call.moment[0] - self.last <= DROP_PAUSE
        here = (first.drop, first.memcg, first.what.nid, first.what.priority)
        there = (call.drop, call.memcg, call.what.nid, call.what.priority)
        return here == there and call.what.pointer not in self.pointers

    def add(self, call: Call) -> None:
        """Take `call` as the step's next one."""
        self.calls.append(call)
        self.pointers.add(call.what.pointer)
        self.last = call.moment[0]


@dataclass
class History:
    """Everything the tasks did, each list in the order of moments."""

    start: float
    span: float
    pids: list[int]
    memcgs: list[Memcg]
    mounts: list[Mount]
    steps: list[Step]
    unused: Counter[str]


@dataclass(eq=False)
class _Task:
    """One task's unfinished business."""

    kswapd: bool
    memcgs: list[Memcg] = field(default_factory=list)
    mounts: deque[Mount] = field(default_factory=deque)
    mounts_by_name: dict[str, deque[Mount]] = field(default_factory=dict)
    mounting: tuple[Moment, Memcg | None, MountCall] | None = None
    umounting: tuple[Moment, UmountCall] | None = None
    calling: Call | None = None
    step: Step | None = None

    def memcg(self) -> Memcg | None:
        # Removed ones leave when they come to the end, so that a task with very many costs no more than linear time.
        while self.memcgs and self.memcgs[-1].removed != NEVER:
            self.memcgs.pop()
        return self.memcgs[-1] if self.memcgs else None

    def mounted(self, mount: Mount) -> None:
        self.mounts.append(mount)
        self.mounts_by_name.setdefault(mount.dir_name, deque()).append(mount)

    def mount_named(self, name: str) -> Mount | None:
        """Find the mount that an umount of `name` takes: H3."""
        for mounts in (self.mounts_by_name.get(name, deque()), self.mounts):
            while mounts and mounts[0].umount_called != NEVER:
                mounts.popleft()
            if mounts:
                return mounts[0]
        return None


class _Walk:
    """One walk over the events; the methods `_on_*` are the events' meanings."""

    def __init__(self, recording: Recording) -> None:
        self.unused = recording.unused
        self.hierarchy = _busiest_hierarchy(recording.events)
        self.tasks: dict[int, _Task] = {}
        self.live: dict[int, Memcg] = {}
        self.by_path: dict[str, Memcg] = {}
        self.memcgs: list[Memcg] = []
        self.mounts: list[Mount] = []
        self.steps: list[Step] = []
        self.task = _Task(kswapd=False)
        self.pid = 0
        self.moment: Moment = NEVER

    def take(self, number: int, event: Event) -> None:
        self.moment, self.pid = (event.time, number), event.pid
        if event.pid not in self.tasks:
            self.tasks[event.pid] = _Task(kswapd=event.comm.startswith("kswapd"))
        self.task = self.tasks[event.pid]
        if not isinstance(event.body, (ShrinkStart, ShrinkEnd)):
            self.task.step = None
        _MEANING[type(event.body)](self, event.body)

    def on_mkdir(self, made: CgroupMkdir) -> None:
        if made.root != self.hierarchy:
            self.unused["cgroup events of other hierarchies"] += 1
            return
        if made.id in self.live:
            self.unused["cgroup_mkdir of an id in use: its cgroup_rmdir is missing, the older memcg stays"] += 1
        parent = self.by_path.get(made.path.rpartition("/")[0])
        memcg = Memcg(len(self.memcgs) + 1, self.pid, made.path, parent, self.moment)
        if parent is not None:
            parent.live_children += 1
        self.memcgs.append(memcg)
        self.task.memcgs.append(memcg)
        self.live[made.id] = self.by_path[made.path] = memcg

    def on_rmdir(self, gone: CgroupRmdir) -> None:
        memcg = self.live.get(gone.id) if gone.root == self.hierarchy else None
        if memcg is None:
            self.unused["cgroup_rmdir of a memcg whose cgroup_mkdir is not in the trace"] += 1
        elif memcg.live_children:
            self.unused["cgroup_rmdir of a memcg that still has children"] += 1
        else:
            self._remove(gone.id, memcg)

    def _remove(self, cgroup_id: int, memcg: Memcg) -> None:
        memcg.removed = self.moment
        del self.live[cgroup_id]
        if self.by_path.get(memcg.path) is memcg:
            del self.by_path[memcg.path]
        if memcg.parent is not None:
            memcg.parent.live_children -= 1

    def on_mount(self, call: MountCall) -> None:
        self._count_if(self.task.mounting is not None, "sys_mount calls without a return")
        self.task.mounting = self.moment, self.task.memcg(), call

    def on_mount_return(self, done: MountReturn) -> None:
        pending, self.task.mounting = self.task.mounting, None
        if pending is None:
            self.unused["sys_mount returns without a call"] += 1
        elif done.result:
            self.unused["mounts that failed"] += 1
        elif pending[2].flags & _NO_SUPERBLOCK:
            self.unused["mounts that make no superblock (bind, remount, move, propagation)"] += 1
        else:
            called, memcg, call = pending
            mount = Mount(self.pid, memcg, call.dir_name, called)
            self.mounts.append(mount)
            self.task.mounted(mount)

    def on_umount(self, call: UmountCall) -> None:
        self._count_if(self.task.umounting is not None, "sys_umount calls without a return")
        self.task.umounting = self.moment, call

    def on_umount_return(self, done: UmountReturn) -> None:
        pending, self.task.umounting = self.task.umounting, None
        if pending is None:
            self.unused["sys_umount returns without a call"] += 1
        elif done.result:
            self.unused["umounts that failed"] += 1
        elif (mount := self.task.mount_named(pending[1].name)) is None:
            self.unused["umounts without a live mount of that task"] += 1
        else:
            mount.umount_called, mount.umount_returned = pending[0], self.moment

    def on_call(self, what: ShrinkStart) -> None:
        self._count_if(self.task.calling is not None, _NO_END)
        self.task.calling = None
        if what.priority is None:
            self.unused["shrinker calls without a priority (kernels before 4.16)"] += 1
        elif what.priority > _LAST_PRIORITY:
            self.unused[f"shrinker calls with a priority above {_LAST_PRIORITY}"] += 1
        else:
            memcg = self.task.memcg()
            drop = memcg is None and what.priority == 0 and not self.task.kswapd
            self.task.calling = Call(self.moment, self.pid, memcg, what, drop)
            self._place(self.task.calling)

    def _place(self, call: Call) -> None:
        step = self.task.step
        if step is None or not step.goes_on_with(call):
            step = self.task.step = Step()
            self.steps.append(step)
        step.add(call)

    def on_call_end(self, end: ShrinkEnd) -> None:
        call, self.task.calling = self.task.calling, None
        if call is None or call.what.pointer != end.pointer:
            self._count_if(call is not None, _NO_END)
            self.unused["mm_shrink_slab_end without its start"] += 1
            return
        call.freed = max(0, end.freed)
        if self.task.step is not None:
            self.task.step.last = self.moment[0]

    def on_reclaim_edge(self, _edge: ReclaimEdge) -> None:
        """Nothing but the end of a pass, which `take` sees to."""

    def finish(self) -> None:
        for task in self.tasks.values():
            self._count_if(task.mounting is not None, "sys_mount calls without a return")
            self._count_if(task.umounting is not None, "sys_umount calls without a return")
            self._count_if(task.calling is not None, _NO_END)

    def _count_if(self, lost: bool, reason: str) -> None:
        if lost:
            self.unused[reason] += 1


_NO_END = "shrinker calls whose end is missing (taken as freeing nothing)"

_MEANING: dict[type[Body], Callable[..., None]] = {
    CgroupMkdir: _Walk.on_mkdir,
    CgroupRmdir: _Walk.on_rmdir,
    MountCall: _Walk.on_mount,
    MountReturn: _Walk.on_mount_return,
    UmountCall: _Walk.on_umount,
    UmountReturn: _Walk.on_umount_return,
    ShrinkStart: _Walk.on_call,
    ShrinkEnd: _Walk.on_call_end,
    ReclaimEdge: _Walk.on_reclaim_edge,
}


def _busiest_hierarchy(events: list[Event]) -> int:
    """Choose the hierarchy most memcgs were made in: with cgroup v1 a container makes one cgroup in each."""
    made = Counter(event.body.root for event in events if isinstance(event.body, CgroupMkdir))
    return max(made, key=lambda root: (made[root], -root), default=0)


def read_history(recording: Recording) -> History:
    """Walk over the events of `recording` once and tell what its tasks did."""
    walk = _Walk(recording)
    for number, event in enumerate(recording.events):
        walk.take(number, event)
    walk.finish()
    start = recording.events[0].time
    return History(
        start=start,
        span=recording.events[-1].time - start,
        pids=list(walk.tasks),
        memcgs=walk.memcgs,
        mounts=sorted(walk.mounts, key=lambda mount: mount.called),
        steps=walk.steps,
        unused=walk.unused,
    )
