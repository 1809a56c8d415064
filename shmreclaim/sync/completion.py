"""Completion: wait until something was done, once or often.

Model: kernel/sched/completion.c. One word: how often it was completed and not yet waited for.

P5  complete() releases what wait_for_completion() acquires   (litmus: test_P5_a_completion_hands_over_what_was_written)
"""

from typing import Any

from shmreclaim.machine.atomics import cmpxchg_acquire, fetch_add_release, load_acquire, store_release, write_once
from shmreclaim.machine.compile import compiled
from shmreclaim.machine.futex import EVERYBODY, futex_wake
from shmreclaim.sync.wait_queue import begin_wait, end_wait, lives_seen, watch_while

ALL = 1 << 30
"""Value of a completion that stays done for ever."""


@compiled
def init_completion(mem: Any, completion: int) -> int:
    """Make one that nobody completed yet."""
    return write_once(mem, completion, 0)


@compiled
def complete(mem: Any, completion: int) -> int:
    """Let one waiter, present or future, go on."""
    fetch_add_release(mem, completion, 1)  # P5: pairs with wait_for_completion()
    return futex_wake(mem, completion, 1)


@compiled
def complete_all(mem: Any, completion: int) -> int:
    """Let all waiters, present and future, go on."""
    store_release(mem, completion, ALL)  # P5: pairs with wait_for_completion()
    return futex_wake(mem, completion, EVERYBODY)


@compiled
def wait_for_completion(mem: Any, cpu: int, completion: int, deadline: int, state: int) -> int:
    """Wait for one `complete`: 0; -ETIMEDOUT at `deadline` (0: never), -EINTR if `state` allows."""
    begin_wait(mem, cpu, completion)
    outcome = 0
    while outcome == 0 and not try_wait_for_completion(mem, completion):
        seen = lives_seen(mem)
        outcome = watch_while(mem, cpu, completion, 0, seen, deadline, state)
    end_wait(mem, cpu)
    return outcome


@compiled
def try_wait_for_completion(mem: Any, completion: int) -> int:
    """Use up one `complete` if there was one; return whether."""
    done = load_acquire(mem, completion)  # P5: pairs with complete_all(), whose word no waiter changes
    while 0 < done < ALL:
        seen = cmpxchg_acquire(mem, completion, done, done - 1)  # P5: pairs with complete()
        if seen == done:
            return 1
        done = seen
    return 1 if done else 0
