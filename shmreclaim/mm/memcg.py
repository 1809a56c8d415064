"""Memory cgroups: a tree of limits, each with what a design keeps for it on every node.

Model: mm/memcontrol.c and kernel/cgroup/cgroup.c of 4.19, page_counter.c. All memcgs are on one RCU list in
pre-order: a child is put right behind its parent, so a subtree is a run of the list and parents come
before children (I10). A memcg stays on the list until its last reference goes; whoever holds a reference can
therefore go on from it.

References: one from online to offline, one for each child, one for each charge (an object, a page of cache),
one for each walker.
`effective` is the memcg whose lists hold this one's objects: itself while online, then its nearest online
ancestor (the kernel's kmemcg_id after reparenting).

P23  cgroup_mkdir() releases what the design made for a memcg to whoever sees it online with css_online()
     (litmus: test_P23_a_memcg_seen_online_has_its_maps)
Lock order: cgroup_mutex, then memcg_list_lock (a spinlock).
"""

from typing import Any

from shmreclaim.lib.list_head import list_add_rcu, list_del_rcu, list_next_rcu
from shmreclaim.machine.atomics import fetch_add, fetch_add_relaxed, load_acquire, read_once, write_once
from shmreclaim.machine.compile import compiled, out_of_line
from shmreclaim.machine.cpu import Violation, count_event, violation
from shmreclaim.machine.layout import Field, record
from shmreclaim.machine.upcall import upcall
from shmreclaim.mm.slab import kfree_rcu
from shmreclaim.mm.state import MAX_NODES, MM, Event, Upcall, mm_state
from shmreclaim.sync.rcu import RCU_HEAD_WORDS, rcu_read_lock, rcu_read_unlock
from shmreclaim.sync.refcount import refcount_dec_and_test, refcount_inc_not_zero
from shmreclaim.sync.spinlock import spin_lock, spin_unlock

NODEINFO_WORDS = 8
NODEINFO = record(
    "NODEINFO",
    Field("map", "RCU, writers under the lock of the design's maps; what the design keeps"),
    Field("cache_pages", "atomic; pages of page cache on this node's LRU"),
)
assert NODEINFO.SIZE == NODEINFO_WORDS

MEMCG = record(
    "MEMCG",
    Field("rcu_head", "RCU", RCU_HEAD_WORDS),
    Field("list", "RCU, writers under memcg_list_lock; on MM.memcgs", 2),
    Field("parent", "read-only after online; 0 for the root"),
    Field("depth", "read-only after online"),
    Field("handle", "read-only after online; its number in the workload"),
    Field("kmemcg_id", "under cgroup_mutex; index of its lists, -1 for the root"),
    Field("effective", "written under cgroup_mutex, read under a list's lock", line=True),
    Field("online", "atomic; CSS_ONLINE"),
    Field("limit", "read-only after online; lines, 0 for none"),
    Field("usage", "atomic; lines charged to it and below", line=True),
    Field("refcount", "atomic"),
    Field("nodeinfo", "NODEINFO records, one a node", MAX_NODES * NODEINFO_WORDS, line=True),
)


@compiled
def root_memcg(mem: Any) -> int:
    """The root of the tree."""
    return read_once(mem, mm_state(mem) + MM.root_memcg)


@compiled
def nodeinfo(memcg: int, nid: int) -> int:
    """What a memcg has on a node."""
    return memcg + MEMCG.nodeinfo + nid * NODEINFO_WORDS


@compiled
def css_online(mem: Any, memcg: int) -> int:
    """Whether it is online (kernel: mem_cgroup_online)."""
    return load_acquire(mem, memcg + MEMCG.online)  # P23: pairs with cgroup_mkdir()


@compiled
def css_tryget(mem: Any, memcg: int) -> int:
    """Take a reference unless the last is gone; return whether."""
    return refcount_inc_not_zero(mem, memcg + MEMCG.refcount)


@compiled
def css_get_many(mem: Any, memcg: int, n: int) -> int:
    """Take `n` more references; the caller has one."""
    return fetch_add_relaxed(mem, memcg + MEMCG.refcount, n)


@compiled
def css_put(mem: Any, cpu: int, memcg: int) -> int:
    """Give a reference up; the last one frees the memcg."""
    if refcount_dec_and_test(mem, memcg + MEMCG.refcount):
        _css_free(mem, cpu, memcg)
    return 0


@compiled
def css_put_many(mem: Any, cpu: int, memcg: int, n: int) -> int:
    """Give `n` references up."""
    left = fetch_add(mem, memcg + MEMCG.refcount, -n) - n  # P6: pairs with refcount_dec_and_test() and itself
    if left == 0:
        _css_free(mem, cpu, memcg)
    elif left < 0:
        violation(mem, cpu, Violation.REF_UNDERFLOW, memcg, left, n)
    return 0


