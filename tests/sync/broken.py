"""Locks that are wrong on purpose: what the torture tests must find, or they find nothing.

Each differs from its original in one thing, named in its docstring.
"""

from typing import Any

from shmreclaim.machine.atomics import cmpxchg_acquire, fetch_add, fetch_add_release, read_once
from shmreclaim.machine.compile import compiled
from shmreclaim.machine.cpu import CPU
from shmreclaim.sync.lockdep import LOCK
from shmreclaim.sync.rwsem_queue import WAITERS


@compiled
def no_lock(mem: Any, cpu: int, lock: int) -> int:
    """A lock, and its unlock, that do nothing."""
    return 0


@compiled
def up_read_without_wake(mem: Any, cpu: int, sem: int) -> int:
    """Give a read share up, and forget who waits."""
    return fetch_add_release(mem, sem + LOCK.word, -read_once(mem, cpu + CPU.bit))


@compiled
def down_read_trylock_past_writers(mem: Any, cpu: int, sem: int) -> int:
    """Take a read share if nobody waits, also while a writer holds the sem."""
    word = read_once(mem, sem + LOCK.word)
    if word & WAITERS:
        return 0
    return 1 if cmpxchg_acquire(mem, sem + LOCK.word, word, word | read_once(mem, cpu + CPU.bit)) == word else 0


@compiled
def synchronize_rcu_at_once(mem: Any, cpu: int) -> int:
    """A grace period that waits for nobody."""
    return fetch_add(mem, cpu + CPU.checks, 1)


@compiled
def complete_without_wake(mem: Any, completion: int) -> int:
    """Complete, and let who waits sleep on."""
    return fetch_add_release(mem, completion, 1)
