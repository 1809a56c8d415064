"""Tasks: threads of any process, each with a CPU slot of its own in the segments it uses.

Model: none; the kernel has its tasks at hand. A thread claims a free slot at its first call and gives it back
when it ends. A forked child is another task: it owns nothing that its parent's threads do.

Compiled code finds the slot of the calling thread in a small table that belongs to this process alone;
whoever is not in it asks Tasks.slot().

`held_depth` of a slot counts what its task holds or waits for, raised before and lowered after: the slot of a
process that is gone is taken over only where it is 0.
Limits: as many tasks at a time as the segment has slots.

P13  _free() releases a slot to whoever claims it next with _claim()
     (litmus: test_P13_a_slot_is_claimed_as_it_was_left)
"""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from typing import Any

from shmreclaim.errors import SetupError
from shmreclaim.machine.arena import Arena
from shmreclaim.machine.atomics import cmpxchg_acquire, read_once, store_release, write_once
from shmreclaim.machine.compile import compiled, plain
from shmreclaim.machine.cpu import CPU, MAX_CPUS, CpuState, cpu_init
from shmreclaim.machine.layout import HEADER
from shmreclaim.machine.process import is_alive, start_time

SLOT_WORDS = CPU.lockstats
"""Words of a task's slot: locks that are not watched need none of the figures behind."""

BUCKETS = 256
"""Threads that the table of a process finds at once: two that share a bucket take the longer way in turn."""


def _bucket(thread: int) -> int:
    """Where in the table of a process a thread is kept: its number, then its slot (multiplicative hashing)."""
    return 2 * ((thread * -7046029254386353131 >> 40) & (BUCKETS - 1))


_compiled_bucket = compiled(_bucket)


@compiled
def find_slot(table: Any, thread: int) -> int:
    """The slot of a thread; 0 if the table does not know."""
    at = _compiled_bucket(thread)
    return read_once(table, at + 1) if read_once(table, at) == thread else 0


@compiled
def _claim(mem: Any, slot: int, dead: int, pid: int) -> int:
    """Make a slot that is free (`dead` is 0), or whose process is dead, ours; return whether."""
    return 1 if cmpxchg_acquire(mem, slot + CPU.pid, dead, pid) == dead else 0  # P13: pairs with _free()


@compiled
def _free(mem: Any, slot: int) -> int:
    """Give a slot back."""
    write_once(mem, slot + CPU.state, CpuState.FREE)
    return store_release(mem, slot + CPU.pid, 0)  # P13: pairs with _claim()


