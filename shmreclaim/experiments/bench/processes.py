"""Samples from several processes, one after the other: what differs from process to process is part of a figure.

Where code and memory lie is drawn anew for each process, and a loop of a few nanoseconds may take twice as long for it.
Samples of one process know nothing of that: between two runs nearly everything would seem to have changed. So each
process gives one sample of each figure, the median of those it took.
"""

from collections.abc import Callable, Hashable
from statistics import median
from typing import Any, TypeVar

import multiprocess
from multiprocess import connection

from shmreclaim.errors import Inconclusive, InternalError, SetupError, ShmreclaimError
from shmreclaim.executions.crew import POLL_S, death
from shmreclaim.experiments.bench.turns import Figure
from shmreclaim.signals import held_signals
from shmreclaim.workers.lifeline import follow_parent, start

Key = TypeVar("Key", bound=Hashable)
Tell = Callable[[str, int, int], None]
"""Is told what is done, and how far it is: from 1 to a total."""

PROCESSES = 9
"""With so many the interval leaves out one at each end: a single process out of line does not show in it."""


def measure(sampler: Callable[[Tell], dict[Key, list[float]]], *, quick: bool, tell: Tell) -> dict[Key, Figure]:
    """Make figures of what `sampler`, a function of a module, gives in PROCESSES fresh ones; if quick, in this one."""
    if quick:
        return {key: Figure.of(samples) for key, samples in _here(sampler, tell).items()}
    medians: dict[Key, list[float]] = {}
    for k in range(PROCESSES):
        tell("measuring in process", k + 1, PROCESSES)
        for key, samples in _in_a_process(sampler).items():
            medians.setdefault(key, []).append(median(samples))
    return {key: Figure.of(samples) for key, samples in medians.items()}


def _here(sampler: Callable[[Tell], dict[Key, list[float]]], tell: Tell) -> dict[Key, list[float]]:
    """Sample in this process; a signal waits until something is told: loops are compiled when they are first called."""
    with held_signals() as take_signals:

        def take_and_tell(what: str, done: int, total: int) -> None:
            take_signals()
            tell(what, done, total)

        return sampler(take_and_tell)


def _in_a_process(sampler: Callable[[Tell], dict[Key, list[float]]]) -> dict[Key, list[float]]:
    """Start a process for it, and wait; whatever comes in between, the process ends."""
    context = multiprocess.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    with held_signals() as take_signals, receiver:
        process = context.Process(target=_sample, args=(sampler, sender), daemon=True)
        try:
            with sender:
                start(process)
            while not connection.wait([receiver], timeout=POLL_S):
                take_signals()
            return _received(receiver, process)
        except OSError as error:
            raise SetupError(
                f"cannot start a process that measures: {error}",
                cause="Usually the limit of processes or open files is reached (ulimit -u, ulimit -n).",
            ) from None
        finally:
            if process.pid is not None:
                process.kill()
                process.join()


def _received(receiver: Any, process: Any) -> dict[Any, list[float]]:
    """What it sent: samples, or the error that it met."""
    try:
        found: dict[Any, list[float]] | ShmreclaimError = receiver.recv()
    except EOFError:
        process.join()
        if process.exitcode < 0:
            raise Inconclusive(
                f"a process that measures (pid {process.pid}) {death(process.exitcode)}",
                cause="Usually somebody killed it, or the machine ran out of memory (dmesg tells).",
                remedy="Try again.",
            ) from None
        raise InternalError("a process that measures ended early", remedy="Its message is above.") from None
    if isinstance(found, ShmreclaimError):
        raise found
    return found


def _sample(sampler: Callable[[Tell], Any], report: Any) -> None:
    """Be that process."""
    follow_parent()
    try:
        report.send(sampler(lambda _what, _done, _total: None))
    except ShmreclaimError as error:
        report.send(error)
