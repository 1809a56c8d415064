"""From the samples of all rounds to the figures of a lock; figures by name, for thresholds; ratios."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shmreclaim.experiments.bench.locks.play import ModeSample
from shmreclaim.experiments.bench.turns import Figure
from shmreclaim.lock_figures import SUFFIX, LockFigures, ModeFigures, Ratio, WaitTimes
from shmreclaim.result import Histogram

PERCENTILES = {"p50": 50.0, "p99": 99.0, "p99_9": 99.9}


def fold(rounds: Sequence[ModeSample]) -> ModeFigures:
    """Sum up what the rounds found of a mode."""
    pairs = [sample.pair_ops_per_s for sample in rounds if sample.pair_ops_per_s is not None]
    handoffs = [p50 for sample in rounds if (p50 := sample.handoffs.percentile(50)) is not None]
    return ModeFigures(
        **Figure.of([sample.uncontended_ns for sample in rounds]).named("uncontended_ns"),
        **Figure.of([sample.ops_per_s for sample in rounds]).named("ops_per_s"),
        **_named("pair_ops_per_s", pairs),
        **Figure.of([sample.jain for sample in rounds]).named("jain"),
        wait_ns=_waits([sample.waits for sample in rounds]),
        longest_bypass=max(sample.bypass for sample in rounds),
        **_named("handoff_ns", handoffs),
        unserved=sum(sample.unserved for sample in rounds),
    )


def _named(name: str, samples: Sequence[float]) -> dict[str, Any]:
    return Figure.of(samples).named(name) if samples else {name: None, f"{name}_ci": None}


def _waits(rounds: Sequence[Histogram]) -> WaitTimes | None:
    found = [each for each in rounds if each.count]
    if not found:
        return None
    values: dict[str, Any] = {}
    for name, p in PERCENTILES.items():
        values |= Figure.of([each.percentile(p) or 0 for each in found]).named(name)
    return WaitTimes(**values, max=max(each.max for each in found), samples=sum(each.count for each in found))


# --- by name, for thresholds ---------------------------------------------------------------------------

TIMES = ("p50", "p99", "p99.9", "max")
OF_A_MODE = {
    **dict.fromkeys(TIMES, "time"),
    "uncontended": "time",
    "handoff": "time",
    **dict.fromkeys(("ops_per_s", "jain", "bypass", "survives"), "number"),
}


def kinds(modes: Sequence[str]) -> dict[str, str]:
    """The figures of a lock with such modes, each a `time` or a `number`."""
    found = {f"{mode}.{name}": kind for mode in modes for name, kind in OF_A_MODE.items()}
    if "exclusive" in modes:
        found["exclusive.pair_ops_per_s"] = "number"
    if "write" in modes:
        found["write.starved"] = "number"
        found |= {f"stream.{name}": "time" for name in TIMES}
    return found


def by_name(lock: LockFigures) -> dict[str, float | None]:
    """Those figures."""
    found: dict[str, float | None] = {}
    for mode, figures in lock.modes.items():
        found |= {f"{mode}.{name}": value for name, value in _of_mode(figures).items()}
        survived = None if lock.survives_kill is None else getattr(lock.survives_kill, _holder(mode))
        found[f"{mode}.survives"] = None if survived is None else float(survived)
    found["write.starved"] = None if lock.writer_starved is None else float(lock.writer_starved)
    if lock.stream is not None:
        found |= {f"stream.{name}": getattr(lock.stream, name.replace(".", "_")) for name in TIMES}
    return found


def _holder(mode: str) -> str:
    return "reader" if mode == "read" else "writer"


def _of_mode(figures: ModeFigures) -> dict[str, float | None]:
    waits = {name: getattr(figures.wait_ns, name.replace(".", "_"), None) for name in TIMES}
    return {
        **waits,
        "uncontended": figures.uncontended_ns,
        "handoff": figures.handoff_ns,
        "ops_per_s": figures.ops_per_s,
        "pair_ops_per_s": figures.pair_ops_per_s,
        "jain": figures.jain,
        "bypass": figures.longest_bypass,
    }


# --- ratios ------------------------------------------------------------------------------------------------

MUTEX, RWLOCK = "shmreclaim.Mutex (compiled)", "shmreclaim.RwLock (compiled)"
FROM_PYTHON = "shmreclaim.Mutex", "shmreclaim.RwLock"
MULTI = "multiprocessing.Lock"
FASTENERS, FILELOCK = "fasteners.InterProcessReaderWriterLock", "filelock.ReadWriteLock"
NS, PAIR, ALL = "uncontended", "pair_ops_per_s", "ops_per_s"
UNITS = {NS: "", PAIR: ", ops/s of 2", ALL: ", ops/s of all"}
WANTED: tuple[tuple[str, str, str, str, str, str, float], ...] = (
    (NS, RWLOCK, "read", "glibc rwlock", "read", "<=", 0.7),
    (NS, MUTEX, "exclusive", "glibc robust mutex", "exclusive", "<=", 0.7),
    (NS, FROM_PYTHON[1], "read", MULTI, "exclusive", "<=", 1.3),
    (NS, FROM_PYTHON[0], "exclusive", MULTI, "exclusive", "<=", 1.3),
    (PAIR, MUTEX, "exclusive", MULTI, "exclusive", ">=", 10),
    (ALL, MUTEX, "exclusive", MULTI, "exclusive", ">=", 10),
    (NS, "prwlock.RWLock", "read", FROM_PYTHON[1], "read", ">=", 5),
    (NS, FASTENERS, "read", FROM_PYTHON[1], "read", ">=", 100),
    (NS, FILELOCK, "read", FROM_PYTHON[1], "read", ">=", 100),
)
"""What the design asks for: a figure, of which lock taken how, to that of which, and how much it is to be."""
STREAM_WITHIN_MS = 10.0


def ratios(locks: Mapping[str, LockFigures]) -> list[Ratio]:
    """Those of the ratios for which everything was measured."""
    figures = {name: by_name(lock) for name, lock in locks.items()}
    found = []
    for what, one, mode, other, its_mode, sign, wanted in WANTED:
        above = figures.get(one, {}).get(f"{mode}.{what}")
        below = figures.get(other, {}).get(f"{its_mode}.{what}")
        if above and below:
            told = f"{_told(one, mode)} / {_told(other, its_mode)}{UNITS[what]}"
            found.append(Ratio(what=told, found=above / below, sign=sign, wanted=wanted))
    waited = figures.get(RWLOCK, {}).get("stream.p99.9")
    if waited is not None:
        told = f"{_told(RWLOCK, 'write')}, p99.9 in the stream, ms"
        found.append(Ratio(what=told, found=waited / 1e6, sign="<=", wanted=STREAM_WITHIN_MS))
    return found


def _told(lock: str, mode: str) -> str:
    return lock.removeprefix("shmreclaim.") + SUFFIX[mode]
