"""A task's life: a word by which every process learns that the task ended, at once and however it ended.

Model: robust futexes. For each thread the kernel keeps a list of words that hold the thread's id. When the thread
ends, by SIGKILL, exit or exec, the kernel marks each FUTEX_OWNER_DIED and wakes one of those who sleep on it
(get_robust_list(2), Documentation/locking/robust-futexes.rst). A life is one such word, in the task's slot: the
first half of a robust mutex of pthread's, which the task locks when it joins and unlocks when it leaves. Nothing is
kept up between the two, so that taking a lock costs no more for it.

| low half of `CPU.life` | meaning |
|---|---|
| 0 | nobody's, or of a task that has none: nothing will tell of its end |
| thread id, FUTEX_WAITERS | its task lives. The second is always set, or the kernel would wake nobody |
| FUTEX_OWNER_DIED, FUTEX_WAITERS | its task ended without leaving; what it held is still held |
| the same, and ANNOUNCED | and all who sleep have been told, or are being told (sync/wait_queue.py) |

Who takes a dead one's slot over turns the word into its own in one step: as long as what the dead one held is held,
the word says that somebody died there or that somebody lives.

The kernel compares thread ids and never processes' start times, so a reused pid deceives nobody; a stopped task is
alive; a forked child has an empty list.

P28  the kernel's mark, a compare-exchange after all that the task did, releases that to is_dead()
     (litmus: test_P28_who_sees_that_a_task_ended_sees_what_it_did)
Limits: glibc (numba has no wheels for others). The kernel walks 2,048 words of a thread's list: beyond so many
segments a thread's death may go unseen in the oldest.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import threading
from typing import Any

from shmreclaim.errors import InternalError, SetupError
from shmreclaim.machine.atomics import load_acquire
from shmreclaim.machine.compile import compiled
from shmreclaim.machine.cpu import CPU, LIFE_WORDS

FUTEX_WAITERS, FUTEX_OWNER_DIED = 1 << 31, 1 << 30
FUTEX_TID_MASK = FUTEX_OWNER_DIED - 1
ANNOUNCED = 1 << 29
"""Beside FUTEX_OWNER_DIED: that all who sleep were told, or are being told. No thread id has it."""

PTHREAD_PROCESS_SHARED, PTHREAD_MUTEX_ROBUST = 1, 1  # pthread.h


@compiled
def is_dead(mem: Any, slot: int) -> int:
    """Whether the task of a slot ended without leaving."""
    # P28: pairs with the kernel's mark, which needs begin_life()
    return 1 if load_acquire(mem, slot + CPU.life) & FUTEX_OWNER_DIED else 0


@functools.cache
def _attributes() -> ctypes.Array[ctypes.c_char]:
    attributes = ctypes.create_string_buffer(64)
    _call("pthread_mutexattr_init", attributes)
    _call("pthread_mutexattr_setpshared", attributes, PTHREAD_PROCESS_SHARED)
    _call("pthread_mutexattr_setrobust", attributes, PTHREAD_MUTEX_ROBUST)
    return attributes


KIND_AT = 16
"""Where a pthread_mutex_t of glibc says what kind of mutex it is, on 64-bit machines."""


def _kind_of(address: int) -> int:
    """What a pthread_mutex_t says it is: pthread would believe it, and wait for an owner that there is not."""
    return ctypes.c_int.from_address(address + KIND_AT).value


@functools.cache
def _kind() -> int:
    """What one made with _attributes() says."""
    mutex = ctypes.create_string_buffer(8 * LIFE_WORDS)
    _call("pthread_mutex_init", mutex, _attributes())
    return _kind_of(ctypes.addressof(mutex))


def _call(name: str, *arguments: Any, expected: int = 0) -> None:
    """Call a function of pthread's; raises InternalError unless it returns what is expected."""
    error = getattr(ctypes.CDLL(None), name)(*arguments)
    if error != expected:
        raise InternalError(f"{name} failed: {os.strerror(error)}")


def begin_life(address: int) -> None:
    """Begin the life of the calling thread at the address of its slot's `life`, which is nobody else's any more.

    The memory must stay mapped until end_life(), or until the process is gone: the kernel walks through it.
    """
    mutex, word = ctypes.c_void_p(address), ctypes.c_uint32.from_address(address)
    if word.value & FUTEX_OWNER_DIED:
        if _kind_of(address) != _kind():
            raise SetupError(
                "a task's life in shared memory is no robust mutex", cause="Usually the segment is damaged."
            )
        _call("pthread_mutex_lock", mutex, expected=errno.EOWNERDEAD)
        _call("pthread_mutex_consistent", mutex)
    else:
        _call("pthread_mutex_init", mutex, _attributes())
        _call("pthread_mutex_lock", mutex)
    if word.value & FUTEX_TID_MASK != threading.get_native_id():
        raise InternalError(f"a robust mutex of this libc begins with {word.value:#x}, not with its owner's thread id")
    word.value |= FUTEX_WAITERS  # P28: from here on the kernel's mark pairs with is_dead()


def end_life(address: int) -> None:
    """End it in order; only its own thread can."""
    _call("pthread_mutex_unlock", ctypes.c_void_p(address))
    ctypes.memset(address, 0, 8 * LIFE_WORDS)
