"""The kernel's idr and ida as subjects of `bench ids`: loops over an id tree in shared memory, compiled.

In three ways: an idr and an ida by themselves, as the algorithms are, and an idr as kernels use it, allocation and
removal under a mutex, lookups in an RCU read section. One CPU, nobody else there.
"""

from collections.abc import Callable
from errno import EAGAIN
from typing import Any, NamedTuple

from shmreclaim.errors import InternalError
from shmreclaim.lib.ida import (
    IDA_BITMAP,
    ida_alloc_range,
    ida_exists,
    ida_free,
    ida_init,
    ida_take_retired_bitmap,
    ida_take_retired_node,
)
from shmreclaim.lib.idr import (
    IDR_NODE,
    INT_MAX,
    POOL,
    idr_alloc,
    idr_find,
    idr_init,
    idr_remove,
    idr_take_retired,
    pool_init,
    pool_put_bitmap,
    pool_put_node,
)
from shmreclaim.machine.arena import Arena
from shmreclaim.machine.atomics import clock_ns, read_once, write_once
from shmreclaim.machine.compile import compiled
from shmreclaim.machine.cpu import CPU, make_cpus
from shmreclaim.machine.layout import HEADER, LINE
from shmreclaim.sync.mutex import mutex_init, mutex_lock, mutex_unlock
from shmreclaim.sync.rcu import rcu_read_lock, rcu_read_unlock

ROOT, POOL_AT, MUTEX = 0, 4 * LINE, 8 * LINE
REMOVAL, ALLOCATION = 12 * LINE, 12 * LINE + 1
TREE_WORDS = 13 * LINE
"""Where things are in the block of a tree; the last two are how long each half of a batch took."""
POOLED = 8
"""Nodes kept ready, so that no batch ends for want of one."""


@compiled
def step_on(id_: int, live: int) -> int:
    """The next id to touch, far from the last; live // 3 has no factor in common with a power of ten."""
    after = id_ + live // 3
    return after - live if after >= live else after


# --- find ------------------------------------------------------------------------------------------


@compiled
def idr_find_loop(mem: Any, _cpu: int, tree: int, live: int, count: int) -> int:
    """Find ids that are in use; ns for all."""
    id_ = 0
    missed = 0
    begin = clock_ns()
    for _ in range(count):
        id_ = step_on(id_, live)
        missed += 1 if idr_find(mem, tree + ROOT, id_) == 0 else 0
    return clock_ns() - begin if missed == 0 else -1


@compiled
def locked_idr_find_loop(mem: Any, cpu: int, tree: int, live: int, count: int) -> int:
    """The same, each in an RCU read section."""
    id_ = 0
    missed = 0
    begin = clock_ns()
    for _ in range(count):
        id_ = step_on(id_, live)
        rcu_read_lock(mem, cpu)
        missed += 1 if idr_find(mem, tree + ROOT, id_) == 0 else 0
        rcu_read_unlock(mem, cpu)
    return clock_ns() - begin if missed == 0 else -1


@compiled
def ida_find_loop(mem: Any, _cpu: int, tree: int, live: int, count: int) -> int:
    """Look whether ids are in use; ns for all."""
    id_ = 0
    missed = 0
    begin = clock_ns()
    for _ in range(count):
        id_ = step_on(id_, live)
        missed += 1 - ida_exists(mem, tree + ROOT, id_)
    return clock_ns() - begin if missed == 0 else -1


# --- remove ids here and there, allocate as many; ns of each half beside the tree, 0 or -1 -------------------


@compiled
def idr_batch(mem: Any, _cpu: int, tree: int, live: int, count: int) -> int:
    """An idr by itself."""
    id_ = 0
    begin = clock_ns()
    for _ in range(count):
        id_ = step_on(id_, live)
        idr_remove(mem, tree + ROOT, id_)
    write_once(mem, tree + REMOVAL, clock_ns() - begin)
    reuse_nodes(mem, tree)
    failed = 0
    begin = clock_ns()
    for _ in range(count):
        failed += 1 if idr_alloc(mem, tree + ROOT, tree + POOL_AT, 1, 0, 0) < 0 else 0
    write_once(mem, tree + ALLOCATION, clock_ns() - begin)
    return -1 if failed else 0


@compiled
def locked_idr_batch(mem: Any, cpu: int, tree: int, live: int, count: int) -> int:
    """The same, each under the mutex."""
    id_ = 0
    begin = clock_ns()
    for _ in range(count):
        id_ = step_on(id_, live)
        mutex_lock(mem, cpu, tree + MUTEX)
        idr_remove(mem, tree + ROOT, id_)
        mutex_unlock(mem, cpu, tree + MUTEX)
    write_once(mem, tree + REMOVAL, clock_ns() - begin)
    reuse_nodes(mem, tree)
    failed = 0
    begin = clock_ns()
    for _ in range(count):
        mutex_lock(mem, cpu, tree + MUTEX)
        failed += 1 if idr_alloc(mem, tree + ROOT, tree + POOL_AT, 1, 0, 0) < 0 else 0
        mutex_unlock(mem, cpu, tree + MUTEX)
    write_once(mem, tree + ALLOCATION, clock_ns() - begin)
    return -1 if failed else 0