class Tasks:
    """The slots of one arena, as this process uses them."""

    def __init__(self, arena: Arena) -> None:
        """Take an arena into use; its creator may find it without slots and makes them."""
        self.arena = arena
        self.address = arena.address
        self.words = arena.words  # keeps the memory mapped, whoever closes the arena
        self.table = (ctypes.c_int64 * (2 * BUCKETS))()
        self.slots: dict[int, int] = {}
        self.pid = os.getpid()
        if not self.words[HEADER.nr_cpus]:
            self._make_slots()
        self.every = self._find_slots()
        _everyone.add(self)

    def _make_slots(self) -> None:
        first = self.arena.allocate(MAX_CPUS * SLOT_WORDS)
        for k in range(MAX_CPUS):
            plain(cpu_init)(self.arena.memory, first + k * SLOT_WORDS, k + 1, 0)
        header = {HEADER.cpus: first, HEADER.nr_cpus: MAX_CPUS, HEADER.cpu_stride: SLOT_WORDS}
        for offset, value in header.items():
            self.words[offset] = value

    def _find_slots(self) -> list[int]:
        """Offsets of all slots; what the header says of them is checked before compiled code trusts it."""
        first, stride = int(self.words[HEADER.cpus]), int(self.words[HEADER.cpu_stride])
        count = int(self.words[HEADER.nr_cpus])
        if not 1 <= count <= MAX_CPUS or stride < SLOT_WORDS or not 0 < first <= len(self.words) - count * stride:
            raise SetupError(
                f"segment {self.arena.name} has {count} task slots of {stride} words at word {first}",
                cause="Usually it is damaged.",
            )
        return [first + k * stride for k in range(count)]

    def slot(self) -> int:
        """The slot of the calling thread, claimed now if it has none; raises SetupError if all are taken."""
        thread = threading.get_ident()
        slot = self.slots.get(thread) or self._join(thread)
        at = _bucket(thread)
        self.table[at : at + 2] = [thread, slot]
        return slot

    def _join(self, thread: int) -> int:
        slot = next((s for s in self.every if _claim(self.address, s, 0, self.pid)), 0) or self._inherit()
        self.words[slot + CPU.tid] = threading.get_native_id()
        self.words[slot + CPU.start_time] = start_time(self.pid)
        self.words[slot + CPU.held_depth] = 0
        self.words[slot + CPU.state] = CpuState.ATTACHED
        self.slots[thread] = slot
        _farewell_of_this_thread().tasks.add(self)
        return slot

    def _inherit(self) -> int:
        """Take the slot of a process that is gone and neither held nor awaited anything."""
        for slot in self.every:
            pid, started = int(self.words[slot + CPU.pid]), int(self.words[slot + CPU.start_time])
            if self.words[slot + CPU.state] != CpuState.ATTACHED:
                started = start_time(pid) or -1  # claimed and not yet settled: dead only if nobody has that pid
            idle = self.words[slot + CPU.held_depth] == 0
            if idle and not is_alive(pid, started) and _claim(self.address, slot, pid, self.pid):
                return slot
        raise SetupError(
            f"all {len(self.every)} task slots of segment {self.arena.name} are taken",
            cause="Each thread of each process that uses a lock has one as long as it lives.",
            remedy="Use fewer threads at a time, or locks in several arenas.",
        )

    def leave(self, thread: int) -> None:
        """Give the slot of a thread that ends back, unless it holds a lock for ever."""
        slot = self.slots.pop(thread, 0) if self.pid == os.getpid() else 0
        if slot:
            at = _bucket(thread)
            self.table[at : at + 2] = [0, 0]
            if self.words[slot + CPU.held_depth] == 0:
                _free(self.address, slot)

    def forget(self) -> None:
        """In a forked child: nothing that the parent's threads had is ours."""
        self.pid = os.getpid()
        self.slots.clear()
        ctypes.memset(self.table, 0, ctypes.sizeof(self.table))


class _Farewell:
    """Lives as long as its thread; then gives its slots back."""

    def __init__(self) -> None:
        """Belong to the calling thread."""
        self.thread = threading.get_ident()
        self.tasks: weakref.WeakSet[Tasks] = weakref.WeakSet()

    def __del__(self) -> None:
        """The thread ends."""
        for tasks in list(self.tasks):
            tasks.leave(self.thread)


_everyone: weakref.WeakSet[Tasks] = weakref.WeakSet()
_by_name: weakref.WeakValueDictionary[str, Tasks] = weakref.WeakValueDictionary()
_of_thread = threading.local()


def _farewell_of_this_thread() -> _Farewell:
    if not hasattr(_of_thread, "farewell"):
        _of_thread.farewell = _Farewell()
    farewell: _Farewell = _of_thread.farewell
    return farewell


def _forget_the_parent() -> None:
    for tasks in list(_everyone):
        tasks.forget()


os.register_at_fork(after_in_child=_forget_the_parent)


def tasks_in(arena: Arena) -> Tasks:
    """The slots of an arena, as this process uses them."""
    return _by_name.get(arena.name) or _by_name.setdefault(arena.name, Tasks(arena))


def tasks_named(name: str) -> Tasks:
    """The slots of the arena of that name; attaches to it if this process has not yet."""
    return _by_name.get(name) or tasks_in(Arena.attach(name))
