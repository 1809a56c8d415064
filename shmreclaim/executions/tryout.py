"""A first try of a user's design: a short life of a small machine, interpreted, every index checked.

It calls each of the design's functions several times, where things go well and where memory is short: growth of the
maps beyond 64 and 128 ids, memcgs that come, go with objects on their lists and are freed, reclaim at every
priority, drop_caches, allocations and registrations that fail.
"""

from __future__ import annotations

from shmreclaim.executions.interpreted import Interpreted, Limits
from shmreclaim.machine.layout import HEADER
from shmreclaim.mm.boot import Machine
from shmreclaim.mm.state import DEF_PRIORITY, GFP_KERNEL, MM
from shmreclaim.mm.zone import ZONE
from shmreclaim.plugins import Design
from shmreclaim.workload.ops import Op, make_stream

Rows = list[tuple[int, ...]]

LIMITS = Limits(uses=30_000_000, seconds=10.0)
"""A hundred times what the built-in designs need."""
NODES = 2
WORD = 64
"""Bits that maps have at first, and get more."""
MOST_IDS = 140
SMALL = Machine(
    cpus=2,
    nodes=NODES,
    pages_per_node=256,
    watermark_min=8,
    watermark_low=16,
    watermark_high=24,
    max_memcgs=8,
    memcg_handles=16,
    shrinker_handles=MOST_IDS + 20,
    extra_words=1 << 15,
)


def try_out(design: Design) -> None:
    """Play all of it; raises DesignError where the design goes wrong."""
    machine = Interpreted(design, SMALL, LIMITS)
    _play(machine, 0, _first_life())
    _play(machine, 0, _pressure())
    _play(machine, 1, _more_mounts(12, WORD))
    _play_short_of_memory(machine)
    _play(machine, 0, _more_mounts(WORD, MOST_IDS))
    _play(machine, 1, _all_goes())
    _play(machine, 0, _first_life())


def _play_short_of_memory(machine: Interpreted) -> None:
    """Let no node have memory when the id is taken that no map has a bit for yet, and when a memcg comes online."""
    had = [_leave(machine, nid, 0) for nid in range(NODES)]
    _play(machine, 0, [_mount(WORD), _mkdir(9), _umount(WORD), _rmdir(9)])
    for nid in range(NODES):
        _leave(machine, nid, had[nid])


def _play(machine: Interpreted, cpu: int, rows: Rows) -> None:
    machine.play(cpu, machine.put(make_stream(rows)), len(rows))


def _leave(machine: Interpreted, nid: int, lines: int) -> int:
    """Make a node so large that it has just so many lines above its watermark; how many it had."""
    memory = machine.arena.memory
    zone = memory[memory[HEADER.kernel] + MM.zones] + nid * ZONE.SIZE
    had = memory[zone + ZONE.free] - memory[zone + ZONE.min]
    for word in (ZONE.free, ZONE.size):
        memory[zone + word] += lines - had
    return had


def _first_life() -> Rows:
    """Mounts that know memcgs and one that does not; a chain of memcgs, of which one goes with its objects."""
    mounts = [_mount(k, aware=k != 5) for k in range(12)]
    memcgs = [_mkdir(1), _mkdir(2, 1), _mkdir(3, 2)]
    objects = [_add(k % 4, k % 12, 3 + k, k % 2, k // 12) for k in range(24)]
    touched = [(0, Op.TOUCH, 3, k, k % 2, 2, 0) for k in range(12)]
    deleted = [(0, Op.LRU_DEL, 1, k, k % 2, 2, 0) for k in range(12)]
    passes = [_reclaim(memcg, priority, nid) for priority in (12, 4, 2, 0) for memcg in range(4) for nid in range(2)]
    ends = [_umount(k) for k in range(0, 12, 3)]
    again = [_mount(0), _add(1, 0, 40), _mkdir(3, 1), _add(3, 0, 5), _reclaim(1, 1), _drop()]
    return [*mounts, *memcgs, *objects, *touched, *passes, *deleted, _rmdir(3), _reclaim(2, 0), *ends, *again]


def _more_mounts(first: int, beyond: int) -> Rows:
    """Mounts with objects on most of them, so that maps grow and have bits in each word."""
    rows: Rows = []
    for k in range(first, beyond):
        rows += [_mount(k), _add(1, k, 2, k % 2)] if k % 3 else [_mount(k)]
    return [
        *rows,
        _mkdir(4, 1),
        _add(4, beyond - 1, 6),
        _reclaim(1, 0),
        _reclaim(4, 0),
        _reclaim(0, 3),
        _drop(),
        _rmdir(4),
    ]


def _pressure() -> Rows:
    """More than there is, for a memcg with a limit and for the machine, so that reclaim is entered from inside."""
    limited = [_mkdir(5, 0, limit=4), *(_add(5, k, 60) for k in range(4, 8)), _cache(5, 30)]
    return [*limited, *(_add(1, k, 90, k % 2) for k in range(1, 12)), _cache(1, 400), _alloc(0, 300), _alloc(5, 9)]


def _all_goes() -> Rows:
    memcgs = [_rmdir(k) for k in (5, 3, 2, 1)]
    return [
        *memcgs,
        _drop(),
        *(_umount(k) for k in range(MOST_IDS)),
        *(_reclaim(0, p) for p in range(DEF_PRIORITY + 1)),
    ]


def _mount(handle: int, *, aware: bool = True) -> tuple[int, ...]:
    return (0, Op.REGISTER, 0, handle, 0, 0, int(aware))


def _umount(handle: int) -> tuple[int, ...]:
    return (0, Op.UNREGISTER, 0, handle, 0, 0, 0)


def _mkdir(handle: int, parent: int = 0, *, limit: int = 0) -> tuple[int, ...]:
    return (0, Op.MEMCG_ONLINE, handle, 0, 0, limit, parent)


def _rmdir(handle: int) -> tuple[int, ...]:
    return (0, Op.MEMCG_OFFLINE, handle, 0, 0, 0, 0)


def _add(memcg: int, handle: int, count: int, nid: int = 0, inodes: int = 0) -> tuple[int, ...]:
    return (0, Op.LRU_ADD, memcg, handle, nid, count, inodes)


def _reclaim(memcg: int, priority: int, nid: int = 0) -> tuple[int, ...]:
    return (0, Op.SHRINK_SLAB, memcg, 0, nid, 0, priority)


def _cache(memcg: int, pages: int) -> tuple[int, ...]:
    return (0, Op.CACHE_PAGES, memcg, 0, 0, pages, GFP_KERNEL)


def _alloc(memcg: int, pages: int) -> tuple[int, ...]:
    return (0, Op.ALLOC, memcg, 0, 0, pages, GFP_KERNEL)


def _drop() -> tuple[int, ...]:
    return (0, Op.DROP_CACHES, 0, 0, 0, 0, 0)
