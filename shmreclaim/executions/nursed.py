"""The workers of a run in which workers are killed: their parent is a nursery, which forks a successor for each.

See workers/nursery.py. What a `Crew` is to a run of workers that nobody kills, this is to one of workers that somebody
does; whom and when is the caller's business (`kill`).
"""

from __future__ import annotations

import signal
from typing import Any, NamedTuple

import multiprocess
from multiprocess import connection

from shmreclaim import kernel
from shmreclaim.errors import Inconclusive, InternalError, ShmreclaimError
from shmreclaim.executions.crew import Crew
from shmreclaim.machine.cpu import CPU, CpuState
from shmreclaim.machine.journal import BELL, ENTRY_WORDS, JOURNAL, KINDS, TRAPS, ring
from shmreclaim.machine.sources import build_of_children
from shmreclaim.workers import nursery
from shmreclaim.workers.lifeline import start
from shmreclaim.workload.ops import Op


class Recovery(NamedTuple):
    """A worker was killed and another went on."""

    death: nursery.Death
    ns: int
    """From the kill until the successor was where the dead one had been."""

    @property
    def kind(self) -> str:
        """The operation that it happened in."""
        return Op(self.death.op).label if self.death.op >= 0 else "between operations"


class NursedCrew(Crew):
    """A context manager: the workers of a run, `jobs[k]` on `slots[k]`, each with as many lives as it needs."""

    def __init__(self, *arguments: Any, design: str) -> None:
        """As a Crew; `design` is what they play."""
        super().__init__(*arguments)
        self._design = design
        self._pipe: Any = None
        self.nursery: Any = None
        self._left = set(range(len(self._jobs)))
        self._dead: dict[int, list[nursery.Death]] = {}
        """Of whom nobody has been seen to go on for yet; more than one where a successor was killed on its way."""
        self.deaths = 0
        self.size = len(self._jobs)
        self.recoveries: list[Recovery] = []

    def __exit__(self, *exception: object) -> None:
        """End the nursery, and with it all workers."""
        kernel.stop_all(self._arena.address)
        if self.nursery is not None:
            self.nursery.kill()
            self.nursery.join()
            self.nursery.close()
        if self._pipe is not None:
            self._pipe.close()

    def _start_all(self) -> None:
        context = multiprocess.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        jobs = [(job.target.__module__.rpartition(".")[2], job.orders) for job in self._jobs]
        with theirs:
            arguments = (theirs, self._arena.name, self._design, jobs)
            self.nursery = context.Process(target=nursery.run, args=arguments, name="nursery", daemon=True)
            try:
                with build_of_children(journaled=True):
                    start(self.nursery)
            except OSError as error:
                raise self.cannot_start("the process that starts workers", str(error)) from None

    def kill(self, k: int) -> bool:
        """Kill worker k with SIGKILL, if it plays, and nobody is on his way to go on for it; whether."""
        return self._may_die(k) and self.order(k, signal.SIGKILL)

    def light_fuse(self, k: int, points: int) -> bool:
        """Let worker k kill itself after so many points (machine/journal.py), under the same conditions; whether."""
        if not self._may_die(k):
            return False
        self._arena.memory[self._arena.memory[self._slots[k] + CPU.journal] + JOURNAL.fuse] = points
        return True

    def set_trap(self, number: int) -> None:
        """Let whoever comes by that crash point first kill itself; in place of another one now and then."""
        self._arena.memory[self._bell() + BELL.traps + number % TRAPS] = number

    def limit_lives(self, k: int, points: int) -> None:
        """Let each process that plays CPU k from now on kill itself after so many points."""
        self._arena.memory[self._arena.memory[self._slots[k] + CPU.journal] + JOURNAL.life] = points

    def told(self, field: str) -> int:
        """The sum of a field of all journals."""
        memory = self._arena.memory
        return sum(memory[memory[slot + CPU.journal] + getattr(JOURNAL, field)] for slot in self._slots)

    def pids(self) -> list[int]:
        """Of those that play and are not being succeeded."""
        return [self._arena.memory[self._slots[k] + CPU.pid] for k in sorted(self._left) if self._may_die(k)]

    def _may_die(self, k: int) -> bool:
        playing = self._arena.memory[self._slots[k] + CPU.state] == CpuState.RUNNING
        return playing and k in self._left and k not in self._dead

    def order(self, k: int, signum: int) -> bool:
        """Let the nursery send worker k a signal, unless one is to be sent already; whether."""
        memory = self._arena.memory
        journal = memory[self._slots[k] + CPU.journal]
        if memory[journal + JOURNAL.order]:
            return False
        memory[journal + JOURNAL.order] = signum
        ring(self._arena.address, self._bell())
        return True

    def _bell(self) -> int:
        memory = self._arena.memory
        return memory[memory[self._slots[0] + CPU.journal] + JOURNAL.bell]

    def wait(self, seconds: float) -> list[int]:
        """Wait until something happens, or so long; gives which are left, and raises for one that failed."""
        connection.wait([self._pipe, self.nursery.sentinel], timeout=seconds)
        self._take_signals()
        try:
            while self._pipe.poll():
                self._hear(self._pipe.recv())
        except (EOFError, OSError):
            raise self._killed("the process that starts workers went away") from None
        self._look_who_went_on()
        return sorted(self._left)

    def _hear(self, news: Any) -> None:
        if isinstance(news, ShmreclaimError):
            raise news
        if isinstance(news, nursery.Death):
            self._went_on(news.worker, news.went_on_before)
            self._dead.setdefault(news.worker, []).append(news)
            self.deaths += 1
        elif news.code == 0:
            self._left.discard(news.worker)
        else:
            raise self._end(news)

    def _end(self, end: nursery.End) -> ShmreclaimError:
        memory = self._arena.memory
        journal = memory[self._slots[end.worker] + CPU.journal]
        name = self._jobs[end.worker].name
        if memory[journal + JOURNAL.overflowed]:
            return Inconclusive(
                f"{name} was killed in an operation of more than {memory[journal + JOURNAL.room]} accesses to memory, "
                "which cannot be repeated",
                remedy="Use a scenario with smaller operations.",
            )
        if memory[journal + JOURNAL.astray]:
            at = memory[journal + JOURNAL.astray] - 1
            entry = memory[journal + JOURNAL.entries + at * ENTRY_WORDS]
            wanted = memory[journal + JOURNAL.astray_wanted]
            return InternalError(
                f"{name} could not be repeated after a kill: access {at} of {memory[journal + JOURNAL.length]} was "
                f"{KINDS[entry % 8]} of word {entry >> 3}, now {KINDS[wanted % 8]} of word {wanted >> 3}"
            )
        return self.failure(name, 0, end.code)

    def _look_who_went_on(self) -> None:
        memory = self._arena.memory
        for k in list(self._dead):
            self._went_on(k, memory[memory[self._slots[k] + CPU.journal] + JOURNAL.went_on])

    def _went_on(self, k: int, when: int) -> None:
        """Somebody was where the dead of a slot had been, if that was after the last of them died."""
        deaths = self._dead.get(k, [])
        if deaths and when > deaths[-1].died:
            self.recoveries += [Recovery(death, when - death.died) for death in deaths]
            del self._dead[k]
