"""list_lru: a shrinker's objects, one list for each node and memcg.

Model: mm/list_lru.c of 4.19 to 5.17 (one lock a node, every memcg's list allocated with the list_lru).
Departures: a node's array of lists has room for MM.max_memcgs from the start, where the kernel doubles it;
`add` returns whose list became non-empty instead of setting the bit under the lock: the caller sets it just
after. That is safe: between the two the bit may only be missing for an operation in progress (I2), and a
bit set late is a bit too many.

Which list an object is on follows its memcg's `effective`, read under the node's lock; offline first
changes `effective`, then moves the lists under the same locks, so no object is left behind. `effective` is
the memcg itself or above it, and each memcg holds a reference to its parent: it lives as long.

I12  nr_items of a list = entries on it, whenever its lock is free.
Lock order: list_lrus_mutex, then a node's lock (a spinlock), inside which nothing is taken.
"""

from typing import Any

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
from shmreclaim.mm.state import MAX_NODES, MM, mm_state
from shmreclaim.sync.mutex import mutex_lock, mutex_unlock
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

LIST_LRU = record(
    "LIST_LRU",
    Field("link", "under list_lrus_mutex; on MM.list_lrus", 2),
    Field("shrinker_id", "the design: whose bit to set; -1 for none"),
    Field("nodes", "LRU_NODE records, one a node", MAX_NODES * LRU_NODE_WORDS, line=True),
)

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
def lru_one(mem: Any, node: int, memcg: int) -> int:
    """The list of a memcg (not of its `effective`) on a node."""
    lists = read_once(mem, node + LRU_NODE.lists)
    number = read_once(mem, memcg + MEMCG.kmemcg_id)
    return node + LRU_NODE.root if lists == 0 or number < 0 else lists + number * LRU_ONE.SIZE


@compiled
def _effective(mem: Any, memcg: int) -> int:
    """The memcg whose lists hold this one's objects; under a node's lock, which orders it against offline."""
    return read_once(mem, memcg + MEMCG.effective)


@out_of_line
def list_lru_init(mem: Any, lru: int, nid: int, lists: int) -> int:
    """Make one node's part empty; `lists` is memory for MM.max_memcgs LRU_ONEs, or 0 if not memcg-aware."""
    node = lru_node(lru, nid)
    write_once(mem, lru + LIST_LRU.shrinker_id, -1)
    write_once(mem, node + LRU_NODE.lock, 0)
    write_once(mem, node + LRU_NODE.nr_items, 0)
    write_once(mem, node + LRU_NODE.lists, lists)
    list_init(mem, node + LRU_NODE.root + LRU_ONE.head)
    write_once(mem, node + LRU_NODE.root + LRU_ONE.nr_items, 0)
    if lists:
        for k in range(read_once(mem, mm_state(mem) + MM.max_memcgs)):
            list_init(mem, lists + k * LRU_ONE.SIZE + LRU_ONE.head)
            write_once(mem, lists + k * LRU_ONE.SIZE + LRU_ONE.nr_items, 0)
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
    one = lru_one(mem, node, memcg)
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
def list_lru_count_one(mem: Any, lru: int, nid: int, memcg: int) -> int:
    """Objects of a memcg, which is referenced, on a node; without a lock, so advisory."""
    node = lru_node(lru, nid)
    return read_once(mem, lru_one(mem, node, _effective(mem, memcg)) + LRU_ONE.nr_items)


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
    one = lru_one(mem, node, _effective(mem, memcg))
    while budget > 0 and not list_empty(mem, one + LRU_ONE.head):
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
    one = lru_one(mem, node, _effective(mem, memcg))
    entry = list_next(mem, one + LRU_ONE.head)
    while touched < n and entry != one + LRU_ONE.head:
        write_once(mem, entry - OBJECT.link + OBJECT.referenced, 1)
        touched += 1
        entry = list_next(mem, entry)
    spin_unlock(mem, cpu, node + LRU_NODE.lock)
    return touched


@out_of_line
def list_lru_evict(mem: Any, cpu: int, lru: int, nid: int, head: int) -> int:
    """Isolate every object of a node, whosever it is; returns how many (umount)."""
    node = lru_node(lru, nid)
    lists = read_once(mem, node + LRU_NODE.lists)
    n = 0
    spin_lock(mem, cpu, node + LRU_NODE.lock)
    one = node + LRU_NODE.root
    k = 0
    while read_once(mem, node + LRU_NODE.nr_items) > 0 and one:
        while not list_empty(mem, one + LRU_ONE.head):
            _isolate(mem, cpu, node, one, list_next(mem, one + LRU_ONE.head) - OBJECT.link, head)
            n += 1
        one = lists + k * LRU_ONE.SIZE if lists and k < read_once(mem, mm_state(mem) + MM.max_memcgs) else 0
        k += 1
    spin_unlock(mem, cpu, node + LRU_NODE.lock)
    return n


@out_of_line
def list_lru_drain(mem: Any, cpu: int, lru: int, nid: int, source: int, heir: int) -> int:
    """Move the list of an offline memcg to the front of its heir's; returns how many objects went.

    The heir's bit must be set whenever that is not 0, not only if its list was empty: a count that
    was passing through zero hides the edge (commit 8199be001a47).
    """
    node = lru_node(lru, nid)
    if read_once(mem, node + LRU_NODE.lists) == 0:
        return 0
    spin_lock(mem, cpu, node + LRU_NODE.lock)
    old = lru_one(mem, node, source)
    new = lru_one(mem, node, heir)
    n = read_once(mem, old + LRU_ONE.nr_items)
    if n:
        list_splice_init(mem, old + LRU_ONE.head, new + LRU_ONE.head)
        write_once(mem, new + LRU_ONE.nr_items, read_once(mem, new + LRU_ONE.nr_items) + n)
        write_once(mem, old + LRU_ONE.nr_items, 0)
    spin_unlock(mem, cpu, node + LRU_NODE.lock)
    return n
