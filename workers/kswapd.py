"""A worker process: kswapd of one node, the background reclaimer. It runs no stream; it is woken by allocations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from shmreclaim import kernel
from shmreclaim.machine.arena import Arena
from shmreclaim.machine.compile import compiled, compiled_nogil
from shmreclaim.workers import cpu


@dataclass(frozen=True)
class Orders:
    """What a kswapd is to do; `slot` is in words of the segment."""

    segment: str
    slot: int
    design: str
    node: int
    mutant: str = ""


@compiled
def _start_kswapd(mem: int, slot: int) -> int:
    return kernel.start_kswapd(mem, slot)


@compiled_nogil
def _kswapd_on(mem: int, slot: int, nid: int) -> int:
    return kernel.kswapd_on(mem, slot, nid)


ENTRY_POINTS = ((_start_kswapd, 2), (_kswapd_on, 3))
"""What this process calls itself, with the number of arguments."""


def run(orders: Orders, errors: Any) -> None:
    """Reclaim in the background of one node until the run stops; `errors` brings errors to the parent."""
    with cpu.worker(orders.segment, orders.design, errors, orders.mutant) as arena:
        cpu.claim(arena, orders.slot, None)
        get_ready(arena, orders)
        start(arena, orders)
        play_on(arena, orders)


def get_ready(arena: Arena, _orders: Orders) -> None:
    """Wait for all others."""
    cpu.wait_for_start(arena)


def start(arena: Arena, orders: Orders) -> None:
    """Begin to look after the node."""
    _start_kswapd(arena.address, orders.slot)


def play_on(arena: Arena, orders: Orders) -> None:
    """Look after the node until the run stops."""
    _kswapd_on(arena.address, orders.slot, orders.node)
