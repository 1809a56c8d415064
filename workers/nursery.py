"""The process that forks the workers of a run in which workers are killed, and a successor for each that was.

It is compiled so that every access of a worker to the segment is logged (machine/journal.py), loads everything once
and maps the segment before it forks. A successor is forked before it is needed, and told then which slot it has. It
and the nursery have the right of way before workers that play: others may wait for what the dead one holds.
The nursery is the parent of all workers: a pid that it sends a signal to is that of its own child, dead or alive.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from shmreclaim.errors import ShmreclaimError
from shmreclaim.machine.arena import Arena
from shmreclaim.machine.atomics import clock_ns
from shmreclaim.machine.cpu import CPU
from shmreclaim.machine.journal import JOURNAL, close_journal, open_journal, take_over
from shmreclaim.machine.sources import JOURNALED
from shmreclaim.workers import cpu, kswapd
from shmreclaim.workers.lifeline import die_with, follow_parent

FAILED = 5
"""Exit code of a worker that has told why."""
NICE = 5
"""How much workers that play leave to the nursery and to successors (nice(2))."""
HASTE_MS = 20
"""How long a successor has the right of way."""


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


class End(NamedTuple):
    """A worker ended by itself, or in a way that nobody can succeed: its exit code, negative for a signal."""

    worker: int
    code: int


class Order(NamedTuple):
    """Send a worker a signal."""

    worker: int
    signum: int


@dataclass
class _Child:
    program: Any
    orders: Any
    pid: int = 0
    died: int = 0
    fd: int = field(default=-1, compare=False)


def run(pipe: Any, segment: str, design: str, jobs: Sequence[tuple[str, Any]]) -> None:
    """Fork a worker for each job (the name of its program, its orders) and look after them until told to end."""
    assert JOURNALED, "a nursery needs code that logs what it does"
    follow_parent()
    try:
        from shmreclaim import kernel
        from shmreclaim.workers.units import load_all

        load_all()
        kernel.bind_design(design)
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
        self._children = [_Child(programs[name], orders) for name, orders in jobs]
        self._poll = select.poll()
        self._by_fd: dict[int, int] = {}
        self._spare, self._tell_spare = 0, -1
        self._hasty: list[_Child] = []

    def serve(self) -> None:
        """Until the pipe is closed: hear orders, and of deaths."""
        self._fork_spare()
        for k in range(len(self._children)):
            self._succeed(k)
        self._poll.register(self._pipe.fileno(), select.POLLIN)
        while True:
            ready = self._poll.poll(HASTE_MS if self._hasty else None)
            for fd, _ in ready:
                if fd in self._by_fd:
                    self._bury(self._by_fd[fd])
                elif not self._obey():
                    return
            if not ready:
                self._slow_down()

    def _obey(self) -> bool:
        """Carry an order out; False where there will be none any more."""
        try:
            order: Order = self._pipe.recv()
        except EOFError:
            return False
        child = self._children[order.worker]
        if child.pid:
            if order.signum == signal.SIGKILL:
                self._journal(child, JOURNAL.died, clock_ns())
            os.kill(child.pid, order.signum)
        return True

    def _journal(self, child: _Child, at: int, value: int) -> None:
        memory = self._arena.memory
        memory[memory[child.orders.slot + CPU.journal] + at] = value

    def _fork_spare(self) -> None:
        """Fork a worker that does not know yet which one it is."""
        theirs, self._tell_spare = os.pipe()
        nursery, self._spare = os.getpid(), os.fork()
        if self._spare == 0:
            die_with(nursery)
            os.close(self._tell_spare)
            _play(self._arena, self._children, theirs)
        os.close(theirs)

    def _succeed(self, k: int) -> None:
        """Let the spare be worker k from now on, and fork another."""
        child = self._children[k]
        os.write(self._tell_spare, bytes([k]))
        os.close(self._tell_spare)
        child.pid, child.fd = self._spare, os.pidfd_open(self._spare)
        self._by_fd[child.fd] = k
        self._poll.register(child.fd, select.POLLIN)
        self._hasty.append(child)
        self._fork_spare()

    def _slow_down(self) -> None:
        """Take the right of way back from successors that have had it for long enough."""
        for child in self._hasty:
            if child.pid:
                os.setpriority(os.PRIO_PROCESS, child.pid, NICE)
        self._hasty.clear()

    def _bury(self, k: int) -> None:
        """Take note of an end; if somebody killed it in the middle, fork a successor."""
        child = self._children[k]
        _, status = os.waitpid(child.pid, 0)
        self._poll.unregister(child.fd)
        del self._by_fd[child.fd]
        os.close(child.fd)
        child.pid, code = 0, os.waitstatus_to_exitcode(status)
        if code == -signal.SIGKILL and not cpu.has_ended(self._arena, child.orders.slot) and self._can_go_on(child):
            death = self._death(k)
            self._succeed(k)
            self._pipe.send(death)
        else:
            ended = code == -signal.SIGKILL and cpu.has_ended(self._arena, child.orders.slot)
            self._pipe.send(End(k, 0 if ended else code))

    def _can_go_on(self, child: _Child) -> bool:
        """Whether it was playing, and all that its unit did is in the journal."""
        memory = self._arena.memory
        journal = memory[child.orders.slot + CPU.journal]
        return cpu.has_started(self._arena, child.orders.slot) and memory[journal + JOURNAL.overflowed] == 0

    def _death(self, k: int) -> Death:
        memory, child, slot = self._arena.memory, self._children[k], self._children[k].orders.slot
        journal = memory[slot + CPU.journal]
        if memory[journal + JOURNAL.died] == child.died:  # it was killed by somebody else
            memory[journal + JOURNAL.died] = clock_ns()
        child.died = memory[journal + JOURNAL.died]
        return Death(
            worker=k,
            died=child.died,
            went_on_before=memory[journal + JOURNAL.went_on],
            op=memory[slot + CPU.op],
            locks=memory[slot + CPU.held_depth],
            reading=bool(memory[slot + CPU.rcu] or memory[slot + CPU.srcu]),
            asleep=bool(memory[slot + CPU.wait_for]),
        )


def _play(arena: Arena, children: Sequence[_Child], orders_from: int) -> None:
    """In a child: hear whose CPU to play, play it from the start or from where a dead one was; does not return."""
    code = FAILED
    try:
        told = os.read(orders_from, 1)
        if not told:
            os._exit(0)
        program, orders = children[told[0]].program, children[told[0]].orders
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
