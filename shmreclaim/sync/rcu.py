"""RCU between processes: readers write one word of their own, updaters wait until all who could see are gone.

Model: the guarantees of Documentation/RCU, the shape of userspace-rcu's `mb` flavor; simpler than either,
since a 64-bit sequence never wraps. `rcu_seq` numbers grace periods. A reader's word is 0 outside, and
inside the sequence it saw when it entered. An updater takes the next number; its grace period has ended once
every CPU is outside or entered with that number or a later one. A reader that loads the sequence and
stores it late only looks older than it is, and is waited for in vain but not for long.

Nobody drives grace periods: every updater looks at the CPUs itself, so no death can stop them but
that of a reader.

P7  rcu_read_lock() full barrier between its store and the reader's loads; pairs with the full barrier in
    rcu_start() between the updater's unpublishing store and its looking at the CPUs:

        reader                            updater
        cpu.rcu = seq                     pointer = NULL
        smp_mb (xchg)                     smp_mb (fetch_add of rcu_seq)
        load pointer                      load cpu.rcu

    Forbidden: the reader sees the old pointer and the updater sees 0.
    (litmus: test_P7_a_grace_period_waits_for_a_reader_that_saw_the_old_pointer)
P8  rcu_read_unlock() releases the reader's accesses to the updater's acquiring look at its word.
    (litmus: test_P8_nothing_of_a_read_section_leaks_past_its_grace_period)
P9  rcu_read_unlock() full barrier between its store of 0 and its look at rcu_waiters; pairs with
    synchronize_rcu() raising rcu_waiters before it looks: the last of them sees the other and no
    wake-up is lost.   (litmus: test_P9_a_grace_period_that_sleeps_is_woken)
Limits: read sections may nest; they must not sleep for longer than one cares to wait.
"""

from typing import Any

from shmreclaim.machine.atomics import fetch_add, fetch_add_relaxed, load_acquire, read_once, write_once, xchg
from shmreclaim.machine.compile import compiled, out_of_line
from shmreclaim.machine.cpu import CPU
from shmreclaim.machine.futex import futex_wake
from shmreclaim.machine.layout import HEADER
from shmreclaim.sync.wait_queue import EVERYBODY, UNINTERRUPTIBLE, begin_wait, end_wait, wait_while

RCU_HEAD_WORDS = 2
"""What a record must begin with to be freed after a grace period: next, and the grace period's number."""
MAX_PENDING = 64
"""Callbacks a CPU lets pile up before it waits for a grace period itself."""


@compiled
def rcu_read_lock(mem: Any, cpu: int) -> int:
    """Enter a read section: what was published stays allocated until the matching unlock."""
    nesting = read_once(mem, cpu + CPU.rcu_nesting)
    write_once(mem, cpu + CPU.rcu_nesting, nesting + 1)
    if nesting == 0:
        xchg(mem, cpu + CPU.rcu, read_once(mem, HEADER.rcu_seq) + 1)  # P7: pairs with rcu_start()
    return 0


@compiled
def rcu_read_unlock(mem: Any, cpu: int) -> int:
    """Leave a read section; wake a grace period that sleeps for it."""
    nesting = read_once(mem, cpu + CPU.rcu_nesting) - 1
    write_once(mem, cpu + CPU.rcu_nesting, nesting)
    if nesting == 0:
        xchg(mem, cpu + CPU.rcu, 0)  # P8, P9: pairs with rcu_is_over(), synchronize_rcu()
        if read_once(mem, HEADER.rcu_waiters):
            futex_wake(mem, cpu + CPU.rcu, EVERYBODY)
    return 0


@compiled
def rcu_start(mem: Any) -> int:
    """Start a grace period; returns its number. Everything unpublished before is covered by it."""
    return fetch_add(mem, HEADER.rcu_seq, 1) + 2  # P7: pairs with rcu_read_lock()


@compiled
def _sees_older(mem: Any, slot: int, number: int) -> int:
    """The word of a CPU that is inside since before grace period `number`; 0 if it is not."""
    word = load_acquire(mem, slot + CPU.rcu)  # P8: pairs with rcu_read_unlock()
    return word if word != 0 and word < number else 0


@out_of_line
def rcu_is_over(mem: Any, number: int) -> int:
    """Whether every reader that was inside when grace period `number` started has left."""
    slot = read_once(mem, HEADER.cpus)
    for _ in range(read_once(mem, HEADER.nr_cpus)):
        if _sees_older(mem, slot, number):
            return 0
        slot += read_once(mem, HEADER.cpu_stride)
    return 1


@out_of_line
def synchronize_rcu(mem: Any, cpu: int) -> int:
    """Wait until every read section that began before has ended; not to be called inside one."""
    number = rcu_start(mem)
    slot = read_once(mem, HEADER.cpus)
    for _ in range(read_once(mem, HEADER.nr_cpus)):
        if _sees_older(mem, slot, number):
            _wait_for_reader(mem, cpu, slot, number)
        slot += read_once(mem, HEADER.cpu_stride)
    return 0


@compiled
def _wait_for_reader(mem: Any, cpu: int, slot: int, number: int) -> int:
    begin_wait(mem, cpu, slot + CPU.rcu)
    fetch_add(mem, HEADER.rcu_waiters, 1)  # P9: pairs with rcu_read_unlock()
    word = _sees_older(mem, slot, number)
    while word:
        wait_while(mem, slot + CPU.rcu, word, 0, UNINTERRUPTIBLE)
        word = _sees_older(mem, slot, number)
    fetch_add_relaxed(mem, HEADER.rcu_waiters, -1)
    return end_wait(mem, cpu)


@compiled
def call_rcu(mem: Any, cpu: int, head: int) -> int:
    """Hand over a record, already unpublished, to be taken back by `rcu_next_done` after a grace period."""
    write_once(mem, head, 0)
    write_once(mem, head + 1, rcu_start(mem))
    tail = read_once(mem, cpu + CPU.rcu_tail)
    if tail:
        write_once(mem, tail, head)
    else:
        write_once(mem, cpu + CPU.rcu_head, head)
    write_once(mem, cpu + CPU.rcu_tail, head)
    return write_once(mem, cpu + CPU.rcu_pending, read_once(mem, cpu + CPU.rcu_pending) + 1)


@compiled
def rcu_next_done(mem: Any, cpu: int) -> int:
    """The oldest record this CPU handed over, if its grace period is over; it is the caller's again. Else 0."""
    head = read_once(mem, cpu + CPU.rcu_head)
    if head == 0 or not rcu_is_over(mem, read_once(mem, head + 1)):
        return 0
    after = read_once(mem, head)
    write_once(mem, cpu + CPU.rcu_head, after)
    if after == 0:
        write_once(mem, cpu + CPU.rcu_tail, 0)
    write_once(mem, cpu + CPU.rcu_pending, read_once(mem, cpu + CPU.rcu_pending) - 1)
    return head
