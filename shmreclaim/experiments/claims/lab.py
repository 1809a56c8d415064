"""Where claims are tried: runs of real processes, each with an outcome, whatever it is.

A run that hangs or breaks an invariant is no error here but an outcome, as good as any other. `run` and `turns` give
outcomes; `records` and `measure` are for claims about figures, which a hang or a broken invariant make worthless.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar

from shmreclaim.executions import native
from shmreclaim.executions.stall import Hung, Standing
from shmreclaim.experiments.claims.claim import CannotTell
from shmreclaim.machine.process import cores
from shmreclaim.result import LoggedOp, RunRecord
from shmreclaim.workload.ops import Op, Workload

TIMEOUT_S = 15.0
"""A run of claims takes about a second; one that takes so much longer hangs."""

T = TypeVar("T")


class Progress(Protocol):
    """Who is told how far the claims are."""

    def compiling(self, done: int, total: int) -> None:
        """`done` of `total` functions are compiled; only when the cache does not have them."""

    def judging(self, number: str, k: int, of: int) -> None:
        """Claim `number` is tried, the `k`th of so many."""

    def running(self, design: str) -> None:
        """A run under a design begins."""

    def advanced(self, done: int, total: int) -> None:
        """`done` of `total` operations of the present run are done."""

    def judged(self, number: str, verdict: str, seconds: float) -> None:
        """The claim is decided."""


@dataclass(frozen=True)
class Outcome:
    """What one run came to: a record, or a hang; and the invariants that it broke, either way."""

    design: str
    record: RunRecord | None = None
    """None for a run that hung."""
    standings: tuple[Standing, ...] = ()
    """Of a run that hung: where each CPU stood."""
    broken: tuple[str, ...] = ()
    """The message of each invariant that broke."""

    @property
    def hung(self) -> bool:
        """Whether it did not end in time."""
        return self.record is None

    @property
    def deadlock(self) -> list[str]:
        """Who waits in a circle: the standing of each CPU that waits, over others or not, for a lock of its own."""
        return [str(each) for each in self.standings if each in _above(each, self.standings)]

    @property
    def livelock(self) -> list[str]:
        """Who is in an operation for at least half as long as any, and waits for no lock."""
        longest = max((each.op_ns for each in self.standings if each.op), default=0)
        busy = [each for each in self.standings if each.op and not each.waits and each.op_ns * 2 >= longest]
        return [str(each) for each in busy]


def _above(waiter: Standing, all_of_them: Sequence[Standing]) -> list[Standing]:
    """Everybody who must move before a CPU can: the holders of what it waits for, those of what they wait for, ..."""
    found: list[Standing] = []
    pending = [waiter]
    while pending:
        waits = pending.pop().waits
        held = [each for each in all_of_them if waits and any(lock.name == waits.name for lock in each.holds)]
        fresh = [each for each in held if each not in found]
        found += fresh
        pending += fresh
    return found


class Lab:
    """Runs workloads for claims; what several claims look at is made once."""

    def __init__(self, progress: Progress) -> None:
        """Tell `progress` how far each run is."""
        self._progress = progress
        self._made: dict[Any, Any] = {}

    @property
    def cores(self) -> int:
        """How many cores there are to run on."""
        return len(cores())

    def run(
        self,
        design: str,
        workload: Workload,
        *,
        repeat: int = 1,
        timeout: float = TIMEOUT_S,
        seconds: float | None = None,
    ) -> list[Outcome]:
        """Play a workload under a design or variant, `repeat` times; end each run after `seconds` if given."""
        return self.turns([design], workload, repeat=repeat, timeout=timeout, seconds=seconds)[design]

    def turns(
        self,
        designs: Sequence[str],
        workload: Workload,
        *,
        repeat: int = 1,
        timeout: float = TIMEOUT_S,
        seconds: float | None = None,
    ) -> dict[str, list[Outcome]]:
        """Play a workload under several designs that take turns (A B A B), so that a slow moment is everybody's."""
        return self._turns(designs, workload, repeat, native.RunSettings(seconds=seconds, timeout=timeout))

    def _turns(
        self, designs: Sequence[str], workload: Workload, repeat: int, settings: native.RunSettings
    ) -> dict[str, list[Outcome]]:
        outcomes: dict[str, list[Outcome]] = {design: [] for design in designs}
        for _ in range(repeat):
            for design in designs:
                outcomes[design].append(self._one(design, workload, settings))
        return outcomes

    def _one(self, design: str, workload: Workload, settings: native.RunSettings) -> Outcome:
        self._progress.running(design)
        try:
            record = native.run(workload, design, settings, self._progress.advanced)
        except Hung as hung:
            return Outcome(design, None, hung.standings, hung.violations)
        return Outcome(design, record, broken=tuple(record.invariants.violations))

    def records(
        self, design: str, workload: Workload, *, repeat: int = 1, seconds: float | None = None
    ) -> list[RunRecord]:
        """Give the records of runs whose figures count; raises CannotTell if one hung or broke an invariant."""
        return sound(self.run(design, workload, repeat=repeat, seconds=seconds))

    def measure(
        self, designs: Sequence[str], workload: Workload, *, repeat: int = 1, seconds: float | None = None
    ) -> dict[str, list[RunRecord]]:
        """As `records`, of designs that take turns."""
        outcomes = self.turns(designs, workload, repeat=repeat, seconds=seconds)
        return {design: sound(runs) for design, runs in outcomes.items()}

    def measure_logged(
        self, designs: Sequence[str], workload: Workload, op: Op, *, repeat: int = 1, seconds: float | None = None
    ) -> dict[str, list[RunRecord]]:
        """As `measure`, of runs that write each of such operations down by itself."""
        settings = native.RunSettings(seconds=seconds, timeout=TIMEOUT_S, log_ops=(op,))
        outcomes = self._turns(designs, workload, repeat, settings)
        return {design: sound(runs) for design, runs in outcomes.items()}

    def logged(self, design: str, workload: Workload, *ops: Op) -> RunRecord:
        """As `records`, of one run that writes each of such operations down by itself."""
        (record,) = sound([self._one(design, workload, native.RunSettings(timeout=TIMEOUT_S, log_ops=ops))])
        return record

    def once(self, make: Callable[[Lab], T]) -> T:
        """What `make(lab)` gives, made the first time that any claim asks for it."""
        if make not in self._made:
            self._made[make] = make(self)
        made: T = self._made[make]
        return made


