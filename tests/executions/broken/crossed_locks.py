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
from shmreclaim.mm.state import MM, fatal_signal_pending, mm_state
from shmreclaim.sync.mutex import mutex_is_locked, mutex_lock, mutex_unlock

PAUSE_NS = 1_000_000_000
LOOK_NS = 1_000_000

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
    """Even CPUs take cgroup_mutex and give the others time; odd ones come then, with list_lrus_mutex.

    A mount takes list_lrus_mutex by itself as well, so who comes to that first would keep the other out.
    """
    first, second = mm_state(mem) + MM.cgroup_mutex, mm_state(mem) + MM.list_lrus_mutex
    odd = read_once(mem, cpu + CPU.id) & 1
    if odd:
        first, second = second, first
        while not mutex_is_locked(mem, second) and not fatal_signal_pending(mem):
            sleep_until(mem, clock_ns() + LOOK_NS)
    mutex_lock(mem, cpu, first)
    if not odd:
        sleep_until(mem, clock_ns() + PAUSE_NS)
    mutex_lock(mem, cpu, second)
    mutex_unlock(mem, cpu, second)
    return mutex_unlock(mem, cpu, first)
