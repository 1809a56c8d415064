"""list_lru: a shrinker's objects, one list for each node and memcg.

Model: mm/list_lru.c, one lock a node. Where the lists are is the design's era's: to 5.17 every memcg's list is
allocated with the list_lru, in an array on each node; since 5.18 a memcg has lists from its first object on, found
by its number in a tree (list_lru_memcg.py makes them). Departures: the array has room for MM.max_memcgs from the
start and holds the lists themselves, where the kernel doubles it and keeps pointers;
`add` returns whose list became non-empty instead of setting the bit under the lock: the caller sets it just
after. That is safe: between the two the bit may only be missing for an operation in progress (I2), and a
bit set late is a bit too many.

Which list an object is on follows its memcg's `effective`, read under the node's lock; offline first
changes `effective`, then moves the lists under the same locks, so no object is left behind. `effective` is
the memcg itself or above it, and each memcg holds a reference to its parent: it lives as long. Lists on demand
go after they were drained on every node, so whoever holds a node's lock finds those of `effective`; who counts
without a lock is inside RCU.

I12  nr_items of a list = entries on it, whenever its lock is free.
Lock order: list_lrus_mutex, then a node's lock (a spinlock), inside which nothing is taken.
"""

from typing import Any

from shmreclaim.lib.idr import IDR, POOL, idr_find, idr_get_next, idr_init, pool_init
from shmreclaim.lib.list_head import (
    list_add_tail,
    list_del_init,
    list_empty,
    list_init,
    list_move_tail,
    list_next,
    list_splice_init,
)
from shmreclaim.machine.atomics import read_once, write_once
from shmreclaim.machine.compile import compiled, out_of_line
from shmreclaim.machine.cpu import Violation, violation
from shmreclaim.machine.layout import Field, record
from shmreclaim.mm.memcg import MEMCG
from shmreclaim.mm.state import ENOENT, MAX_NODES, MM, mm_state
from shmreclaim.sync.mutex import mutex_lock, mutex_unlock
from shmreclaim.sync.rcu import RCU_HEAD_WORDS, rcu_read_lock, rcu_read_unlock
from shmreclaim.sync.spinlock import spin_lock, spin_unlock

LRU_ONE = record(
    "LRU_ONE",
    Field("head", "under the node's lock; a list_head", 2),
    Field("nr_items", "written under the node's lock, read by anyone"),
    Field("pad", "unused", 1),
    aligned=False,
)
LRU_NODE_WORDS = 8
LRU_NODE = record(
    "LRU_NODE",
    Field("lock", "a spinlock"),
    Field("nr_items", "written under lock, read by anyone; all lists together"),
    Field("root", "under lock; an LRU_ONE: root's objects, and all of a shrinker that is not memcg-aware", 4),
    Field("lists", "read-only after init; LRU_ONE records by kmemcg_id, 0 if not memcg-aware"),
)
assert LRU_NODE.SIZE == LRU_NODE_WORDS

LISTS_IN_ARRAYS, LISTS_ON_DEMAND = 1, 2
"""LIST_LRU.memcg_aware, 0 if it is not: where the lists of memcgs are."""

LIST_LRU = record(
    "LIST_LRU",
    Field("link", "under list_lrus_mutex; on MM.list_lrus", 2),
    Field("shrinker_id", "the design: whose bit to set; -1 for none"),
    Field("memcg_aware", "read-only after init; 0, LISTS_IN_ARRAYS or LISTS_ON_DEMAND"),
    Field("xa_lock", "a spinlock"),
    Field("pool", "under xa_lock; a POOL of nodes for xa", POOL.SIZE),
    Field("xa", "RCU, writers under xa_lock; an IDR: kmemcg_id to LRU_MEMCG", IDR.SIZE, line=True),
    Field("nodes", "LRU_NODE records, one a node", MAX_NODES * LRU_NODE_WORDS, line=True),
)

LRU_MEMCG = record(
    "LRU_MEMCG",
    Field("rcu_head", "RCU", RCU_HEAD_WORDS),
    Field("lists", "LRU_ONE records, one a node", 0),
    aligned=False,
)
"""The lists of one memcg in one list_lru, where they are made on demand."""

