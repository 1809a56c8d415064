"""Real processes: lookups without a lock while nodes are freed and poisoned; an IDA under a spinlock."""

from errno import EAGAIN
from typing import Any

import pytest

from shmreclaim.lib.bitmap import bitmap_fill, clear_bit, find_next_zero_bit, set_bit
from shmreclaim.lib.ida import (
    IDA,
    IDA_BITMAP,
    IDA_PRELOAD_NODES,
    ida_alloc_range,
    ida_destroy,
    ida_free,
    ida_is_empty,
    ida_take_retired_bitmap,
    ida_take_retired_node,
)
from shmreclaim.lib.idr import (
    IDR,
    IDR_NODE,
    POOL,
    idr_alloc,
    idr_find,
    idr_get_next,
    idr_remove,
    idr_take_retired,
    pool_put_bitmap,
    pool_put_node,
)
from shmreclaim.machine.atomics import clock_ns, load_acquire, read_once, store_release, write_once
from shmreclaim.machine.compile import compiled
from shmreclaim.sync.rcu import call_rcu, rcu_next_done, rcu_read_lock, rcu_read_unlock, synchronize_rcu
from shmreclaim.sync.spinlock import spin_lock, spin_unlock
from tests.sync.crew import Crew

pytestmark = pytest.mark.stress

READERS = 2
IDS = 4
STRIDE = 8191
"""Every id has a leaf of its own, and the tree has three levels or fewer as they come and go."""
NODES = 64
ID_BITS = 16
POISON = 0x5A5A5A5A5A5A5A5A
RUN_NS = 1_500_000_000
CPUS = 3
LIVE = 2048


@compiled
def random_word(state: int) -> int:
    """The next of a sequence of numbers below 2**31 (a linear congruential generator)."""
    return (state * 1103515245 + 12345) & 0x7FFFFFFF


@compiled
def reclaim_nodes(mem: Any, cpu: int, idr: int, pool: int) -> int:
    """Hand over what was retired; poison and reuse what no reader can see any more."""
    node = idr_take_retired(mem, idr)
    while node:
        call_rcu(mem, cpu, node)
        node = idr_take_retired(mem, idr)
    node = rcu_next_done(mem, cpu)
    while node:
        bitmap_fill(mem, node, IDR_NODE.SIZE, POISON)
        pool_put_node(mem, pool, node)
        node = rcu_next_done(mem, cpu)
    return 0


@compiled
def write_until(mem: Any, cpu: int, idr: int, told: int, end: int) -> int:
    """Give and take ids at random; a value is generation << ID_BITS | id. Says before and after what it does.

    `told` + 2k is the last generation given for the k-th id, + 1 the last one taken. Returns how many were given.
    """
    pool = told + 2 * IDS
    rolled = 1
    given = 0
    while clock_ns() < end:
        rolled = random_word(rolled)
        k = (rolled >> 8) % IDS
        generation = read_once(mem, told + 2 * k)
        if read_once(mem, told + 2 * k + 1) == generation:
            write_once(mem, told + 2 * k, generation + 1)
            value = (generation + 1) << ID_BITS | k * STRIDE
            while idr_alloc(mem, idr, pool, value, k * STRIDE, k * STRIDE + 1) == -EAGAIN:
                synchronize_rcu(mem, cpu)
                reclaim_nodes(mem, cpu, idr, pool)
            given += 1
        else:
            idr_remove(mem, idr, k * STRIDE)
            store_release(mem, told + 2 * k + 1, generation)
        reclaim_nodes(mem, cpu, idr, pool)
    return given


@compiled
def wrong(mem: Any, value: int, k: int, told: int, taken: int) -> int:
    """Whether a value found was never stored for the k-th id, or had been taken out before we looked."""
    generation = value >> ID_BITS
    alien = value & ((1 << ID_BITS) - 1) != k * STRIDE
    return 1 if alien or generation <= taken or generation > read_once(mem, told + 2 * k) else 0


@compiled
def read_until(mem: Any, cpu: int, idr: int, told: int, end: int) -> int:
    """Look ids up and walk over them; returns how many values were found, or -1 - how many of them were wrong."""
    found = 0
    mistakes = 0
    rolled = cpu
    while clock_ns() < end:
        rolled = random_word(rolled)
        k = (rolled >> 8) % IDS
        taken = load_acquire(mem, told + 2 * k + 1)
        rcu_read_lock(mem, cpu)
        value = idr_find(mem, idr, k * STRIDE)
        after = idr_get_next(mem, idr, k * STRIDE + 1)
        rcu_read_unlock(mem, cpu)
        if value:
            found += 1
            mistakes += wrong(mem, value, k, told, taken)
        if after >= 0 and (after % STRIDE or not k * STRIDE < after < IDS * STRIDE):
            mistakes += 1
    return -1 - mistakes if mistakes else found


