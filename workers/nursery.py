"""The process that forks the workers of a run in which workers are killed, and a successor for each that was.

It is compiled so that every access of a worker to the segment is logged (machine/journal.py), loads everything once
and maps the segment before it forks. Successors are forked before they are needed, and told then which slot they have.
They and the nursery have the right of way before workers that play: others may wait for what the dead one holds.
The nursery is the parent of all workers: a pid that it sends a signal to is that of its own child, dead or alive. It
sleeps on their lives (machine/life.py), whose ends the kernel tells before it takes a dead process's memory apart,
which takes longer than all the rest; and on a bell, rung by whoever has an order for it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

from shmreclaim.errors import ShmreclaimError
from shmreclaim.machine.arena import Arena
from shmreclaim.machine.atomics import clock_ns
from shmreclaim.machine.compile import compiled_nogil, entry_point
from shmreclaim.machine.cpu import CPU, LIFE_WORDS
from shmreclaim.machine.futex import ENOSYS
from shmreclaim.machine.journal import (
    BELL,
    JOURNAL,
    close_journal,
    open_journal,
    ring,
    rouse_all,
    sleep_any,
    take_over,
)
from shmreclaim.machine.life import FUTEX_OWNER_DIED, FUTEX_TID_MASK, FUTEX_WAITERS, begin_life
from shmreclaim.machine.sources import JOURNALED
from shmreclaim.workers import cpu, kswapd
from shmreclaim.workers.lifeline import die_with, follow_parent

FAILED = 5
"""Exit code of a worker that has told why."""
NICE = 10
"""How much workers that play leave to the nursery and to successors (nice(2))."""
HASTE_MS = 20
"""How long a successor has the right of way at least; it keeps it until it is where the dead one was."""

SPARES = 3
"""Processes that wait to be successors: forking one takes as long as several deaths may be apart."""


@compiled_nogil
def _sleep(mem: int, pairs: int, count: int, deadline: int) -> int:
    return sleep_any(mem, pairs, count, deadline)


ENTRY_POINTS = ((_sleep, 4), (rouse_all, 2))
"""What this process and its children call themselves, with the number of arguments."""


class Death(NamedTuple):
    """A worker was killed, and succeeded; what it had in hand."""

    worker: int
    died: int
    """When, ns on the clock."""
    went_on_before: int
    """When a successor was last where a dead one had been; earlier than the last death: it did not come so far."""
    op: int
    """Its operation, -1 between two."""
    locks: int
    """How many it held."""
    reading: bool
    """Whether a read section was open, of RCU or SRCU."""
    asleep: bool
    """Whether it waited for a lock, or for readers."""
    at: int
    """The number of the crash point that it killed itself at, 0 for none."""


class End(NamedTuple):
    """A worker ended by itself, or in a way that nobody can succeed: its exit code, negative for a signal."""

    worker: int
    code: int


class _Spare(NamedTuple):
    """A process that waits to be told which worker it is."""

    pid: int
    tell: int
    """The pipe's end for that."""


class _State(Enum):
    COMING = "told whose CPU it has; its life has not begun"
    LIVING = "its life has begun"
    GONE = "dead, and not succeeded"


@dataclass
class _Child:
    """A CPU's process, now this one, then that."""

    program: Any
    orders: Any
    journal: int
    pid: int = 0
    state: _State = _State.GONE
    hasty_until: int = 0
    """When the right of way may be taken back from it, ns on the clock; 0: it has none."""
    died: int = 0


def run(pipe: Any, segment: str, design: str, jobs: Sequence[tuple[str, Any]]) -> None:
    """Fork a worker for each job (the name of its program, its orders) and look after them until killed."""
    assert JOURNALED, "a nursery needs code that logs what it does"
    follow_parent()
    try:
        from shmreclaim import kernel
        from shmreclaim.workers.units import load_all

        kernel.bind_design(design)
        load_all(designs=())  # no other: a fork takes time for each page and mapping
        with Arena.attach(segment) as arena:
            _Nursery(arena, pipe, jobs).serve()
    except ShmreclaimError as error:
        pipe.send(error)
        sys.exit(error.exit_code)


