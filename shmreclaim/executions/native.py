"""Native execution: one process for each CPU, all over one segment, in true parallel.

A run: create and boot a segment, start the workers, let them attach and wait, play the setup on one of them,
release all at once, watch, check the oracles, gather the figures. Whatever ends it, no process and no
segment stays behind: `run` kills what is left of its workers and removes its segment on every way out.
"""

from __future__ import annotations

import functools
import mmap
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import multiprocess
import numpy as np
from multiprocess import connection

from shmreclaim import kernel
from shmreclaim.designs import NAMES
from shmreclaim.errors import Inconclusive, InternalError, SetupError
from shmreclaim.executions import admission, autopsy, collect, oracles, truncation
from shmreclaim.executions.crew import POLL_S, Crew, Job, WorkerCrashError, death
from shmreclaim.executions.interpreted import DesignError
from shmreclaim.executions.nursed import NursedCrew
from shmreclaim.machine.arena import Arena
from shmreclaim.machine.cpu import CPU
from shmreclaim.machine.journal import journal_words, make_journals
from shmreclaim.machine.layout import LINE, round_up
from shmreclaim.machine.op_log import LOGGED, give_log
from shmreclaim.machine.process import cores
from shmreclaim.machine.sources import build_of_children
from shmreclaim.mm.boot import Machine, boot, init_design
from shmreclaim.plugins import Design, is_plugin
from shmreclaim.ranges import expect_number
from shmreclaim.result import RunRecord
from shmreclaim.signals import held_signals
from shmreclaim.switches import parse_variant
from shmreclaim.workers import cpu as cpu_worker
from shmreclaim.workers import kswapd as kswapd_worker
from shmreclaim.workers import units
from shmreclaim.workers.lifeline import start
from shmreclaim.workload.ops import OP_DTYPE, Op, Stream, Workload

OP_WORDS = OP_DTYPE.itemsize // 8
JOURNAL_ROOM = 1 << 20
"""Accesses of one operation that can be repeated by another process."""
SPEEDS = (0.001, 1e9)
"""Workers count speed in thousandths."""


class Killer(Protocol):
    """Who kills workers: asked again and again while a run goes on."""

    def begin(self, crew: NursedCrew) -> None:
        """All workers wait for the start."""

    def act(self, crew: NursedCrew) -> float:
        """Kill whom it wants to, now; seconds after which it wants to be asked again."""


@dataclass(frozen=True)
class Rounds:
    """Streams that are played in rounds, with rests (executions/stress.py)."""

    limit: int
    """Operations of each CPU; 0 for as many as there is time for."""
    mutant: str = ""
    """What is broken in the workers."""


@dataclass(frozen=True)
class RunSettings:
    """How to play a workload; times in seconds."""

    speed: float | None = None
    """How much faster than planned; None for closed loop."""
    seconds: float | None = None
    """When to stop, finished or not; None to play everything."""
    timeout: float = 60.0
    """How much longer than it has to a run may take before it counts as hung."""
    log_ops: tuple[Op, ...] = ()
    """Operations of which each is written down by itself, with its time and what was counted meanwhile."""
    kills: Killer | None = None
    """Who kills workers while the run goes on; then each access of a worker to the segment is logged."""
    rounds: Rounds | None = None
    """Where given, streams are played again and again."""

    def __post_init__(self) -> None:
        """Refuse what a worker could not keep to."""
        expect_number("speed", self.speed, *SPEEDS)


def prepare(progress: Callable[[int, int], None], *, journaled: bool = False) -> None:
    """Compile everything, on two processes, unless the cache has it; `progress` hears (done, of how many).

    `journaled`: so that every access to the segment is logged, as it is for workers that are killed.
    """
    with held_signals() as take_signals:
        if units.is_cached(journaled=journaled):
            return
        compilers: dict[Any, Any] = {}
        try:
            with build_of_children(journaled=journaled):
                _start_compilers(compilers)
            _follow_compilers(compilers, progress, take_signals)
        finally:
            for compiler in compilers.values():
                compiler.kill()
                compiler.join()
        units.note_cached(journaled=journaled)


def _start_compilers(compilers: dict[Any, Any]) -> None:
    """Start as many as make sense, into `compilers`: processes by the connections that they report on."""
    context = multiprocess.get_context("spawn")
    parts = min(2, len(cores()))
    try:
        for part in range(parts):
            receiver, sender = context.Pipe(duplex=False)
            with sender:
                compiler = context.Process(target=units.compile_part, args=(part, parts, sender), daemon=True)
                start(compiler)
            compilers[receiver] = compiler
    except OSError as error:
        raise SetupError(
            f"cannot start a process that compiles: {error}",
            cause="Usually the limit of processes or open files is reached (ulimit -u, ulimit -n).",
        ) from None


