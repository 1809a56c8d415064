"""Tasks: threads of any process, each with a CPU slot of its own in the segments it uses.

Model: none; the kernel has its tasks at hand. A thread claims a slot at its first call, begins a life there
(machine/life.py), and gives the slot back when it ends, unless it holds a lock for ever. A forked child is another
task: it owns nothing that its parent's threads do.

Compiled code finds the slot of the calling thread in a small table that belongs to this process alone;
whoever is not in it asks Tasks.slot().

| claim | life | `lives` | meaning | left by |
|---|---|---|---|---|
| 0 | 0 | 0 | free | a thread that claims it |
| c | 0 | any | claimed, or being given back: holds nothing | its thread: life and `lives`; claim := 0 |
| c | alive | 1 | of a task | its thread: life := 0; the kernel, when that ends |
| c | dead | 1 | of a task that ended with it | a thread that claims it, and begins a life of its own or buries it |

A claim names the process that made it and the moment, so no two are alike, though pids are reused. A dead life is
that of the task that claimed the slot only if `lived` says so: who claims it next has not begun to live yet.

While a dead task is not buried, whoever comes to a queue repairs the lock. Who is about to wait, or begins to live,
buries what dead there are: repairs all locks, then frees the slot. Who takes over the slot of a task that ended is
that task to all others until it has disowned what that left behind, lock by lock, before it touches any: half way it
may die like its predecessor.

Limits: as many tasks at a time as the segment has slots.

P13  _free() releases a slot to whoever claims it next with _claim()
     (litmus: test_P13_a_slot_is_claimed_as_it_was_left)
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

from shmreclaim.errors import SetupError
from shmreclaim.machine.arena import Arena
from shmreclaim.machine.atomics import (
    MAX_WORD,
    clock_ns,
    cmpxchg_acquire,
    fetch_add,
    fetch_and_relaxed,
    fetch_or_relaxed,
    load_acquire,
    read_once,
    store_release,
    write_once,
)
from shmreclaim.machine.compile import compiled, plain
from shmreclaim.machine.cpu import CPU, GENERATION, MAX_CPUS, READER_SHIFT, CpuState, cpu_init
from shmreclaim.machine.futex import EVERYBODY, futex_wake
from shmreclaim.machine.layout import HEADER
from shmreclaim.machine.life import begin_life, end_life, is_dead
from shmreclaim.machine.process import is_alive, start_time

SLOT_WORDS = CPU.lockstats
"""Words of a task's slot: locks that are not watched need none of the figures behind."""

BUCKETS = 256
"""Threads that the table of a process finds at once: two that share a bucket take the longer way in turn."""

PID_BITS = 23
"""A pid is at most 2^22 (proc(5), pid_max)."""

MAX_UINT31, MAX_UINT32 = (1 << 31) - 1, (1 << 32) - 1


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
def _claim(mem: Any, slot: int, before: int, claim: int) -> int:
    """Make a slot that is free (0), or claimed by one that ended, ours; return whether."""
    return 1 if cmpxchg_acquire(mem, slot + CPU.claim, before, claim) == before else 0  # P13: pairs with _free()


@compiled
def _renew(mem: Any, slot: int) -> int:
    """Let this task's spinlocks say another thing than those of the tasks that had its slot before."""
    return write_once(mem, slot + CPU.spin, (read_once(mem, slot + CPU.spin) + GENERATION) & MAX_UINT31)


@compiled
def _join(mem: Any, slot: int, claim: int) -> int:
    """Show a life that just began to those who watch lives; a predecessor's end is no news any more."""
    mask = 1 << read_once(mem, slot + CPU.id)
    store_release(mem, slot + CPU.lived, claim)  # P13: pairs with _has_ended()
    fetch_or_relaxed(mem, HEADER.lives, mask)
    fetch_and_relaxed(mem, HEADER.announced, ~mask)
    fetch_add(mem, HEADER.lives_seq, 1)  # P27: pairs with lives_seen(): who sleeps having seen it watches this life
    return futex_wake(mem, HEADER.lives_seq, EVERYBODY)


@compiled
def _has_ended(mem: Any, slot: int, claim: int) -> int:
    """Whether the task that made a claim has begun to live in its slot, and ended: 1, or 0; -1 if it has no life there.

    In this order: a life that was dead before its task began was its predecessor's.
    """
    lived = load_acquire(mem, slot + CPU.lived)  # P13: pairs with _join()
    if lived != claim or read_once(mem, slot + CPU.life) & MAX_UINT32 == 0:
        return -1
    return is_dead(mem, slot)


