"""The Python face of `sync/`: locks for programs of any kind, between threads and between processes.

Model: threading.Lock for what calls mean; `sync/mutex.py` and `sync/rwsem.py` for how they work.

A *task* is a thread of a process. Each task that uses a lock takes one of the CPU slots of the lock's
arena, at its first call, and gives it back when the thread ends; the slot's number is what the lock
word names as its owner. A forked child is another task: it owns nothing that its parent holds.

An uncontended call is one builtin (machine/builtin.py) with one atomic instruction, made with the GIL held.
It finds the slot of the calling thread in a small table that belongs to this process alone. Whatever is not
that simple is left to a Python method; where that waits it gives the GIL up, and returns when a signal
came, so that Python's handlers run, and then waits for the rest of its time.

`held_depth` of a slot counts what its task holds or waits for, raised before and lowered after.
Limits: 54 tasks at a time for each arena. A task that dies while it holds a lock leaves it held.
"""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any

from shmreclaim.errors import SetupError
from shmreclaim.machine.arena import Arena
from shmreclaim.machine.atomics import MAX_WORD, clock_ns, cmpxchg, read_once, store_release, write_once
from shmreclaim.machine.builtin import WORDS, BuiltinFactory, new_reference, python_call, thread_self
from shmreclaim.machine.compile import compiled, compiled_nogil, entry_point, link, plain
from shmreclaim.machine.cpu import CPU, MAX_CPUS, CpuState, cpu_init
from shmreclaim.machine.futex import EINTR, ETIMEDOUT
from shmreclaim.machine.layout import HEADER, LINE
from shmreclaim.machine.process import is_alive, start_time
from shmreclaim.sync.lockdep import LOCK
from shmreclaim.sync.mutex import OWNER_MASK, mutex_init, mutex_lock_until, mutex_trylock, mutex_unlock
from shmreclaim.sync.rwsem import (
    OWNER_SHIFT,
    WRITER,
    down_read_trylock,
    down_read_until,
    down_write_trylock,
    down_write_until,
    downgrade_write,
    rwsem_init,
    rwsem_is_contended,
    up_read,
    up_write,
)
from shmreclaim.sync.wait_queue import INTERRUPTIBLE

__all__ = ["Mutex", "RwLock", "lock_arena"]

SLOT_WORDS = CPU.lockstats
"""Words of a task's slot: locks that are not watched need none of the figures behind."""

BUCKETS = 256
"""Threads that the table of a process finds at once: two that share a bucket take the longer way in turn."""

LINKED = ("shmreclaim.sync.", "shmreclaim.machine.")
NO_TIMEOUT = -1


def lock_arena(locks: int = 1) -> Arena:
    """Make a segment with room for so many locks and for 54 tasks that use them; close it when all is done."""
    return Arena.create(HEADER.SIZE + MAX_CPUS * SLOT_WORDS + locks * LOCK.SIZE + 2 * LINE)


# --- which slot is mine ----------------------------------------------------------------------------


@compiled
def _bucket(table: Any, thread: int) -> int:
    """Where in the table of a process a thread is kept: a thread's number, then its slot."""
    return 2 * ((thread * -7046029254386353131 >> 40) & (BUCKETS - 1))


@compiled
def _find(table: Any, thread: int) -> int:
    """The slot of a thread; 0 if the table does not know."""
    at = _bucket(table, thread)
    return read_once(table, at + 1) if read_once(table, at) == thread else 0


@compiled
def _claim(mem: Any, slot: int, dead: int, pid: int) -> int:
    """Make a slot that is free (`dead` is 0), or whose process is dead, ours; return whether."""
    return 1 if cmpxchg(mem, slot + CPU.pid, dead, pid) == dead else 0


@compiled
def _free(mem: Any, slot: int) -> int:
    """Give a slot back."""
    write_once(mem, slot + CPU.state, CpuState.FREE)
    return store_release(mem, slot + CPU.pid, 0)  # who claims it next finds it clean


