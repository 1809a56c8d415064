"""A look into a segment, live, hung or abandoned: who holds what, who waits, what the emulated kernel has.

Plain Python over a Snapshot. What leads astray is told as damage, and the rest goes on: a segment that changes under
the look may do so in passing, one whose owner died may be half done anywhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from msgspec.structs import replace

from shmreclaim import __version__
from shmreclaim.executions import oracles, stall
from shmreclaim.executions.inspect_kernel import mounted, see_kernel
from shmreclaim.executions.inspect_locks import see_lock
from shmreclaim.executions.segments import look_at
from shmreclaim.executions.snapshot import Snapshot, open_snapshot
from shmreclaim.inspection import CpuLook, Held, Inspection, LockLook
from shmreclaim.machine.cpu import CPU, PF_MEMALLOC, CpuState
from shmreclaim.machine.layout import HEADER
from shmreclaim.machine.process import is_alive
from shmreclaim.mm.state import MM
from shmreclaim.mm.superblock import SUPERBLOCK
from shmreclaim.sync.lockdep import LOCK, LockClass, LockKind

PartT = TypeVar("PartT")
STATES = {CpuState.FREE: "free", CpuState.ATTACHED: "attached", CpuState.RUNNING: "running", CpuState.DONE: "done"}
MOST_LOCKS = 100_000
DESIGN_LINES = 16
"""Where in a design's own record a lock is looked for, in lines."""


def inspect(name: str) -> Inspection:
    """Look at the segment of a name; raises SetupError if there is none of this user's and this very layout."""
    with open_snapshot(name) as words:
        return _Look(words).inspection()