class _Nursery:
    """All workers of a run."""

    def __init__(self, arena: Arena, pipe: Any, jobs: Sequence[tuple[str, Any]]) -> None:
        programs = {"cpu": cpu, "kswapd": kswapd}
        self._arena, self._pipe = arena, pipe
        self._children = [
            _Child(programs[name], orders, arena.memory[orders.slot + CPU.journal]) for name, orders in jobs
        ]
        self._bell = arena.memory[self._children[0].journal + JOURNAL.bell]
        self._sleep = entry_point(_sleep, 4)
        self._spares: list[_Spare] = []
        self._unreaped: dict[int, int] = {}
        """Pids of the dead, with whose process each was."""

    def serve(self) -> None:
        """Hear orders, and of deaths, until killed."""
        for k in range(len(self._children)):
            self._succeed(k)
        while True:
            seen = self._arena.memory[self._bell + BELL.rung]
            for k, child in enumerate(self._children):
                self._look_at(k, child)
            if len(self._spares) < SPARES:
                self._fork_spare()  # takes some milliseconds, so another look comes before the next
            else:
                self._reap()
                self._slow_down()
                self._wait(seen)

    def _look_at(self, k: int, child: _Child) -> None:
        memory = self._arena.memory
        life = memory[child.journal + JOURNAL.process] & (FUTEX_TID_MASK | FUTEX_OWNER_DIED)
        if child.state is _State.COMING and life:
            child.state = _State.LIVING
        if child.state is _State.LIVING and life & FUTEX_OWNER_DIED:
            self._bury(k, child)
        signum = memory[child.journal + JOURNAL.order]
        if signum and child.state is not _State.COMING:
            memory[child.journal + JOURNAL.order] = 0
            if child.state is _State.LIVING and not memory[child.journal + JOURNAL.overflowed]:
                self._send(child, signum)

    def _send(self, child: _Child, signum: int) -> None:
        """Send a signal. Who is killed dies at once, not when its turn comes, where that may be asked for."""
        with contextlib.suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, child.pid, 0)
        self._arena.memory[child.journal + JOURNAL.died] = clock_ns()
        os.kill(child.pid, signum)

    def _wait(self, seen: int) -> None:
        """Sleep until a life ends or the bell is rung; for HASTE_MS at most where somebody needs another look."""
        living = [child for child in self._children if child.state is _State.LIVING]
        lives = [(child.journal + JOURNAL.process, FUTEX_WAITERS | child.pid) for child in living]
        watched = [(self._bell + BELL.rung, seen), *lives]
        at = self._bell + BELL.watch
        for word, value in watched:
            self._arena.memory[at], self._arena.memory[at + 1] = word, value
            at += 2
        soon = self._unreaped or any(child.state is _State.COMING or child.hasty_until for child in self._children)
        deadline = clock_ns() + HASTE_MS * 1_000_000 if soon else 0
        outcome = self._sleep(self._arena.address, self._bell + BELL.watch, len(watched), deadline)
        if outcome == -ENOSYS:  # before Linux 5.16
            time.sleep(HASTE_MS / 1000)

    def _fork_spare(self) -> None:
        """Fork a worker that does not know yet which one it is."""
        theirs, ours = os.pipe()
        nursery, pid = os.getpid(), os.fork()
        if pid == 0:
            die_with(nursery)
            for tell in (ours, *(spare.tell for spare in self._spares)):
                os.close(tell)
            _play(self._arena, self._children, theirs)
        os.close(theirs)
        self._spares.append(_Spare(pid, ours))

    def _succeed(self, k: int) -> None:
        """Let a spare be worker k from now on. The dead one's mark goes first: what is found then is the new one's."""
        if not self._spares:
            self._fork_spare()
        child, spare = self._children[k], self._spares.pop(0)
        self._arena.view(child.journal + JOURNAL.process, LIFE_WORDS)[:] = 0
        os.write(spare.tell, bytes([k]))
        os.close(spare.tell)
        child.pid, child.state = spare.pid, _State.COMING
        child.hasty_until = clock_ns() + HASTE_MS * 1_000_000

    def _slow_down(self) -> None:
        """Take the right of way back from successors that have had it for long enough."""
        now = clock_ns()
        for child in self._children:
            due = 0 < child.hasty_until <= now and child.state is _State.LIVING
            if due and not self._is_repeating(child):
                child.hasty_until = 0
                os.setpriority(os.PRIO_PROCESS, child.pid, NICE)

    def _is_repeating(self, child: _Child) -> bool:
        memory = self._arena.memory
        return bool(memory[child.journal + JOURNAL.next] < memory[child.journal + JOURNAL.length])

    def _bury(self, k: int, child: _Child) -> None:
        """Let somebody go on for a worker whose life has ended; why it did is known when it is reaped."""
        self._unreaped[child.pid] = k
        child.state = _State.GONE
        if not cpu.has_ended(self._arena, child.orders.slot) and self._can_go_on(child):
            death = self._death(k, child)
            self._succeed(k)
            self._pipe.send(death)

    def _reap(self) -> None:
        """Hear why workers ended; whoever died before its life had begun is buried now."""
        for k, child in enumerate(self._children):
            if child.state is _State.COMING and os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                self._bury(k, child)
        for pid, k in list(self._unreaped.items()):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                del self._unreaped[pid]
                self._tell_end(k, os.waitstatus_to_exitcode(status))

    def _tell_end(self, k: int, code: int) -> None:
        child = self._children[k]
        ended = cpu.has_ended(self._arena, child.orders.slot)
        if code == -signal.SIGKILL and ended:
            code = 0
        if code != -signal.SIGKILL or (child.state is _State.GONE and not ended):
            self._pipe.send(End(k, code))

    def _can_go_on(self, child: _Child) -> bool:
        """Whether it was playing, and all that its unit did is in the journal."""
        overflowed = self._arena.memory[child.journal + JOURNAL.overflowed]
        return cpu.has_started(self._arena, child.orders.slot) and overflowed == 0

    def _death(self, k: int, child: _Child) -> Death:
        memory, slot = self._arena.memory, child.orders.slot
        if memory[child.journal + JOURNAL.died] == child.died:  # it was killed by somebody else
            memory[child.journal + JOURNAL.died] = clock_ns()
        child.died = memory[child.journal + JOURNAL.died]
        at, memory[child.journal + JOURNAL.died_at] = memory[child.journal + JOURNAL.died_at], 0
        return Death(
            worker=k,
            died=child.died,
            went_on_before=memory[child.journal + JOURNAL.went_on],
            op=memory[slot + CPU.op],
            locks=memory[slot + CPU.held_depth],
            reading=bool(memory[slot + CPU.rcu] or memory[slot + CPU.srcu]),
            asleep=bool(memory[slot + CPU.wait_for]),
            at=at,
        )


def _play(arena: Arena, children: Sequence[_Child], orders_from: int) -> None:
    """In a child: hear whose CPU to play, play it from the start or from where a dead one was; does not return."""
    code = FAILED
    try:
        told = os.read(orders_from, 1)
        if not told:
            os._exit(0)
        child = children[told[0]]
        program, orders = child.program, child.orders
        begin_life(arena.address + 8 * (child.journal + JOURNAL.process))
        ring(arena.address, arena.memory[child.journal + JOURNAL.bell])
        cpu.claim(arena, orders.slot, getattr(orders, "core", None))
        if not cpu.has_started(arena, orders.slot):
            program.get_ready(arena, orders)
            program.start(arena, orders)
            open_journal(arena, orders.slot)
        else:
            take_over(arena, orders.slot)
            open_journal(arena, orders.slot)
        program.play_on(arena, orders)
        close_journal()
        code = 0
    except BaseException:  # whatever it is, the nursery's part of this process must not be run
        traceback.print_exc()
    finally:
        os._exit(code)
