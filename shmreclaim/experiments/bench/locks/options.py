"""What `bench locks` is asked for, checked before anything is measured."""

from __future__ import annotations

from dataclasses import dataclass

from shmreclaim.errors import UsageError
from shmreclaim.ranges import expect_number, expect_whole

LEAST_SECONDS = 1.0
MOST_PER_S = 1e6
READERS, WRITERS = 3, 1
SECONDS, QUICK_SECONDS = 60.0, 15.0


@dataclass(frozen=True)
class LockOptions:
    """What to measure; refused with a UsageError when a value is out of range."""

    peers: str = "all"
    readers: int | None = None
    writers: int | None = None
    cpus: int | None = None
    hold: int | None = None
    think: int | None = None
    arrival: float | None = None
    seconds: float | None = None
    quick: bool = False
    thresholds: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        for name in ("readers", "writers", "cpus"):
            expect_whole(name, getattr(self, name))
        for name in ("hold", "think"):
            _not_negative(name, getattr(self, name))
        expect_number("seconds", self.seconds)
        expect_number("arrival", self.arrival)
        if self.arrival is not None and self.arrival > MOST_PER_S:
            raise UsageError(f"--arrival {self.arrival:g} is out of range", remedy=f"Give at most {MOST_PER_S:g}.")
        if self.arrival is not None and self.think is not None:
            raise UsageError(
                "--arrival and --think were both given",
                cause="With --arrival the planned times say when a process asks again.",
                remedy="Leave one of them out.",
            )
        self._expect_room()

    def _expect_room(self) -> None:
        from shmreclaim.machine.cpu import MAX_CPUS

        readers, writers = self.split
        if self.cpus is not None and readers + writers != self.cpus:
            raise UsageError(
                f"--readers {readers} and --writers {writers} are not --cpus {self.cpus}",
                cause="Each process is a reader or a writer; a lock that is read is tried with at least one of each.",
                remedy="Leave one of them out.",
            )
        if readers + writers > MAX_CPUS:
            raise UsageError(
                f"{readers + writers} processes asked for; at most {MAX_CPUS} are possible",
                cause="A lock word has one bit for each task that may read under it.",
            )

    @property
    def split(self) -> tuple[int, int]:
        """How many readers and how many writers; what was not given follows from --cpus, a quarter of which writes."""
        if self.cpus is None:
            return self.readers or READERS, self.writers or WRITERS
        if self.readers is None:
            writers = self.writers or max(1, self.cpus // 4)
            return max(1, self.cpus - writers), writers
        return self.readers, self.writers or max(1, self.cpus - self.readers)

    @property
    def budget(self) -> float:
        """Seconds for everything, approximately."""
        return self.seconds or (QUICK_SECONDS if self.quick else SECONDS)


def _not_negative(name: str, value: int | None) -> None:
    if value is not None and value < 0:
        raise UsageError(f"--{name} {value} is out of range", remedy="Give nanoseconds, 0 or more.")
