"""Two sides of the litmus tests of shrinker maps, compiled; on a memcg that has nothing but a map."""

from typing import Any

from shmreclaim.lib.bitmap import test_bit
from shmreclaim.machine.atomics import read_once, write_once
from shmreclaim.machine.compile import compiled
from shmreclaim.mm.shrinker_map import MAP, map_clear_bit, map_of, map_publish, map_set_bit
from shmreclaim.sync.rcu import rcu_read_lock, rcu_read_unlock
from tests.litmus.programs import TABLE, count_seen, linger, meet

NUMBER = 5
"""The shrinker whose bit is set and cleared."""


@compiled
def adder(mem: Any, cpu: int, table: int, rounds: int, memcg: int) -> int:
    """Add an object (x = k), then set the bit."""
    for k in range(1, rounds + 1):
        meet(mem, table, 4 * k - 2)
        linger(k & 7)
        write_once(mem, table + TABLE.x, k)
        map_set_bit(mem, cpu, memcg, 0, NUMBER)
        meet(mem, table, 4 * k)
    return 0


@compiled
def reclaimer(mem: Any, cpu: int, table: int, rounds: int, memcg: int) -> int:
    """Clear the bit, then count again. Forbidden: the bit stays clear and the count misses the object."""
    forbidden = 0
    for k in range(1, rounds + 1):
        meet(mem, table, 4 * k - 2)
        linger(k >> 3 & 31)
        map_clear_bit(mem, cpu, memcg, 0, NUMBER)
        missed = read_once(mem, table + TABLE.x) != k
        meet(mem, table, 4 * k)
        if missed:
            count_seen(mem, table)
            forbidden += 1 - test_bit(mem, map_of(mem, memcg, 0) + MAP.bits, NUMBER)
    return forbidden


@compiled
def publisher(mem: Any, cpu: int, table: int, rounds: int, memcg: int, maps: int) -> int:
    """Fill a map with k, publish it; two maps take turns."""
    for k in range(1, rounds + 1):
        meet(mem, table, 2 * k)
        block = maps + (k & 1) * (MAP.bits + 1)
        write_once(mem, block + MAP.bits, k)
        write_once(mem, block + MAP.nr_bits, k)
        map_publish(mem, memcg, 0, block)
    return 0


@compiled
def follower(mem: Any, cpu: int, table: int, rounds: int, memcg: int) -> int:
    """Follow the pointer. Forbidden: a map whose words are not those that it was published with."""
    forbidden = 0
    for k in range(1, rounds + 1):
        meet(mem, table, 2 * k)
        linger(k & 15)
        rcu_read_lock(mem, cpu)
        block = map_of(mem, memcg, 0)
        if block:
            count_seen(mem, table)
            bits = read_once(mem, block + MAP.nr_bits)
            forbidden += bits < k - 1 or read_once(mem, block + MAP.bits) != bits
        rcu_read_unlock(mem, cpu)
    return forbidden
