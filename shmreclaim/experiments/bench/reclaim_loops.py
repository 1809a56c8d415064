"""The compiled loops of `bench reclaim`, over a kernel booted in this process; they give ns, or -1 for a failure."""

from typing import Any

from shmreclaim import kernel
from shmreclaim.kernel import OP
from shmreclaim.machine.atomics import clock_ns, write_once
from shmreclaim.machine.compile import compiled
from shmreclaim.machine.cpu import CPU
from shmreclaim.machine.upcall import upcall
from shmreclaim.mm.state import DEF_PRIORITY, GFP_KERNEL, LINES_PER_PAGE, SWAP_CLUSTER_MAX, Upcall
from shmreclaim.mm.vmscan import memalloc_save, shrink_node, shrink_slab, try_to_free_pages


@compiled
def add_objects(mem: Any, cpu: int, op: int, mounts: int, lists: int) -> int:
    """Play the operation at `op`, an lru_add, on `lists` superblocks spread over `mounts`; 0, or what went wrong.

    Not at a constant distance: it would be a power of two, and all of them in the same few sets of a cache.
    """
    outcome = 0
    for k in range(lists):
        write_once(mem, op + OP.shrinker, k * mounts // lists + k * 5 % (mounts // lists))
        if outcome == 0:
            outcome = kernel.op_lru_add(mem, cpu, op)
    return outcome


@compiled
def pass_loop(mem: Any, cpu: int, memcg: int, count: int) -> int:
    """Run passes that free nothing; ns for all, -1 if one freed something."""
    flags = memalloc_save(mem, cpu)
    freed = 0
    begin = clock_ns()
    for _ in range(count):
        freed += shrink_slab(mem, cpu, memcg, 0, GFP_KERNEL, DEF_PRIORITY)
    took = clock_ns() - begin
    write_once(mem, cpu + CPU.flags, flags)
    return took if freed == 0 else -1


@compiled
def tree_loop(mem: Any, cpu: int, top: int, count: int) -> int:
    """Run passes over a whole subtree of memcgs; ns for all."""
    flags = memalloc_save(mem, cpu)
    begin = clock_ns()
    for _ in range(count):
        shrink_node(mem, cpu, top, 0, GFP_KERNEL, DEF_PRIORITY)
    took = clock_ns() - begin
    write_once(mem, cpu + CPU.flags, flags)
    return took


@compiled
def free_pass(mem: Any, cpu: int, memcg: int) -> int:
    """Free all objects of a memcg in one pass; ns beyond those of a pass that frees nothing.

    Below 0 if it is the latter that was disturbed.
    """
    flags = memalloc_save(mem, cpu)
    begin = clock_ns()
    shrink_slab(mem, cpu, memcg, 0, GFP_KERNEL, DEF_PRIORITY)
    middle = clock_ns()
    shrink_slab(mem, cpu, memcg, 0, GFP_KERNEL, 0)
    took = clock_ns() - middle - (middle - begin)
    write_once(mem, cpu + CPU.flags, flags)
    return took


@compiled
def set_bit_loop(mem: Any, cpu: int, memcg: int, mounts: int, count: int) -> int:
    """Set one bit after the other; ns for all."""
    number = 0
    begin = clock_ns()
    for _ in range(count):
        upcall(Upcall.SET_SHRINKER_BIT, mem, cpu, memcg, 0, number, 0)
        number = number + 1 if number + 1 < mounts else 0
    return clock_ns() - begin


@compiled
def cluster_loop(mem: Any, cpu: int, handle: int, top: int, count: int) -> int:
    """Cache a cluster of pages for a memcg and reclaim it below `top`; ns of all reclaims, -1 if one failed."""
    took = 0
    freed = 0
    for _ in range(count):
        kernel.op_cache_pages(mem, cpu, handle, 0, SWAP_CLUSTER_MAX, GFP_KERNEL)
        begin = clock_ns()
        freed += try_to_free_pages(mem, cpu, top, GFP_KERNEL)
        took += clock_ns() - begin
    return took if freed == count * SWAP_CLUSTER_MAX * LINES_PER_PAGE else -1