def sound(outcomes: Iterable[Outcome]) -> list[RunRecord]:
    """Give the records of outcomes; raises CannotTell if one hung or broke an invariant."""
    records = []
    for outcome in outcomes:
        if outcome.record is None:
            stands = "; ".join(map(str, outcome.standings))
            raise CannotTell(f"a run of {outcome.design} hung, so its figures are lost: {stands}")
        if outcome.broken:
            raise CannotTell(f"{outcome.design} broke an invariant, so its figures mean nothing: {outcome.broken[0]}")
        records.append(outcome.record)
    return records


class Span(NamedTuple):
    """An operation of a run's log, from when to when on the clock of all CPUs, in ms."""

    began: float
    ended: float
    events: dict[str, int]


def spans(record: RunRecord, op: Op, cpu: int) -> list[Span]:
    """Give the logged operations of a kind that a CPU did, in their order."""
    started = {worker.cpu: worker.started_ns for worker in record.workers}
    return [_span(each, started[cpu]) for each in record.log if (each.op, each.cpu) == (op.label, cpu)]


def _span(logged: LoggedOp, started: int) -> Span:
    began = started + logged.at_ns
    return Span(began / 1e6, (began + logged.ns) / 1e6, logged.events)


# --- what rules are made of --------------------------------------------------------------------------


def below(a: Sequence[float], b: Sequence[float]) -> bool:
    """Whether all of `a` is below all of `b`."""
    return max(a) < min(b)
