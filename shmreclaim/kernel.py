"""The operations of a CPU: the one place where a design is bound to what a workload asks for.

`play` runs an op stream to its end; each operation is a function of its own below it, in the order of
`workload.ops.Op`. A design comes in through the upcall table (`bind_design`), so this file is compiled once
for all of them. An operation returns 0, a negative errno, or SKIPPED when what it names is not there (not
registered because that failed, not online yet): skipped is counted, it is not a failure. Nor is what fails because
the run is being stopped, which ends every wait for memory: it counts as skipped, too.

Longer than a file should be: the operations belong side by side, and under them what plays them.

What a superblock is to a handle is the business of the one CPU that mounts and unmounts it; memcgs are looked
up by anyone, under RCU and with a reference.

P22  op_memcg_online() releases the memcg to whoever finds it by its handle with _memcg_get()
     (litmus: test_P22_a_memcg_found_by_its_handle_is_whole)
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from shmreclaim.designs import FUNCTIONS, NAMES
from shmreclaim.errors import UsageError
from shmreclaim.lib.list_head import list_init
from shmreclaim.machine import upcall as upcalls
from shmreclaim.machine.atomics import clock_ns, load_acquire, read_once, store_release, write_once
from shmreclaim.machine.compile import compiled, link, out_of_line
from shmreclaim.machine.cpu import CPU, OP_WORDS, CpuState, count_event
from shmreclaim.machine.futex import EVERYBODY, futex_wake
from shmreclaim.machine.histogram import HISTOGRAM, histogram_add
from shmreclaim.machine.journal import begin_unit
from shmreclaim.machine.layout import HEADER, Field, record
from shmreclaim.machine.op_log import is_logged, log_begin, log_end
from shmreclaim.machine.recent import recent_begin, recent_end
from shmreclaim.machine.upcall import upcall
from shmreclaim.mm.cgroup import cgroup_mkdir, cgroup_rmdir
from shmreclaim.mm.list_lru import LIST_LRU, OBJECT, list_lru_add, list_lru_touch, list_lru_walk_one
from shmreclaim.mm.list_lru_memcg import memcg_list_lru_alloc
from shmreclaim.mm.memcg import css_put, css_tryget, root_memcg
from shmreclaim.mm.mount import mount, unmount
from shmreclaim.mm.page_alloc import add_to_page_cache, charge_pages, free_pages, object_alloc
from shmreclaim.mm.quiet import finish, rest_if_asked, rouse_kswapds
from shmreclaim.mm.slab import rcu_do_batch
from shmreclaim.mm.state import (
    ENOMEM,
    ENOSPC,
    GFP_KERNEL,
    MM,
    Event,
    Phase,
    Upcall,
    fatal_signal_pending,
    mm_state,
    sleep_until,
    switched,
)
from shmreclaim.mm.superblock import (
    DENTRY_WORDS,
    INODE_WORDS,
    SHRINK_CONTROL,
    dispose_list,
    shrink_control,
    superblock_lru,
)
from shmreclaim.mm.vmscan import balance_pgdat, drop_slab, memalloc_save, shrink_slab
from shmreclaim.mm.zone import ZONE, zone_of
from shmreclaim.plugins import is_plugin, mutation
from shmreclaim.plugins.load import load
from shmreclaim.switches import Switch
from shmreclaim.sync.rcu import MAX_PENDING, rcu_read_lock, rcu_read_unlock, synchronize_rcu
from shmreclaim.sync.wait_queue import UNINTERRUPTIBLE, wait_while
from shmreclaim.workload.ops import Op

SKIPPED = 1
"""Result of an operation that found nothing to work on."""

OP_COUNTS = record(
    "OP_COUNTS",
    Field("done", "one CPU"),
    Field("skipped", "one CPU"),
    Field("failed_enomem", "one CPU"),
    Field("failed_enospc", "one CPU"),
    Field("failed_other", "one CPU"),
    Field("time", "one CPU; ns spent in those that were not skipped"),
    Field("units", "one CPU; objects or pages that those done were asked for, at least 1 each"),
    aligned=False,
)
assert OP_COUNTS.SIZE <= OP_WORDS

OP = record(
    "OP",
    Field("when", "read-only"),
    Field("op", "read-only"),
    Field("memcg", "read-only"),
    Field("shrinker", "read-only"),
    Field("nid", "read-only"),
    Field("count", "read-only"),
    Field("arg", "read-only"),
    Field("spare", "read-only"),
)


_bound: dict[str, Any] = {"design": "", "compiled": False}
"""What the upcalls of this process lead to, and whether compiled code may follow them."""


def bind_design(design: str, *, compiled: bool = True) -> None:
    """Make the upcalls of this process those of a design: a built-in one's name, or a module's dotted path.

    Of a variant (`name+switch`), its design's; a module made from a user's file (`plugins.choose`) has a path too.
    With `compiled=False` only plain bodies can call them, and nothing needs to be compiled. What is bound already
    costs a look, so kernels that take turns bind before each use. Raises UsageError if there is no such design.
    """
    name = design.partition("+")[0]
    if _bound["design"] == name and _bound["compiled"] >= compiled:
        return
    functions = functions_of(name)
    if is_plugin(name) and compiled:
        link()  # what it has out of line, and what it imports that nobody else does
    _bound.update(design="", compiled=False)  # half way it is nobody's
    bind = upcalls.bind if compiled else upcalls.bind_plain
    for slot, function in enumerate(functions):
        bind(slot, function)
    _bound.update(design=name, compiled=compiled)


def functions_of(design: str) -> list[Callable[..., int]]:
    """The functions of a design, named as for `bind_design`, in the order of FUNCTIONS; the same UsageError."""
    name = design.partition("+")[0]
    if name not in NAMES and "." not in name:
        raise UsageError(f"there is no design {name!r}", remedy=f"The designs are: {', '.join(NAMES)}.")
    if is_plugin(name):
        module = load(name)
    else:
        module = importlib.import_module(name if "." in name else f"shmreclaim.designs.{name}")
    return [getattr(module, function) for function in FUNCTIONS]


def bind_mutant(name: str) -> None:
    """Break this process as a mutant says, after `bind_design`; for good: only workers of such a run do that."""
    module = mutation.apply(name)
    for slot, function in enumerate(FUNCTIONS if module.__name__.rpartition(".")[2] in NAMES else ()):
        upcalls.bind(slot, getattr(module, function))


# --- playing a stream ----------------------------------------------------------------------------


@compiled
def play(mem: Any, cpu: int, ops: int, count: int, speed: int) -> int:
    """Play `count` operations from word `ops` on; returns how many it did before the run was stopped.

    `speed` is how much faster than planned time runs, in thousandths; 0 plays as fast as it goes. With planned
    times an operation's latency counts from when it should have started: a late start is latency too.
    """
    start_playing(mem, cpu)
    return play_on(mem, cpu, ops, count, speed)


@compiled
def start_playing(mem: Any, cpu: int) -> int:
    """Begin a stream."""
    write_once(mem, cpu + CPU.ops_done, 0)
    write_once(mem, cpu + CPU.started, clock_ns())
    return write_once(mem, cpu + CPU.state, CpuState.RUNNING)


@compiled
def play_on(mem: Any, cpu: int, ops: int, count: int, speed: int) -> int:
    """Go on playing, from where this CPU is; also as the successor of a process that died (machine/journal.py)."""
    begin_unit()
    k = read_once(mem, cpu + CPU.ops_done)
    while k < count and not fatal_signal_pending(mem):
        op = ops + k * OP.SIZE
        planned = 0
        if speed:
            planned = read_once(mem, cpu + CPU.started) + read_once(mem, op + OP.when) * 1000 // speed
            sleep_until(mem, planned)
        play_one(mem, cpu, op, planned)
        write_once(mem, cpu + CPU.ops_done, k + 1)
        begin_unit()
        k = read_once(mem, cpu + CPU.ops_done)
    _end(mem, cpu)
    return k


@compiled
def play_rounds_on(mem: Any, cpu: int, ops: int, count: int, limit: int) -> int:
    """Go on playing `count` operations from word `ops` on, again and again; until `limit` are done, 0: until stopped.

    As fast as it goes; rests between two of them while that is asked for.
    """
    begin_unit()
    k = read_once(mem, cpu + CPU.ops_done)
    while (k < limit or limit == 0) and not fatal_signal_pending(mem):
        rest_if_asked(mem, cpu)
        op = ops + k % count * OP.SIZE
        entry = recent_begin(mem, cpu, k, op)
        recent_end(mem, entry, play_one(mem, cpu, op, 0))
        write_once(mem, cpu + CPU.ops_done, k + 1)
        begin_unit()
        k = read_once(mem, cpu + CPU.ops_done)
    _end(mem, cpu)
    return k


@compiled
def _end(mem: Any, cpu: int) -> int:
    finish(mem, cpu)
    write_once(mem, cpu + CPU.ended, clock_ns())
    return store_release(mem, cpu + CPU.state, CpuState.DONE)  # P29: pairs with cpus_at_rest()


@compiled
def play_one(mem: Any, cpu: int, op: int, planned: int) -> int:
    """Play one operation and count how it went; gives its outcome."""
    kind = read_once(mem, op + OP.op)
    since = clock_ns()
    write_once(mem, cpu + CPU.op_since, since)
    write_once(mem, cpu + CPU.op, kind)
    logged = is_logged(mem, cpu, kind)
    if logged:
        log_begin(mem, cpu, kind)
    outcome = _dispatch(mem, cpu, kind, op)
    if logged:
        log_end(mem, cpu)
    if outcome < 0 and fatal_signal_pending(mem):
        outcome = SKIPPED
    now = clock_ns()
    write_once(mem, cpu + CPU.op, -1)
    _count_outcome(mem, cpu, kind, outcome)
    if outcome != SKIPPED:
        histogram_add(mem, cpu + CPU.histograms + kind * HISTOGRAM.SIZE, now - (planned if planned else since))
        time = cpu + CPU.ops + kind * OP_WORDS + OP_COUNTS.time
        write_once(mem, time, read_once(mem, time) + now - since)
    if outcome == 0:
        units = cpu + CPU.ops + kind * OP_WORDS + OP_COUNTS.units
        count = read_once(mem, op + OP.count) if Op.LRU_ADD <= kind <= Op.ALLOC else 1
        write_once(mem, units, read_once(mem, units) + max(count, 1))
    quiescent(mem, cpu)
    return outcome


@compiled
def _count_outcome(mem: Any, cpu: int, kind: int, outcome: int) -> int:
    at = cpu + CPU.ops + kind * OP_WORDS
    if outcome == 0:
        at += OP_COUNTS.done
    elif outcome == SKIPPED:
        at += OP_COUNTS.skipped
    elif outcome == -ENOMEM:
        at += OP_COUNTS.failed_enomem
    elif outcome == -ENOSPC:
        at += OP_COUNTS.failed_enospc
    else:
        at += OP_COUNTS.failed_other
    return write_once(mem, at, read_once(mem, at) + 1)


@compiled
def quiescent(mem: Any, cpu: int) -> int:
    """Between two operations: free what grace periods have let go, and do not let it pile up."""
    if read_once(mem, cpu + CPU.rcu_pending) == 0:
        return 0
    rcu_do_batch(mem, cpu)
    if read_once(mem, cpu + CPU.rcu_pending) > MAX_PENDING:
        synchronize_rcu(mem, cpu)
        rcu_do_batch(mem, cpu)
    return 0


@compiled
def start_kswapd(mem: Any, cpu: int) -> int:
    """Begin to be the background reclaimer of a node."""
    write_once(mem, cpu + CPU.started, clock_ns())
    return write_once(mem, cpu + CPU.state, CpuState.RUNNING)


@out_of_line
def kswapd_on(mem: Any, cpu: int, nid: int) -> int:
    """The background reclaimer of a node: asked for, it reclaims up to the high watermark; until the run stops."""
    begin_unit()
    while not fatal_signal_pending(mem):
        _balance_when_asked(mem, cpu, nid)
        begin_unit()
    return _end(mem, cpu)


@compiled
def _balance_when_asked(mem: Any, cpu: int, nid: int) -> int:
    """One round: it remembers nothing of the one before, so that it can be repeated by itself."""
    zone = zone_of(mem, nid)
    asked = zone + ZONE.kswapd
    seen = read_once(mem, asked)
    write_once(mem, zone + ZONE.kswapd_runs, 1)
    balance_pgdat(mem, cpu, nid)
    write_once(mem, zone + ZONE.kswapd_runs, 0)
    quiescent(mem, cpu)
    rest_if_asked(mem, cpu)
    return 0 if fatal_signal_pending(mem) else wait_while(mem, asked, seen, 0, UNINTERRUPTIBLE)


@compiled
def stop_all(mem: Any) -> int:
    """Tell every CPU to leave at its next step; wakes those that sleep for time or for work."""
    store_release(mem, HEADER.phase, Phase.STOP)  # P12: pairs with wait_while()
    futex_wake(mem, HEADER.phase, EVERYBODY)
    return rouse_kswapds(mem)


@compiled
def start_all(mem: Any) -> int:
    """Let every CPU that is ready begin, all at once."""
    store_release(mem, HEADER.phase, Phase.RUN)  # P12: pairs with wait_while()
    return futex_wake(mem, HEADER.phase, EVERYBODY)


@compiled
def _dispatch(mem: Any, cpu: int, kind: int, op: int) -> int:
    memcg = read_once(mem, op + OP.memcg)
    shrinker = read_once(mem, op + OP.shrinker)
    nid = read_once(mem, op + OP.nid)
    count = read_once(mem, op + OP.count)
    arg = read_once(mem, op + OP.arg)
    if kind == Op.LRU_ADD:
        return op_lru_add(mem, cpu, op)
    if kind == Op.SHRINK_SLAB:
        return op_shrink_slab(mem, cpu, memcg, nid, GFP_KERNEL & ~count, arg)
    if kind == Op.REGISTER:
        return op_register(mem, cpu, shrinker, arg, count)
    if kind == Op.UNREGISTER:
        return op_unregister(mem, cpu, shrinker)
    if kind == Op.MEMCG_ONLINE:
        return op_memcg_online(mem, cpu, memcg, arg, count)
    if kind == Op.MEMCG_OFFLINE:
        return op_memcg_offline(mem, cpu, memcg)
    if kind == Op.LRU_DEL:
        return op_lru_del(mem, cpu, op)
    if kind == Op.TOUCH:
        return op_touch(mem, cpu, op)
    if kind == Op.CACHE_PAGES:
        return op_cache_pages(mem, cpu, memcg, nid, count, arg)
    if kind == Op.ALLOC:
        return op_alloc(mem, cpu, memcg, nid, count, arg)
    if kind == Op.DROP_CACHES:
        drop_slab(mem, cpu)
        return 0
    return op_idle(mem, count)


# --- handles -------------------------------------------------------------------------------------


@compiled
def _memcg_slot(mem: Any, handle: int) -> int:
    return read_once(mem, mm_state(mem) + MM.memcg_table) + handle


@compiled
def _superblock_slot(mem: Any, handle: int) -> int:
    return read_once(mem, mm_state(mem) + MM.shrinker_table) + handle


@compiled
def _memcg_get(mem: Any, cpu: int, handle: int) -> int:
    """The online memcg of a handle, referenced; 0 if there is none."""
    rcu_read_lock(mem, cpu)
    memcg = load_acquire(mem, _memcg_slot(mem, handle))  # P22: pairs with op_memcg_online()
    if memcg and not css_tryget(mem, memcg):
        memcg = 0
    rcu_read_unlock(mem, cpu)
    return memcg


# --- mounts and memcgs -----------------------------------------------------------------------------


@compiled
def op_register(mem: Any, cpu: int, handle: int, aware: int, scan_ns: int) -> int:
    """Mount, as superblock `handle`, whose scans sleep so long, or give up if it is negative."""
    outcome = mount(mem, cpu, handle, aware, scan_ns)
    if outcome < 0:
        return outcome
    return write_once(mem, _superblock_slot(mem, handle), outcome)


@compiled
def op_unregister(mem: Any, cpu: int, handle: int) -> int:
    """Unmount superblock `handle`."""
    sb = read_once(mem, _superblock_slot(mem, handle))
    if sb == 0:
        return SKIPPED
    write_once(mem, _superblock_slot(mem, handle), 0)
    return unmount(mem, cpu, sb)


@compiled
def op_memcg_online(mem: Any, cpu: int, handle: int, parent_handle: int, limit: int) -> int:
    """Make memcg `handle` below another, with a limit in pages."""
    parent = _memcg_get(mem, cpu, parent_handle)
    if parent == 0:
        return SKIPPED
    outcome = cgroup_mkdir(mem, cpu, parent, handle, limit)
    css_put(mem, cpu, parent)
    if outcome < 0:
        return outcome
    return store_release(mem, _memcg_slot(mem, handle), outcome)  # P22: pairs with _memcg_get()


@compiled
def op_memcg_offline(mem: Any, cpu: int, handle: int) -> int:
    """Take memcg `handle` offline."""
    memcg = read_once(mem, _memcg_slot(mem, handle))
    if memcg == 0:
        return SKIPPED
    write_once(mem, _memcg_slot(mem, handle), 0)
    return cgroup_rmdir(mem, cpu, memcg)


# --- objects -----------------------------------------------------------------------------------------


@out_of_line
def op_lru_add(mem: Any, cpu: int, op: int) -> int:
    """Make objects of a memcg on a superblock, each on its list, the bit set when a list becomes non-empty."""
    sb = read_once(mem, _superblock_slot(mem, read_once(mem, op + OP.shrinker)))
    memcg = _memcg_get(mem, cpu, read_once(mem, op + OP.memcg)) if sb else 0
    if memcg == 0:
        return SKIPPED
    nid = read_once(mem, op + OP.nid)
    inodes = read_once(mem, op + OP.arg)
    outcome = 0
    done = 0
    while done < read_once(mem, op + OP.count) and outcome == 0:
        item = _new_object(mem, cpu, superblock_lru(sb, inodes), memcg, nid, INODE_WORDS if inodes else DENTRY_WORDS)
        if item:
            _add_object(mem, cpu, superblock_lru(sb, inodes), nid, item)
            done += 1
        else:
            outcome = -ENOMEM
    count_event(mem, cpu, Event.OBJECTS_ADDED, done)
    css_put(mem, cpu, memcg)
    return outcome


@compiled
def _new_object(mem: Any, cpu: int, lru: int, memcg: int, nid: int, words: int) -> int:
    """A list for it, then the object (kernel: kmem_cache_alloc_lru); 0 if memory failed."""
    if memcg_list_lru_alloc(mem, cpu, lru, memcg) != 0:
        return 0
    return object_alloc(mem, cpu, memcg, nid, words)


@compiled
def _add_object(mem: Any, cpu: int, lru: int, nid: int, item: int) -> int:
    """list_lru_add, then the bit of the list that became non-empty."""
    number = read_once(mem, lru + LIST_LRU.shrinker_id)
    if switched(mem, Switch.BIT_FIRST) and number >= 0:
        upcall(Upcall.SET_SHRINKER_BIT, mem, cpu, read_once(mem, item + OBJECT.memcg), nid, number, 0)
        list_lru_add(mem, cpu, lru, item)
        return 0
    memcg = list_lru_add(mem, cpu, lru, item)
    if memcg and number >= 0:
        # That memcg is the object's own or above it, and each memcg holds its parent: it cannot be freed.
        upcall(Upcall.SET_SHRINKER_BIT, mem, cpu, memcg, nid, number, 0)
    return 0


@out_of_line
def op_lru_del(mem: Any, cpu: int, op: int) -> int:
    """Delete the oldest objects of a memcg on a superblock."""
    sb = read_once(mem, _superblock_slot(mem, read_once(mem, op + OP.shrinker)))
    memcg = _memcg_get(mem, cpu, read_once(mem, op + OP.memcg)) if sb else 0
    if memcg == 0:
        return SKIPPED
    head = shrink_control(cpu) + SHRINK_CONTROL.dispose
    list_init(mem, head)
    lru = superblock_lru(sb, read_once(mem, op + OP.arg))
    list_lru_walk_one(mem, cpu, lru, read_once(mem, op + OP.nid), memcg, read_once(mem, op + OP.count), head)
    count_event(mem, cpu, Event.OBJECTS_DELETED, dispose_list(mem, cpu, head))
    return css_put(mem, cpu, memcg)


@out_of_line
def op_touch(mem: Any, cpu: int, op: int) -> int:
    """Use the oldest objects of a memcg on a superblock, so that reclaim gives them a second chance."""
    sb = read_once(mem, _superblock_slot(mem, read_once(mem, op + OP.shrinker)))
    memcg = _memcg_get(mem, cpu, read_once(mem, op + OP.memcg)) if sb else 0
    if memcg == 0:
        return SKIPPED
    lru = superblock_lru(sb, read_once(mem, op + OP.arg))
    list_lru_touch(mem, cpu, lru, read_once(mem, op + OP.nid), memcg, read_once(mem, op + OP.count))
    return css_put(mem, cpu, memcg)


# --- pages, reclaim, time --------------------------------------------------------------------------


@out_of_line
def op_cache_pages(mem: Any, cpu: int, handle: int, nid: int, pages: int, gfp: int) -> int:
    """Read pages of a file into the page cache."""
    memcg = _memcg_get(mem, cpu, handle)
    if memcg == 0:
        return SKIPPED
    outcome = add_to_page_cache(mem, cpu, memcg, nid, pages, gfp)
    css_put(mem, cpu, memcg)
    return outcome


@out_of_line
def op_alloc(mem: Any, cpu: int, handle: int, nid: int, pages: int, gfp: int) -> int:
    """Allocate pages, and give them back."""
    memcg = _memcg_get(mem, cpu, handle)
    if memcg == 0:
        return SKIPPED
    outcome = charge_pages(mem, cpu, memcg, nid, pages, gfp)
    if outcome == 0:
        free_pages(mem, cpu, memcg, nid, pages)
    css_put(mem, cpu, memcg)
    return outcome


@out_of_line
def op_shrink_slab(mem: Any, cpu: int, handle: int, nid: int, gfp: int, priority: int) -> int:
    """One pass of reclaim over the slab of a memcg; of the root, also over shrinkers that know no memcg."""
    memcg = _memcg_get(mem, cpu, handle)
    if memcg == 0:
        return SKIPPED
    flags = memalloc_save(mem, cpu)
    shrink_slab(mem, cpu, memcg, nid, gfp, priority)
    if memcg == root_memcg(mem):
        shrink_slab(mem, cpu, 0, nid, gfp, priority)
    write_once(mem, cpu + CPU.flags, flags)
    return css_put(mem, cpu, memcg)


@compiled
def op_idle(mem: Any, ns: int) -> int:
    """Do nothing for a while, sleeping."""
    return sleep_until(mem, clock_ns() + ns)
