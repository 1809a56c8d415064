"""Locks under attack, in real processes: what a lock promises is checked by those who hold it.

After the kernel's locktorture and rcutorture and Concurrency Kit's `validate` programs, in our own words:

- what a lock protects is two words that only its holder changes, one after the other, without atomics.
  Whoever gets in must find them equal; at the end both must equal the number of changes made.
- what RCU protects is the record that a pointer leads to. Whoever takes it out of sight waits for a grace
  period and poisons it; no reader may find the poison.

`kind` chooses the lock, the broken ones of `broken.py` too: the same oracle judges all of them.
"""

from enum import IntEnum
from typing import Any

from shmreclaim.machine.atomics import (
    clock_ns,
    cpu_relax,
    fetch_add,
    load_acquire,
    read_once,
    store_release,
    write_once,
    xchg,
)
from shmreclaim.machine.compile import compiled
from shmreclaim.machine.cpu import CPU
from shmreclaim.machine.layout import LINE, Field, record
from shmreclaim.sync.mutex import mutex_lock, mutex_lock_until, mutex_trylock, mutex_unlock
from shmreclaim.sync.rcu import call_rcu, rcu_next_done, rcu_read_lock, rcu_read_unlock, synchronize_rcu
from shmreclaim.sync.rwsem import (
    down_read,
    down_read_trylock,
    down_read_until,
    down_write,
    down_write_trylock,
    down_write_until,
    downgrade_write,
    up_read,
    up_write,
)
from shmreclaim.sync.spinlock import spin_lock, spin_trylock, spin_unlock
from shmreclaim.sync.wait_queue import UNINTERRUPTIBLE
from tests.sync.broken import (
    down_read_trylock_past_writers,
    no_lock,
    synchronize_rcu_at_once,
)

TARGET = record(
    "TORTURE_TARGET",
    Field("end", "read-only after start; ns on the clock"),
    Field("first", "under the lock", line=True),
    Field("second", "under the lock", line=True),
    Field("changes", "atomic", line=True),
    Field("reads", "atomic"),
    Field("given_up", "atomic"),
)


class Kind(IntEnum):
    """Which lock, which way of taking it."""

    SPINLOCK = 0
    MUTEX = 1
    MUTEX_ANY = 2
    NO_LOCK = 3
    RWSEM = 4
    RWSEM_ANY = 5
    SLACK_TRYLOCK = 6
    RCU = 7
    CALL_RCU = 8
    RCU_AT_ONCE = 9


@compiled
def linger(turns: int) -> int:
    """Let a few nanoseconds a turn pass."""
    for _ in range(turns):
        cpu_relax()
    return 0


@compiled
def change(mem: Any, target: int) -> int:
    """Change both words, one after the other; whether they were equal before and nobody else changed them meanwhile."""
    first, second = read_once(mem, target + TARGET.first), read_once(mem, target + TARGET.second)
    write_once(mem, target + TARGET.first, first + 1)
    linger(30)
    calm = read_once(mem, target + TARGET.second) == second and read_once(mem, target + TARGET.first) == first + 1
    write_once(mem, target + TARGET.second, second + 1)
    return 1 if calm and first == second else 0


@compiled
def look(mem: Any, target: int) -> int:
    """Whether both words are equal, and stay so for a while."""
    first = read_once(mem, target + TARGET.first)
    linger(30)
    return 1 if first == read_once(mem, target + TARGET.second) == read_once(mem, target + TARGET.first) else 0


@compiled
def roll(state: int) -> int:
    """The next of a sequence of 31-bit numbers that look random (C's old rand)."""
    return (state * 1103515245 + 12345) & 0x7FFFFFFF


@compiled
def tally(mem: Any, target: int, changes: int, reads: int, given_up: int) -> int:
    """Add what one CPU did to the totals."""
    fetch_add(mem, target + TARGET.changes, changes)
    fetch_add(mem, target + TARGET.reads, reads)
    return fetch_add(mem, target + TARGET.given_up, given_up)


# --- exclusive locks -------------------------------------------------------------------------------