OBJECT = record(
    "OBJECT",
    Field("link", "under the node's lock of its list_lru, or private", 2),
    Field("state", "atomic: an ObjectState"),
    Field("memcg", "read-only after alloc; who pays, referenced"),
    Field("nid", "read-only after alloc"),
    Field("words", "read-only after alloc; size: what kind it is"),
    Field("referenced", "under the node's lock; a second chance"),
)

OBJECT_ON_LRU, OBJECT_ISOLATED, OBJECT_FREE = 0x0B1EC7, 0x150A7ED, 0x6B6B6B6B
"""OBJECT.state; the last is the kernel's poison for freed memory, so a second free is seen."""


@compiled
def lru_node(lru: int, nid: int) -> int:
    """A list_lru's part on a node."""
    return lru + LIST_LRU.nodes + nid * LRU_NODE_WORDS


@compiled
def lru_one(mem: Any, lru: int, nid: int, memcg: int) -> int:
    """The list of a memcg (not of its `effective`) on a node; 0 if it has none yet. Under the node's lock or RCU."""
    node = lru_node(lru, nid)
    number = read_once(mem, memcg + MEMCG.kmemcg_id)
    if number < 0:
        return node + LRU_NODE.root
    lists = read_once(mem, node + LRU_NODE.lists)
    if lists:
        return lists + number * LRU_ONE.SIZE
    if not read_once(mem, lru + LIST_LRU.memcg_aware):
        return node + LRU_NODE.root
    block = idr_find(mem, lru + LIST_LRU.xa, number)
    return block + LRU_MEMCG.lists + nid * LRU_ONE.SIZE if block else 0


@compiled
def _effective(mem: Any, memcg: int) -> int:
    """The memcg whose lists hold this one's objects; under a node's lock, which orders it against offline."""
    return read_once(mem, memcg + MEMCG.effective)


@compiled
def lru_one_init(mem: Any, one: int) -> int:
    """Make a list empty."""
    list_init(mem, one + LRU_ONE.head)
    return write_once(mem, one + LRU_ONE.nr_items, 0)


@compiled
def list_lru_init(mem: Any, lru: int, memcg_aware: int) -> int:
    """Make a list_lru; list_lru_init_node() follows for each node."""
    write_once(mem, lru + LIST_LRU.shrinker_id, -1)
    write_once(mem, lru + LIST_LRU.memcg_aware, memcg_aware)
    write_once(mem, lru + LIST_LRU.xa_lock, 0)
    pool_init(mem, lru + LIST_LRU.pool)
    return idr_init(mem, lru + LIST_LRU.xa)


@out_of_line
def list_lru_init_node(mem: Any, lru: int, nid: int, lists: int) -> int:
    """Make one node's part empty; `lists` is memory for MM.max_memcgs LRU_ONEs, or 0 where there is no array."""
    node = lru_node(lru, nid)
    write_once(mem, node + LRU_NODE.lock, 0)
    write_once(mem, node + LRU_NODE.nr_items, 0)
    write_once(mem, node + LRU_NODE.lists, lists)
    lru_one_init(mem, node + LRU_NODE.root)
    if lists:
        for k in range(read_once(mem, mm_state(mem) + MM.max_memcgs)):
            lru_one_init(mem, lists + k * LRU_ONE.SIZE)
    return 0


@compiled
def list_lru_link(mem: Any, cpu: int, lru: int) -> int:
    """Let offline find a list_lru."""
    mm = mm_state(mem)
    mutex_lock(mem, cpu, mm + MM.list_lrus_mutex)
    list_add_tail(mem, lru + LIST_LRU.link, mm + MM.list_lrus)
    return mutex_unlock(mem, cpu, mm + MM.list_lrus_mutex)


@compiled
def list_lru_unlink(mem: Any, cpu: int, lru: int) -> int:
    """Hide a list_lru from offline."""
    mm = mm_state(mem)
    mutex_lock(mem, cpu, mm + MM.list_lrus_mutex)
    list_del_init(mem, lru + LIST_LRU.link)
    return mutex_unlock(mem, cpu, mm + MM.list_lrus_mutex)