def test_P10_readers_see_only_values_that_were_stored_for_that_id() -> None:
    """Readers under RCU, one writer, freed nodes poisoned: each value is of that id and of its time."""
    with Crew(READERS + 1, NODES * IDR_NODE.SIZE + IDR.SIZE + 64) as crew:
        idr = crew.arena.allocate(IDR.SIZE)
        told = crew.arena.allocate(2 * IDS + POOL.SIZE)
        for _ in range(NODES):
            crew.call(pool_put_node, told + 2 * IDS, crew.arena.allocate(IDR_NODE.SIZE))
        for function in (write_until, read_until):
            function(crew.arena.address, crew.cpus[1], idr, told, 0)
        end = clock_ns() + RUN_NS
        crew.start(1, write_until, idr, told, end)
        for number in range(2, READERS + 2):
            crew.start(number, read_until, idr, told, end)
        given, *found = crew.finish().values()
        assert given > 1000
        assert min(found) > 1000, f"negative: -1 - how many wrong values a reader saw: {found}"


@compiled
def own_ids_until(mem: Any, cpu: int, ida: int, shared: int, end: int) -> int:
    """Give and take ids below LIVE at random under a lock; each must be nobody's when given, and ours when taken.

    `shared` is a lock, 16 words on: a bitmap of who is given, then for each CPU its pool and a bitmap of its own.
    Returns how many ids were given, or -1 - how many were somebody's already.
    """
    pool = shared + 16 + LIVE // 64 + read_once(mem, cpu) * (16 + LIVE // 64)
    mine = pool + 16
    given = 0
    mistakes = 0
    rolled = cpu
    while clock_ns() < end:
        rolled = random_word(rolled)
        id_ = (rolled >> 8) % LIVE
        spin_lock(mem, cpu, shared)
        if clear_bit(mem, mine, id_):
            mistakes += 1 - clear_bit(mem, shared + 16, id_)
            mistakes += 1 if ida_free(mem, ida, id_) else 0
        else:
            first = find_next_zero_bit(mem, shared + 16, LIVE, id_)
            id_ = ida_alloc_range(mem, ida, pool, id_, LIVE - 1)
            if id_ >= 0:
                given += 1
                set_bit(mem, mine, id_)
                mistakes += set_bit(mem, shared + 16, id_) + (1 if id_ != first else 0)
        refill(mem, ida, pool)
        spin_unlock(mem, cpu, shared)
    return -1 - mistakes if mistakes else given


@compiled
def refill(mem: Any, ida: int, pool: int) -> int:
    """Put what fell out back into the pool."""
    node = ida_take_retired_node(mem, ida)
    while node:
        pool_put_node(mem, pool, node)
        node = ida_take_retired_node(mem, ida)
    bitmap = ida_take_retired_bitmap(mem, ida)
    while bitmap:
        pool_put_bitmap(mem, pool, bitmap)
        bitmap = ida_take_retired_bitmap(mem, ida)
    return 0


def test_no_id_is_given_to_two_processes() -> None:
    """Three that give and take 2,048 ids at random agree with a bitmap, and each id is the smallest of its range."""
    words = 16 + (CPUS + 2) * (16 + LIVE // 64)
    with Crew(CPUS, IDA.SIZE + words + CPUS * 8 * (IDR_NODE.SIZE + IDA_BITMAP.SIZE) + 64) as crew:
        ida, shared = crew.arena.allocate(IDA.SIZE), crew.arena.allocate(words)
        for number in range(1, CPUS + 1):
            pool = shared + 16 + LIVE // 64 + number * (16 + LIVE // 64)
            for _ in range(IDA_PRELOAD_NODES):
                crew.call(pool_put_node, pool, crew.arena.allocate(IDR_NODE.SIZE))
                crew.call(pool_put_bitmap, pool, crew.arena.allocate(IDA_BITMAP.SIZE))
        own_ids_until(crew.arena.address, crew.cpus[1], ida, shared, 0)
        end = clock_ns() + RUN_NS // 2
        for number in range(1, CPUS + 1):
            crew.start(number, own_ids_until, ida, shared, end)
        given = crew.finish()
        assert min(given.values()) > 1000, f"negative: -1 - how many ids were somebody's already: {given}"
        crew.call(ida_destroy, ida)
        assert crew.call(ida_is_empty, ida) == 1
