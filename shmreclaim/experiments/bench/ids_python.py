"""What a Python program would write for the smallest free id, as subjects of `bench ids`.

A dict of the objects by id, and beside it the free ids below the highest ever given: in a heap, or in sortedcontainers'
SortedList. All of it is in one process; the lock alone could be shared, with threads or with other processes. An idr's
ids and objects are in shared memory; what shares a dict between processes (a multiprocessing.Manager) is not compared,
a call to it takes tens of microseconds.

Loops are written out, with the lock's acquire and release bound to names before: the fastest way to write it.
"""

import importlib
import multiprocessing
import threading
from collections.abc import Callable
from functools import partial
from heapq import heappop, heappush
from time import perf_counter_ns
from typing import Any, NamedTuple

from shmreclaim.errors import InternalError

THING = object()
"""What an id stands for."""


class FreeIds(NamedTuple):
    """The free ids below the highest ever given: how to take the smallest, how to put one back."""

    ids: Any
    take: Callable[[], int]
    put: Callable[[int], object]


def heap() -> FreeIds:
    """Keep them in a heap."""
    ids: list[int] = []
    return FreeIds(ids, partial(heappop, ids), partial(heappush, ids))


def sorted_list() -> FreeIds:
    """Keep them in a SortedList; raises ImportError where sortedcontainers is not installed."""
    ids = importlib.import_module("sortedcontainers").SortedList()
    return FreeIds(ids, partial(ids.pop, 0), ids.add)


class Kind(NamedTuple):
    """One way to write it: what it is, the package it needs, and its parts."""

    about: str
    package: str | None
    lock: Callable[[], Any]
    free: Callable[[], FreeIds]


KINDS = {
    "dict, threading.Lock": Kind(
        "a dict, and a heap of freed ids; each operation under a threading.Lock", None, threading.Lock, heap
    ),
    "dict, multiprocessing.Lock": Kind(
        "the same under a multiprocessing.Lock; the dict is one process's own all the same",
        None,
        multiprocessing.Lock,
        heap,
    ),
    "sortedcontainers, threading.Lock": Kind(
        "a dict, and a SortedList of freed ids; each operation under a threading.Lock",
        "sortedcontainers",
        threading.Lock,
        sorted_list,
    ),
}


class PythonIds:
    """A dict with so many ids in use."""

    def __init__(self, kind: Kind, live: int) -> None:
        """Make it and fill it; raises ImportError where its package is not installed."""
        self.lock, self.free = kind.lock(), kind.free()
        self.things = dict.fromkeys(range(live), THING)
        self.live = live

    def touched(self, count: int) -> list[int]:
        """The ids to touch, each far from the last; the same as the compiled loops touch."""
        ids, id_ = [], 0
        for _ in range(count):
            id_ = (id_ + self.live // 3) % self.live
            ids.append(id_)
        return ids

    def find(self, count: int) -> float:
        """Find so many; ns for all."""
        ids, things, acquire, release = self.touched(count), self.things, self.lock.acquire, self.lock.release
        begin = perf_counter_ns()
        for id_ in ids:
            acquire()
            things[id_]
            release()
        return perf_counter_ns() - begin

    def batch(self, count: int) -> tuple[float, float]:
        """Remove so many and allocate as many; ns for all of each."""
        removal, allocation = self.remove(self.touched(count)), self.allocate(count)
        if len(self.things) != self.live or self.free.ids:
            raise InternalError("a batch did not give the ids again that it had removed")
        return removal, allocation

    def remove(self, ids: list[int]) -> int:
        """Remove these; ns for all."""
        things, put, acquire, release = self.things, self.free.put, self.lock.acquire, self.lock.release
        begin = perf_counter_ns()
        for id_ in ids:
            acquire()
            del things[id_]
            put(id_)
            release()
        return perf_counter_ns() - begin

    def allocate(self, count: int) -> int:
        """Allocate so many; ns for all."""
        things, (free, take, _) = self.things, self.free
        acquire, release = self.lock.acquire, self.lock.release
        begin = perf_counter_ns()
        for _ in range(count):
            acquire()
            # With no id free below, the ids in use are 0 to len - 1.
            id_ = take() if free else len(things)
            things[id_] = THING
            release()
        return perf_counter_ns() - begin

    def clock(self) -> float:
        """Nanoseconds that reading the clock costs, which each half of a batch has in it."""
        begin = perf_counter_ns()
        for _ in range(2_000):
            perf_counter_ns()
        return (perf_counter_ns() - begin) / 2_000

    def close(self) -> None:
        """Nothing to give back."""
