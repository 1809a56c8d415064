"""Quiet points: every CPU stands still between two operations, so that the whole segment can be looked at.

The parent asks with HEADER.phase, and CPUs that play in rounds look at it before each operation; kswapds before they
sleep. Who comes to rest leaves nothing pending, as at the end of a run: what waits for a grace period is freed first.

P29  rest_if_asked() releases all that its CPU did before to the parent, who counts it in with cpus_at_rest(); full
     barriers on both sides of its notes, so that a CPU still noted as resting from the last pause does nothing more
     before it sees the next:

         a CPU                             the parent
         cpu.state = RUNNING               phase = PAUSE
         smp_mb (xchg)                     smp_mb (xchg)
         load phase                        load cpu.state

     Forbidden: the CPU sees no pause and the parent sees it resting.
     (litmus: test_P29_who_is_counted_at_rest_has_stopped)
"""

from __future__ import annotations

from typing import Any

from shmreclaim.machine.atomics import load_acquire, read_once, xchg
from shmreclaim.machine.compile import compiled, out_of_line
from shmreclaim.machine.cpu import CPU, CpuState, slot_of
from shmreclaim.machine.futex import EVERYBODY, futex_wake
from shmreclaim.machine.layout import HEADER
from shmreclaim.mm.id_memory import ida_pre_put
from shmreclaim.mm.slab import rcu_do_batch
from shmreclaim.mm.state import MM, Phase, mm_state
from shmreclaim.mm.zone import rouse_kswapd, zone_of
from shmreclaim.sync.rcu import synchronize_rcu
from shmreclaim.sync.wait_queue import UNINTERRUPTIBLE, wait_while


@out_of_line
def finish(mem: Any, cpu: int) -> int:
    """Leave nothing pending: free all that waits for a grace period, and what was preloaded."""
    while read_once(mem, cpu + CPU.rcu_pending):
        synchronize_rcu(mem, cpu)
        rcu_do_batch(mem, cpu)
    return ida_pre_put(mem, cpu)


@compiled
def rest_if_asked(mem: Any, cpu: int) -> int:
    """Between two operations: stand still while the parent wants it."""
    return _rest(mem, cpu) if read_once(mem, HEADER.phase) == Phase.PAUSE else 0


@out_of_line
def _rest(mem: Any, cpu: int) -> int:
    while read_once(mem, HEADER.phase) == Phase.PAUSE:
        finish(mem, cpu)
        xchg(mem, cpu + CPU.state, CpuState.RESTING)  # P29: pairs with cpus_at_rest()
        wait_while(mem, HEADER.phase, Phase.PAUSE, 0, UNINTERRUPTIBLE)
        xchg(mem, cpu + CPU.state, CpuState.RUNNING)  # P29: pairs with pause_all()
    return 0


@compiled
def ask_to_rest(mem: Any) -> int:
    """Ask for a pause; those that sleep for time look again."""
    xchg(mem, HEADER.phase, Phase.PAUSE)  # P29: pairs with rest_if_asked(); P12: with wait_while()
    return futex_wake(mem, HEADER.phase, EVERYBODY)


@compiled
def pause_all(mem: Any) -> int:
    """Ask every CPU to rest before its next operation, kswapds too."""
    ask_to_rest(mem)
    return rouse_kswapds(mem)


@compiled
def rouse_kswapds(mem: Any) -> int:
    """Let every kswapd look at the phase."""
    for nid in range(read_once(mem, mm_state(mem) + MM.nr_nodes)):
        rouse_kswapd(mem, zone_of(mem, nid))
    return 0


@compiled
def cpus_at_rest(mem: Any, count: int) -> int:
    """How many of CPUs 1 to `count` stand still, or are done for good."""
    n = 0
    for number in range(1, count + 1):
        state = load_acquire(mem, slot_of(mem, number) + CPU.state)  # P29: pairs with rest_if_asked()
        n += 1 if state in (CpuState.RESTING, CpuState.DONE) else 0
    return n