@compiled
def _part(mem: Any, slot: int) -> int:
    """Take a life that is about to end in order from those that are watched."""
    return fetch_and_relaxed(mem, HEADER.lives, ~(1 << read_once(mem, slot + CPU.id)))


@compiled
def _forget(mem: Any, slot: int) -> int:
    """Make a dead task one that never was: no lock has anything of it any more, so nobody is to repair any."""
    mask = 1 << read_once(mem, slot + CPU.id)
    write_once(mem, slot + CPU.wait_for, 0)
    fetch_and_relaxed(mem, HEADER.lives, ~mask)
    fetch_and_relaxed(mem, HEADER.announced, ~mask)
    write_once(mem, slot + CPU.life, 0)
    fetch_add(mem, HEADER.lives_seq, 1)  # P27: pairs with lives_seen(): who was not told of the end yet looks now
    return futex_wake(mem, HEADER.lives_seq, EVERYBODY)


@compiled
def _free(mem: Any, slot: int) -> int:
    """Give a slot back."""
    write_once(mem, slot + CPU.state, CpuState.FREE)
    return store_release(mem, slot + CPU.claim, 0)  # P13: pairs with _claim()


class LocksOfTasks(NamedTuple):
    """What the locks of a segment have of the task of a slot, or of dead ones: each called with (address, slot)."""

    disown: Callable[[int, int], int]
    """Take back what a predecessor in the slot left behind."""
    repair: Callable[[int, int], int]
    """Take back what all left behind whose end was announced."""
    hold: Callable[[int, int], int]
    """Whether the task of the slot holds any."""
    damage: Callable[[int, int], int]
    """Called with (address, number of slots): the first lock that names a slot which is not there, 0 for none."""


