"""What an id costs: allocate, find and remove, in compiled loops, with 10, 1,000 and 100,000 ids in use.

    python bench/ids.py [--json] [--repeats NUM]

Figures are nanoseconds an operation: medians over repeats that take turns among the sizes, with the median
absolute deviation. Run it on a quiet machine; one process, no contention. "pair" is the allocation of the
smallest free id after all live ones, and its removal.
"""

import argparse
import json
import os
import statistics
from collections.abc import Callable
from errno import EAGAIN
from typing import Any

import numpy as np

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
from shmreclaim.machine.atomics import clock_ns, read_once, write_once
from shmreclaim.machine.compile import compiled, link

LIVE = (10, 1_000, 100_000)
LOOKUPS = 200_000
PAIRS = 50_000
BATCH = 1_000
ROOT, POOL_AT, BLOCKS = 64, 128, 256


@compiled
def step_on(id_: int, live: int) -> int:
    """The next id to touch, far from the last; live // 3 has no factor in common with any of LIVE."""
    after = id_ + live // 3
    return after - live if after >= live else after


@compiled
def idr_find_loop(mem: Any, live: int, count: int) -> int:
    """Find ids that are in use; ns for all."""
    id_ = 0
    missed = 0
    begin = clock_ns()
    for _ in range(count):
        id_ = step_on(id_, live)
        missed += 1 if idr_find(mem, ROOT, id_) == 0 else 0
    return clock_ns() - begin if missed == 0 else -1


@compiled
def idr_pair_loop(mem: Any, live: int, count: int) -> int:
    """Allocate the next id and remove it; ns for all."""
    begin = clock_ns()
    for _ in range(count):
        id_ = idr_alloc(mem, ROOT, POOL_AT, 1, 0, 0)
        if id_ != live:
            return -1
        idr_remove(mem, ROOT, id_)
        reuse_nodes(mem)
    return clock_ns() - begin


@compiled
def idr_batch(mem: Any, live: int, count: int) -> int:
    """Remove `count` ids here and there, allocate them again; ns of each in the words 1 and 2."""
    begin = clock_ns()
    id_ = 0
    for _ in range(count):
        id_ = step_on(id_, live)
        idr_remove(mem, ROOT, id_)
    middle = clock_ns()
    failed = 0
    reuse_nodes(mem)
    allocation = clock_ns()
    for _ in range(count):
        failed += 1 if idr_alloc(mem, ROOT, POOL_AT, 1, 0, 0) < 0 else 0
    write_once(mem, 2, clock_ns() - allocation)
    write_once(mem, 1, middle - begin)
    return -1 if failed else 0


@compiled
def reuse_nodes(mem: Any) -> int:
    """Put nodes that fell out back into the pool; nobody reads."""
    node = idr_take_retired(mem, ROOT)
    while node:
        pool_put_node(mem, POOL_AT, node)
        node = idr_take_retired(mem, ROOT)
    return 0


@compiled
def ida_exists_loop(mem: Any, live: int, count: int) -> int:
    """Look at ids that are in use; ns for all."""
    id_ = 0
    missed = 0
    begin = clock_ns()
    for _ in range(count):
        id_ = step_on(id_, live)
        missed += 1 - ida_exists(mem, ROOT, id_)
    return clock_ns() - begin if missed == 0 else -1


@compiled
def ida_pair_loop(mem: Any, live: int, count: int) -> int:
    """Allocate the next id and free it; ns for all."""
    begin = clock_ns()
    for _ in range(count):
        id_ = ida_alloc_range(mem, ROOT, POOL_AT, 0, INT_MAX)
        if id_ != live:
            return -1
        ida_free(mem, ROOT, id_)
        reuse_blocks(mem)
    return clock_ns() - begin


@compiled
def ida_batch(mem: Any, live: int, count: int) -> int:
    """Free `count` ids here and there, allocate them again; ns of each in the words 1 and 2."""
    begin = clock_ns()
    id_ = 0
    for _ in range(count):
        id_ = step_on(id_, live)
        ida_free(mem, ROOT, id_)
    middle = clock_ns()
    failed = 0
    reuse_blocks(mem)
    allocation = clock_ns()
    for _ in range(count):
        failed += 1 if ida_alloc_range(mem, ROOT, POOL_AT, 0, INT_MAX) < 0 else 0
    write_once(mem, 2, clock_ns() - allocation)
    write_once(mem, 1, middle - begin)
    return -1 if failed else 0


@compiled
def reuse_blocks(mem: Any) -> int:
    """Put blocks that fell out back into the pool; nobody reads."""
    node = ida_take_retired_node(mem, ROOT)
    while node:
        pool_put_node(mem, POOL_AT, node)
        node = ida_take_retired_node(mem, ROOT)
    bitmap = ida_take_retired_bitmap(mem, ROOT)
    while bitmap:
        pool_put_bitmap(mem, POOL_AT, bitmap)
        bitmap = ida_take_retired_bitmap(mem, ROOT)
    return 0