@compiled
def take(mem: Any, cpu: int, lock: int, kind: int, dice: int) -> int:
    """Take an exclusive lock in the way of `kind`; whether we have it."""
    if kind == Kind.SPINLOCK:
        return spin_trylock(mem, cpu, lock) if dice & 7 == 0 else 1 - spin_lock(mem, cpu, lock)
    if kind == Kind.NO_LOCK:
        return 1 - no_lock(mem, cpu, lock)
    if kind == Kind.MUTEX or dice % 3 == 0:
        return mutex_lock(mem, cpu, lock) == 0
    if dice % 3 == 1:
        return mutex_trylock(mem, cpu, lock)
    return mutex_lock_until(mem, cpu, lock, clock_ns() + dice % 100_000, UNINTERRUPTIBLE) == 0


@compiled
def drop(mem: Any, cpu: int, lock: int, kind: int) -> int:
    """Give an exclusive lock up."""
    if kind == Kind.SPINLOCK:
        return spin_unlock(mem, cpu, lock)
    if kind == Kind.NO_LOCK:
        return no_lock(mem, cpu, lock)
    return mutex_unlock(mem, cpu, lock)


@compiled
def torture_exclusive(mem: Any, cpu: int, lock: int, target: int, kind: int) -> int:
    """Take, change, give up until the end; how often something was wrong."""
    errors, changes, given_up, dice = 0, 0, 0, read_once(mem, cpu + CPU.id)
    while clock_ns() < read_once(mem, target + TARGET.end):
        dice = roll(dice)
        if take(mem, cpu, lock, kind, dice >> 8):
            errors += 1 - change(mem, target)
            changes += 1
            drop(mem, cpu, lock, kind)
        else:
            given_up += 1
        linger(dice >> 8 & 63)
    tally(mem, target, changes, 0, given_up)
    return errors


# --- rwsem -----------------------------------------------------------------------------------------


@compiled
def take_read(mem: Any, cpu: int, sem: int, kind: int, dice: int) -> int:
    """Take a read share in the way of `kind`; whether we have it."""
    if kind == Kind.SLACK_TRYLOCK:
        return down_read_trylock_past_writers(mem, cpu, sem)
    if kind != Kind.RWSEM_ANY or dice % 3 == 0:
        return down_read(mem, cpu, sem) == 0
    if dice % 3 == 1:
        return down_read_trylock(mem, cpu, sem)
    return down_read_until(mem, cpu, sem, clock_ns() + dice % 100_000, UNINTERRUPTIBLE) == 0


@compiled
def take_write(mem: Any, cpu: int, sem: int, kind: int, dice: int) -> int:
    """Take the sem for write in the way of `kind`; whether we have it."""
    if kind != Kind.RWSEM_ANY or dice % 3 == 0:
        return down_write(mem, cpu, sem) == 0
    if dice % 3 == 1:
        return down_write_trylock(mem, cpu, sem)
    return down_write_until(mem, cpu, sem, clock_ns() + dice % 100_000, UNINTERRUPTIBLE) == 0


@compiled
def read_once_under(mem: Any, cpu: int, sem: int, target: int) -> int:
    """Look, and give the share up; how often something was wrong."""
    errors = 1 - look(mem, target)
    up_read(mem, cpu, sem)
    return errors


@compiled
def write_once_under(mem: Any, cpu: int, sem: int, target: int, downgrade: int) -> int:
    """Change, perhaps look again as a reader, and give the sem up; how often something was wrong."""
    errors = 1 - change(mem, target)
    if not downgrade:
        up_write(mem, cpu, sem)
        return errors
    mine = read_once(mem, target + TARGET.second)
    downgrade_write(mem, cpu, sem)
    errors += 1 - look(mem, target)
    errors += read_once(mem, target + TARGET.second) != mine  # nobody wrote between
    up_read(mem, cpu, sem)
    return errors


