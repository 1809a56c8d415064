"""A worker process: kswapd of one node, the background reclaimer. It runs no stream; it is woken by allocations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from shmreclaim import kernel
from shmreclaim.machine.compile import compiled_nogil
from shmreclaim.workers import cpu


@dataclass(frozen=True)
class Orders:
    """What a kswapd is to do; `slot` is in words of the segment."""

    segment: str
    slot: int
    design: str
    node: int
    mutant: str = ""


@compiled_nogil
def _run_kswapd(mem: int, slot: int, nid: int) -> int:
    return kernel.run_kswapd(mem, slot, nid)


ENTRY_POINTS = ((_run_kswapd, 3),)
"""What this process calls itself, with the number of arguments."""


def run(orders: Orders, errors: Any) -> None:
    """Reclaim in the background of one node until the run stops; `errors` brings errors to the parent."""
    with cpu.worker(orders.segment, orders.design, errors, orders.mutant) as arena:
        cpu.claim(arena, orders.slot, None)
        cpu.wait_for_start(arena)
        _run_kswapd(arena.address, orders.slot, orders.node)