class Subject:
    """An IDR or an IDA with so many ids in use."""

    def __init__(self, name: str, live: int) -> None:
        """Make it and fill it."""
        self.name, self.live = name, live
        ida = name == "ida"
        self.memory = np.zeros(BLOCKS + (live // 32 + 64) * IDR_NODE.SIZE, np.int64)
        self.mem = int(self.memory.ctypes.data)
        (ida_init if ida else idr_init)(self.mem, ROOT)
        pool_init(self.mem, POOL_AT)
        self._brk = BLOCKS
        for n in range(live):
            assert self._alloc(ida) == n
        for size in [IDR_NODE.SIZE] * 8 + [IDA_BITMAP.SIZE]:
            self._put(size)
        self.loops: dict[str, tuple[Callable[[Any, int, int], int], int]] = (
            {"find": (ida_exists_loop, LOOKUPS), "pair": (ida_pair_loop, PAIRS), "batch": (ida_batch, BATCH)}
            if ida
            else {"find": (idr_find_loop, LOOKUPS), "pair": (idr_pair_loop, PAIRS), "batch": (idr_batch, BATCH)}
        )

    def _alloc(self, ida: bool) -> int:
        while True:
            id_ = (
                ida_alloc_range(self.mem, ROOT, POOL_AT, 0, INT_MAX)
                if ida
                else idr_alloc(self.mem, ROOT, POOL_AT, 1, 0, 0)
            )
            if id_ != -EAGAIN:
                return id_
            self._put(int(self.memory[POOL_AT + POOL.wanted]))

    def _put(self, size: int) -> None:
        (pool_put_node if size == IDR_NODE.SIZE else pool_put_bitmap)(self.mem, POOL_AT, self._brk)
        self._brk += size
        assert self._brk <= len(self.memory)

    def measure(self) -> dict[str, float]:
        """Run each loop once; ns an operation."""
        times = {}
        for what in ("find", "pair"):
            loop, count = self.loops[what]
            took = loop(self.mem, self.live, count)
            assert took >= 0, f"{self.name} {what} went wrong"
            times[what] = took / count
        return times | self._measure_batch()

    def _measure_batch(self) -> dict[str, float]:
        """Remove and allocate in batches of at most half of the ids, many batches for few ids."""
        loop, most = self.loops["batch"]
        count = min(most, self.live // 2)
        rounds = max(1, BATCH // count)
        removed = allocated = 0
        for _ in range(rounds):
            assert loop(self.mem, self.live, count) == 0
            removed, allocated = removed + int(self.memory[1]), allocated + int(self.memory[2])
        overhead = clock_cost(self.mem)
        return {
            "remove": removed / rounds / count - overhead / count,
            "alloc": allocated / rounds / count - overhead / count,
        }


@compiled
def clock_loop(mem: Any, count: int) -> int:
    """Read the clock; ns for all."""
    begin = clock_ns()
    for _ in range(count):
        write_once(mem, 1, clock_ns())
    return clock_ns() - begin + 0 * read_once(mem, 1)


def clock_cost(mem: int) -> float:
    """Nanoseconds that reading the clock costs."""
    return clock_loop(mem, 2_000) / 2_000


def run(repeats: int) -> dict[str, Any]:
    """Measure all, the sizes taking turns; medians and spreads in ns an operation."""
    link()
    subjects = [Subject(name, live) for name in ("idr", "ida") for live in LIVE]
    for subject in subjects:
        subject.measure()
    samples: dict[tuple[str, int, str], list[float]] = {}
    for _ in range(repeats):
        for subject in subjects:
            for what, ns in subject.measure().items():
                samples.setdefault((subject.name, subject.live, what), []).append(ns)
    figures = [
        {"what": f"{name} {operation}", "live": live, "ns": statistics.median(values), "mad": spread(values)}
        for (name, live, operation), values in samples.items()
    ]
    return {"cores": len(os.sched_getaffinity(0)), "repeats": repeats, "figures": figures}


def spread(values: list[float]) -> float:
    """The median absolute deviation."""
    median = statistics.median(values)
    return statistics.median(abs(value - median) for value in values)


def show(result: dict[str, Any]) -> None:
    """Print the table."""
    print(f"ns an operation: median ± MAD of {result['repeats']} repeats; {result['cores']} cores, one used")
    print(f"{'':12}" + "".join(f"{f'{live:,} live':>18}" for live in LIVE))
    for what in dict.fromkeys(figure["what"] for figure in result["figures"]):
        row = [f for f in result["figures"] if f["what"] == what]
        print(f"{what:12}" + "".join(f"{f['ns']:11.1f} ± {f['mad']:4.1f}" for f in row))


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description="Measure what allocating, finding and removing ids costs.")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON instead of a table")
    parser.add_argument("--repeats", type=int, default=15, metavar="NUM", help="repeats of each figure (default: 15)")
    options = parser.parse_args()
    result = run(options.repeats)
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        show(result)


if __name__ == "__main__":
    main()