def _follow_compilers(
    compilers: dict[Any, Any], progress: Callable[[int, int], None], take_signals: Callable[[], None]
) -> None:
    total, done = len(units.units()), 0
    busy = set(compilers)
    while busy:
        for pipe in connection.wait(busy, timeout=POLL_S):
            try:
                news = pipe.recv()
            except (EOFError, OSError):
                raise _compiler_failed(compilers[pipe]) from None
            if news == 0:
                busy.remove(pipe)
            else:
                done += news
                progress(done, total)
        take_signals()


def _compiler_failed(compiler: Any) -> Exception:
    compiler.join()
    code = compiler.exitcode
    if code < 0:
        return Inconclusive(
            f"a process that compiles (pid {compiler.pid}) {death(code)}",
            cause="Usually somebody killed it, or the machine ran out of memory (dmesg tells).",
            remedy="Try again: what was compiled is kept.",
        )
    return InternalError("a process that compiles ended early", remedy="Its message is above.")


def run(workload: Workload, design: str, settings: RunSettings, progress: Callable[[int, int], None]) -> RunRecord:
    """Play a workload under a design; `progress` hears how many operations of how many are done.

    Raises Inconclusive if it hangs or a worker is killed, SetupError if the machine refuses something. Broken
    invariants are in the record.
    """
    with held_signals() as take_signals:
        bind(design)
        return _run(workload, design, settings, progress, take_signals)


def bind(design: str) -> None:
    """Bind a design in the process that starts the workers.

    One of somebody else is compiled here, once, for all the workers to find in the cache; `admit` did that for a
    user's file.
    """
    kernel.bind_design(design, compiled=design.partition("+")[0] not in NAMES and not is_plugin(design))


class Progress(admission.Progress, Protocol):
    """Who is told how far a run is, and what is done where a user's file crashed it."""

    def advanced(self, done: int, total: int) -> None:
        """`done` of `total` operations are done."""


def run_design(workload: Workload, design: Design, settings: RunSettings, progress: Progress) -> RunRecord:
    """As `run`, for a built-in design or a user's, which raises ModelViolation where its file crashes a worker."""
    try:
        return run(workload, design.module, settings, progress.advanced)
    except WorkerCrashError as crash:
        if not design.path:
            raise
        tell = functools.partial(progress.admitting, design.name)
        raise autopsy.verdict(design, crash.what, _look_for_line(workload, design, tell)) from None


def _look_for_line(workload: Workload, design: Design, tell: Callable[[str], None]) -> DesignError | None:
    """What an autopsy finds; nothing if it cannot be made: the design's fault must not become the machine's."""
    try:
        found = admission.answer_of(autopsy.repeat, (design, workload, machine_for(workload)), tell)
    except (InternalError, SetupError):
        return None
    return None if found is None else DesignError(*found)


def _run(
    workload: Workload,
    design: str,
    settings: RunSettings,
    progress: Callable[[int, int], None],
    take_signals: Callable[[], None],
) -> RunRecord:
    machine = machine_for(workload, settings)
    with Arena.create(machine.words()) as arena, truncation.said_at_once(arena):
        slots = boot_for(arena, machine, design, settings)
        for slot, stream in zip(slots, workload.streams, strict=False):
            give_log(arena, slot, sum(1 << op for op in settings.log_ops), _logged(stream, settings))
        jobs = jobs_of(arena, workload, design, settings, slots)
        with crew_of(settings, design)(arena, slots, jobs, take_signals) as crew:
            crew.await_ready(settings.timeout)
            if settings.kills is not None and isinstance(crew, NursedCrew):
                settings.kills.begin(crew)
            kernel.start_all(arena.address)
            _watch(crew, arena, workload, settings, _Progress(progress, arena, workload, slots))
            crew.stop()
        checked, violations = oracles.check_at_rest(arena, slots)
        return collect.gather(arena, slots[: workload.cpus], slots, checked, violations)


def boot_for(arena: Arena, machine: Machine, design: str, settings: RunSettings) -> list[int]:
    """Bring a kernel up in a new arena, with a design, and what the settings need; the CPU slots."""
    slots = boot(arena, machine)
    init_design(arena, parse_variant(design), slots[0])
    if settings.kills is not None:
        make_journals(arena, slots, JOURNAL_ROOM)
    return slots