@out_of_line
def _css_free(mem: Any, cpu: int, memcg: int) -> int:
    """The last reference is gone: off the list, the design's part freed, the memory after a grace period."""
    mm = mm_state(mem)
    if read_once(mem, memcg + MEMCG.usage) != 0:
        violation(mem, cpu, Violation.NEGATIVE_COUNT, memcg, read_once(mem, memcg + MEMCG.usage), 0)
    upcall(Upcall.MEMCG_FREE, mem, cpu, memcg, 0, 0, 0)
    spin_lock(mem, cpu, mm + MM.memcg_list_lock)
    list_del_rcu(mem, memcg + MEMCG.list)
    spin_unlock(mem, cpu, mm + MM.memcg_list_lock)
    fetch_add_relaxed(mem, mm + MM.nr_memcgs, -1)
    count_event(mem, cpu, Event.MEMCGS_FREED, 1)
    kfree_rcu(mem, cpu, memcg)
    return css_put(mem, cpu, read_once(mem, memcg + MEMCG.parent))  # the root is never freed


@compiled
def memcg_link(mem: Any, cpu: int, memcg: int, parent: int) -> int:
    """Put a new memcg into the tree, right behind its parent; cgroup_mutex is held."""
    mm = mm_state(mem)
    spin_lock(mem, cpu, mm + MM.memcg_list_lock)
    list_add_rcu(mem, memcg + MEMCG.list, parent + MEMCG.list)
    spin_unlock(mem, cpu, mm + MM.memcg_list_lock)
    return fetch_add_relaxed(mem, mm + MM.nr_memcgs, 1)


@compiled
def memcg_next(mem: Any, memcg: int, top: int) -> int:
    """The memcg after this one in the subtree of `top`, in pre-order; 0 at the end. Under RCU."""
    entry = list_next_rcu(mem, memcg + MEMCG.list)
    if entry == mm_state(mem) + MM.memcgs:
        return 0
    after = entry - MEMCG.list
    # A subtree is a run of the list: it ends where the depth comes back to its top's.
    return after if read_once(mem, after + MEMCG.depth) > read_once(mem, top + MEMCG.depth) else 0


@out_of_line
def mem_cgroup_iter(mem: Any, cpu: int, top: int, previous: int) -> int:
    """Walk the subtree of `top`, giving up the reference to `previous` (0 to begin); 0 at the end.

    What it gives is referenced; a walk that is left early must css_put the last one (commit 75866af62b43).
    """
    rcu_read_lock(mem, cpu)
    memcg = memcg_next(mem, previous, top) if previous else top
    while memcg and not css_tryget(mem, memcg):
        memcg = memcg_next(mem, memcg, top)
    rcu_read_unlock(mem, cpu)
    if previous:
        css_put(mem, cpu, previous)
    return memcg


@compiled
def memcg_reparent_effective(mem: Any, cpu: int, memcg: int) -> int:
    """Let this memcg's objects, and those that came to it from below, belong to its parent's lists."""
    heir = read_once(mem, read_once(mem, memcg + MEMCG.parent) + MEMCG.effective)
    rcu_read_lock(mem, cpu)  # those below may be freed meanwhile: cgroup_mutex does not stop a last reference
    below = memcg
    while below:
        if read_once(mem, below + MEMCG.effective) == memcg:
            write_once(mem, below + MEMCG.effective, heir)
        below = memcg_next(mem, below, memcg)
    rcu_read_unlock(mem, cpu)
    return heir


# --- charging (page_counter) ------------------------------------------------------------------


@compiled
def page_counter_try_charge(mem: Any, memcg: int, lines: int) -> int:
    """Charge a memcg and all above it; 0, or the first one that it is too much for (then nothing is charged)."""
    above = memcg
    while above:
        limit = read_once(mem, above + MEMCG.limit)
        if fetch_add_relaxed(mem, above + MEMCG.usage, lines) + lines > limit and limit != 0:
            fetch_add_relaxed(mem, above + MEMCG.usage, -lines)
            _uncharge_below(mem, memcg, above, lines)
            return above
        above = read_once(mem, above + MEMCG.parent)
    return 0


@compiled
def _uncharge_below(mem: Any, memcg: int, end: int, lines: int) -> int:
    while memcg != end:
        fetch_add_relaxed(mem, memcg + MEMCG.usage, -lines)
        memcg = read_once(mem, memcg + MEMCG.parent)
    return 0


@compiled
def page_counter_uncharge(mem: Any, memcg: int, lines: int) -> int:
    """Take a charge back from a memcg and all above it."""
    return _uncharge_below(mem, memcg, 0, lines)


@compiled
def memcg_init(mem: Any, memcg: int, parent: int, handle: int, limit: int) -> int:
    """Fill in a new memcg, not linked and not online, with the reference that offline gives up."""
    for k in range(MEMCG.SIZE):
        write_once(mem, memcg + k, 0)
    write_once(mem, memcg + MEMCG.parent, parent)
    write_once(mem, memcg + MEMCG.depth, read_once(mem, parent + MEMCG.depth) + 1 if parent else 0)
    write_once(mem, memcg + MEMCG.handle, handle)
    write_once(mem, memcg + MEMCG.kmemcg_id, -1)
    write_once(mem, memcg + MEMCG.effective, memcg)
    write_once(mem, memcg + MEMCG.limit, limit)
    return write_once(mem, memcg + MEMCG.refcount, 1)
