"""Native execution: one process for each CPU, all over one segment, in true parallel.

A run: create and boot a segment, start the workers, let them attach and wait, play the setup on one of them,
release all at once, watch, check the oracles, gather the figures. Whatever ends it, no process and no
segment stays behind: `run` kills what is left of its workers and removes its segment on every way out.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import multiprocess
import numpy as np
from multiprocess import connection

from shmreclaim import kernel
from shmreclaim.errors import Inconclusive, InternalError, SetupError
from shmreclaim.executions import collect, oracles, stall
from shmreclaim.machine.arena import Arena
from shmreclaim.machine.cpu import CPU
from shmreclaim.machine.layout import HEADER
from shmreclaim.machine.process import cores
from shmreclaim.machine.upcall import upcall
from shmreclaim.mm.boot import Machine, boot
from shmreclaim.mm.state import Phase, Upcall
from shmreclaim.result import RunRecord
from shmreclaim.workers import cpu as cpu_worker
from shmreclaim.workers import kswapd as kswapd_worker
from shmreclaim.workers import units
from shmreclaim.workload.ops import OP_DTYPE, Op, Stream, Workload

OP_WORDS = OP_DTYPE.itemsize // 8
POLL_S = 0.05
"""How often the parent looks: for progress, deaths and the clock. The workers do not wait for it."""
START_TIMEOUT_S = 120.0
"""Starting needs no luck, but the setup is played in it, and machines can be slow."""
GRACE_S = 2.0
"""How long a run that was told to stop may take to do so."""


@dataclass(frozen=True)
class RunSettings:
    """How to play a workload; times in seconds."""

    speed: float | None = None
    """How much faster than planned; None for closed loop."""
    seconds: float | None = None
    """When to stop, finished or not; None to play everything."""
    timeout: float = 60.0
    """When a run that does not end counts as hung."""


def prepare(progress: Callable[[int, int], None]) -> None:
    """Compile everything, on two processes, unless the cache has it; `progress` hears (done, of how many)."""
    if units.is_cached():
        return
    total = len(units.units())
    parts = min(2, len(cores()))
    context = multiprocess.get_context("spawn")
    pipes, compilers = [], []
    for part in range(parts):
        receiver, sender = context.Pipe(duplex=False)
        compiler = context.Process(target=units.compile_part, args=(part, parts, sender), daemon=True)
        compiler.start()
        sender.close()
        pipes.append(receiver)
        compilers.append(compiler)
    try:
        _follow_compilers(pipes, total, progress)
    finally:
        for compiler in compilers:
            compiler.kill()
            compiler.join()
    units.note_cached()


def _follow_compilers(pipes: list[Any], total: int, progress: Callable[[int, int], None]) -> None:
    done = 0
    while pipes:
        for pipe in connection.wait(pipes):
            try:
                news = pipe.recv()
            except EOFError:
                raise InternalError("a process that compiles ended early", remedy="Its message is above.") from None
            if news == 0:
                pipes.remove(pipe)
            done += news
            progress(done, total)


def run(workload: Workload, design: str, settings: RunSettings, progress: Callable[[int, int], None]) -> RunRecord:
    """Play a workload under a design; `progress` hears how many operations of how many are done.

    Raises Inconclusive if it hangs or a worker is killed, SetupError if the machine refuses something. Broken
    invariants are in the record.
    """
    machine = _machine(workload)
    kernel.bind_design(design, compiled=False)
    with Arena.create(machine.words()) as arena:
        slots = boot(arena, machine)
        upcall(Upcall.INIT, arena.memory, slots[0], 0, 0, 0, 0)
        workers = _workers(arena, workload, design, settings, slots)
        with _started(arena, workers):
            _await_ready(arena, workers, slots)
            kernel.start_all(arena.address)
            _watch(arena, workers[: workload.cpus], slots, settings, _Progress(progress, workload, slots))
            _stop(arena, workers)
        checked, violations = oracles.check_at_rest(arena, slots)
        return collect.gather(arena, slots[: workload.cpus], slots, checked, violations)


def _machine(workload: Workload) -> Machine:
    """The machine that a workload needs: room for its streams, and lists for all memcgs it may have at a time."""
    streams = [workload.setup, *workload.streams]
    memory = workload.memory
    return Machine(
        cpus=workload.cpus + workload.nodes,
        nodes=workload.nodes,
        pages_per_node=memory.pages_per_node,
        watermark_min=memory.watermark_min,
        watermark_low=memory.watermark_low,
        watermark_high=memory.watermark_high,
        max_memcgs=max(1, _most_memcgs(streams)),
        memcg_handles=workload.n_memcgs,
        shrinker_handles=max(1, workload.n_shrinkers),
        extra_words=sum(len(stream) * OP_WORDS + 8 for stream in streams),
    )


def _most_memcgs(streams: list[Stream]) -> int:
    """Memcgs that can be online at a time: each CPU's own peak, all together."""
    most = 0
    for stream in streams:
        change = (stream["op"] == Op.MEMCG_ONLINE).astype(np.int64) - (stream["op"] == Op.MEMCG_OFFLINE)
        most += max(0, int(np.cumsum(change).max(initial=0)))
    return most