def crew_of(settings: RunSettings, design: str) -> Callable[..., Crew]:
    """Who looks after the workers."""
    return Crew if settings.kills is None else functools.partial(NursedCrew, design=design)


def segment_bytes(workload: Workload, settings: RunSettings) -> int:
    """Shared memory that a run takes."""
    return round_up(machine_for(workload, settings).words() * 8, mmap.PAGESIZE)


def _logged(stream: Stream, settings: RunSettings | None) -> int:
    """How many operations of a stream are logged."""
    return int(np.isin(stream["op"], settings.log_ops).sum()) if settings else 0


def machine_for(workload: Workload, settings: RunSettings | None = None) -> Machine:
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
        extra_words=sum(
            len(stream) * OP_WORDS + LINE + _logged(stream, settings) * LOGGED.SIZE + LINE for stream in streams
        )
        + (journal_words(workload.cpus + workload.nodes, JOURNAL_ROOM) if settings and settings.kills else 0),
    )


def _most_memcgs(streams: list[Stream]) -> int:
    """Memcgs that can be online at a time: each CPU's own peak, all together."""
    most = 0
    for stream in streams:
        change = (stream["op"] == Op.MEMCG_ONLINE).astype(np.int64) - (stream["op"] == Op.MEMCG_OFFLINE)
        most += max(0, int(np.cumsum(change).max(initial=0)))
    return most


def jobs_of(arena: Arena, workload: Workload, design: str, settings: RunSettings, slots: list[int]) -> list[Job]:
    """A job for each CPU, then one for each node's kswapd; their streams go into the segment."""
    available, rounds = cores(), settings.rounds
    jobs = []
    for k, stream in enumerate(workload.streams):
        orders = cpu_worker.Orders(
            segment=arena.name,
            slot=slots[k],
            design=design,
            core=available[k % len(available)],
            setup=_copy(arena, workload.setup) if k == 0 else (0, 0),
            stream=_copy(arena, stream),
            speed=round(settings.speed * 1000) if settings.speed else 0,
            limit=rounds.limit if rounds else None,
            mutant=rounds.mutant if rounds else "",
        )
        jobs.append(Job(f"CPU {k}", cpu_worker.run, orders))
    for nid in range(workload.nodes):
        slot = slots[workload.cpus + nid]
        asked = kswapd_worker.Orders(arena.name, slot, design, nid, rounds.mutant if rounds else "")
        jobs.append(Job(f"kswapd{nid}", kswapd_worker.run, asked))
    return jobs


def _copy(arena: Arena, stream: Stream) -> tuple[int, int]:
    """Put a stream into the segment; its offset and length."""
    at = arena.allocate(len(stream) * OP_WORDS)
    arena.view(at, len(stream) * OP_WORDS)[:] = np.ascontiguousarray(stream).view(np.int64)
    return at, len(stream)


class _Progress:
    """Sums up how far the CPUs are."""

    def __init__(self, tell: Callable[[int, int], None], arena: Arena, workload: Workload, slots: list[int]) -> None:
        self._tell = tell
        self._memory = arena.memory
        self._total = sum(len(stream) for stream in workload.streams)
        self._slots = slots[: workload.cpus]

    def look(self) -> None:
        self._tell(sum(self._memory[slot + CPU.ops_done] for slot in self._slots), self._total)


def _watch(crew: Crew, arena: Arena, workload: Workload, settings: RunSettings, progress: _Progress) -> None:
    """Wait until every stream is played, the time is up, or something is wrong."""
    began = time.monotonic()
    seconds = float("inf") if settings.seconds is None else settings.seconds
    paced = min(seconds, _planned_s(workload, settings))
    allowed = settings.timeout + (0 if paced == float("inf") else paced)
    poll_s = POLL_S
    while any(k < workload.cpus for k in crew.wait(poll_s)):
        progress.look()
        if settings.kills is not None and isinstance(crew, NursedCrew):
            poll_s = settings.kills.act(crew)
        elapsed = time.monotonic() - began
        if elapsed > seconds:
            kernel.stop_all(arena.address)
        if elapsed > allowed:
            raise crew.hung(f"the run did not end within {allowed:g} s")
    progress.look()


def _planned_s(workload: Workload, settings: RunSettings) -> float:
    """How long a run takes that keeps to its planned times; infinite for one that does not."""
    if settings.speed is None:
        return float("inf")
    last_ns = max(int(stream["when"].max(initial=0)) for stream in workload.streams)
    return last_ns / 1e9 / settings.speed
