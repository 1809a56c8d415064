"""Processes that play CPUs over one segment: forked, waited for with a deadline, never left behind."""

import os
import time
from collections.abc import Callable
from typing import Any, Self

import multiprocess

from shmreclaim.machine.arena import Arena
from shmreclaim.machine.compile import entry_point, link
from shmreclaim.machine.cpu import CPU, make_cpus
from shmreclaim.machine.layout import HEADER, LINE
from shmreclaim.sync.lockdep import LOCK

PATIENCE = 30.0
"""Seconds after which a process that has not come back hangs; a loaded machine must not look like a hang."""

UNSET = -(1 << 62)


class HangError(AssertionError):
    """Something that had to happen did not; the message names who waits and for which word."""


class Crew:
    """A segment with CPU slots and the processes that play some of them.

    The test itself may play any CPU that no process plays, as long as it calls nothing that blocks.
    """

    def __init__(self, cpus: int, words: int = 4096) -> None:
        """Make the segment: `cpus` slots, and `words` words to `allocate`."""
        self.arena = Arena.create(HEADER.SIZE + cpus * CPU.SIZE + words + 2 * LINE)
        self.cpus = [0, *make_cpus(self.arena, cpus)]
        self.results = self.arena.allocate(cpus + 1)
        self._processes: dict[int, Any] = {}
        link("shmreclaim.sync.", "shmreclaim.machine.")

    def __enter__(self) -> Self:
        """Use as a context manager."""
        return self

    def __exit__(self, *exception: object) -> None:
        """End what still runs, remove the segment."""
        for process in self._processes.values():
            process.kill()
            process.join()
        self.arena.close()

    def word(self, i: int) -> int:
        """Read one word."""
        return int(self.arena.words[i])

    def lock(self, init: Callable[..., int], klass: int = 0) -> int:
        """Allocate a lock and make it free."""
        lock = self.arena.allocate(LOCK.SIZE)
        init(self.arena.address, lock, klass)
        return lock

    def call(self, function: Callable[..., int], *args: int) -> int:
        """Call a compiled function here and now."""
        return function(self.arena.address, *args)

    def start(self, number: int, function: Callable[..., int], *args: int) -> int:
        """Let a new process play CPU `number`: run `function(mem, cpu, *args)` and end; returns its pid."""
        entry = entry_point(function, 2 + len(args))
        return self.start_python(number, lambda mem, cpu: entry(mem, cpu, *args))

    def start_python(self, number: int, body: Callable[[int, int], int]) -> int:
        """Let a new process play CPU `number` by running `body(mem, cpu)` in the interpreter; returns its pid."""
        self.arena.memory[self.results + number] = UNSET

        def play() -> None:
            self.arena.memory[self.results + number] = body(self.arena.address, self.cpus[number])

        process = multiprocess.get_context("fork").Process(target=play, daemon=True)
        process.start()
        self._processes[number] = process
        return int(process.pid)

    def result(self, number: int, within: float = PATIENCE) -> int:
        """Wait until the process that plays CPU `number` is done and give what its function returned."""
        process = self._processes[number]
        process.join(within)
        if process.is_alive():
            raise HangError(f"CPU {number} has not come back after {within} s; {self.waiting()}")
        assert process.exitcode == 0, f"CPU {number} ended with exit code {process.exitcode}"
        del self._processes[number]
        return self.word(self.results + number)

    def forget(self, number: int) -> None:
        """Wait for a process that was killed."""
        process = self._processes.pop(number)
        process.join(PATIENCE)
        assert process.exitcode < 0, f"CPU {number} was not killed but ended with exit code {process.exitcode}"

    def finish(self, within: float = PATIENCE) -> dict[int, int]:
        """Wait for all processes; give what each returned, by CPU number."""
        end = time.monotonic() + within
        return {n: self.result(n, max(end - time.monotonic(), 0.01)) for n in sorted(self._processes)}

    def waiting(self) -> str:
        """Say who waits for what."""
        waits = [(n, self.word(cpu + CPU.wait_for)) for n, cpu in enumerate(self.cpus) if n]
        return "; ".join(f"CPU {n} waits for word {word}" for n, word in waits if word) or "nobody waits"

    def queue(self, lock: int) -> list[int]:
        """Numbers of the CPUs queued on a lock, first come first."""
        queued = [n for n in range(1, len(self.cpus)) if self.word(lock + LOCK.waiters) >> n & 1]
        return sorted(queued, key=lambda n: self.word(self.cpus[n] + CPU.ticket))

    def until_queued(self, lock: int, *numbers: int) -> None:
        """Wait until exactly these CPUs are queued on a lock, in this order."""
        until(lambda: self.queue(lock) == list(numbers), f"queue {list(numbers)} on {lock}, found {self.queue(lock)}")

    def until_word(self, i: int, value: int) -> None:
        """Wait until a word has a value."""
        until(lambda: self.word(i) == value, f"{value} in word {i}")

    def until_asleep_on(self, number: int, word: int) -> None:
        """Wait until the process that plays CPU `number` sleeps on a word that it waits for."""
        self.until_word(self.cpus[number] + CPU.wait_for, word)
        until_asleep(self._processes[number].pid)

    def violations(self) -> int:
        """How many violations all CPUs have noted."""
        return sum(self.word(cpu + CPU.nr_violations) for cpu in self.cpus if cpu)


def until(condition: Callable[[], bool], what: str, within: float = PATIENCE) -> None:
    """Let others run until a condition holds; raises HangError after `within` seconds."""
    end = time.monotonic() + within
    while not condition():
        if time.monotonic() > end:
            raise HangError(f"waited {within} s for: {what}")
        os.sched_yield()


def until_asleep(pid: int) -> None:
    """Wait until a process sleeps in the kernel."""
    until(lambda: state_of(pid) == b"S", f"process {pid} to sleep")


def state_of(pid: int) -> bytes:
    """What a process does, as a letter: proc_pid_stat(5)."""
    with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - read at every turn
        return file.read().rpartition(b")")[2].split()[0]
