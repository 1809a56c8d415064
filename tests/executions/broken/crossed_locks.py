"""Test-only: whoever registers takes two mutexes, odd CPUs in one order, even ones in the other."""

from typing import Any

from shmreclaim.designs.no_map import (
    init,
    memcg_free,
    memcg_offline,
    memcg_online,
    set_shrinker_bit,
    shrink_slab,
    unregister_shrinker,
)
from shmreclaim.kernel import sleep_until
from shmreclaim.machine.atomics import clock_ns, read_once
from shmreclaim.machine.compile import compiled
from shmreclaim.machine.cpu import CPU
from shmreclaim.mm.state import MM, mm_state
from shmreclaim.sync.mutex import mutex_lock, mutex_unlock

PAUSE_NS = 500_000_000
"""Long enough for the other CPU to come, however busy the machine is; the run may take four times as long."""

__all__ = [
    "init",
    "memcg_free",
    "memcg_offline",
    "memcg_online",
    "register_shrinker",
    "set_shrinker_bit",
    "shrink_slab",
    "unregister_shrinker",
]


@compiled
def register_shrinker(mem: Any, cpu: int, shrinker: int, b: int, c: int, d: int) -> int:
    """Take one, let the others take theirs, take the other."""
    first, second = mm_state(mem) + MM.cgroup_mutex, mm_state(mem) + MM.list_lrus_mutex
    if read_once(mem, cpu + CPU.id) & 1:
        first, second = second, first
    mutex_lock(mem, cpu, first)
    sleep_until(mem, clock_ns() + PAUSE_NS)
    mutex_lock(mem, cpu, second)
    mutex_unlock(mem, cpu, second)
    return mutex_unlock(mem, cpu, first)
