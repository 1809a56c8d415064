"""Spinlock: a few instructions long, held across no sleep; spins briefly, then parks.

Model: the kernel's spinlock in use, not in make: a process can be taken off its core while it holds one,
so a waiter that kept spinning would waste the very time the holder needs. After SPINS tries it sleeps on
the word (Drepper, "Futexes are tricky", mutex 2).

Word: bits 0-15 the owner's CPU number, bit 16 PARKED, bits 17-30 which task of that slot it is, so that who found an
owner dead does not take the lock from the next task there.

| owner | PARKED | meaning | left by |
|---|---|---|---|
| 0 | 0 | free | spin_lock: owner := me |
| n | 0 | held, nobody sleeps | the owner: 0; a waiter: PARKED |
| n | 1 | held, somebody may sleep | the owner: 0, and wakes one |
| n, dead | any | left behind | a waiter: owner := me, PARKED |

P1  spin_unlock() releases what the next spin_lock() acquires   (litmus: test_P1_a_spinlock_hands_over_what_was_written)
Progress: no fairness; critical sections are short. A task that dies with the lock leaves what it protects half done:
whoever takes it over is told, and must set that right before anything else.
"""

from typing import Any

from shmreclaim.machine.atomics import cmpxchg_acquire, cmpxchg_relaxed, cpu_relax, read_once, xchg_release
from shmreclaim.machine.compile import compiled, out_of_line
from shmreclaim.machine.cpu import CPU, Violation, slot_of, violation
from shmreclaim.machine.futex import futex_wake
from shmreclaim.machine.life import is_dead
from shmreclaim.sync.wait_queue import lives_seen, sleep_on

OWNER_MASK = 0xFFFF
PARKED = 1 << 16
SPINS = 64


@compiled
def spin_lock(mem: Any, cpu: int, lock: int) -> int:
    """Take the lock; short waits spin, long ones sleep. Returns 1 if it was taken from a task that died with it."""
    if cmpxchg_acquire(mem, lock, 0, read_once(mem, cpu + CPU.spin)) != 0:  # P1: pairs with spin_unlock()
        return _spin_lock_slowpath(mem, cpu, lock)
    return 0


@out_of_line
def _spin_lock_slowpath(mem: Any, cpu: int, lock: int) -> int:
    me = read_once(mem, cpu + CPU.spin)
    for _ in range(SPINS):
        if read_once(mem, lock) == 0 and cmpxchg_acquire(mem, lock, 0, me) == 0:  # P1
            return 0
        cpu_relax()
    while True:
        lives = lives_seen(mem)
        # Once asleep, a waiter cannot know whether it was the last: it takes the lock as PARKED.
        seen = cmpxchg_acquire(mem, lock, 0, me | PARKED)  # P1
        if seen == 0:
            return 0
        if is_dead(mem, slot_of(mem, seen & OWNER_MASK)):
            if cmpxchg_acquire(mem, lock, seen, me | PARKED) == seen:  # P1: pairs with all that the dead one did
                return 1
        elif seen & PARKED or cmpxchg_relaxed(mem, lock, seen, seen | PARKED) == seen:
            sleep_on(mem, cpu, lock, seen | PARKED, lives, 0)


@compiled
def spin_trylock(mem: Any, cpu: int, lock: int) -> int:
    """Take the lock if it is free; return whether."""
    return 1 if cmpxchg_acquire(mem, lock, 0, read_once(mem, cpu + CPU.spin)) == 0 else 0  # P1


@compiled
def spin_unlock(mem: Any, cpu: int, lock: int) -> int:
    """Give the lock up; wake one sleeper if there may be any."""
    seen = xchg_release(mem, lock, 0)  # P1: pairs with spin_lock()
    if seen & PARKED:
        futex_wake(mem, lock, 1)
    if seen & OWNER_MASK != read_once(mem, cpu + CPU.id):
        violation(mem, cpu, Violation.NOT_HELD, lock, seen, read_once(mem, cpu + CPU.id))
    return 0