def _workers(arena: Arena, workload: Workload, design: str, settings: RunSettings, slots: list[int]) -> list[Any]:
    """Make, not start, a process for each CPU and a kswapd for each node; their streams go into the segment."""
    context = multiprocess.get_context("forkserver")
    context.set_forkserver_preload(["__main__", "shmreclaim.workers.preload"])
    available = cores()
    workers = []
    for k, stream in enumerate(workload.streams):
        orders = cpu_worker.Orders(
            segment=arena.name,
            slot=slots[k],
            design=design,
            core=available[k % len(available)],
            setup=_copy(arena, workload.setup) if k == 0 else (0, 0),
            stream=_copy(arena, stream),
            speed=round(settings.speed * 1000) if settings.speed else 0,
        )
        workers.append(context.Process(target=cpu_worker.run, args=(orders,), name=f"CPU {k}", daemon=True))
    for nid in range(workload.nodes):
        asked = kswapd_worker.Orders(segment=arena.name, slot=slots[workload.cpus + nid], design=design, node=nid)
        workers.append(context.Process(target=kswapd_worker.run, args=(asked,), name=f"kswapd{nid}", daemon=True))
    return workers


def _copy(arena: Arena, stream: Stream) -> tuple[int, int]:
    """Put a stream into the segment; its offset and length."""
    at = arena.allocate(len(stream) * OP_WORDS)
    arena.view(at, len(stream) * OP_WORDS)[:] = np.ascontiguousarray(stream).view(np.int64)
    return at, len(stream)


@contextmanager
def _started(arena: Arena, workers: list[Any]) -> Iterator[None]:
    """Start all workers; on every way out none is left."""
    try:
        try:
            for worker in workers:
                worker.start()
        except OSError as error:
            raise SetupError(
                f"cannot start {workers[0].name} to {workers[-1].name}: {error}",
                cause="Usually the limit of processes or open files is reached (ulimit -u, ulimit -n).",
                remedy="Raise it, or ask for fewer --cpus.",
            ) from None
        yield
    finally:
        arena.memory[HEADER.phase] = Phase.STOP
        for worker in workers:
            if worker.pid is not None:
                worker.kill()
                worker.join()


def _await_ready(arena: Arena, workers: list[Any], slots: list[int]) -> None:
    """Wait until every worker is attached and the setup is played."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while arena.memory[HEADER.ready] < len(workers):
        if time.monotonic() > deadline:
            raise _hung(arena, slots, f"the workers were not ready after {START_TIMEOUT_S:g} s")
        _raise_if_dead(arena, workers, slots)
        time.sleep(POLL_S / 10)


class _Progress:
    """Sums up how far the CPUs are."""

    def __init__(self, tell: Callable[[int, int], None], workload: Workload, slots: list[int]) -> None:
        self._tell = tell
        self._total = sum(len(stream) for stream in workload.streams)
        self._slots = slots[: workload.cpus]

    def look(self, arena: Arena) -> None:
        self._tell(sum(arena.memory[slot + CPU.ops_done] for slot in self._slots), self._total)


def _watch(arena: Arena, players: list[Any], slots: list[int], settings: RunSettings, progress: _Progress) -> None:
    """Wait until every stream is played, the time is up, or something is wrong."""
    began = time.monotonic()
    alive = list(players)
    while alive:
        connection.wait([worker.sentinel for worker in alive], timeout=POLL_S)
        progress.look(arena)
        _raise_if_dead(arena, alive, slots)
        alive = [worker for worker in alive if worker.exitcode is None]
        elapsed = time.monotonic() - began
        if alive and settings.seconds is not None and elapsed > settings.seconds:
            kernel.stop_all(arena.address)
        if alive and elapsed > settings.timeout + (settings.seconds or 0):
            raise _hung(arena, slots, f"the run did not end within {settings.timeout:g} s")


def _stop(arena: Arena, workers: list[Any]) -> None:
    """Let those that wait for work leave: the kswapds."""
    kernel.stop_all(arena.address)
    deadline = time.monotonic() + GRACE_S
    for worker in workers:
        worker.join(max(0.0, deadline - time.monotonic()))


def _hung(arena: Arena, slots: list[int], what: str) -> Inconclusive:
    report = "\n".join(stall.who_holds_and_who_waits(arena, slots))
    return Inconclusive(f"{what}:\n{report}", remedy="If it was only slow, allow more with --timeout.")


def _raise_if_dead(arena: Arena, workers: list[Any], slots: list[int]) -> None:
    """Raise for a worker that did not end of itself."""
    for worker in workers:
        code = worker.exitcode
        if code is None or code == 0:
            continue
        if code > 0:
            raise InternalError(f"{worker.name} (pid {worker.pid}) failed; its message is above")
        report = "\n".join(stall.who_holds_and_who_waits(arena, slots))
        killer = signal.Signals(-code).name
        raise Inconclusive(
            f"{worker.name} (pid {worker.pid}) was killed by {killer}; the run was stopped:\n{report}",
            cause="Usually somebody killed it, or the machine ran out of memory (dmesg tells).",
        )
