"""Interpreted execution of a user's design: one process plays all CPUs, and every word that is used is checked.

Compiled code that uses a wrong index takes what is there, or crashes. The same source, interpreted over a memory that
checks each index, stops at that very line. Operations are played whole, one after the other: what needs two CPUs
inside an operation at a time does not show here.
"""

from __future__ import annotations

import resource
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shmreclaim import kernel
from shmreclaim.executions import oracles
from shmreclaim.machine import checked
from shmreclaim.machine.arena import Arena, available_memory
from shmreclaim.machine.checked import CheckedMemory, Exhausted, OutOfBoundsError
from shmreclaim.machine.compile import plain
from shmreclaim.machine.cpu import CPU
from shmreclaim.machine.futex import LoneTaskError
from shmreclaim.machine.upcall import upcall
from shmreclaim.mm.boot import Machine, boot
from shmreclaim.mm.state import Upcall
from shmreclaim.plugins import Design
from shmreclaim.plugins.form import place
from shmreclaim.workload.ops import OP_DTYPE, Op, Stream

ROW_WORDS = OP_DTYPE.itemsize // 8
_OURS = {__file__, checked.__file__}
"""Files whose frames say nothing of where a design went wrong."""


class TooLong(Exception):  # noqa: N818 - as Exhausted: no error of ours
    """The time allowed is over."""


@dataclass(frozen=True)
class Limits:
    """What an interpreted run may use."""

    uses: int
    """Uses of words, of all operations together: the same on every machine."""
    seconds: float
    """For a loop that uses no word."""


class DesignError(Exception):
    """What went wrong while a design was interpreted, where, and in what."""

    def __init__(self, where: str, why: str, during: str, *, is_limit: bool = False) -> None:
        """`where` is a place in the user's file, empty if none of its functions was running."""
        super().__init__(where, why, during)
        self.where, self.why, self.during, self.is_limit = where, why, during, is_limit


class Interpreted:
    """A kernel in memory of this process alone, with a user's design in it."""

    def __init__(self, design: Design, machine: Machine, limits: Limits) -> None:
        """Boot it and let the design initialise; raises DesignError, as all that follows."""
        self.design = design
        self.limits = limits
        self.arena = Arena.private(machine.words())
        self.memory = CheckedMemory(self.arena.memory, limits.uses)
        self.cpus = boot(self.arena, machine)
        kernel.bind_design(design.module, compiled=False)
        self._guard("init", upcall, Upcall.INIT, self.memory, self.cpus[0], 0, 0, 0, 0)

    def put(self, stream: Stream) -> int:
        """Put a stream into memory; where it is."""
        at = self.arena.allocate(len(stream) * ROW_WORDS)
        self.arena.view(at, len(stream) * ROW_WORDS)[:] = np.ascontiguousarray(stream).view(np.int64)
        return at

    def play(self, cpu: int, at: int, count: int) -> None:
        """Play `count` operations from `at` on as CPU number `cpu`."""
        self._guard("", plain(kernel.play), self.memory, self.cpus[cpu], at, count, 0)

    def _guard(self, during: str, function: Callable[..., int], *arguments: Any) -> None:
        try:
            function(*arguments)
        except Exception as error:
            raise self._fault(error, during or self._operation(arguments[1])) from error

    def _operation(self, slot: int) -> str:
        op = self.arena.memory[slot + CPU.op]
        return Op(op).label if 0 <= op < len(Op) else "no operation"

    def _fault(self, error: Exception, during: str) -> DesignError:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename not in _OURS]
        mine = [k for k, frame in enumerate(frames) if frame.filename == self.design.file]
        where = place(self.design, frames[mine[-1]].lineno, frames[mine[-1]].name) if mine else ""
        if frames and (not mine or mine[-1] < len(frames) - 1):
            during += f", in {frames[-1].name}() of {Path(frames[-1].filename).name}"
        is_limit = isinstance(error, Exhausted | TooLong | MemoryError)
        if is_limit:
            during += "; on the way: " + ", ".join(f"{frames[k].name}() line {frames[k].lineno}" for k in mine)
        return DesignError(where, self._why(error), during, is_limit=is_limit)

    def _why(self, error: Exception) -> str:
        if isinstance(error, OutOfBoundsError):
            return str(error)
        if isinstance(error, Exhausted):
            why = f"it does not end: {self.limits.uses} uses of memory were allowed"
        elif isinstance(error, TooLong):
            why = f"it does not end: {self.limits.seconds:g} s were allowed"
        elif isinstance(error, MemoryError):
            why = "it takes more memory than the machine has"
        elif isinstance(error, LoneTaskError):
            why = f"it waits for what never comes ({error})"
        else:
            return f"{type(error).__name__}: {error}"
        found = oracles.found_on_line(self.arena, self.cpus)
        return "; ".join([why, *found])


@contextmanager
def limited(limits: Limits) -> Iterator[None]:
    """Bound the time and the memory of what is interpreted meanwhile; the main thread's, in a process of its own.

    It may take what memory the machine has to give, not more: then it is ended, and nobody else's process is.
    """

    def end(_number: int, _frame: object) -> None:
        raise TooLong

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, limits.seconds)
    wanted = min(taken + available_memory(), sys.maxsize)
    resource.setrlimit(resource.RLIMIT_AS, (wanted if soft == resource.RLIM_INFINITY else min(wanted, soft), hard))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
