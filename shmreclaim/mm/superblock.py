"""Superblocks: what a mount makes, a shrinker with a list of dentries and a list of inodes.

Model: fs/super.c: super_cache_count, super_cache_scan; seeks 2, batch 1024, NUMA- and memcg-aware. The
file system's own objects are left out, so the share of each list is over dentries + inodes + 1.

s_umount is held for write while a superblock is set up and taken down; a scan only tries it for read,
so reclaim never waits for a mount (and a mount that allocates can reclaim).
Lock order: s_umount, then the locks of the design; sb_lock (a spinlock) innermost.
"""

from typing import Any

from shmreclaim.lib.list_head import list_del_init, list_empty, list_init, list_next
from shmreclaim.machine.atomics import clock_ns, fetch_add_relaxed, read_once, write_once, xchg_relaxed
from shmreclaim.machine.compile import compiled, out_of_line
from shmreclaim.machine.cpu import CPU, Violation, count_event, violation
from shmreclaim.machine.layout import Field, record
from shmreclaim.mm.list_lru import (
    LIST_LRU,
    OBJECT,
    OBJECT_FREE,
    OBJECT_ISOLATED,
    list_lru_count_one,
    list_lru_walk_one,
)
from shmreclaim.mm.memcg import css_put, page_counter_uncharge
from shmreclaim.mm.shrinker import SHRINK_EMPTY, SHRINK_STOP, SHRINKER
from shmreclaim.mm.slab import block_lines, kfree
from shmreclaim.mm.state import GFP_FS, MM, Event, mm_state, sleep_until
from shmreclaim.sync.lockdep import LOCK
from shmreclaim.sync.rwsem import down_read_trylock, up_read

SUPERBLOCK_BATCH = 1024
DENTRY_WORDS = 24
"""A dentry: 192 bytes."""
INODE_WORDS = 88
"""An inode of tmpfs: 704 bytes."""

SUPERBLOCK = record(
    "SUPERBLOCK",
    Field("shrinker", "a SHRINKER", SHRINKER.SIZE),
    Field("s_umount", "an rwsem", LOCK.SIZE, line=True),
    Field("dentries", "a LIST_LRU", LIST_LRU.SIZE, line=True),
    Field("inodes", "a LIST_LRU", LIST_LRU.SIZE, line=True),
    Field("link", "under sb_lock; on MM.superblocks", 2, line=True),
    Field("born", "atomic; SB_BORN: set up, objects may be counted"),
    Field("handle", "read-only after init; its number in the workload"),
    Field("scan_ns", "read-only after init; how long each scan sleeps, negative if it gives up"),
)
assert SUPERBLOCK.shrinker == 0  # a shrinker is its superblock (kernel: container_of)

SHRINK_CONTROL = record(
    "SHRINK_CONTROL",
    Field("gfp", "one CPU"),
    Field("nid", "one CPU"),
    Field("memcg", "one CPU; root for a shrinker that is not memcg-aware"),
    Field("nr_to_scan", "one CPU"),
    Field("nr_scanned", "one CPU"),
    Field("dispose", "one CPU; a list_head", 2),
)


@compiled
def shrink_control(cpu: int) -> int:
    """The struct shrink_control of the reclaim this CPU is in; reclaim does not nest."""
    return cpu + CPU.scratch


@compiled
def superblock_lru(sb: int, inodes: int) -> int:
    """One of its two lists."""
    return sb + (SUPERBLOCK.inodes if inodes else SUPERBLOCK.dentries)


@compiled
def expose_shrinker_id(mem: Any, sb: int, number: int) -> int:
    """Let objects added from now on set the bit of shrinker `number` (-1: of none)."""
    write_once(mem, sb + SUPERBLOCK.dentries + LIST_LRU.shrinker_id, number)
    return write_once(mem, sb + SUPERBLOCK.inodes + LIST_LRU.shrinker_id, number)