@compiled
def torture_rwsem(mem: Any, cpu: int, sem: int, target: int, kind: int) -> int:
    """Read mostly, write now and then, until the end; how often something was wrong."""
    errors, changes, reads, given_up, dice = 0, 0, 0, 0, read_once(mem, cpu + CPU.id)
    while clock_ns() < read_once(mem, target + TARGET.end):
        dice = roll(dice)
        if dice >> 12 & 3 == 0:
            if take_write(mem, cpu, sem, kind, dice >> 8):
                errors += write_once_under(mem, cpu, sem, target, dice >> 20 & 1)
                changes += 1
            else:
                given_up += 1
        elif take_read(mem, cpu, sem, kind, dice >> 8):
            errors += read_once_under(mem, cpu, sem, target)
            reads += 1
        else:
            given_up += 1
        linger(dice >> 8 & 63)
    tally(mem, target, changes, reads, given_up)
    return errors


# --- RCU -------------------------------------------------------------------------------------------

ITEM = record(
    "TORTURE_ITEM",
    Field("rcu_head", "the one who took it out of sight", 2),
    Field("value", "RCU; the same as `twin`", line=True),
    Field("twin", "RCU", line=True),
    Field("spare", "the updater; the next of its spare items"),
)
POISON = -77
ITEMS_EACH = 4


@compiled
def torture_rcu_reader(mem: Any, cpu: int, pointer: int, target: int, kind: int) -> int:
    """Follow the pointer, look for a while, until the end; how often the item was poisoned or torn."""
    errors, reads, dice = 0, 0, read_once(mem, cpu + CPU.id)
    while clock_ns() < read_once(mem, target + TARGET.end):
        dice = roll(dice)
        rcu_read_lock(mem, cpu)
        item = load_acquire(mem, pointer)
        if dice >> 10 & 1:
            rcu_read_lock(mem, cpu)
            rcu_read_unlock(mem, cpu)
        value = read_once(mem, item + ITEM.value)
        linger(dice >> 8 & 127)
        errors += value == POISON or read_once(mem, item + ITEM.twin) != value
        rcu_read_unlock(mem, cpu)
        reads += 1
    tally(mem, target, 0, reads, 0)
    return errors


@compiled
def publish(mem: Any, pointer: int, item: int, value: int) -> int:
    """Fill an item that nobody sees and make it the one that all see; give the one before."""
    write_once(mem, item + ITEM.value, value)
    write_once(mem, item + ITEM.twin, value)
    return xchg(mem, pointer, item)


@compiled
def poison(mem: Any, item: int) -> int:
    """Spoil an item that nobody sees any more."""
    write_once(mem, item + ITEM.value, POISON)
    return write_once(mem, item + ITEM.twin, POISON)


@compiled
def torture_rcu_updater(mem: Any, cpu: int, pointer: int, target: int, kind: int) -> int:
    """Replace the item, wait for a grace period, poison the old one, until the end; always 0."""
    spare = read_once(mem, target + TARGET.changes + read_once(mem, cpu + CPU.id) * LINE)
    changes = 0
    while clock_ns() < read_once(mem, target + TARGET.end):
        old = publish(mem, pointer, spare, changes)
        if kind == Kind.RCU_AT_ONCE:
            synchronize_rcu_at_once(mem, cpu)
        else:
            synchronize_rcu(mem, cpu)
        poison(mem, old)
        spare = old
        changes += 1
    return tally(mem, target, changes, 0, 0) * 0


@compiled
def torture_rcu_caller(mem: Any, cpu: int, pointer: int, target: int, kind: int) -> int:
    """Replace the item, hand the old one over and poison what comes back, until the end; always 0."""
    spare = read_once(mem, target + TARGET.changes + read_once(mem, cpu + CPU.id) * LINE)
    changes = 0
    while clock_ns() < read_once(mem, target + TARGET.end):
        done = rcu_next_done(mem, cpu)
        if done:
            poison(mem, done)
            write_once(mem, done + ITEM.spare, spare)
            spare = done
        elif spare:
            item, spare = spare, read_once(mem, spare + ITEM.spare)
            call_rcu(mem, cpu, publish(mem, pointer, item, changes))
            changes += 1
    return tally(mem, target, changes, 0, 0) * 0


@compiled
def start_now(mem: Any, target: int, nanoseconds: int) -> int:
    """Set the end of a run."""
    return store_release(mem, target + TARGET.end, clock_ns() + nanoseconds)
