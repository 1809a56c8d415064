"""glibc's locks, called from compiled loops as ours are: by symbol, without a Python frame in between."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, TypeVar

from shmreclaim.machine import _intrinsics as ll
from shmreclaim.machine.atomics import operation

PROCESS_SHARED = 1
ROBUST = 1
PREFER_READER, PREFER_WRITER_NONRECURSIVE = 0, 2
OBJECT_WORDS = 8
"""Words that hold any of them: a mutex has 40 bytes, a rwlock 56."""
EOWNERDEAD = 130

Body = TypeVar("Body", bound=Callable[..., int])

_libc = ctypes.CDLL(None)


def _function(name: str) -> Callable[[Body], Body]:
    """Make a function of glibc that takes the address of a lock callable from compiled code."""

    def emit(builder: Any, args: list[Any]) -> Any:
        kind = ll.ir.FunctionType(ll.I32, [ll.I64])  # type: ignore[attr-defined] # only the machine imports llvmlite
        return builder.sext(builder.call(ll._extern(builder, name, kind), args), ll.I64)

    return operation(ll._define(1, emit))


@_function("pthread_mutex_lock")
def mutex_lock(address: int) -> int:
    """Take a mutex; EOWNERDEAD from a robust one whose owner died."""
    return _called("pthread_mutex_lock", address)


@_function("pthread_mutex_consistent")
def mutex_consistent(address: int) -> int:
    """Say that what a robust mutex protects is whole again."""
    return _called("pthread_mutex_consistent", address)


@_function("pthread_mutex_unlock")
def mutex_unlock(address: int) -> int:
    """Give a mutex up."""
    return _called("pthread_mutex_unlock", address)


@_function("pthread_rwlock_rdlock")
def rwlock_rdlock(address: int) -> int:
    """Take a rwlock for read."""
    return _called("pthread_rwlock_rdlock", address)


@_function("pthread_rwlock_wrlock")
def rwlock_wrlock(address: int) -> int:
    """Take a rwlock for write."""
    return _called("pthread_rwlock_wrlock", address)


@_function("pthread_rwlock_unlock")
def rwlock_unlock(address: int) -> int:
    """Give a rwlock up, however it was taken."""
    return _called("pthread_rwlock_unlock", address)


def _called(name: str, address: int) -> int:
    function: Callable[..., int] = getattr(_libc, name)
    return function(ctypes.c_void_p(address))


def init_mutex(address: int, *, robust: bool) -> None:
    """Make a process-shared mutex."""
    attributes = ctypes.create_string_buffer(64)
    _checked(_libc.pthread_mutexattr_init, attributes)
    _checked(_libc.pthread_mutexattr_setpshared, attributes, PROCESS_SHARED)
    if robust:
        _checked(_libc.pthread_mutexattr_setrobust, attributes, ROBUST)
    _checked(_libc.pthread_mutex_init, ctypes.c_void_p(address), attributes)


def init_rwlock(address: int, *, kind: int) -> None:
    """Make a process-shared rwlock of either kind."""
    attributes = ctypes.create_string_buffer(64)
    _checked(_libc.pthread_rwlockattr_init, attributes)
    _checked(_libc.pthread_rwlockattr_setpshared, attributes, PROCESS_SHARED)
    _checked(_libc.pthread_rwlockattr_setkind_np, attributes, kind)
    _checked(_libc.pthread_rwlock_init, ctypes.c_void_p(address), attributes)


def _checked(function: Callable[..., int], *args: Any) -> None:
    error = function(*args)
    if error:
        raise OSError(error, "glibc refused to make a lock")
