"""Compiled functions that Python calls like its own builtins: about 30 ns a call, no frame, no dispatcher.

A builtin made here has words of its own, bound when it is made: addresses, offsets, what to return. It is
one compiled function of four integers, called by the interpreter as PyCFunctionFastWithKeywords: the
address of the words, the arguments as an array, how many there are, the names of the keywords.

What it is for: the uncontended case of a lock, called without arguments, takes one atomic instruction;
numba's own entry points spend 90 ns before it and 50 more on building and reading arguments. Everything
else, arguments and errors included, is left to an ordinary Python function: `python_call(slow, ...)`.

Limits: CPython with its GIL; a builtin holds the GIL all the time, so it must not wait for another thread.
"""

from __future__ import annotations

import ctypes
import struct
import threading
from collections.abc import Callable
from typing import Any, cast

from shmreclaim.errors import InternalError
from shmreclaim.machine import _intrinsics as ll
from shmreclaim.machine.atomics import operation
from shmreclaim.machine.compile import c_address

WORDS = (bytes.__basicsize__ - 1) // 8
"""Where the bound words begin in what a builtin gets as its first argument, in words: a bytes object's content."""

FASTCALL_WITH_KEYWORDS = 0x0080 | 0x0002  # METH_FASTCALL | METH_KEYWORDS, methodobject.h


@operation(ll.thread_self)
def thread_self() -> int:
    """Number of the calling thread, as threading.get_ident gives it; only threads of one process differ in it."""
    return threading.get_ident()


@operation(ll.new_reference)
def new_reference(address: int) -> int:
    """Own one more reference to the Python object at an address: what a builtin returns."""
    raise InternalError(f"only a builtin returns the object at {address}")


@operation(ll.call_python)
def python_call(function: int, args: int, nargs: int, names: int) -> int:
    """Call the Python object at an address with a builtin's own arguments; its result, or 0 if it raised."""
    raise InternalError(f"only a builtin calls the function at {function} with {nargs} arguments ({args}, {names})")


class _Words(bytes):
    """The bound words of a builtin, and what must live as long as it does."""

    keep: object


class _MethodDef(ctypes.Structure):
    """PyMethodDef, methodobject.h."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


_new_function = ctypes.pythonapi["PyCFunction_NewEx"]
_new_function.argtypes = (ctypes.c_void_p, ctypes.py_object, ctypes.py_object)
_new_function.restype = ctypes.py_object


class BuiltinFactory:
    """Makes builtins out of one compiled function; the interpreter needs its name and text for ever."""

    def __init__(self, function: Callable[..., int], name: str, doc: str) -> None:
        """Compile `function`; the first line of `doc` is its signature, the second is "--", as in CPython's own."""
        address = c_address(function, 4)
        self._definition = _MethodDef(name.encode(), address, FASTCALL_WITH_KEYWORDS, doc.encode())
        self._module = function.__module__

    def bind(self, words: tuple[int, ...], keep: object) -> Callable[..., Any]:
        """Give a builtin with these words bound; `keep` is kept alive by it."""
        bound = _Words(struct.pack(f"{len(words)}q", *words))
        bound.keep = (keep, self)
        made = _new_function(ctypes.addressof(self._definition), bound, self._module)
        return cast(Callable[..., Any], made)