class _Tasks:
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
        _everyone.add(self)

    def _make_slots(self) -> None:
        first = self.arena.allocate(MAX_CPUS * SLOT_WORDS)
        for k in range(MAX_CPUS):
            plain(cpu_init)(self.arena.memory, first + k * SLOT_WORDS, k + 1, 0)
        header = {HEADER.cpus: first, HEADER.nr_cpus: MAX_CPUS, HEADER.cpu_stride: SLOT_WORDS}
        for offset, value in header.items():
            self.words[offset] = value

    def slot(self) -> int:
        """The slot of the calling thread, claimed now if it has none; raises SetupError if all are taken."""
        thread = threading.get_ident()
        slot = self.slots.get(thread) or self._join(thread)
        at = plain(_bucket)(None, thread)
        self.table[at : at + 2] = [thread, slot]
        return slot

    def _join(self, thread: int) -> int:
        first, stride = int(self.words[HEADER.cpus]), int(self.words[HEADER.cpu_stride])
        every = [first + k * stride for k in range(int(self.words[HEADER.nr_cpus]))]
        slot = next((s for s in every if _claim(self.address, s, 0, self.pid)), 0) or self._inherit(every)
        self.words[slot + CPU.tid] = threading.get_native_id()
        self.words[slot + CPU.start_time] = start_time(self.pid)
        self.words[slot + CPU.held_depth] = 0
        self.words[slot + CPU.state] = CpuState.ATTACHED
        self.slots[thread] = slot
        _farewell_of_this_thread().tasks.add(self)
        return slot

    def _inherit(self, every: list[int]) -> int:
        """Take the slot of a process that is gone and neither held nor awaited anything."""
        for slot in every:
            pid, started = int(self.words[slot + CPU.pid]), int(self.words[slot + CPU.start_time])
            idle = self.words[slot + CPU.state] == CpuState.ATTACHED and self.words[slot + CPU.held_depth] == 0
            if idle and not is_alive(pid, started) and _claim(self.address, slot, pid, self.pid):
                return slot
        raise SetupError(
            f"all {len(every)} task slots of segment {self.arena.name} are taken",
            cause="Each thread of each process that uses a lock has one as long as it lives.",
            remedy="Use fewer threads at a time, or locks in several arenas.",
        )

    def leave(self, thread: int) -> None:
        """Give the slot of a thread that ends back, unless it holds a lock for ever."""
        slot = self.slots.pop(thread, 0) if self.pid == os.getpid() else 0
        if slot:
            at = plain(_bucket)(None, thread)
            self.table[at : at + 2] = [0, 0]
            if self.words[slot + CPU.held_depth] == 0:
                _free(self.address, slot)

    def forget(self) -> None:
        """In a forked child: nothing that the parent's threads had is ours."""
        self.pid = os.getpid()
        self.slots.clear()
        ctypes.memset(self.table, 0, ctypes.sizeof(self.table))

    def number(self, slot: int) -> int:
        """The number of a slot: what a lock word names."""
        return int(self.words[slot + CPU.id])

    def count(self, slot: int, change: int) -> None:
        """Note that the task of a slot holds or awaits one lock more or less."""
        self.words[slot + CPU.held_depth] += change


class _Farewell:
    """Lives as long as its thread; then gives its slots back."""

    def __init__(self) -> None:
        """Belong to the calling thread."""
        self.thread = threading.get_ident()
        self.tasks: weakref.WeakSet[_Tasks] = weakref.WeakSet()

    def __del__(self) -> None:
        """The thread ends."""
        for tasks in self.tasks:
            tasks.leave(self.thread)


_everyone: weakref.WeakSet[_Tasks] = weakref.WeakSet()
_by_name: weakref.WeakValueDictionary[str, _Tasks] = weakref.WeakValueDictionary()
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


def _tasks_of(arena: Arena | None, name: str = "") -> _Tasks:
    """The slots of an arena; of one of its own without `arena`, of one attached to by name."""
    found = _by_name.get(arena.name if arena else name)
    if found is not None:
        return found
    own = arena is None and not name
    arena = arena or (Arena.attach(name) if name else lock_arena())
    tasks = _Tasks(arena)
    if own:
        weakref.finalize(tasks, arena.remove)
    return _by_name.setdefault(arena.name, tasks)


# --- the fast paths: words bound to a builtin, in this order ----------------------------------------

MEM, LOCK_AT, TABLE, NARGS, SLOW, YES, NO = range(WORDS, WORDS + 7)


@compiled
def _slot_for(bound: Any, nargs: int, names: int) -> int:
    """The slot of the calling thread; 0 if it is unknown or the call has arguments: the slow path's business."""
    if nargs != read_once(bound, NARGS) or names != 0:
        return 0
    return _find(read_once(bound, TABLE), thread_self())


@compiled
def _begin(mem: Any, slot: int) -> int:
    """Count a lock, about to be taken."""
    return write_once(mem, slot + CPU.held_depth, read_once(mem, slot + CPU.held_depth) + 1)


@compiled
def _end(mem: Any, slot: int) -> int:
    """Do not count it any more: given up, or not got."""
    return write_once(mem, slot + CPU.held_depth, read_once(mem, slot + CPU.held_depth) - 1)


@compiled
def _outcome(bound: Any, taken: int, args: int, nargs: int, names: int) -> int:
    """What a builtin that tried returns: yes; or no, or what the slow path makes of it."""
    if taken:
        return new_reference(read_once(bound, YES))
    if taken == 0 and read_once(bound, NO):
        return new_reference(read_once(bound, NO))
    return python_call(read_once(bound, SLOW), args, nargs, names)


UNKNOWN = -1
"""In place of "taken or not": ask the slow path."""


@compiled
def _acquire_mutex(bound: Any, args: int, nargs: int, names: int) -> int:
    slot = _slot_for(bound, nargs, names)
    if slot == 0:
        return python_call(read_once(bound, SLOW), args, nargs, names)
    mem = read_once(bound, MEM)
    _begin(mem, slot)
    if mutex_trylock(mem, slot, read_once(bound, LOCK_AT)):
        return new_reference(read_once(bound, YES))
    _end(mem, slot)
    return python_call(read_once(bound, SLOW), args, nargs, names)