@compiled
def object_free(mem: Any, cpu: int, item: int) -> int:
    """Free an isolated object: uncharge, and give its memory back; exactly once."""
    found = xchg_relaxed(mem, item + OBJECT.state, OBJECT_FREE)
    if found != OBJECT_ISOLATED:
        violation(mem, cpu, Violation.DOUBLE_FREE, item, found, 0)
        return 0
    memcg = read_once(mem, item + OBJECT.memcg)
    page_counter_uncharge(mem, memcg, block_lines(read_once(mem, item + OBJECT.words)))
    kfree(mem, cpu, item)
    fetch_add_relaxed(mem, mm_state(mem) + MM.nr_objects, -1)
    return css_put(mem, cpu, memcg)


@out_of_line
def dispose_list(mem: Any, cpu: int, head: int) -> int:
    """Free every object of a private list, no lock held; returns how many."""
    n = 0
    while not list_empty(mem, head):
        item = list_next(mem, head) - OBJECT.link
        list_del_init(mem, item + OBJECT.link)
        object_free(mem, cpu, item)
        n += 1
    return n


@out_of_line
def super_cache_count(mem: Any, cpu: int, sb: int) -> int:
    """Objects that a scan could free; advisory. SHRINK_EMPTY, where the era has it, if there is none for sure."""
    if not read_once(mem, sb + SUPERBLOCK.born):
        return 0
    sc = shrink_control(cpu)
    nid = read_once(mem, sc + SHRINK_CONTROL.nid)
    memcg = read_once(mem, sc + SHRINK_CONTROL.memcg)
    total = list_lru_count_one(mem, cpu, sb + SUPERBLOCK.dentries, nid, memcg)
    total += list_lru_count_one(mem, cpu, sb + SUPERBLOCK.inodes, nid, memcg)
    if total == 0 and read_once(mem, mm_state(mem) + MM.has_shrink_empty):
        return SHRINK_EMPTY
    return total


@out_of_line
def super_cache_scan(mem: Any, cpu: int, sb: int) -> int:
    """Free up to nr_to_scan objects, from both lists in proportion; SHRINK_STOP if that could deadlock."""
    sc = shrink_control(cpu)
    if read_once(mem, sc + SHRINK_CONTROL.gfp) & GFP_FS == 0:
        return SHRINK_STOP
    scan_ns = read_once(mem, sb + SUPERBLOCK.scan_ns)
    if scan_ns < 0 or not down_read_trylock(mem, cpu, sb + SUPERBLOCK.s_umount):
        return SHRINK_STOP
    if scan_ns:
        sleep_until(mem, clock_ns() + scan_ns)
    fetch_add_relaxed(mem, sb + SHRINKER.nr_scans, 1)
    nid = read_once(mem, sc + SHRINK_CONTROL.nid)
    memcg = read_once(mem, sc + SHRINK_CONTROL.memcg)
    n = read_once(mem, sc + SHRINK_CONTROL.nr_to_scan)
    dentries = list_lru_count_one(mem, cpu, sb + SUPERBLOCK.dentries, nid, memcg)
    inodes = list_lru_count_one(mem, cpu, sb + SUPERBLOCK.inodes, nid, memcg)
    total = dentries + inodes + 1
    head = sc + SHRINK_CONTROL.dispose
    list_init(mem, head)
    # One more each, so that a list with a small share is looked at all the same.
    list_lru_walk_one(mem, cpu, sb + SUPERBLOCK.dentries, nid, memcg, n * dentries // total + 1, head)
    list_lru_walk_one(mem, cpu, sb + SUPERBLOCK.inodes, nid, memcg, n * inodes // total + 1, head)
    freed = dispose_list(mem, cpu, head)
    up_read(mem, cpu, sb + SUPERBLOCK.s_umount)
    count_event(mem, cpu, Event.SCAN_CALLS, 1)
    count_event(mem, cpu, Event.OBJECTS_FREED, freed)
    return freed
