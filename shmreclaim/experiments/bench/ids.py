"""What an id costs: found, allocated and removed, with more and more ids in use, beside what Python offers.

Figures are nanoseconds an operation, the loop around it included. A batch removes ids here and there and allocates as
many; reading the clock, once for each half, is taken off.
"""

from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from importlib import metadata
from typing import Any, Protocol

from shmreclaim.bench_result import Cost, IdsResult
from shmreclaim.experiments.bench import Progress, about, compile_within, ids_compiled, ids_python
from shmreclaim.experiments.bench.processes import PROCESSES, Tell, measure
from shmreclaim.experiments.bench.turns import turns

LIVE = (10, 1_000, 100_000)
OPERATIONS = 5_000
"""Of each kind in a sample."""
BATCH = 1_000
"""At most: half of the ids where that is less."""
REPEATS = 11
"""Samples in each process."""
COMPILED = ("shmreclaim.lib.", "shmreclaim.sync.", "shmreclaim.machine.")
"""Whose functions the loops call."""

Key = tuple[str, str, int]
"""Kind, operation, and ids in use."""


ABOUT = {
    **{name: kind.about for name, kind in ids_compiled.KINDS.items()},
    **{name: kind.about for name, kind in ids_python.KINDS.items()},
}
"""What exactly is measured, by name."""


class Subject(Protocol):
    """Ids in use, and loops over them."""

    def find(self, count: int) -> float:
        """Find so many; ns for all."""

    def batch(self, count: int) -> tuple[float, float]:
        """Remove so many and allocate as many; ns for all of each."""

    def clock(self) -> float:
        """Nanoseconds that reading the clock costs."""

    def close(self) -> None:
        """Give its memory back."""


def bench_ids(*, quick: bool, progress: Progress) -> IdsResult:
    """Measure all kinds at all sizes, in turns."""
    said = about({"quick": quick})
    compile_within(COMPILED, progress)
    figures = measure(sample, quick=quick, tell=progress.doing)
    ids: dict[str, dict[str, dict[int, Cost]]] = {}
    for (name, what, live), figure in figures.items():
        ids.setdefault(name, {}).setdefault(what, {})[live] = Cost(**figure.named("ns"))
    packages = {name: kind.package for name, kind in ids_python.KINDS.items() if kind.package}
    return IdsResult(
        **said,
        processes=1 if quick else PROCESSES,
        peers={package: metadata.version(package) for name, package in packages.items() if name in ids},
        not_installed=[package for name, package in packages.items() if name not in ids],
        kinds={name: what for name, what in ABOUT.items() if name in ids},
        ids=ids,
    )


def _kinds() -> Iterator[tuple[str, Any, Any]]:
    """Names, kinds, and what makes a subject of each."""
    yield from ((name, kind, ids_compiled.CompiledIds) for name, kind in ids_compiled.KINDS.items())
    yield from ((name, kind, ids_python.PythonIds) for name, kind in ids_python.KINDS.items())


def sample(tell: Tell) -> dict[Key, list[float]]:
    """Let all subjects take turns in this process; those whose package is not installed are left out."""
    compile_within(COMPILED)
    with ExitStack() as stack:
        subjects: dict[tuple[str, int], Subject] = {}
        for k, (name, kind, make) in enumerate(_kinds()):
            tell("filling", k + 1, len(ABOUT))
            with suppress(ImportError):
                subjects |= {(name, live): stack.enter_context(closing(make(kind, live))) for live in LIVE}
        samples: dict[Key, list[float]] = {}
        for done, ((name, live), counts) in enumerate(turns(subjects, REPEATS)):
            tell("measuring", done + 1, len(subjects) * (REPEATS + 1))
            for what, ns in _sample(subjects[name, live], live).items():
                if counts:
                    samples.setdefault((name, what, live), []).append(ns)
        return samples


def _sample(subject: Subject, live: int) -> dict[str, float]:
    """One sample of each operation; ns. A batch before fills the caches, which are full of other subjects."""
    count = min(BATCH, live // 2)
    rounds = OPERATIONS // count
    removed = allocated = 0.0
    subject.batch(count)
    for _ in range(rounds):
        removal, allocation = subject.batch(count)
        removed, allocated = removed + removal, allocated + allocation
    clock = subject.clock()
    return {
        "find": subject.find(OPERATIONS) / OPERATIONS,
        "alloc": (allocated / rounds - clock) / count,
        "remove": (removed / rounds - clock) / count,
    }
