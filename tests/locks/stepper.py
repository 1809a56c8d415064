"""Stop a process at any instruction of a compiled function, and kill it there: ptrace(2), x86-64 only."""

import contextlib
import ctypes
import os
import platform
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.sync.crew import state_of, until

TRACEME, PEEKTEXT, POKETEXT, CONT, KILL, SINGLESTEP, GETREGS, SETREGS, DETACH = 0, 1, 4, 7, 8, 9, 12, 13, 17
RIP, RSP, REGISTERS = 16, 19, 27  # struct user_regs_struct, sys/user.h
INT3, SYSCALL = 0xCC, 0x050F
NO_NEWS = 0.01
"""Seconds without news after which a process that was to do one step is looked at: it may sleep in the kernel."""

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


def _addresses(name: str) -> range:
    """Where something is mapped, here and in children (proc_pid_maps(5))."""
    lines = Path("/proc/self/maps").read_text(encoding="ascii").splitlines()
    first, last = next(line.split()[0].split("-") for line in lines if line.endswith(name))
    return range(int(first, 16), int(last, 16))


@contextlib.contextmanager
def _children_signal() -> Iterator[None]:
    """Keep SIGCHLD for who asks for it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


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
        self._clock = _addresses("[vdso]")
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
        with _children_signal():
            return next((done for done in range(times) if not self._one()), times)

    def step_until(self, condition: Callable[[], bool]) -> None:
        """Run until something holds."""
        with _children_signal():
            while not condition():
                assert self._one(), "the function returned, or slept, before"

    def points(self, image: Callable[[], bytes]) -> list[int]:
        """Run to the end, or to where it sleeps; after how many instructions a death would be another than before.

        That is, after each that changed the `image` of what is shared, and before and after each system call.
        """
        found, done, before = {0}, 0, image()
        with _children_signal():
            while self._one():
                done += 1
                if self._calls_the_system():
                    found |= {done, done + 1}
                after = image()
                if after != before:
                    found.add(done)
                before = after
        return sorted(n for n in {*found, done} if n <= done)

    def _calls_the_system(self) -> bool:
        """Whether the next instruction is a system call."""
        return _ptrace(PEEKTEXT, self.pid, self._registers[RIP]) & 0xFFFF == SYSCALL

    def _one(self) -> bool:
        """Run one instruction; False if there is none more, or it sleeps in it.

        A reading of the clock, by vdso(7), is one as well: how many it takes differs from time to time.
        """
        while self._registers[RIP] != self._back and self._single():
            self._read_registers()
            if self._registers[RIP] not in self._clock:
                return True
        return False

    def _single(self) -> bool:
        """Run one of the machine's instructions; whether that ends."""
        _ptrace(SINGLESTEP, self.pid)
        while True:
            signal.sigtimedwait({signal.SIGCHLD}, NO_NEWS)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                assert os.WIFSTOPPED(status), f"the victim ended with status {status:#x}"
                return True
            if state_of(self.pid) == b"S":
                return False

    def go_on(self) -> None:
        """Run freely until the function has returned."""
        _ptrace(DETACH, self.pid)
        until(lambda: os.waitpid(self.pid, os.WNOHANG | os.WUNTRACED)[0] == self.pid, f"process {self.pid} to return")

    def kill(self) -> None:
        """End it where it is."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
