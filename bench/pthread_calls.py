"""glibc's locks, called from compiled loops as ours are: by symbol, without a Python frame in between."""

import ctypes
import ctypes.util
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from shmreclaim.machine._intrinsics import I32, I64, _extern

PROCESS_SHARED = 1
ROBUST = 1
PREFER_READER, PREFER_WRITER_NONRECURSIVE = 0, 2
OBJECT_WORDS = 8
"""Words that hold any of them: a mutex has 40 bytes, a rwlock 56."""


def function(name: str) -> Any:
    """Make a function of libpthread that takes the address of a lock callable from compiled code."""

    @intrinsic
    def call(_typingctx: Any, _address: Any) -> Any:
        def codegen(_context: Any, builder: ir.IRBuilder, _signature: Any, args: list[ir.Value]) -> ir.Value:
            return builder.sext(builder.call(_extern(builder, name, ir.FunctionType(I32, [I64])), args), I64)

        return types.int64(types.int64), codegen

    return call


mutex_lock = function("pthread_mutex_lock")
mutex_unlock = function("pthread_mutex_unlock")
rwlock_rdlock = function("pthread_rwlock_rdlock")
rwlock_wrlock = function("pthread_rwlock_wrlock")
rwlock_unlock = function("pthread_rwlock_unlock")

_libc = ctypes.CDLL(None)


def _checked(function: Callable[..., int], *args: Any) -> None:
    error = function(*args)
    if error:
        raise OSError(error, "glibc refused to make a lock")


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