@compiled
def _account(mem: Any, node: int, one: int, change: int) -> int:
    """Change both counts; the node's lock is held. Returns the list's count."""
    n = read_once(mem, one + LRU_ONE.nr_items) + change
    write_once(mem, one + LRU_ONE.nr_items, n)
    write_once(mem, node + LRU_NODE.nr_items, read_once(mem, node + LRU_NODE.nr_items) + change)
    return n


@compiled
def list_lru_add(mem: Any, cpu: int, lru: int, item: int) -> int:
    """Put an object last on its memcg's list; returns the memcg whose list became non-empty by it, or 0."""
    node = lru_node(lru, read_once(mem, item + OBJECT.nid))
    spin_lock(mem, cpu, node + LRU_NODE.lock)
    memcg = _effective(mem, read_once(mem, item + OBJECT.memcg))
    one = lru_one(mem, lru, read_once(mem, item + OBJECT.nid), memcg)
    write_once(mem, item + OBJECT.state, OBJECT_ON_LRU)
    list_add_tail(mem, item + OBJECT.link, one + LRU_ONE.head)
    n = _account(mem, node, one, 1)
    spin_unlock(mem, cpu, node + LRU_NODE.lock)
    return memcg if n == 1 else 0


@compiled
def _isolate(mem: Any, cpu: int, node: int, one: int, item: int, head: int) -> int:
    """Move an object from its list to a private one; the node's lock is held."""
    if read_once(mem, item + OBJECT.state) != OBJECT_ON_LRU:
        violation(mem, cpu, Violation.LIST_CORRUPT, item, read_once(mem, item + OBJECT.state), one)
    write_once(mem, item + OBJECT.state, OBJECT_ISOLATED)
    list_move_tail(mem, item + OBJECT.link, head)
    n = _account(mem, node, one, -1)
    return violation(mem, cpu, Violation.NEGATIVE_COUNT, one, n, node) if n < 0 else 0


@compiled
def list_lru_count_one(mem: Any, cpu: int, lru: int, nid: int, memcg: int) -> int:
    """Objects of a memcg, which is referenced, on a node; without a lock, so advisory."""
    if read_once(mem, lru + LIST_LRU.memcg_aware) != LISTS_ON_DEMAND:
        return read_once(mem, lru_one(mem, lru, nid, _effective(mem, memcg)) + LRU_ONE.nr_items)
    rcu_read_lock(mem, cpu)
    one = lru_one(mem, lru, nid, _effective(mem, memcg))
    count = read_once(mem, one + LRU_ONE.nr_items) if one else 0
    rcu_read_unlock(mem, cpu)
    return count


@out_of_line
def list_lru_walk_one(mem: Any, cpu: int, lru: int, nid: int, memcg: int, budget: int, head: int) -> int:
    """Isolate up to `budget` objects to the private list `head`, referenced ones get a second chance.

    The isolate callbacks of dentries and inodes (fs/dcache.c, fs/inode.c) as far as they differ for a
    list: LRU_ROTATE for a referenced object, LRU_REMOVED for the others. Looking at one costs budget in
    both cases. Returns how many were isolated.
    """
    node = lru_node(lru, nid)
    isolated = 0
    spin_lock(mem, cpu, node + LRU_NODE.lock)
    one = lru_one(mem, lru, nid, _effective(mem, memcg))
    while one and budget > 0 and not list_empty(mem, one + LRU_ONE.head):
        budget -= 1
        item = list_next(mem, one + LRU_ONE.head) - OBJECT.link
        if read_once(mem, item + OBJECT.referenced):
            write_once(mem, item + OBJECT.referenced, 0)
            list_move_tail(mem, item + OBJECT.link, one + LRU_ONE.head)
        else:
            _isolate(mem, cpu, node, one, item, head)
            isolated += 1
    spin_unlock(mem, cpu, node + LRU_NODE.lock)
    return isolated


