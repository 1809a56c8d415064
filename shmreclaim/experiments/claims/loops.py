"""Loops over ids, compiled and run in this process: registering under a design, and looking ids up.

One CPU, no contention: what a loop takes is what the algorithm takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from errno import EAGAIN
from typing import Any

import numpy as np

from shmreclaim import kernel
from shmreclaim.experiments.claims.claim import CannotTell
from shmreclaim.lib.ida import IDA_BITMAP, ida_alloc_range, ida_init
from shmreclaim.lib.idr import IDR_NODE, INT_MAX, POOL, idr_alloc, idr_find, idr_init, pool_init
from shmreclaim.lib.radix_tree import pool_put_bitmap, pool_put_node
from shmreclaim.machine.arena import Arena
from shmreclaim.machine.atomics import clock_ns, read_once, write_once
from shmreclaim.machine.compile import compiled
from shmreclaim.machine.upcall import upcall
from shmreclaim.mm.boot import Machine, boot, init_design
from shmreclaim.mm.shrinker import SHRINKER
from shmreclaim.mm.state import MM, Upcall, mm_state
from shmreclaim.switches import parse_variant

ROOM = 1024
"""Superblocks of a registry."""
MOST = 4096
"""Ids that a tree has room for."""
TREE, POOL_AT, POINTER, FIRST = 64, 128, 192, 256
"""Where things are in the memory of a tree."""
MIN_SLOTS = 8

# --- registering -------------------------------------------------------------------------------------


@compiled
def register_and_unregister(mem: Any, cpu: int, plan: int, count: int) -> int:
    """Register one of `plan` and unregister another, `count` times; ns of the registrations, -1 if one failed.

    A step of the plan is three words: handle to register, handle to unregister, and where the id goes.
    """
    table = read_once(mem, mm_state(mem) + MM.shrinker_table)
    took = 0
    failed = 0
    for k in range(count):
        at = plan + 3 * k
        begin = clock_ns()
        failed += upcall(Upcall.REGISTER_SHRINKER, mem, cpu, read_once(mem, table + read_once(mem, at)), 0, 0, 0)
        took += clock_ns() - begin
        write_once(mem, at + 2, read_once(mem, read_once(mem, table + read_once(mem, at)) + SHRINKER.id))
        upcall(Upcall.UNREGISTER_SHRINKER, mem, cpu, read_once(mem, table + read_once(mem, at + 1)), 0, 0, 0)
        kernel.quiescent(mem, cpu)
    return -1 if failed else took


@compiled
def mount_and_leave(mem: Any, cpu: int, room: int, away: int, gone: int) -> int:
    """Mount `room` superblocks, then unregister the shrinkers of the `gone` handles at `away`; 0, or what failed."""
    failed = 0
    for handle in range(room):
        failed += kernel.op_register(mem, cpu, handle, 1, 0)
    table = read_once(mem, mm_state(mem) + MM.shrinker_table)
    for k in range(gone):
        sb = read_once(mem, table + read_once(mem, away + k))
        upcall(Upcall.UNREGISTER_SHRINKER, mem, cpu, sb, 0, 0, 0)
    kernel.quiescent(mem, cpu)
    return failed


class Registry:
    """A kernel of one CPU in this process, some of whose shrinkers are registered; close it."""

    def __init__(
        self, variant: str, away: Sequence[int], plan: Sequence[tuple[int, int]], pages: int = 2048 + 2 * ROOM
    ) -> None:
        """Boot it, mount ROOM superblocks, unregister those `away`, and keep a plan of steps."""
        self.variant = parse_variant(variant)
        machine = Machine(1, 1, pages, 16, 20, 24, 1, 1, ROOM, extra_words=3 * len(plan) + 2 * ROOM)
        self.arena = Arena.inherited(machine.words())
        (self.cpu,) = boot(self.arena, machine)
        self.plan, gone = self.arena.allocate(3 * len(plan)), self.arena.allocate(ROOM)
        words = self.arena.view(self.plan, 3 * len(plan)).reshape(-1, 3)
        words[:, :2] = plan
        self.arena.view(gone, ROOM)[: len(away)] = away
        self.bind()
        init_design(self.arena, self.variant, self.cpu)
        if mount_and_leave(self.arena.address, self.cpu, ROOM, gone, len(away)):
            self.arena.close()
            raise CannotTell(f"{variant}: {ROOM} mounts did not fit into memory")

    def bind(self) -> None:
        """Make the upcalls of this process those of its design."""
        kernel.bind_design(self.variant.design)

    def play(self, first: int, steps: int) -> float:
        """Play some steps of the plan; ns a registration."""
        self.bind()
        took = register_and_unregister(self.arena.address, self.cpu, self.plan + 3 * first, steps)
        if took < 0:
            raise CannotTell(f"{self.variant.design}: a registration failed")
        return took / steps

    def ids(self, steps: int) -> list[int]:
        """Which ids the steps got."""
        ids: list[int] = self.arena.view(self.plan, 3 * steps).reshape(-1, 3)[:, 2].tolist()
        return ids


# --- looking up ---------------------------------------------------------------------------------------


@compiled
def find_in_idr(mem: Any, live: int, count: int) -> int:
    """Look ids up in an IDR, each where the last value led; ns for all, -1 if one was missed.

    All values are 1. The next id depends on the last, so that lookups do not overlap.
    """
    id_ = 0
    missed = 0
    step = live // 3 + 1
    begin = clock_ns()
    for _ in range(count):
        found = idr_find(mem, TREE, id_)
        missed += 1 - found
        id_ += step * found
        id_ = id_ - live if id_ >= live else id_
    return clock_ns() - begin if missed == 0 else -1


@compiled
def find_in_array(mem: Any, live: int, count: int) -> int:
    """Look the same ids up in an array that may be replaced: its length, where it is, the slot."""
    id_ = 0
    missed = 0
    step = live // 3 + 1
    begin = clock_ns()
    for _ in range(count):
        found = 0
        if id_ < read_once(mem, POINTER + 1):
            found = read_once(mem, read_once(mem, POINTER) + id_)
        missed += 1 - found
        id_ += step * found
        id_ = id_ - live if id_ >= live else id_
    return clock_ns() - begin if missed == 0 else -1


class Tree:
    """An IDR, or an IDA beside an array, in plain memory of this process; `words` it takes."""

    def __init__(self, ida: bool) -> None:
        """Begin with no id."""
        self.ida = ida
        self.memory = np.zeros(FIRST + 3 * MOST + (MOST // 32 + 64) * IDR_NODE.SIZE, np.int64)
        self.mem, self._brk = int(self.memory.ctypes.data), FIRST
        (ida_init if ida else idr_init)(self.mem, TREE)
        pool_init(self.mem, POOL_AT)
        self._slots = 0

    def add(self) -> int:
        """Give out the next id; how many words it all takes then."""
        number = -EAGAIN
        while number == -EAGAIN:
            number = self._alloc()
            if number == -EAGAIN:
                self._put(int(self.memory[POOL_AT + POOL.wanted]))
        if self.ida:
            self._store(number)
        return self._brk - FIRST + self._slots

    def _alloc(self) -> int:
        if self.ida:
            return ida_alloc_range(self.mem, TREE, POOL_AT, 0, INT_MAX)
        return idr_alloc(self.mem, TREE, POOL_AT, 1, 0, 0)

    def _put(self, size: int) -> None:
        (pool_put_bitmap if size == IDA_BITMAP.SIZE else pool_put_node)(self.mem, POOL_AT, self._brk)
        self._brk += size

    def _store(self, number: int) -> None:
        """Fill the slot of an id, in an array that doubles as v1's does; it is at the end of memory."""
        while number >= self._slots:
            self._slots = max(2 * self._slots, MIN_SLOTS)
        at = len(self.memory) - MOST
        self.memory[at + number], self.memory[POINTER], self.memory[POINTER + 1] = 1, at, self._slots