class _Look:
    """One look; its parts in turn, each of which may fail for itself."""

    def __init__(self, words: Snapshot) -> None:
        self.words = words
        self.now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        self.damage: list[str] = []
        self.is_run = words[HEADER.kernel] != 0
        first, stride = words[HEADER.cpus], words[HEADER.cpu_stride]
        slots = [first + k * stride for k in range(words[HEADER.nr_cpus])]
        names = _names(words, len(slots))
        self.slots = dict(zip(names, slots, strict=True))
        self.by_number = dict(enumerate(names, 1))

    def part(self, what: str, see: Callable[[], PartT], otherwise: PartT) -> PartT:
        """What `see` sees; `otherwise`, and a line about the damage, if words lead it astray."""
        try:
            return see()
        except (IndexError, KeyError, ValueError, OverflowError) as error:
            self.damage.append(f"{what}: {error}")
            return otherwise

    def inspection(self) -> Inspection:
        words = self.words
        none: list[CpuLook] = []
        free: list[LockLook] = []
        locks = self.part("locks", self.locks, free)
        cpus = [_with_unnoted(cpu, locks) for cpu in self.part("CPUs", self.cpus, none)]
        kernel = self.part("kernel", lambda: see_kernel(words, [*self.slots.values()], self.damage), None)
        broken: list[str] = []
        if self.is_run:  # the slots of a program's tasks end before these words
            broken = self.part("violations", lambda: oracles.found_on_line(words, [*self.slots.values()]), broken)
        return Inspection(
            version=__version__, segment=look_at(words.name), seen_at_ns=self.now, cpus=cpus, locks=locks,
            kernel=kernel, violations=broken, damage=self.damage,
        )  # fmt: skip

    def cpus(self) -> list[CpuLook]:
        """Those whose slots are in use."""
        taken = {name: slot for name, slot in self.slots.items() if self.words[slot + CPU.state] != CpuState.FREE}
        return [self.cpu(name, slot) for name, slot in taken.items()]

    def cpu(self, name: str, slot: int) -> CpuLook:
        words = self.words
        standing = stall.standings(words, [slot], [name])[0]
        waits, waited = standing.waits, self.lock_name(words[slot + CPU.wait_for])
        return CpuLook(
            name=name,
            pid=words[slot + CPU.pid],
            process=_process(words[slot + CPU.pid], words[slot + CPU.start_time]),
            state=STATES.get(CpuState(words[slot + CPU.state]), "?"),
            op=standing.op,
            op_ns=standing.op_ns if standing.op else 0,
            ops_done=words[slot + CPU.ops_done],
            holds=[Held(lock=held.name, mode=held.mode, ns=held.ns) for held in standing.holds],
            waits=Held(lock=waited, mode=waits.mode, ns=waits.ns) if waits else None,
            in_rcu=words[slot + CPU.rcu_nesting] > 0,
            in_srcu=words[slot + CPU.srcu_nesting] > 0,
            reclaiming=bool(words[slot + CPU.flags] & PF_MEMALLOC),
        )

    def lock_name(self, at: int) -> str:
        """A lock by its class, or by its kind, and its place."""
        name = stall.lock_name(self.words, at)
        if not name.startswith("word ") or not 0 < at <= len(self.words) - LOCK.SIZE:
            return name
        kind = self.words[at + LOCK.kind]
        return f"{LockKind(kind).name.lower()} at {at}" if kind in LockKind.__members__.values() else name

    def locks(self) -> list[LockLook]:
        """Every lock that can be found: those of the kernel, those of programs, and what somebody waits for."""
        places = dict.fromkeys([*self._kernel_locks(), *self._chained(), *self._concerned()])
        found = []
        for at in places:
            seen = self.part(f"lock at {at}", lambda at=at: see_lock(self, at), None)  # type: ignore[misc]
            found += [seen] if seen is not None else []
        return found

    def _kernel_locks(self) -> Iterable[int]:
        words, mm = self.words, self.words[HEADER.kernel]
        if not mm:
            return []
        own = [mm + MM.cgroup_mutex, mm + MM.list_lrus_mutex]
        record = words[mm + MM.design]
        inside = [record + 8 * k for k in range(DESIGN_LINES)] if record > 0 else []
        own += [at for at in inside if self._is_watched_lock(at)]
        return own + [sb + SUPERBLOCK.s_umount for sb in mounted(words)]

    def _is_watched_lock(self, at: int) -> bool:
        """Whether there is a lock of a design's: it has a kind and a class of its own."""
        if not 0 < at <= len(self.words) - LOCK.SIZE:
            return False
        kind, klass = self.words[at + LOCK.kind], self.words[at + LOCK.klass]
        return kind in (LockKind.MUTEX, LockKind.RWSEM) and LockClass.BITMAP_RWSEM <= klass <= LockClass.SRCU_GP_MUTEX

    def _chained(self) -> Iterable[int]:
        """Locks of programs; each leads to one below it."""
        at, above = self.words[HEADER.locks], len(self.words)
        found: list[int] = []
        while HEADER.SIZE <= at <= above - LOCK.SIZE and len(found) < MOST_LOCKS:
            found.append(at)
            at, above = self.words[at + LOCK.next], at
        if at:
            self.damage.append(f"locks: the chain ends at word {at}, which is none")
        return reversed(found)

    def _concerned(self) -> Iterable[int]:
        """What CPUs hold by their notes, or wait for."""
        found = []
        for slot in self.slots.values():
            if self.words[slot + CPU.state] == CpuState.FREE:
                continue
            found.append(self.words[slot + CPU.wait_for])
            found += [lock for lock, _, _ in self.notes(slot)]
        fit = [at for at in found if HEADER.SIZE <= at <= len(self.words) - LOCK.SIZE]
        return [at for at in fit if self.words[at + LOCK.kind] in (LockKind.MUTEX, LockKind.RWSEM)]

    def notes(self, slot: int) -> list[tuple[int, int, int]]:
        """What a CPU noted that it holds: lock, mode, since."""
        return stall.notes(self.words, slot)


def _with_unnoted(cpu: CpuLook, locks: list[LockLook]) -> CpuLook:
    """A CPU with the locks that name it, and that it has no note of: those of programs are not noted."""
    noted = {held.lock for held in cpu.holds}
    more = [
        Held(lock=lock.name, mode=use.mode, ns=use.ns)
        for lock in locks
        for use in lock.holders
        if use.cpu == cpu.name and lock.name not in noted
    ]
    return replace(cpu, holds=[*cpu.holds, *more]) if more else cpu


def _names(words: Snapshot, count: int) -> list[str]:
    """What the slots of a segment are called: the last of a run's are those of its nodes' kswapds."""
    mm = words[HEADER.kernel]
    if not mm:
        return [f"task {k}" for k in range(1, count + 1)]
    nodes = words[mm + MM.nr_nodes] if mm + MM.SIZE <= len(words) else 0
    nodes = nodes if 0 < nodes < count else 0
    return [f"CPU {k}" for k in range(count - nodes)] + [f"kswapd{nid}" for nid in range(nodes)]


def _process(pid: int, started: int) -> str:
    """How a process is: a stopped one is alive, and holds what it holds."""
    if not is_alive(pid, started):
        return "dead"
    try:
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
    except (OSError, IndexError):
        return "dead"
    return "stopped" if state in (b"T", b"t") else "alive"
