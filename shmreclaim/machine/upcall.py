"""The one way from a lower layer to a higher one: calls through a table of this process.

Reclaim starts deep inside an allocation and must run the design's `shrink_slab`; the operations of a
CPU must run the design it plays. Passing compiled functions as arguments would be right, but numba
then never finds them in its cache. So a design is bound by filling a table with the addresses of its
functions; an upcall costs about 4 ns. The table belongs to the process, not to the segment: no address
of code is ever read from shared memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from shmreclaim.machine import _intrinsics as ll
from shmreclaim.machine.atomics import operation
from shmreclaim.machine.compile import c_address, plain

ARGUMENTS = 6
_bound: dict[int, Callable[..., int]] = {}


def bind(slot: int, function: Callable[..., int]) -> None:
    """Make `upcall(slot, ...)` run `function`, a compiled one of six integers that returns one."""
    bind_plain(slot, function)
    ll.upcall_table[slot] = c_address(function, ARGUMENTS)


def bind_plain(slot: int, function: Callable[..., int]) -> None:
    """Bind for plain bodies only: nothing is compiled."""
    _bound[slot] = function


@operation(ll.call_slot)
def upcall(slot: int, mem: Any, a: int, b: int, c: int, d: int, e: int) -> int:
    """Call what `bind` put into `slot`; a slot that was never bound is a fault of the caller."""
    return plain(_bound[slot])(mem, a, b, c, d, e)
