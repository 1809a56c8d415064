"""What `bench locks` found, as plain data: the fields of its JSON.

Times are ns. A figure that was sampled in several rounds is the median of them, with its interval beside it.
"""

from msgspec import field

from shmreclaim.bench_result import BenchResult, Interval, Verdict
from shmreclaim.result import Record

MODES = ("exclusive", "read", "write")
SUFFIX = {"exclusive": "", "read": "-R", "write": "-W"}
"""Of a lock's name, by mode: as in /proc/lock_stat."""


class WaitTimes(Record, frozen=True, kw_only=True):
    """How long it took to get the lock. The maximum is that of all rounds, percentiles are medians of the rounds'."""

    p50: float
    p50_ci: Interval
    p99: float
    p99_ci: Interval
    p99_9: float
    p99_9_ci: Interval
    max: int
    samples: int
    """In all rounds."""


class ModeFigures(Record, frozen=True, kw_only=True):
    """One lock taken in one way."""

    uncontended_ns: float
    """A pair of acquire and release that nobody contends."""
    uncontended_ns_ci: Interval
    ops_per_s: float
    """Of all processes that take it so, while all of `processes` contend."""
    ops_per_s_ci: Interval
    pair_ops_per_s: float | None = None
    """Of two processes; only for exclusive locks."""
    pair_ops_per_s_ci: Interval | None = None
    jain: float
    """Jain's index over the processes that take it so: 1 if all got the same."""
    jain_ci: Interval
    wait_ns: WaitTimes | None
    """None where nobody was served."""
    longest_bypass: int
    """Grants, at most, to others that asked later, during one wait."""
    handoff_ns: float | None
    """From a release to the grant of one who slept; None where nobody did."""
    handoff_ns_ci: Interval | None
    unserved: int = 0
    """Planned arrivals that had not been served at the end; they count with what they had waited by then."""


class Survival(Record, frozen=True, kw_only=True):
    """Whether a fresh process got the lock after its holder was killed with SIGKILL; None where it has no such mode."""

    reader: bool | None
    writer: bool | None
    reader_ns: int | None = None
    """How long it took that process."""
    writer_ns: int | None = None


class StreamFigures(Record, frozen=True, kw_only=True):
    """A writer's waits beside readers that never leave the lock alone."""

    tries: int
    p50: int | None
    p99: int | None
    p99_9: int | None
    max: int | None


class LockFigures(Record, frozen=True, kw_only=True):
    """Everything about one lock."""

    called: str
    """`python` or `compiled`."""
    exclusive: ModeFigures | None = None
    read: ModeFigures | None = None
    write: ModeFigures | None = None
    survives_kill: Survival | None = None
    writer_starved: bool | None = None
    """Whether a writer waited for as long as the limit; None for locks without readers."""
    stream: StreamFigures | None = None

    @property
    def modes(self) -> dict[str, ModeFigures]:
        """The modes that it has."""
        found = {mode: getattr(self, mode) for mode in MODES}
        return {mode: figures for mode, figures in found.items() if figures is not None}


class Ratio(Record, frozen=True, kw_only=True):
    """One ratio that the design of the locks asks for."""

    what: str
    found: float
    sign: str
    """`<=` or `>=`."""
    wanted: float

    @property
    def met(self) -> bool:
        """Whether it is as wanted."""
        return self.found <= self.wanted if self.sign == "<=" else self.found >= self.wanted


class LocksResult(BenchResult, frozen=True, kw_only=True):
    """Everything that one `bench locks` found; `to_builtins` of it is the JSON."""

    bench: str = "locks"
    processes: int
    readers: int
    writers: int
    rounds: int
    """How often each lock was played."""
    part_s: float
    """How long each part of a play lasted."""
    starvation_limit_s: float
    """A writer that waited so long beside readers starved."""
    loop: str
    """`closed`, or `open, Poisson arrivals`: then waits count from the planned arrival."""
    locks: dict[str, LockFigures]
    floor_ns: float
    """Two atomic additions in a compiled loop: less no lock can cost that others may see."""
    floor_ns_ci: Interval
    broken: dict[str, str] = field(default_factory=dict)
    """Locks that let in who had to stay out, with what was seen; they have no figures."""
    failed: dict[str, str] = field(default_factory=dict)
    """Locks that could not be measured to the end, with what happened; they have no figures."""
    ratios: list[Ratio] = field(default_factory=list)
    thresholds: list[Verdict] = field(default_factory=list)
