"""All LLVM IR of the package: memory operations with an order, system calls, bit counts.

Every intrinsic takes and returns signed 64-bit integers. `mem` is the base address of a segment and
`i` the index of a 64-bit word in it. Nothing here is called by an algorithm: `atomics.py`, `futex.py`
and `upcall.py` give each one a name, a plain body and a docstring.
"""

from __future__ import annotations

import ctypes
import platform
import time
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

I64 = ir.IntType(64)
I32 = ir.IntType(32)
Emit = Callable[[ir.IRBuilder, list[ir.Value]], ir.Value]

SYS_FUTEX = {"x86_64": 202, "aarch64": 98}.get(platform.machine(), -1)
UPCALL_SLOTS = 32

upcall_table = (ctypes.c_int64 * UPCALL_SLOTS)()
"""Addresses of compiled functions of *this* process; reached by symbol so that cached code finds it."""
llvm.add_symbol("shmreclaim_upcall_table", ctypes.addressof(upcall_table))


def new_cell(symbol: str) -> ctypes.c_int64:
    """Make a word of this process that compiled code, also cached code, reaches by `symbol`."""
    cell = ctypes.c_int64()
    llvm.add_symbol(symbol, ctypes.addressof(cell))
    return cell


def _define(arity: int, emit: Emit) -> Any:
    """Make an intrinsic of `arity` integers from a function that emits its IR."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: list[ir.Value]) -> ir.Value:
        return emit(builder, args)

    names = ", ".join(f"a{k}" for k in range(arity))
    scope: dict[str, Any] = {"types": types, "codegen": codegen, "arity": arity}
    exec(  # numba reads the parameter list of the typing function, so it needs one of the right length
        f"def typing(typingctx, {names}):\n    return types.int64(*(types.int64,) * arity), codegen"
        if arity
        else "def typing(typingctx):\n    return types.int64(), codegen",
        scope,
    )
    return intrinsic(scope["typing"])


def _word(builder: ir.IRBuilder, mem: ir.Value, i: ir.Value) -> ir.Value:
    address = builder.add(mem, builder.shl(i, ir.Constant(I64, 3)))
    return builder.inttoptr(address, I64.as_pointer())


def load(order: str) -> Any:
    """`mem[i]` with an order: monotonic (relaxed), acquire, seq_cst."""
    return _define(2, lambda b, a: b.load_atomic(_word(b, a[0], a[1]), order, 8))


def store(order: str) -> Any:
    """`mem[i] = value` with an order: monotonic, release, seq_cst; returns 0."""

    def emit(builder: ir.IRBuilder, a: list[ir.Value]) -> ir.Value:
        builder.store_atomic(a[2], _word(builder, a[0], a[1]), order, 8)
        return ir.Constant(I64, 0)

    return _define(3, emit)


def read_modify_write(operation: str, order: str) -> Any:
    """Apply `operation` (add, or, and, xchg) to `mem[i]` and return what was there before."""
    return _define(3, lambda b, a: b.atomic_rmw(operation, _word(b, a[0], a[1]), a[2], order))


def compare_exchange(order: str, failure: str) -> Any:
    """Store `new` into `mem[i]` if it holds `expected`; return what was there before."""

    def emit(builder: ir.IRBuilder, a: list[ir.Value]) -> ir.Value:
        pair = builder.cmpxchg(_word(builder, a[0], a[1]), a[2], a[3], order, failure)
        return builder.extract_value(pair, 0)

    return _define(4, emit)


def fence(order: str) -> Any:
    """A memory barrier; returns 0."""

    def emit(builder: ir.IRBuilder, a: list[ir.Value]) -> ir.Value:
        builder.fence(order)
        return ir.Constant(I64, 0)

    return _define(0, emit)


def _emit_pause(builder: ir.IRBuilder, a: list[ir.Value]) -> ir.Value:
    if platform.machine() == "x86_64":
        kind = ir.FunctionType(ir.VoidType(), [])
        builder.call(_extern(builder, "llvm.x86.sse2.pause", kind), [])
    elif platform.machine() == "aarch64":
        kind = ir.FunctionType(ir.VoidType(), [I32])
        builder.call(_extern(builder, "llvm.aarch64.hint", kind), [ir.Constant(I32, 1)])
    return ir.Constant(I64, 0)


def _emit_count_trailing_zeros(builder: ir.IRBuilder, a: list[ir.Value]) -> ir.Value:
    return builder.cttz(a[0], ir.Constant(ir.IntType(1), 0))


def _emit_count_ones(builder: ir.IRBuilder, a: list[ir.Value]) -> ir.Value:
    return builder.ctpop(a[0])


def _emit_floor_log2(builder: ir.IRBuilder, a: list[ir.Value]) -> ir.Value:
    zeros = builder.ctlz(a[0], ir.Constant(ir.IntType(1), 0))
    return builder.sub(ir.Constant(I64, 63), zeros)


def _extern(builder: ir.IRBuilder, name: str, kind: ir.FunctionType) -> ir.Function:
    return cgutils.get_or_insert_function(builder.module, kind, name)


def _timespec(builder: ir.IRBuilder, ns: ir.Value) -> ir.Value:
    pair = cgutils.alloca_once(builder, ir.ArrayType(I64, 2))
    billion = ir.Constant(I64, 1_000_000_000)
    zero = ir.Constant(I32, 0)
    builder.store(builder.sdiv(ns, billion), builder.gep(pair, [zero, zero]))
    builder.store(builder.srem(ns, billion), builder.gep(pair, [zero, ir.Constant(I32, 1)]))
    return pair


def _emit_clock(builder: ir.IRBuilder, a: list[ir.Value]) -> ir.Value:
    return _clock_gettime(builder, time.CLOCK_MONOTONIC)


def _emit_cpu_clock(builder: ir.IRBuilder, a: list[ir.Value]) -> ir.Value:
    return _clock_gettime(builder, time.CLOCK_THREAD_CPUTIME_ID)


def _clock_gettime(builder: ir.IRBuilder, clock: int) -> ir.Value:
    """clock_gettime() in nanoseconds."""
    pair = cgutils.alloca_once(builder, ir.ArrayType(I64, 2))
    kind = ir.FunctionType(I32, [I32, ir.ArrayType(I64, 2).as_pointer()])
    builder.call(_extern(builder, "clock_gettime", kind), [ir.Constant(I32, clock), pair])
    zero = ir.Constant(I32, 0)
    seconds = builder.load(builder.gep(pair, [zero, zero]))
    nanoseconds = builder.load(builder.gep(pair, [zero, ir.Constant(I32, 1)]))
    return builder.add(builder.mul(seconds, ir.Constant(I64, 1_000_000_000)), nanoseconds)


def _futex(builder: ir.IRBuilder, arguments: list[ir.Value]) -> ir.Value:
    return _syscall(builder, SYS_FUTEX, arguments)


def _syscall(builder: ir.IRBuilder, number: int, arguments: list[ir.Value]) -> ir.Value:
    """syscall(number, ...): its result, or -errno."""
    kind = ir.FunctionType(I64, [I64], var_arg=True)
    result = builder.call(_extern(builder, "syscall", kind), [ir.Constant(I64, number), *arguments])
    location = _extern(builder, "__errno_location", ir.FunctionType(I32.as_pointer(), []))
    failed = builder.icmp_signed("<", result, ir.Constant(I64, 0))
    outcome = cgutils.alloca_once_value(builder, result)
    with builder.if_then(failed):
        errno = builder.sext(builder.load(builder.call(location, [])), I64)
        builder.store(builder.neg(errno), outcome)
    return builder.load(outcome)


def _emit_sched_yield(builder: ir.IRBuilder, a: list[ir.Value]) -> ir.Value:
    builder.call(_extern(builder, "sched_yield", ir.FunctionType(I32, [])), [])
    return ir.Constant(I64, 0)


FUTEX_WAKE = 1
FUTEX_WAIT_BITSET = 9  # the deadline is absolute, on CLOCK_MONOTONIC; never FUTEX_PRIVATE: waiters are processes
FUTEX_BITSET_MATCH_ANY = -1


def _emit_futex_wait(builder: ir.IRBuilder, a: list[ir.Value]) -> ir.Value:
    """(mem, i, expected, deadline in ns or 0 for none)."""
    word = _word(builder, a[0], a[1])
    pair = builder.ptrtoint(_timespec(builder, a[3]), I64)
    forever = builder.icmp_signed("==", a[3], ir.Constant(I64, 0))
    timeout = builder.select(forever, ir.Constant(I64, 0), pair)
    expected = builder.trunc(a[2], I32)
    tail = [timeout, ir.Constant(I64, 0), ir.Constant(I32, FUTEX_BITSET_MATCH_ANY)]
    return _futex(builder, [word, ir.Constant(I32, FUTEX_WAIT_BITSET), expected, *tail])


def _emit_futex_wake(builder: ir.IRBuilder, a: list[ir.Value]) -> ir.Value:
    """(mem, i, how many)."""
    tail = [ir.Constant(I64, 0), ir.Constant(I64, 0), ir.Constant(I32, 0)]
    word = _word(builder, a[0], a[1])
    return _futex(builder, [word, ir.Constant(I32, FUTEX_WAKE), builder.trunc(a[2], I32), *tail])


SYS_FUTEX_WAITV = 449  # the same number on every machine
FUTEX2_SIZE_U32 = 2
FUTEX_WAITV_MAX = 128
WAITER = ir.LiteralStructType([I64, I64, I32, I32])  # struct futex_waitv: value, address, flags, reserved


def _emit_futex_wait_any(builder: ir.IRBuilder, a: list[ir.Value]) -> ir.Value:
    """(mem, first of the pairs (word, value), how many, deadline in ns or 0 for none)."""
    mem, pairs, count, deadline = a
    waiters = cgutils.alloca_once(builder, ir.ArrayType(WAITER, FUTEX_WAITV_MAX))
    with cgutils.for_range(builder, count) as loop:
        at = builder.add(pairs, builder.shl(loop.index, ir.Constant(I64, 1)))
        word = builder.load(_word(builder, mem, at))
        value = builder.load(_word(builder, mem, builder.add(at, ir.Constant(I64, 1))))
        low = builder.and_(value, ir.Constant(I64, 0xFFFFFFFF))
        address = builder.ptrtoint(_word(builder, mem, word), I64)
        fields = (low, address, ir.Constant(I32, FUTEX2_SIZE_U32), ir.Constant(I32, 0))
        for k, field in enumerate(fields):
            where = builder.gep(waiters, [ir.Constant(I32, 0), loop.index, ir.Constant(I32, k)])
            builder.store(field, where)
    pair = builder.ptrtoint(_timespec(builder, deadline), I64)
    forever = builder.icmp_signed("==", deadline, ir.Constant(I64, 0))
    timeout = builder.select(forever, ir.Constant(I64, 0), pair)
    array = builder.ptrtoint(waiters, I64)
    return _syscall(
        builder, SYS_FUTEX_WAITV, [array, count, ir.Constant(I64, 0), timeout, ir.Constant(I64, time.CLOCK_MONOTONIC)]
    )


def _external(builder: ir.IRBuilder, name: str, kind: ir.Type) -> ir.Value:
    variable = builder.module.globals.get(name)
    if variable is None:
        variable = ir.GlobalVariable(builder.module, kind, name)
        variable.linkage = "external"
    return variable


def _call_address(builder: ir.IRBuilder, address: ir.Value, args: list[ir.Value]) -> ir.Value:
    kind = ir.FunctionType(I64, [I64] * len(args))
    return builder.call(builder.inttoptr(address, kind.as_pointer()), args)


def _emit_call_slot(builder: ir.IRBuilder, a: list[ir.Value]) -> ir.Value:
    """(slot, six arguments): call the function whose address the table of this process holds."""
    table = _external(builder, "shmreclaim_upcall_table", ir.ArrayType(I64, UPCALL_SLOTS))
    address = builder.load(builder.gep(table, [ir.Constant(I32, 0), a[0]]))
    return _call_address(builder, address, a[1:])


def call_cell(symbol: str, arity: int) -> Any:
    """Call, with `arity` integers, the function whose address the cell `symbol` holds."""
    return _define(arity, lambda b, a: _call_address(b, b.load(_external(b, symbol, I64)), a))


def _emit_thread_self(builder: ir.IRBuilder, a: list[ir.Value]) -> ir.Value:
    return builder.call(_extern(builder, "pthread_self", ir.FunctionType(I64, [])), [])


def _emit_new_reference(builder: ir.IRBuilder, a: list[ir.Value]) -> ir.Value:
    """(address of a Python object): own one more reference to it."""
    builder.call(_extern(builder, "Py_IncRef", ir.FunctionType(ir.VoidType(), [I64])), a)
    return a[0]


def _emit_call_python(builder: ir.IRBuilder, a: list[ir.Value]) -> ir.Value:
    """(callable, arguments, how many, names of keywords): the vectorcall protocol, PEP 590."""
    return builder.call(_extern(builder, "PyObject_Vectorcall", ir.FunctionType(I64, [I64] * 4)), a)


def read_cell(symbol: str) -> Any:
    """What the cell `symbol` holds."""
    return _define(0, lambda b, _: b.load(_external(b, symbol, I64)))


def journaled(name: str, arity: int, *chosen: int) -> Any:
    """Call a function of machine/journal.py, by its cell, with `arity` integers and what is chosen here."""
    symbol = f"shmreclaim.machine.journal.{name}"
    more = [ir.Constant(I64, each) for each in chosen]
    return _define(arity, lambda b, a: _call_address(b, b.load(_external(b, symbol, I64)), [*a, *more]))


def _emit_die(builder: ir.IRBuilder, a: list[ir.Value]) -> ir.Value:
    """(signal): send it to this process, which is to have the right of way then, where it may."""
    urgent = _extern(builder, "setpriority", ir.FunctionType(I32, [I32] * 3))
    builder.call(urgent, [ir.Constant(I32, 0)] * 3)
    me = builder.call(_extern(builder, "getpid", ir.FunctionType(I32, [])), [])
    kind = ir.FunctionType(I32, [I32, I32])
    builder.call(_extern(builder, "kill", kind), [me, builder.trunc(a[0], I32)])
    return ir.Constant(I64, 0)


thread_self = _define(0, _emit_thread_self)
new_reference = _define(1, _emit_new_reference)
call_python = _define(4, _emit_call_python)
die = _define(1, _emit_die)
nothing = _define(0, lambda *_: ir.Constant(I64, 0))
pause = _define(0, _emit_pause)
count_trailing_zeros = _define(1, _emit_count_trailing_zeros)
count_ones = _define(1, _emit_count_ones)
floor_log2 = _define(1, _emit_floor_log2)
clock = _define(0, _emit_clock)
cpu_clock = _define(0, _emit_cpu_clock)
sched_yield = _define(0, _emit_sched_yield)
futex_wait = _define(4, _emit_futex_wait)
futex_wait_any = _define(4, _emit_futex_wait_any)
futex_wake = _define(3, _emit_futex_wake)
call_slot = _define(7, _emit_call_slot)
