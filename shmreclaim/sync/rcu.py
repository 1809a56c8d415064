"""RCU between processes: readers write one word of their own, updaters wait until all who could see are gone.

Model: the guarantees of Documentation/RCU, the shape of userspace-rcu's `mb` flavor; simpler than either,
since a 64-bit sequence never wraps. `rcu_seq` numbers grace periods. A reader's word is 0 outside, and
inside the sequence it saw when it entered. An updater takes the next number; its grace period has ended once
every CPU is outside or entered with that number or a later one. A reader that loads the sequence and
stores it late only looks older than it is, and is waited for in vain but not for long.

Nobody drives grace periods: every updater looks at the CPUs itself, so no death can stop them but
that of a reader.

P7  enter_section() full barrier between its store and the reader's loads; pairs with the full barrier in
    start_grace_period() between the updater's unpublishing store and its looking at the CPUs:

        reader                            updater
        cpu.rcu = seq                     pointer = NULL
        smp_mb (xchg)                     smp_mb (fetch_add of rcu_seq)
        load pointer                      load cpu.rcu

    Forbidden: the reader sees the old pointer and the updater sees 0.
    (litmus: test_P7_a_grace_period_waits_for_a_reader_that_saw_the_old_pointer)
P8  leave_section() releases the reader's accesses to the updater's acquiring look at its word.
    (litmus: test_P8_nothing_of_a_read_section_leaks_past_its_grace_period)
P9  leave_section() full barrier between its store of 0 and its look at the waiters; pairs with
    _wait_for_reader() raising them before it looks: the last of them sees the other and no
    wake-up is lost.   (litmus: test_P9_a_grace_period_that_sleeps_is_woken)
Limits: read sections may nest; they must not sleep for longer than one cares to wait.
"""

from typing import Any

from shmreclaim.machine.atomics import fetch_add, fetch_add_relaxed, load_acquire, read_once, write_once, xchg
from shmreclaim.machine.compile import compiled, out_of_line
from shmreclaim.machine.cpu import CPU
from shmreclaim.machine.futex import EVERYBODY, futex_wake
from shmreclaim.machine.layout import HEADER
from shmreclaim.sync.wait_queue import UNINTERRUPTIBLE, begin_wait, end_wait, wait_while

RCU_HEAD_WORDS = 2
"""What a record must begin with to be freed after a grace period: next, and the grace period's number."""
MAX_PENDING = 64
"""Callbacks a CPU lets pile up before it waits for a grace period itself."""


# --- what RCU and SRCU share: a word of each CPU, a sequence, and how many updaters sleep ---------


@compiled
def enter_section(mem: Any, word: int, seq: int) -> int:
    """Say in this CPU's word that it is inside since the sequence of this moment."""
    return xchg(mem, word, read_once(mem, seq) + 1)  # P7: pairs with start_grace_period()


@compiled
def leave_section(mem: Any, word: int, waiters: int) -> int:
    """Say in this CPU's word that it is outside; wake a grace period that sleeps for it."""
    xchg(mem, word, 0)  # P8, P9: pairs with _sees_older(), _wait_for_reader()
    if read_once(mem, waiters):
        futex_wake(mem, word, EVERYBODY)
    return 0


@compiled
def start_grace_period(mem: Any, seq: int) -> int:
    """Take the next number; everything unpublished before is covered by it."""
    return fetch_add(mem, seq, 1) + 2  # P7: pairs with enter_section()


@compiled
def _sees_older(mem: Any, word: int, number: int) -> int:
    """The word of a CPU that is inside since before grace period `number`; 0 if it is not."""
    seen = load_acquire(mem, word)  # P8: pairs with leave_section()
    return seen if seen != 0 and seen < number else 0


@out_of_line
def wait_for_readers(mem: Any, cpu: int, field: int, waiters: int, number: int) -> int:
    """Wait until no CPU's word, at `field` of its slot, says that it is inside since before `number`."""
    word = read_once(mem, HEADER.cpus) + field
    for _ in range(read_once(mem, HEADER.nr_cpus)):
        if _sees_older(mem, word, number):
            _wait_for_reader(mem, cpu, word, waiters, number)
        word += read_once(mem, HEADER.cpu_stride)
    return 0


@compiled
def _wait_for_reader(mem: Any, cpu: int, word: int, waiters: int, number: int) -> int:
    begin_wait(mem, cpu, word)
    fetch_add(mem, waiters, 1)  # P9: pairs with leave_section()
    seen = _sees_older(mem, word, number)
    while seen:
        wait_while(mem, word, seen, 0, UNINTERRUPTIBLE)
        seen = _sees_older(mem, word, number)
    fetch_add_relaxed(mem, waiters, -1)
    return end_wait(mem, cpu)


# --- RCU --------------------------------------------------------------------------------------------


@compiled
def rcu_read_lock(mem: Any, cpu: int) -> int:
    """Enter a read section: what was published stays allocated until the matching unlock."""
    nesting = read_once(mem, cpu + CPU.rcu_nesting)
    write_once(mem, cpu + CPU.rcu_nesting, nesting + 1)
    if nesting == 0:
        enter_section(mem, cpu + CPU.rcu, HEADER.rcu_seq)
    return 0


@compiled
def rcu_read_unlock(mem: Any, cpu: int) -> int:
    """Leave a read section."""
    nesting = read_once(mem, cpu + CPU.rcu_nesting) - 1
    write_once(mem, cpu + CPU.rcu_nesting, nesting)
    if nesting == 0:
        leave_section(mem, cpu + CPU.rcu, HEADER.rcu_waiters)
    return 0


@compiled
def rcu_start(mem: Any) -> int:
    """Start a grace period; returns its number. Everything unpublished before is covered by it."""
    return start_grace_period(mem, HEADER.rcu_seq)


@out_of_line
def rcu_is_over(mem: Any, number: int) -> int:
    """Whether every reader that was inside when grace period `number` started has left."""
    word = read_once(mem, HEADER.cpus) + CPU.rcu
    for _ in range(read_once(mem, HEADER.nr_cpus)):
        if _sees_older(mem, word, number):
            return 0
        word += read_once(mem, HEADER.cpu_stride)
    return 1


@out_of_line
def synchronize_rcu(mem: Any, cpu: int) -> int:
    """Wait until every read section that began before has ended; not to be called inside one."""
    return wait_for_readers(mem, cpu, CPU.rcu, HEADER.rcu_waiters, rcu_start(mem))


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
