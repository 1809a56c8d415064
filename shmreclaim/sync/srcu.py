"""SRCU: RCU whose readers may sleep, with grace periods that are batched and slow.

Model: kernel/rcu/srcutree.c of 6.4, as far as its callers see it. Readers do what RCU's do, on a word of their own
(P7 to P9 of sync/rcu.py hold for them as well). A grace period belongs to everybody who asked before it began, one
runs at a time, and it lasts at least `gp_ns` even without a reader: the kernel's state machine sleeps between
its two looks at the counters of all CPUs, so as not to keep looking. It hurries only where the domain was idle for
HOLDOFF before (exp_holdoff). Departures: who asks runs it himself, there is no worker thread; a length stands for
the sleeps, their number and their jiffies.

P25  synchronize_srcu() full barrier between its caller's unpublishing and its look at `started`; pairs with the
     full barrier in _run_grace_period() that raises it: who reads a number below that of a grace period, before it
     looks at the readers, is covered by it.   (litmus: test_P25_a_grace_period_covers_those_who_asked_before_it)
Lock order: gp_mutex innermost. Limits: one domain in a segment.
"""

from typing import Any

from shmreclaim.machine.atomics import clock_ns, fetch_add, read_once, write_once
from shmreclaim.machine.compile import compiled, out_of_line
from shmreclaim.machine.cpu import CPU
from shmreclaim.machine.layout import HEADER, Field, record
from shmreclaim.sync.lockdep import LOCK, LockClass
from shmreclaim.sync.mutex import mutex_init, mutex_lock, mutex_unlock
from shmreclaim.sync.rcu import enter_section, leave_section, start_grace_period, wait_for_readers
from shmreclaim.sync.wait_queue import UNINTERRUPTIBLE, begin_wait, end_wait, wait_while

HOLDOFF = 25_000
"""ns without a grace period after which the next one hurries."""

SRCU = record(
    "SRCU",
    Field("gp_mutex", "a mutex", LOCK.SIZE, line=True),
    Field("started", "atomic, written under gp_mutex; grace periods begun", line=True),
    Field("completed", "under gp_mutex; grace periods ended"),
    Field("ended", "under gp_mutex; when the last one did, ns on the clock"),
    Field("gp_ns", "read-only after init"),
    Field("never", "always 0: what a sleeping grace period waits for"),
)


@compiled
def init_srcu(mem: Any, srcu: int, gp_ns: int) -> int:
    """Make the domain; a grace period that does not hurry takes `gp_ns` at least."""
    for at in (SRCU.started, SRCU.completed, SRCU.ended, SRCU.never):
        write_once(mem, srcu + at, 0)
    write_once(mem, srcu + SRCU.gp_ns, gp_ns)
    return mutex_init(mem, srcu + SRCU.gp_mutex, LockClass.SRCU_GP_MUTEX)


@compiled
def srcu_read_lock(mem: Any, cpu: int) -> int:
    """Enter a read section; it may sleep."""
    nesting = read_once(mem, cpu + CPU.srcu_nesting)
    write_once(mem, cpu + CPU.srcu_nesting, nesting + 1)
    if nesting == 0:
        enter_section(mem, cpu + CPU.srcu, HEADER.srcu_seq)
    return 0


@compiled
def srcu_read_unlock(mem: Any, cpu: int) -> int:
    """Leave a read section."""
    nesting = read_once(mem, cpu + CPU.srcu_nesting) - 1
    write_once(mem, cpu + CPU.srcu_nesting, nesting)
    if nesting == 0:
        leave_section(mem, cpu + CPU.srcu, HEADER.srcu_waiters)
    return 0


@out_of_line
def synchronize_srcu(mem: Any, cpu: int, srcu: int) -> int:
    """Wait for a grace period that begins after this call; whoever waits beside may have run it."""
    wanted = fetch_add(mem, srcu + SRCU.started, 0) + 1  # P25: pairs with _run_grace_period()
    mutex_lock(mem, cpu, srcu + SRCU.gp_mutex)
    if read_once(mem, srcu + SRCU.completed) < wanted:
        _run_grace_period(mem, cpu, srcu)
    return mutex_unlock(mem, cpu, srcu + SRCU.gp_mutex)


@compiled
def _run_grace_period(mem: Any, cpu: int, srcu: int) -> int:
    began = clock_ns()
    hurry = began - read_once(mem, srcu + SRCU.ended) > HOLDOFF
    number = read_once(mem, srcu + SRCU.started) + 1
    fetch_add(mem, srcu + SRCU.started, 1)  # P25: pairs with synchronize_srcu()
    if not hurry:
        _sleep_until(mem, cpu, srcu, began + read_once(mem, srcu + SRCU.gp_ns))
    wait_for_readers(mem, cpu, CPU.srcu, HEADER.srcu_waiters, start_grace_period(mem, HEADER.srcu_seq))
    write_once(mem, srcu + SRCU.completed, number)
    return write_once(mem, srcu + SRCU.ended, clock_ns())


@compiled
def _sleep_until(mem: Any, cpu: int, srcu: int, when: int) -> int:
    begin_wait(mem, cpu, srcu + SRCU.never)
    wait_while(mem, srcu + SRCU.never, 0, when, UNINTERRUPTIBLE)
    return end_wait(mem, cpu)