@out_of_line
def list_lru_touch(mem: Any, cpu: int, lru: int, nid: int, memcg: int, n: int) -> int:
    """Mark the first `n` objects of a memcg's list referenced; returns how many there were."""
    node = lru_node(lru, nid)
    touched = 0
    spin_lock(mem, cpu, node + LRU_NODE.lock)
    one = lru_one(mem, lru, nid, _effective(mem, memcg))
    entry = list_next(mem, one + LRU_ONE.head) if one else 0
    while one and touched < n and entry != one + LRU_ONE.head:
        write_once(mem, entry - OBJECT.link + OBJECT.referenced, 1)
        touched += 1
        entry = list_next(mem, entry)
    spin_unlock(mem, cpu, node + LRU_NODE.lock)
    return touched


@compiled
def _next_list(mem: Any, lru: int, number: int) -> int:
    """The smallest kmemcg_id from `number` on that has lists; negative if there is none. Under RCU."""
    aware = read_once(mem, lru + LIST_LRU.memcg_aware)
    if aware == LISTS_ON_DEMAND:
        return idr_get_next(mem, lru + LIST_LRU.xa, number)
    return number if aware and number < read_once(mem, mm_state(mem) + MM.max_memcgs) else -ENOENT


@compiled
def _list_of(mem: Any, lru: int, nid: int, number: int) -> int:
    """The list of a kmemcg_id that _next_list() gave."""
    lists = read_once(mem, lru_node(lru, nid) + LRU_NODE.lists)
    if lists:
        return lists + number * LRU_ONE.SIZE
    return idr_find(mem, lru + LIST_LRU.xa, number) + LRU_MEMCG.lists + nid * LRU_ONE.SIZE


@compiled
def _evict_one(mem: Any, cpu: int, node: int, one: int, head: int) -> int:
    n = 0
    while not list_empty(mem, one + LRU_ONE.head):
        _isolate(mem, cpu, node, one, list_next(mem, one + LRU_ONE.head) - OBJECT.link, head)
        n += 1
    return n


@out_of_line
def list_lru_evict(mem: Any, cpu: int, lru: int, nid: int, head: int) -> int:
    """Isolate every object of a node, whosever it is; returns how many (umount)."""
    node = lru_node(lru, nid)
    rcu_read_lock(mem, cpu)
    spin_lock(mem, cpu, node + LRU_NODE.lock)
    n = _evict_one(mem, cpu, node, node + LRU_NODE.root, head)
    number = _next_list(mem, lru, 0)
    while number >= 0 and read_once(mem, node + LRU_NODE.nr_items) > 0:
        n += _evict_one(mem, cpu, node, _list_of(mem, lru, nid, number), head)
        number = _next_list(mem, lru, number + 1)
    spin_unlock(mem, cpu, node + LRU_NODE.lock)
    rcu_read_unlock(mem, cpu)
    return n


@out_of_line
def list_lru_drain(mem: Any, cpu: int, lru: int, nid: int, source: int, heir: int) -> int:
    """Move the list of an offline memcg to the front of its heir's; returns for how many objects its bit must be set.

    Since 5.10 it must whenever an object went. Before, only if the heir's list was empty: a count that was passing
    through zero hides that edge (commit 8199be001a47). Here counts are exact under the lock, so both rules do.
    """
    node = lru_node(lru, nid)
    spin_lock(mem, cpu, node + LRU_NODE.lock)
    old = lru_one(mem, lru, nid, source)
    new = lru_one(mem, lru, nid, heir)
    n = read_once(mem, old + LRU_ONE.nr_items) if old and old != new else 0
    before = 0
    if n:
        before = read_once(mem, new + LRU_ONE.nr_items)
        list_splice_init(mem, old + LRU_ONE.head, new + LRU_ONE.head)
        write_once(mem, new + LRU_ONE.nr_items, before + n)
        write_once(mem, old + LRU_ONE.nr_items, 0)
    spin_unlock(mem, cpu, node + LRU_NODE.lock)
    return 0 if before and read_once(mem, mm_state(mem) + MM.drain_at_the_edge) else n