@compiled
def ida_batch(mem: Any, _cpu: int, tree: int, live: int, count: int) -> int:
    """An ida by itself."""
    id_ = 0
    begin = clock_ns()
    for _ in range(count):
        id_ = step_on(id_, live)
        ida_free(mem, tree + ROOT, id_)
    write_once(mem, tree + REMOVAL, clock_ns() - begin)
    reuse_blocks(mem, tree)
    failed = 0
    begin = clock_ns()
    for _ in range(count):
        failed += 1 if ida_alloc_range(mem, tree + ROOT, tree + POOL_AT, 0, INT_MAX) < 0 else 0
    write_once(mem, tree + ALLOCATION, clock_ns() - begin)
    return -1 if failed else 0


@compiled
def reuse_nodes(mem: Any, tree: int) -> int:
    """Put nodes that fell out back into the pool; nobody reads."""
    node = idr_take_retired(mem, tree + ROOT)
    while node:
        pool_put_node(mem, tree + POOL_AT, node)
        node = idr_take_retired(mem, tree + ROOT)
    return 0


@compiled
def reuse_blocks(mem: Any, tree: int) -> int:
    """The same of an ida, whose bitmaps fall out as well."""
    node = ida_take_retired_node(mem, tree + ROOT)
    while node:
        pool_put_node(mem, tree + POOL_AT, node)
        node = ida_take_retired_node(mem, tree + ROOT)
    bitmap = ida_take_retired_bitmap(mem, tree + ROOT)
    while bitmap:
        pool_put_bitmap(mem, tree + POOL_AT, bitmap)
        bitmap = ida_take_retired_bitmap(mem, tree + ROOT)
    return 0


@compiled
def clock_loop(mem: Any, tree: int, count: int) -> int:
    """Read the clock; ns for all."""
    begin = clock_ns()
    for _ in range(count):
        write_once(mem, tree + REMOVAL, clock_ns())
    return clock_ns() - begin + 0 * read_once(mem, tree + REMOVAL)


# --- the subjects ------------------------------------------------------------------------------------

Loop = Callable[[Any, int, int, int, int], int]


class Kind(NamedTuple):
    """One way to use a tree: what it is, and its loops."""

    about: str
    find: Loop
    batch: Loop
    ida: bool = False


KINDS = {
    "idr": Kind("the algorithm by itself, in shared memory, compiled", idr_find_loop, idr_batch),
    "idr, mutex": Kind(
        "as kernels use it: alloc and remove under a mutex of this package, find in an RCU read section, compiled",
        locked_idr_find_loop,
        locked_idr_batch,
    ),
    "ida": Kind(
        "ids without objects, compiled, no lock; find looks whether an id is in use", ida_find_loop, ida_batch, True
    ),
}


class CompiledIds:
    """A tree of one kind with so many ids in use."""

    def __init__(self, kind: Kind, live: int) -> None:
        """Make it and fill it."""
        self.kind, self.live = kind, live
        blocks = (live // 32 + 64) * IDR_NODE.SIZE
        self.arena = Arena.inherited(HEADER.SIZE + CPU.SIZE + TREE_WORDS + blocks + 8 * LINE)
        self.mem = self.arena.address
        (self.cpu,) = make_cpus(self.arena, 1)
        self.tree = self.arena.allocate(TREE_WORDS)
        (ida_init if kind.ida else idr_init)(self.mem, self.tree + ROOT)
        pool_init(self.mem, self.tree + POOL_AT)
        mutex_init(self.mem, self.tree + MUTEX, 0)
        for id_ in range(live):
            if self.alloc() != id_:
                raise InternalError(f"id {id_} was not the next to be given")
        for size in [IDR_NODE.SIZE] * POOLED + [IDA_BITMAP.SIZE]:
            self._put(size)

    def alloc(self) -> int:
        """Allocate the smallest free id; gives the pool what it lacks."""
        pool, root = self.tree + POOL_AT, self.tree + ROOT
        while True:
            id_ = (
                ida_alloc_range(self.mem, root, pool, 0, INT_MAX)
                if self.kind.ida
                else idr_alloc(self.mem, root, pool, 1, 0, 0)
            )
            if id_ != -EAGAIN:
                return id_
            self._put(self.arena.memory[pool + POOL.wanted])

    def _put(self, size: int) -> None:
        put = pool_put_node if size == IDR_NODE.SIZE else pool_put_bitmap
        put(self.mem, self.tree + POOL_AT, self.arena.allocate(size))

    def find(self, count: int) -> float:
        """Find so many; ns for all."""
        took = self.kind.find(self.mem, self.cpu, self.tree, self.live, count)
        if took < 0:
            raise InternalError("an id in use was not found")
        return took

    def batch(self, count: int) -> tuple[float, float]:
        """Remove so many and allocate as many; ns for all of each."""
        if self.kind.batch(self.mem, self.cpu, self.tree, self.live, count) < 0:
            raise InternalError("an id could not be allocated")
        return self.arena.memory[self.tree + REMOVAL], self.arena.memory[self.tree + ALLOCATION]

    def clock(self) -> float:
        """Nanoseconds that reading the clock costs, which each half of a batch has in it."""
        return clock_loop(self.mem, self.tree, 2_000) / 2_000

    def close(self) -> None:
        """Give its memory back."""
        self.arena.close()
