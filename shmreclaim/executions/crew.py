"""The worker processes of one run: started together, looked after, and none of them left at its end.

All of this happens while the handlers of signals are held back; they are taken where the parent waits, so that
none of them finds a worker half started or half ended.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self

import multiprocess
from multiprocess import connection

from shmreclaim import kernel
from shmreclaim.errors import Inconclusive, InternalError, SetupError, ShmreclaimError
from shmreclaim.executions import oracles, stall, truncation
from shmreclaim.machine.arena import Arena
from shmreclaim.machine.cpu import CPU, CpuState
from shmreclaim.machine.layout import HEADER
from shmreclaim.workers.lifeline import start

POLL_S = 0.05
"""How often the parent looks: for progress, deaths, signals and the clock. The workers do not wait for it."""
START_TIMEOUT_S = 120.0
"""How long all of them may take to attach: it needs no luck, but machines can be slow."""
GRACE_S = 10.0
"""How long a worker without work may take to leave when it is told to."""
FORK_SERVER_DIED = 255
"""What `multiprocess` gives as exit code where nobody is left who could know it."""
FAULTS = (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT, signal.SIGTRAP, signal.SIGSYS)
"""Signals that a process brings upon itself."""


class WorkerCrashError(InternalError):
    """A worker was ended by a signal that it brought upon itself; a user's design is suspected first."""


def context() -> Any:
    """Give the fork server's context: each process it starts has all machine code loaded."""
    server = multiprocess.get_context("forkserver")
    server.set_forkserver_preload(["shmreclaim.workers.preload"])
    return server


class Job(NamedTuple):
    """What one worker is started for: `target(orders, errors)` in a process called `name`."""

    name: str
    target: Callable[[Any, Any], None]
    orders: Any


def death(code: int) -> str:
    """Say what a negative exit code means."""
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


class Crew:
    """A context manager: the workers of a run, `jobs[k]` on `slots[k]`; inside it they are there, after it gone."""

    def __init__(
        self, arena: Arena, slots: Sequence[int], jobs: Sequence[Job], take_signals: Callable[[], None]
    ) -> None:
        """Only keep what is needed; they are started by `with`. `take_signals` is of `signals.held_signals`."""
        self._arena = arena
        self._slots = slots
        self._jobs = jobs
        self._take_signals = take_signals
        self._workers: list[Any] = []
        self._errors: Any = None

    def __enter__(self) -> Self:
        """Start all; if one cannot be started, end those that were."""
        try:
            self._start_all()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        """End all that are left."""
        kernel.stop_all(self._arena.address)
        for worker in self._workers:
            if worker.exitcode is None:
                worker.kill()
        for worker in self._workers:
            worker.join()
            worker.close()
        if self._errors is not None:
            self._errors.close()

    def _start_all(self) -> None:
        server = context()
        try:
            self._errors, sender = server.Pipe(duplex=False)
            with sender:
                for job in self._jobs:
                    worker = server.Process(target=job.target, args=(job.orders, sender), name=job.name, daemon=True)
                    start(worker)
                    self._workers.append(worker)
        except (OSError, EOFError) as error:
            why = "the fork server ended" if isinstance(error, EOFError) else str(error)
            what = f"{self._jobs[len(self._workers)].name}, of {len(self._jobs)} workers"
            raise self.cannot_start(what, why) from None

    def cannot_start(self, what: str, why: str) -> SetupError:
        """Make the error of a process that the machine refuses."""
        return SetupError(
            f"cannot start {what}: {why}",
            cause="Usually the limit of processes or open files is reached (ulimit -u, ulimit -n).",
            remedy="Raise it, or ask for fewer --cpus.",
        )

    def await_ready(self, timeout: float) -> None:
        """Wait until all are attached and the setup is played, which may take `timeout` seconds."""
        memory = self._arena.memory
        since, allowed, what = time.monotonic(), START_TIMEOUT_S, "the workers were not ready"
        while memory[HEADER.ready] < len(self._jobs):
            self.wait(POLL_S / 10)
            if allowed != timeout and memory[self._slots[0] + CPU.state] >= CpuState.RUNNING:
                since, allowed, what = time.monotonic(), timeout, "the setup was not played"
            if time.monotonic() - since > allowed:
                raise self.hung(f"{what} within {allowed:g} s")

    def wait(self, seconds: float) -> list[int]:
        """Wait until one ends, or so long; gives which are left, and raises for one that did not end of itself."""
        connection.wait([worker.sentinel for worker in self._workers if worker.exitcode is None], timeout=seconds)
        self._take_signals()
        left = []
        for k, worker in enumerate(self._workers):
            code = worker.exitcode
            if code is None:
                left.append(k)
            elif code != 0:
                raise self.failure(worker.name, worker.pid, code)
        return left

    def pids(self) -> list[int]:
        """Of those that have not ended."""
        return [worker.pid for worker in self._workers if worker.exitcode is None]

    def stop(self) -> None:
        """Let those leave that wait for work, the kswapds, and wait until they have."""
        kernel.stop_all(self._arena.address)
        deadline = time.monotonic() + GRACE_S
        while self.wait(POLL_S):
            if time.monotonic() > deadline:
                raise self.hung(f"the run did not stop within {GRACE_S:g} s")

    def hung(self, what: str) -> Inconclusive:
        """Make the error that says who holds what, and who waits for it."""
        now, broken = self._standings(), oracles.found_on_line(self._arena, self._slots)
        text = "\n".join([f"{what}:", *map(str, now), *broken])
        error = stall.Hung(text, remedy="If it was only slow, allow more with --timeout.")
        error.standings, error.violations = tuple(now), tuple(broken)
        return error

    def failure(self, name: str, pid: int, code: int) -> ShmreclaimError:
        """Make the error of a worker that did not end of itself."""
        who = f"{name} (pid {pid})"
        if code == FORK_SERVER_DIED:
            return self._killed(f"{who} went away with its fork server")
        if code < 0 and -code not in FAULTS:
            return self._killed(f"{who} {death(code)}")
        if -code == signal.SIGBUS and truncation.is_truncated(self._arena):
            return truncation.error(self._arena)
        if code < 0:
            return WorkerCrashError(
                f"{who} {death(code)}:\n{self._report()}",
                cause="Usually the design it plays used an address outside the segment.",
            )
        if self._errors is not None and self._errors.poll():
            error: ShmreclaimError = self._errors.recv()
            return error
        return InternalError(f"{who} failed; its message is above")

    def _killed(self, what: str) -> Inconclusive:
        return Inconclusive(
            f"{what}; the run was stopped:\n{self._report()}",
            cause="Usually somebody killed it, or the machine ran out of memory (dmesg tells).",
        )

    def _report(self) -> str:
        return "\n".join([*map(str, self._standings()), *oracles.found_on_line(self._arena, self._slots)])

    def _standings(self) -> list[stall.Standing]:
        return stall.standings(self._arena, self._slots, [job.name for job in self._jobs])
