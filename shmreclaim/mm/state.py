"""The emulated kernel's own state: the root record, its sizes, and what is counted.

Everything here is reached from `mem[HEADER.kernel]`. Lock order: sync/lockdep.py.
Memory is accounted in *lines* of 64 bytes, 64 of them to a page, so that a dentry (192 bytes) or an IDR
node (576 bytes) costs what it costs, without emulating how objects share pages.
"""

from enum import IntEnum
from typing import Any

from shmreclaim.lib.ida import IDA
from shmreclaim.machine.atomics import clock_ns, read_once
from shmreclaim.machine.compile import compiled, out_of_line
from shmreclaim.machine.cpu import CPU, PF_MEMALLOC
from shmreclaim.machine.layout import HEADER, Field, record
from shmreclaim.sync.lockdep import LOCK
from shmreclaim.sync.wait_queue import UNINTERRUPTIBLE, wait_while

MAX_NODES = 8
LINES_PER_PAGE = 64
ENOENT, EAGAIN, ENOMEM, EBUSY, EINVAL, ENOSPC = 2, 11, 12, 16, 22, 28

MM = record(
    "MM",
    Field("nr_nodes", "read-only after boot"),
    Field("max_memcgs", "read-only after boot; how many lists a list_lru has for each node"),
    Field("zones", "read-only after boot; ZONE records, one a node"),
    Field("heaps", "read-only after boot; HEAP records, one a node"),
    Field("root_memcg", "read-only after boot"),
    Field("design", "read-only after boot; the design's own record"),
    Field("arithmetic", "read-only after boot; an Arithmetic: which do_shrink_slab"),
    Field("has_shrink_empty", "read-only after boot; whether count may answer SHRINK_EMPTY"),
    Field("lists_on_demand", "read-only after boot; whether a memcg has its lists from its first object on (5.18)"),
    Field("drain_at_the_edge", "read-only after boot; whether offline sets a bit only if the heir had none (to 5.9)"),
    Field("drop_halves", "read-only after boot; whether each round of drop_caches must free twice as much (5.16)"),
    Field("map_kind", "read-only after boot; a MapKind: what a memcg's map is made of"),
    Field("switches", "read-only after boot; Switch bits: how this run differs from its design"),
    Field("srcu_gp_ns", "read-only after boot; ns that a grace period of SRCU takes at least, -1: as the design says"),
    Field("memcg_table", "read-only after boot; memcgs by handle, each word atomic"),
    Field("shrinker_table", "read-only after boot; superblocks by handle, each word of one CPU"),
    Field("nr_memcg_handles", "read-only after boot"),
    Field("nr_shrinker_handles", "read-only after boot"),
    Field("cgroup_mutex", "a mutex", LOCK.SIZE, line=True),
    Field("list_lrus_mutex", "a mutex", LOCK.SIZE, line=True),
    Field("list_lrus", "under list_lrus_mutex; a list_head", 2, line=True),
    Field("memcg_list_lock", "a spinlock", line=True),
    Field("memcgs", "RCU, writers under memcg_list_lock; all memcgs in pre-order", 2),
    Field("nr_memcgs", "atomic"),
    Field("sb_lock", "a spinlock", line=True),
    Field("superblocks", "under sb_lock; a list_head", 2),
    Field("memcg_ids", "under cgroup_mutex; an IDA", IDA.SIZE, line=True),
    Field("live_ids", "under the lock of the design's ids", line=True),
    Field("peak_ids", "under the lock of the design's ids"),
    Field("max_id", "under the lock of the design's ids; -1 for none yet"),
    Field("nr_objects", "atomic; slab objects allocated", line=True),
)


class Event(IntEnum):
    """What each CPU counts; the place in CPU.events."""

    RECLAIM_PASSES = 0
    TRYLOCK_FAILED = 1
    BAILED_OUT = 2
    SHRINKER_CALLS = 3
    SCAN_CALLS = 4
    OBJECTS_FREED = 5
    OBJECTS_ADDED = 6
    OBJECTS_DELETED = 7
    PAGES_FREED = 8
    DIRECT_RECLAIMS = 9
    MEMCG_RECLAIMS = 10
    ALLOC_FAILED = 11
    CHARGE_FAILED = 12
    HEAP_EXHAUSTED = 13
    GROWTHS = 14
    ID_RETRIES = 15
    EMPTY_PROBES = 16
    BITS_SET = 17
    BITS_CLEARED = 18
    MEMCGS_FREED = 19
    ID_NODES = 20
    RECLAIMS_UNDER_WRITE = 21
    """Reclaims entered by a CPU that held shrinker_rwsem for write."""
    RECLAIMED_UNDER_WRITE = 22
    """Lines that those freed."""
    NULL_MAPS = 23
    """Bits to set for a memcg that has no map any more, where the kernel reads through the NULL pointer."""
    DROP_ROUNDS = 24
    """Rounds over all memcgs that drop_caches made."""


class MapKind(IntEnum):
    """What the design keeps for a memcg and node (mm/shrinker_map.py)."""

    BITS = 0
    WITH_DEFERRED = 1
    UNITS = 2


GROWTH_HISTOGRAM = 15
"""Which of a CPU's histograms holds the time that growing the maps took."""


class Upcall(IntEnum):
    """Slots of the upcall table that mm and the operations of a CPU call: the functions of a design."""

    REGISTER_SHRINKER = 0
    UNREGISTER_SHRINKER = 1
    MEMCG_ONLINE = 2
    MEMCG_OFFLINE = 3
    MEMCG_FREE = 4
    SET_SHRINKER_BIT = 5
    SHRINK_SLAB = 6
    INIT = 7


class Phase(IntEnum):
    """What the word HEADER.phase tells the CPUs; they sleep on it until it is no longer BOOT."""

    BOOT = 0
    RUN = 1
    STOP = 2
    PAUSE = 3
    """Rest between two operations (mm/quiet.py); start again with RUN."""


GFP_DIRECT_RECLAIM, GFP_FS, GFP_IO, GFP_HIGH = 1, 2, 4, 8
GFP_KERNEL = GFP_DIRECT_RECLAIM | GFP_FS | GFP_IO
GFP_NOFS = GFP_DIRECT_RECLAIM | GFP_IO
GFP_NOWAIT = 0
GFP_ATOMIC = GFP_HIGH

DEF_PRIORITY = 12
SWAP_CLUSTER_MAX = 32
"""Pages that a reclaim is content with."""


@compiled
def mm_state(mem: Any) -> int:
    """The root record."""
    return read_once(mem, HEADER.kernel)


@compiled
def switched(mem: Any, switch: int) -> int:
    """Whether this run differs from its design in this respect; switches.py says what each does."""
    return read_once(mem, mm_state(mem) + MM.switches) & switch


@compiled
def fatal_signal_pending(mem: Any) -> int:
    """Whether the run is being stopped: loops without an end of their own leave (kernel: the same name)."""
    return 1 if read_once(mem, HEADER.phase) == Phase.STOP else 0


@out_of_line
def sleep_until(mem: Any, when: int) -> int:
    """Sleep until a time on the clock, or until the run is stopped; 0."""
    phase = read_once(mem, HEADER.phase)
    while phase != Phase.STOP and clock_ns() < when:
        wait_while(mem, HEADER.phase, phase, when, UNINTERRUPTIBLE)
        phase = read_once(mem, HEADER.phase)
    return 0


@compiled
def in_reclaim(mem: Any, cpu: int) -> int:
    """Whether this CPU is reclaiming already, so that its allocations must not (kernel: PF_MEMALLOC)."""
    return read_once(mem, cpu + CPU.flags) & PF_MEMALLOC
