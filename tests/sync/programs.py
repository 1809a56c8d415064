"""What a CPU does in a test, compiled: take a lock, leave a mark, give it up."""

from typing import Any

from shmreclaim.machine.atomics import (
    cpu_relax,
    fetch_add,
    load_acquire,
    read_once,
    store_release,
    write_once,
)
from shmreclaim.machine.compile import compiled
from shmreclaim.machine.cpu import CPU
from shmreclaim.machine.futex import futex_wait, futex_wake
from shmreclaim.sync.completion import complete, wait_for_completion
from shmreclaim.sync.mutex import mutex_lock, mutex_unlock
from shmreclaim.sync.rcu import synchronize_rcu
from shmreclaim.sync.rwsem import down_read, down_write, downgrade_write, up_read, up_write
from shmreclaim.sync.spinlock import spin_lock, spin_unlock
from shmreclaim.sync.wait_queue import UNINTERRUPTIBLE


@compiled
def sign(mem: Any, cpu: int, log: int) -> int:
    """Append this CPU's number to a log: a count, then the numbers."""
    return write_once(mem, log + 1 + fetch_add(mem, log, 1), read_once(mem, cpu + CPU.id))


@compiled
def pass_mutex(mem: Any, cpu: int, mutex: int, log: int) -> int:
    """Take the mutex, sign, give it up."""
    outcome = mutex_lock(mem, cpu, mutex)
    sign(mem, cpu, log)
    mutex_unlock(mem, cpu, mutex)
    return outcome


@compiled
def pass_spinlock(mem: Any, cpu: int, lock: int, log: int) -> int:
    """Take the spinlock, sign, give it up."""
    spin_lock(mem, cpu, lock)
    sign(mem, cpu, log)
    return spin_unlock(mem, cpu, lock)


@compiled
def pass_write(mem: Any, cpu: int, sem: int, log: int) -> int:
    """Take the sem for write, sign, give it up."""
    outcome = down_write(mem, cpu, sem)
    sign(mem, cpu, log)
    up_write(mem, cpu, sem)
    return outcome


@compiled
def stay_reading(mem: Any, cpu: int, sem: int, log: int, gate: int) -> int:
    """Take a read share, sign, keep it until the gate is completed."""
    down_read(mem, cpu, sem)
    sign(mem, cpu, log)
    wait_for_completion(mem, cpu, gate, 0, UNINTERRUPTIBLE)
    return up_read(mem, cpu, sem)


@compiled
def barge_until(mem: Any, cpu: int, sem: int, word: int, limit: int) -> int:
    """Take the sem for write again and again until a word is set; how often that took, `limit` at most."""
    rounds = 0
    while load_acquire(mem, word) == 0 and rounds < limit:
        down_write(mem, cpu, sem)
        rounds += 1
        linger(200)
        up_write(mem, cpu, sem)
    return rounds


@compiled
def barge_mutex_until(mem: Any, cpu: int, mutex: int, word: int, limit: int) -> int:
    """Take the mutex again and again until a word is set; how often that took, `limit` at most."""
    rounds = 0
    while load_acquire(mem, word) == 0 and rounds < limit:
        mutex_lock(mem, cpu, mutex)
        rounds += 1
        linger(200)
        mutex_unlock(mem, cpu, mutex)
    return rounds


@compiled
def downgrade_when(mem: Any, cpu: int, sem: int, gate: int) -> int:
    """Hold the sem for write; become a reader at the first, leave at the second completion of the gate."""
    down_write(mem, cpu, sem)
    wait_for_completion(mem, cpu, gate, 0, UNINTERRUPTIBLE)
    downgrade_write(mem, cpu, sem)
    wait_for_completion(mem, cpu, gate + 1, 0, UNINTERRUPTIBLE)
    return up_read(mem, cpu, sem)


@compiled
def await_grace_period(mem: Any, cpu: int, done: int) -> int:
    """Wait for a grace period, then say so."""
    synchronize_rcu(mem, cpu)
    return store_release(mem, done, 1)


@compiled
def bounce(mem: Any, cpu: int, mine: int, other: int, rounds: int) -> int:
    """Wait for one's own completion and complete the other's, so many times; how often the wait failed."""
    failed = 0
    for _ in range(rounds):
        failed += wait_for_completion(mem, cpu, mine, 0, UNINTERRUPTIBLE) != 0
        complete(mem, other)
    return failed


@compiled
def wait_and_sign(mem: Any, cpu: int, completion: int, log: int) -> int:
    """Wait for one completion, sign."""
    outcome = wait_for_completion(mem, cpu, completion, 0, UNINTERRUPTIBLE)
    sign(mem, cpu, log)
    return outcome


@compiled
def linger(turns: int) -> int:
    """Let a few nanoseconds a turn pass."""
    for _ in range(turns):
        cpu_relax()
    return 0


@compiled
def sleep_on(mem: Any, cpu: int, word: int, value: int, deadline: int) -> int:
    """One futex wait, with the note of what is waited for."""
    write_once(mem, cpu + CPU.wait_for, word)
    outcome = futex_wait(mem, word, value, deadline)
    write_once(mem, cpu + CPU.wait_for, 0)
    return outcome


@compiled
def wake(mem: Any, word: int, count: int) -> int:
    """One futex wake."""
    return futex_wake(mem, word, count)