class Tasks:
    """The slots of one arena, as this process uses them."""

    def __init__(self, arena: Arena, locks: LocksOfTasks) -> None:
        """Take an arena into use; its creator may find it without slots and makes them."""
        self.arena = arena
        self.address = arena.address
        self.words = arena.words  # keeps the memory mapped, whoever closes the arena
        self.table = (ctypes.c_int64 * (2 * BUCKETS))()
        self.slots: dict[int, int] = {}
        self.told: dict[int, set[int]] = {}
        self.pid = os.getpid()
        self._locks = locks
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
        """Offsets of all slots; what the segment says of them is checked before compiled code trusts it."""
        first, stride = int(self.words[HEADER.cpus]), int(self.words[HEADER.cpu_stride])
        count = int(self.words[HEADER.nr_cpus])
        if not 1 <= count <= MAX_CPUS or stride < SLOT_WORDS or not 0 < first <= len(self.words) - count * stride:
            raise self._damaged(f"{count} task slots of {stride} words at word {first}")
        slots = [first + k * stride for k in range(count)]
        for k, slot in enumerate(slots, 1):
            words = self.words[slot : slot + CPU.node].tolist()
            if (words[CPU.id], words[CPU.bit], words[CPU.spin] % GENERATION) != (k, 1 << (k + READER_SHIFT - 1), k):
                raise self._damaged(f"a slot {k} that says it is CPU {words[CPU.id]}, its bit {words[CPU.bit]:#x}")
        for field in ("lives", "announced"):
            found = int(self.words[getattr(HEADER, field)])
            if found & ~((2 << count) - 2):
                raise self._damaged(f"{field} {found:#x}, of {count} task slots")
        lock = self._locks.damage(self.address, count)
        if lock:
            raise self._damaged(f"a lock at word {lock} that names a task slot which is not there")
        return slots

    def _damaged(self, what: str) -> SetupError:
        return SetupError(f"segment {self.arena.name} has {what}", cause="Usually it is damaged.")

    def slot(self) -> int:
        """The slot of the calling thread, claimed now if it has none; raises SetupError if all are taken."""
        thread = threading.get_ident()
        slot = self.slots.get(thread) or self._settle(thread)
        at = _bucket(thread)
        self.table[at : at + 2] = [0, 0] if self.told.get(thread) else [thread, slot]
        return slot

    def tell(self, thread: int, lock: int) -> None:
        """Remember that a thread got a lock whose holder had died; until forget_told() it takes the longer way."""
        self.told.setdefault(thread, set()).add(lock)
        at = _bucket(thread)
        self.table[at : at + 2] = [0, 0]

    def forget_told(self, thread: int, lock: int) -> None:
        """The thread gave that lock up."""
        self.told.get(thread, set()).discard(lock)

    def _settle(self, thread: int) -> int:
        """Claim a slot, a free one first, and begin to live there."""
        claim = self._new_claim()
        slot = next((s for s in self.every if _claim(self.address, s, 0, claim)), 0) or self._inherit(claim)
        left = is_dead(self.address, slot)
        _renew(self.address, slot)
        _keep(self.words)
        begin_life(self.address + 8 * (slot + CPU.life))
        _join(self.address, slot, claim)
        if left:
            self._locks.disown(self.address, slot)
        self.words[slot + CPU.pid] = self.pid
        self.words[slot + CPU.tid] = threading.get_native_id()
        self.words[slot + CPU.start_time] = start_time(self.pid)
        self.words[slot + CPU.recovered] = 0
        self.words[slot + CPU.state] = CpuState.ATTACHED
        self.slots[thread] = slot
        self.bury(slot)
        _farewell_of_this_thread().slots[self] = slot
        return slot

    def _new_claim(self) -> int:
        return (clock_ns() << PID_BITS | self.pid) & MAX_WORD

    def _claim_of_dead(self, slot: int, claim: int) -> bool:
        """Claim a slot if whoever claimed it has ended; whether."""
        before = int(self.words[slot + CPU.claim])
        pid = before & (1 << PID_BITS) - 1
        ended = _has_ended(self.address, slot, before)
        if ended < 0:
            ended = not is_alive(pid, start_time(pid) or -1)
        return bool(ended and _claim(self.address, slot, before, claim))

    def _inherit(self, claim: int) -> int:
        """Claim the slot of a task that ended with it, or before it had begun to live there."""
        slot = next((slot for slot in self.every if self._claim_of_dead(slot, claim)), 0)
        if slot:
            return slot
        raise SetupError(
            f"all {len(self.every)} task slots of segment {self.arena.name} are taken",
            cause="Each thread of each process that uses a lock has one as long as it lives.",
            remedy="Use fewer threads at a time, or locks in several arenas.",
        )

    def bury(self, mine: int) -> None:
        """Free the slots of tasks that ended with them, as the task of slot `mine`; nothing to do is one look."""
        if not self.words[HEADER.announced]:
            return
        claim = self._new_claim()
        claimed = [slot for slot in self.every if self.words[slot + CPU.claim]]
        dead = [slot for slot in claimed if self._claim_of_dead(slot, claim)]
        self._locks.repair(self.address, mine)
        for slot in dead:
            _forget(self.address, slot)
        self._locks.repair(self.address, mine)  # who saw them dead had a wait_lock, and is done with it now
        for slot in dead:
            _free(self.address, slot)

    def leave(self, thread: int, slot: int) -> None:
        """Give the slot of a thread that ends back; if it still holds a lock, its end tells who waits for that."""
        if self.slots.get(thread) != slot:
            return  # a parent's, or long the slot of another thread of the same number
        del self.slots[thread]
        self.told.pop(thread, None)
        at = _bucket(thread)
        if self.table[at] == thread:
            self.table[at : at + 2] = [0, 0]
        if thread == threading.get_ident() and not self._locks.hold(self.address, slot):
            _part(self.address, slot)
            end_life(self.address + 8 * (slot + CPU.life))
            _free(self.address, slot)
            _let_go(self.words)

    def forget(self) -> None:
        """In a forked child: nothing that the parent's threads had is ours."""
        self.pid = os.getpid()
        self.slots.clear()
        self.told.clear()
        ctypes.memset(self.table, 0, ctypes.sizeof(self.table))


class _Farewell:
    """Lives as long as its thread; then gives its slots back."""

    def __init__(self) -> None:
        """Belong to the calling thread."""
        self.thread = threading.get_ident()
        self.slots: dict[Tasks, int] = {}

    def __del__(self) -> None:
        """The thread ends."""
        if not sys.is_finalizing():  # then the kernel does it
            for tasks, slot in self.slots.items():
                tasks.leave(self.thread, slot)


def _keep(words: object) -> None:
    """Keep memory mapped, also past the end of the interpreter: the kernel walks through lives when a process ends."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(words))


def _let_go(words: object) -> None:
    ctypes.pythonapi.Py_DecRef(ctypes.py_object(words))


_everyone: weakref.WeakSet[Tasks] = weakref.WeakSet()
_of_thread = threading.local()


def _farewell_of_this_thread() -> _Farewell:
    if not hasattr(_of_thread, "farewell"):
        _of_thread.farewell = _Farewell()
    farewell: _Farewell = _of_thread.farewell
    return farewell


def _forget_the_parent() -> None:
    for tasks in list(_everyone):
        tasks.forget()
    _of_thread.__dict__.clear()


os.register_at_fork(after_in_child=_forget_the_parent)
