"""Stop a process at any instruction of a compiled function, and kill it there: ptrace(2), x86-64 only."""

import ctypes
import os
import platform
import signal
import time
from collections.abc import Callable

import pytest

TRACEME, PEEKTEXT, POKETEXT, CONT, KILL, SINGLESTEP, GETREGS, SETREGS = 0, 1, 4, 7, 8, 9, 12, 13
RIP, RSP, REGISTERS = 16, 19, 27  # struct user_regs_struct, sys/user.h
INT3 = 0xCC
ASLEEP = 0.2
"""Seconds without news after which a process that was to do one step is taken to sleep in the kernel."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
_libc.ptrace.restype = ctypes.c_long


def _ptrace(request: int, pid: int, address: int = 0, data: int = 0) -> int:
    ctypes.set_errno(0)
    result = int(_libc.ptrace(request, pid, address, data))
    if ctypes.get_errno():
        raise OSError(ctypes.get_errno(), f"ptrace request {request} failed")
    return result


def skip_unless_possible() -> None:
    """Skip the test where processes cannot be stepped."""
    if platform.machine() != "x86_64":
        pytest.skip("reads the registers of x86-64")
    pid = os.fork()
    if pid == 0:
        try:
            _ptrace(TRACEME, 0)
        except OSError:
            os._exit(1)
        os._exit(0)
    if os.waitpid(pid, 0)[1]:
        pytest.skip("this machine lets nobody trace")


class Victim:
    """A child that prepares itself, then calls a compiled function, which the test runs step by step."""

    def __init__(self, prepare: Callable[[], Callable[[], object]], function: int) -> None:
        """`prepare`, in the child, gives what calls the function at that address; return when that begins."""
        self.function = function
        self.pid = os.fork()
        if self.pid == 0:
            try:
                call = prepare()
                _ptrace(TRACEME, 0)
                os.kill(os.getpid(), signal.SIGSTOP)
                call()
                os.kill(os.getpid(), signal.SIGSTOP)  # done: stay, and so alive
            finally:
                os._exit(1)
        self._registers = (ctypes.c_ulong * REGISTERS)()
        self._wait()
        self._run_to_function()

    def _wait(self) -> None:
        _, status = os.waitpid(self.pid, 0)
        assert os.WIFSTOPPED(status), f"the victim ended with status {status:#x}"

    def _run_to_function(self) -> None:
        code = _ptrace(PEEKTEXT, self.pid, self.function)
        _ptrace(POKETEXT, self.pid, self.function, (code & ~0xFF) | INT3)
        _ptrace(CONT, self.pid)
        self._wait()
        _ptrace(POKETEXT, self.pid, self.function, code)
        self._read_registers()
        assert self._registers[RIP] == self.function + 1, "it stopped elsewhere"
        self._registers[RIP] = self.function
        _ptrace(SETREGS, self.pid, 0, ctypes.addressof(self._registers))
        self._back = _ptrace(PEEKTEXT, self.pid, self._registers[RSP]) & (1 << 64) - 1

    def _read_registers(self) -> None:
        _ptrace(GETREGS, self.pid, 0, ctypes.addressof(self._registers))

    def step(self, times: int) -> int:
        """Run so many instructions; fewer if the function returns or sleeps before. How many it was."""
        for done in range(times):
            self._read_registers()
            if self._registers[RIP] == self._back:
                return done
            _ptrace(SINGLESTEP, self.pid)
            if not self._stopped():
                return done
        return times

    def _stopped(self) -> bool:
        end = time.monotonic() + ASLEEP
        while time.monotonic() < end:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                assert os.WIFSTOPPED(status), f"the victim ended with status {status:#x}"
                return True
        return False

    def kill(self) -> None:
        """End it where it is."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
