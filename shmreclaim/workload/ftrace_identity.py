"""Which superblock a recorded shrinker pointer is: one that a task mounted, or one that existed before the recording.

A trace names a shrinker by a hashed address and a mount by nothing at all, so the two are matched by who called what
when. The kernel gives the memory of an unmounted superblock to the next one: an identity is an address *and*
the life of a mount.

Rules:
M1  A pointer is a task's mount if, of the tasks inside memcgs, only that one calls it, and only during the mount's
    life, and the mount has no other pointer yet; of several, the newest is taken.
M2  After that mount's life ended, the pointer may become another mount, of any task, by M1.
M3  Calls from outside all memcgs reach every superblock: they fit a mount if they fall into its life, and choose none.
M4  If a single call does not fit, the superblock of that pointer existed before the recording and lasts: all calls are
    its own.
M5  Only functions of superblocks (super_cache_scan) can be mounts.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from shmreclaim.workload.ftrace_history import UNAWARE, Call, History, Moment, Mount

AWARE = frozenset({"super_cache_scan", "deferred_split_scan", "scan_shadow_nodes", "zswap_shrinker_scan"})
"""Functions of shrinkers registered with SHRINKER_MEMCG_AWARE."""
_LOOK_BACK = 64
"""How many of a task's newest mounts are tried."""


@dataclass(eq=False)
class Shrinker:
    """One identity: a mount's superblock, or what `setup` registers because it existed before."""

    handle: int
    superblock: bool
    aware: bool = True
    mount: Mount | None = None


@dataclass
class Identities:
    """All shrinkers of a trace; handles of those from before come first."""

    before: list[Shrinker] = field(default_factory=list)
    mounted: dict[Mount, Shrinker] = field(default_factory=dict)
    of_call: dict[Call, Shrinker] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """The number of handles."""
        return len(self.before) + len(self.mounted)


def identify(history: History) -> Identities:
    """Give each call and each mount of `history` its shrinker."""
    by_pointer: dict[tuple[str, str], list[Call]] = defaultdict(list)
    for step in history.steps:
        for call in step.calls:
            by_pointer[call.what.pointer, call.function].append(call)
    groups = sorted((sorted(calls, key=lambda call: call.moment) for calls in by_pointer.values()), key=_first_moment)
    matcher = _Matcher(history.mounts)
    found = Identities()
    matched: dict[Call, Mount] = {}
    for calls in groups:
        fitting = matcher.match(calls) if calls[0].function == "super_cache_scan" else None
        if fitting is None:
            shrinker = _from_before(len(found.before), calls)
            found.before.append(shrinker)
            found.of_call.update(dict.fromkeys(calls, shrinker))
        else:
            matched.update(fitting)
    for handle, mount in enumerate(history.mounts, len(found.before)):
        found.mounted[mount] = Shrinker(handle, superblock=True, mount=mount)
    found.of_call.update((call, found.mounted[mount]) for call, mount in matched.items())
    return found


def _first_moment(calls: list[Call]) -> Moment:
    return calls[0].moment


def _from_before(handle: int, calls: list[Call]) -> Shrinker:
    function = calls[0].function
    called_inside = any(call.memcg is not None for call in calls)
    aware = function in AWARE or (called_inside and function not in UNAWARE)
    return Shrinker(handle, superblock=function == "super_cache_scan", aware=aware)


class _Matcher:
    """Matches pointers with mounts; remembers which mounts have one."""

    def __init__(self, mounts: Iterable[Mount]) -> None:
        self.of_task: dict[int, list[Mount]] = defaultdict(list)
        for mount in mounts:
            self.of_task[mount.pid].append(mount)
        self.claimed: set[Mount] = set()

    def match(self, calls: list[Call]) -> dict[Call, Mount] | None:
        """Give each call of one pointer its mount, or None if they are not all of mounts: M1 to M4."""
        owners: list[Mount] = []
        for call in calls:
            if call.memcg is None or (owners and _fits(call, owners[-1])):
                continue
            mount = self._newest_unclaimed(call)
            if mount is None or (owners and not _may_follow(owners[-1], mount, call.moment)):
                return None
            owners.append(mount)
        fitting = _fit_all(calls, owners)
        if fitting is not None:
            self.claimed.update(owners)
        return fitting

    def _newest_unclaimed(self, call: Call) -> Mount | None:
        mounts = self.of_task.get(call.pid, [])
        end = bisect_right(mounts, call.moment, key=lambda mount: mount.called)
        for mount in reversed(mounts[max(0, end - _LOOK_BACK) : end]):
            if _alive(mount, call.moment) and mount not in self.claimed:
                return mount
        return None


def _fit_all(calls: list[Call], owners: list[Mount]) -> dict[Call, Mount] | None:
    fitting: dict[Call, Mount] = {}
    for call in calls:
        at = bisect_right(owners, call.moment, key=lambda mount: mount.called) - 1
        if at < 0 or not _fits(call, owners[at]):
            return None
        fitting[call] = owners[at]
    return fitting


def _may_follow(old: Mount, new: Mount, moment: Moment) -> bool:
    """M2; a mount is called a little before it gets its memory, so the two lives may touch."""
    return not _alive(old, moment) and old.called < new.called


def _alive(mount: Mount, moment: Moment) -> bool:
    return mount.called <= moment <= mount.umount_returned


def _fits(call: Call, mount: Mount) -> bool:
    return _alive(mount, call.moment) and (call.memcg is None or call.pid == mount.pid)
