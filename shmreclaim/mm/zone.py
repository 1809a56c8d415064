"""The page budget of a node: how much memory is free, and who may still take of it.

Model: mm/page_alloc.c, watermarks. All counts are in lines (mm/state.py).

| free after taking is at least | who may take |
|---|---|
| low | everybody |
| min | everybody, but kswapd is woken |
| min / 2 | GFP_ATOMIC (GFP_HIGH) |
| 0 | a task in reclaim (PF_MEMALLOC) |

I11  free + taken = size, at any moment: taking and giving back are single atomic additions.
"""

from typing import Any

from shmreclaim.machine.atomics import fetch_add_relaxed, read_once, write_once
from shmreclaim.machine.compile import compiled
from shmreclaim.machine.cpu import CPU
from shmreclaim.machine.futex import futex_wake
from shmreclaim.machine.layout import Field, record
from shmreclaim.mm.state import MM, mm_state

ZONE = record(
    "ZONE",
    Field("free", "atomic; lines", line=True),
    Field("size", "read-only after boot", line=True),
    Field("min", "read-only after boot"),
    Field("low", "read-only after boot"),
    Field("high", "read-only after boot"),
    Field("kswapd", "atomic, futex: number of times kswapd was asked for", line=True),
    Field("kswapd_runs", "kswapd: whether it is at work, so that nobody need wake it"),
)


@compiled
def zone_of(mem: Any, nid: int) -> int:
    """The budget of a node."""
    return read_once(mem, mm_state(mem) + MM.zones) + nid * ZONE.SIZE


@compiled
def zone_take(mem: Any, zone: int, lines: int, floor: int) -> int:
    """Take `lines` if at least `floor` are free after that; return whether."""
    if fetch_add_relaxed(mem, zone + ZONE.free, -lines) - lines >= floor:
        return 1
    fetch_add_relaxed(mem, zone + ZONE.free, lines)
    return 0


@compiled
def zone_give(mem: Any, cpu: int, nid: int, lines: int) -> int:
    """Give `lines` back; a task in reclaim counts them as its success."""
    fetch_add_relaxed(mem, zone_of(mem, nid) + ZONE.free, lines)
    return write_once(mem, cpu + CPU.reclaimed, read_once(mem, cpu + CPU.reclaimed) + lines)


@compiled
def zone_free(mem: Any, zone: int) -> int:
    """Lines free now; may be low by what others are just trying to take."""
    return read_once(mem, zone + ZONE.free)


@compiled
def wake_kswapd(mem: Any, zone: int) -> int:
    """Ask the background reclaimer of a node to work, unless it does already; if it just stops, the next asks."""
    return 0 if read_once(mem, zone + ZONE.kswapd_runs) else rouse_kswapd(mem, zone)


@compiled
def rouse_kswapd(mem: Any, zone: int) -> int:
    """Make the background reclaimer of a node look around, whatever it does."""
    fetch_add_relaxed(mem, zone + ZONE.kswapd, 1)
    return futex_wake(mem, zone + ZONE.kswapd, 1)
