"""What benchmarks share: subjects that take turns, medians with their spread, fits, a kernel booted in this process.

Subjects take turns (A B C, C B A, ...), so that a machine that slows down half way slows all of them, and the order
within a round favours none. A figure is the median of its samples with their median absolute deviation (MAD): one
sample that was disturbed moves neither.
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np

from shmreclaim import kernel
from shmreclaim.executions import native, oracles
from shmreclaim.machine.arena import Arena
from shmreclaim.machine.compile import compiled, link
from shmreclaim.machine.layout import HEADER
from shmreclaim.machine.process import machine_description
from shmreclaim.machine.upcall import upcall
from shmreclaim.mm.boot import Machine, boot
from shmreclaim.mm.state import MM, Upcall

Key = TypeVar("Key", bound=Hashable)

FLAT_WITHIN = 1.5
"""A cost that grows by less than this over the whole range counts as flat."""
LINEAR_WITHIN = 1 / 3
"""A cost counts as linear if no point is further than this, of its own value, from the line."""
WORDS_OF_A_PAGE = 512


class Figure(NamedTuple):
    """The median of the samples of one subject, and their median absolute deviation."""

    median: float
    mad: float

    @classmethod
    def of(cls, samples: Sequence[float]) -> Self:
        """Sum up samples."""
        median = statistics.median(samples)
        return cls(median, statistics.median(abs(sample - median) for sample in samples))


def turns(keys: Collection[Key], repeats: int, warm_up: int = 1) -> Iterator[tuple[Key, bool]]:
    """Name who is to be sampled next, and whether that counts: in rounds, `warm_up` of them before those that do."""
    order = list(keys)
    for turn in range(-warm_up, repeats):
        yield from ((key, turn >= 0) for key in (reversed(order) if turn % 2 else order))


def take_turns(subjects: Mapping[Key, Callable[[], float]], repeats: int) -> dict[Key, Figure]:
    """Sample every subject `repeats` times, in turns."""
    samples: dict[Key, list[float]] = {key: [] for key in subjects}
    for key, counts in turns(subjects, repeats):
        sample = subjects[key]()
        if counts:
            samples[key].append(sample)
    return {key: Figure.of(values) for key, values in samples.items()}


def settled(sample: Callable[[int], float], least_ns: float) -> Callable[[], float]:
    """Make a subject of a loop: `sample(count)` takes ns for `count` turns of it; ns a turn, over at least `least_ns`.

    How many turns that takes is found out here, in a first run that does not count.
    """
    count = 1
    while (took := sample(count)) < least_ns / 2:
        count *= max(2, min(16, round(least_ns / max(took, 1.0))))
    return lambda: sample(count) / count


# --- how a cost grows ------------------------------------------------------------------------------


class Fit(NamedTuple):
    """The line through some points, each weighted by its own size, and what kind of growth that is."""

    fixed: float
    each: float
    off: float
    """How far the worst point is from the line, as a part of its own value."""
    growth: float
    """The cost at the largest size over that at the smallest."""
    verdict: str


def fit(points: Mapping[int, float]) -> Fit:
    """Fit cost = fixed + each * size to costs by size, and judge it: flat, linear or neither."""
    sizes, costs = np.array(list(points), float), np.array(list(points.values()))
    line, *_ = np.linalg.lstsq(np.stack([1 / costs, sizes / costs], axis=1), np.ones(len(costs)), rcond=None)
    off = float(np.abs((line[0] + line[1] * sizes) / costs - 1).max())
    growth = float(costs[-1] / costs[0])
    if growth < FLAT_WITHIN:
        verdict = "flat"
    else:
        verdict = "linear" if off < LINEAR_WITHIN else "neither flat nor linear"
    return Fit(float(line[0]), float(line[1]), off, growth, verdict)


# --- a kernel in this process ----------------------------------------------------------------------


@compiled
def mkdir_many(mem: Any, cpu: int, count: int) -> int:
    """Bring memcgs 1 to `count` online below the root; 0, or what went wrong."""
    outcome = 0
    for handle in range(count):
        if outcome == 0:
            outcome = kernel.op_memcg_online(mem, cpu, handle + 1, 0, 0)
    return outcome


@compiled
def mount_many(mem: Any, cpu: int, first: int, count: int) -> int:
    """Mount `count` superblocks, of handles from `first` on; 0, or what went wrong."""
    outcome = 0
    for handle in range(count):
        if outcome == 0:
            outcome = kernel.op_register(mem, cpu, first + handle, 1, 0)
        kernel.quiescent(mem, cpu)
    return outcome


class Emulated:
    """An emulated kernel of one CPU and one node under a design; use as a context manager.

    Its segment loses its name at once, so that nothing is left in /dev/shm however the process ends, and every page
    of it is touched, so that no page fault is measured.
    """

    bound = ""
    """The design that the upcalls of this process run now."""

    def __init__(self, design: str, *, memcgs: int, mounts: int, spare_mounts: int = 0) -> None:
        """Boot it, with so many memcgs below the root (handles from 1 on) and mounts (handles from 0 on)."""
        # A superblock takes half a page, and its two list_lrus 64 bytes for each memcg.
        pages = 2048 + (mounts + spare_mounts) * (1 + memcgs // 64)
        machine = Machine(
            cpus=1,
            nodes=1,
            pages_per_node=pages,
            watermark_min=16,
            watermark_low=20,
            watermark_high=24,
            max_memcgs=memcgs,
            memcg_handles=memcgs + 1,
            shrinker_handles=mounts + spare_mounts,
            extra_words=kernel.OP.SIZE + 8,
        )
        self.design = design
        self.arena = Arena.create(machine.words())
        self.arena.remove()
        self.arena.words[::WORDS_OF_A_PAGE] += 0
        (self.cpu,) = boot(self.arena, machine)
        self.op = self.arena.allocate(kernel.OP.SIZE)
        self.mem = self.arena.address
        self.bind()
        upcall(Upcall.INIT, self.arena.memory, self.cpu, 0, 0, 0, 0)
        self.must(mkdir_many(self.mem, self.cpu, memcgs), f"bringing {memcgs} memcgs online")
        self.must(mount_many(self.mem, self.cpu, 0, mounts), f"mounting {mounts} superblocks")

    def bind(self) -> None:
        """Make the upcalls of this process those of this kernel's design; before each use, where kernels take turns."""
        if Emulated.bound != self.design:
            kernel.bind_design(self.design)
            Emulated.bound = self.design

    def must(self, outcome: int, what: str) -> None:
        """Stop with a message unless an outcome is 0."""
        if outcome != 0:
            raise SystemExit(f"{self.design}: {what} ended with {outcome}")

    def memcg(self, handle: int) -> int:
        """The memcg of a handle; 0 is the root."""
        memory = self.arena.memory
        return memory[memory[memory[HEADER.kernel] + MM.memcg_table] + handle]

    def check(self) -> None:
        """Stop with a message if an invariant is broken: then no figure means anything."""
        _, violations = oracles.check_at_rest(self.arena, [self.cpu])
        if violations:
            raise SystemExit(f"{self.design}: invariants broken: " + "; ".join(violations))

    def close(self) -> None:
        """Give its memory back."""
        self.arena.close()

    def __enter__(self) -> Self:
        """Use as a context manager."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close."""
        self.close()


# --- the command line ------------------------------------------------------------------------------


def arguments(description: str) -> argparse.ArgumentParser:
    """Make a parser with the two options that every benchmark has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON instead of tables")
    parser.add_argument("--quick", action="store_true", help="fewer repeats: to see that it works, not to be quoted")
    return parser


def say(line: str) -> None:
    """Tell whoever waits how far it is."""
    print(line, file=sys.stderr, flush=True)


def prepare() -> None:
    """Compile what the cache lacks, and load everything: from here on nothing is compiled while time is measured."""

    def progress(done: int, total: int) -> None:
        if done == 1 or done * 4 // total > (done - 1) * 4 // total:
            say(f"compiling, {done} of {total} functions")

    native.prepare(progress)
    link()


def machine_line() -> str:
    """Where it was measured, for the first line of a table."""
    about = machine_description()
    return f"{about['cores']} cores of {about['cpu']} ({about['architecture']}, Linux {about['kernel']})"
