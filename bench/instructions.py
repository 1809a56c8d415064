"""How many instructions an uncontended lock and unlock takes, ours and glibc's, in the loops of `bench locks`.

    python bench/instructions.py

Counted by single steps (ptrace(2)) of a process that runs the loop, the difference between two numbers of rounds: so
what is around the loop does not count, and the figure does not depend on how busy the machine is. Instructions with
a lock prefix are counted by themselves: on a machine of today two of them cost what a hundred others do. x86-64 only.
"""

import ctypes
import os
import platform
import signal
import sys
from collections.abc import Callable
from typing import NamedTuple

from shmreclaim.experiments.bench.locks import glibc
from shmreclaim.experiments.bench.locks.ground import SCENE, Ground
from shmreclaim.experiments.bench.locks.loops import Kind, alone
from shmreclaim.machine.compile import entry_point
from shmreclaim.sync.mutex import mutex_init
from shmreclaim.sync.rwsem import rwsem_init

FEW, MANY = 20, 120
TRACEME, PEEKTEXT, SINGLESTEP, GETREGS = 0, 1, 9, 12
RIP, REGISTERS = 16, 27  # struct user_regs_struct, sys/user.h
LOCK_PREFIX, XCHG_WITH_MEMORY = 0xF0, (0x86, 0x87)

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
_libc.ptrace.restype = ctypes.c_long


class Counted(NamedTuple):
    """Instructions of a run of steps, and those of them that lock the bus."""

    all: int
    locked: int


def count(kind: Kind, make: Callable[[Ground], object], rounds: int) -> Counted:
    """Instructions of a process that takes and gives a lock so many times, and all around it."""
    with Ground(1, 1) as ground:
        make(ground)
        pid = os.fork()
        if pid == 0:
            _take_and_give(ground, kind, rounds)
        try:
            return _step(pid)
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _take_and_give(ground: Ground, kind: Kind, rounds: int) -> None:
    """In the child: warm up, then be stepped from one SIGSTOP to the next."""
    (player,) = ground.parts[0].players
    ground.parts[0].set(0, slot=ground.tasks.slot(), kind=kind)
    play = entry_point(alone, 4)
    play(ground.address, ground.scene, player, FEW)
    _libc.ptrace(TRACEME, 0, 0, 0)
    os.kill(os.getpid(), signal.SIGSTOP)
    play(ground.address, ground.scene, player, rounds)
    os.kill(os.getpid(), signal.SIGSTOP)
    os._exit(0)


def _step(pid: int) -> Counted:
    registers = (ctypes.c_ulong * REGISTERS)()
    total = locked = 0
    os.waitpid(pid, 0)
    while True:
        _libc.ptrace(GETREGS, pid, 0, ctypes.addressof(registers))
        word = _libc.ptrace(PEEKTEXT, pid, registers[RIP], 0)
        locked += _is_locked(word & (1 << 64) - 1)
        _libc.ptrace(SINGLESTEP, pid, 0, 0)
        _, status = os.waitpid(pid, 0)
        if not os.WIFSTOPPED(status):
            raise SystemExit(f"the process that was stepped ended with status {status:#x}")
        if os.WSTOPSIG(status) == signal.SIGSTOP:
            return Counted(total, locked)
        total += 1


def _is_locked(code: int) -> bool:
    """Whether an instruction has a lock prefix, or is an xchg with memory, which needs none."""
    first, second, third = code & 0xFF, code >> 8 & 0xFF, code >> 16 & 0xFF
    if first == LOCK_PREFIX:
        return True
    opcode, modrm = (second, third) if 0x40 <= first <= 0x4F else (first, second)
    return opcode in XCHG_WITH_MEMORY and modrm >> 6 != 0b11


def _lock(ground: Ground) -> int:
    return ground.address + 8 * (ground.scene + SCENE.lock)


def _make_ours(init: Callable[[int, int, int], object]) -> Callable[[Ground], object]:
    return lambda ground: init(ground.address, ground.scene + SCENE.lock, 0)


CASES: dict[str, tuple[Kind, Callable[[Ground], object]]] = {
    "shmreclaim.Mutex": (Kind.MUTEX, _make_ours(mutex_init)),
    "shmreclaim.RwLock-R": (Kind.READ, _make_ours(rwsem_init)),
    "shmreclaim.RwLock-W": (Kind.WRITE, _make_ours(rwsem_init)),
    "glibc mutex": (Kind.GLIBC_MUTEX, lambda ground: glibc.init_mutex(_lock(ground), robust=False)),
    "glibc robust mutex": (Kind.GLIBC_MUTEX, lambda ground: glibc.init_mutex(_lock(ground), robust=True)),
    "glibc rwlock-R": (Kind.GLIBC_READ, lambda ground: glibc.init_rwlock(_lock(ground), kind=glibc.PREFER_READER)),
    "glibc rwlock-W": (Kind.GLIBC_WRITE, lambda ground: glibc.init_rwlock(_lock(ground), kind=glibc.PREFER_READER)),
}


def main() -> None:
    """Count, and print a line for each lock."""
    if platform.machine() != "x86_64":
        sys.exit("bench/instructions.py reads the registers of x86-64")
    print(f"{'lock':<22}{'instructions':>14}{'locked':>9}")
    for name, (kind, make) in CASES.items():
        few, many = count(kind, make, FEW), count(kind, make, MANY)
        pairs = MANY - FEW
        print(f"{name:<22}{round((many.all - few.all) / pairs):>14}{round((many.locked - few.locked) / pairs):>9}")


if __name__ == "__main__":
    main()
