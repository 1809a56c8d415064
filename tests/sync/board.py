"""One memory, compiled or plain, with a few CPUs that the test plays one step at a time."""

from collections.abc import Callable

from shmreclaim.machine.cpu import CPU, READER_SHIFT, cpu_init
from shmreclaim.machine.layout import HEADER
from shmreclaim.machine.life import FUTEX_OWNER_DIED, FUTEX_WAITERS
from shmreclaim.sync.lockdep import LOCK, LOCKSTAT, LOCKSTAT_WORDS
from shmreclaim.sync.rwsem_queue import OWNER_SHIFT, WRITER
from shmreclaim.sync.wait_queue import queue_init, queue_waiter
from tests.both import Memory

CPUS = 4


class Board:
    """A header, CPUs 1 to 4, one lock and some words, over a list of ints or over machine memory."""

    def __init__(self, kind: str) -> None:
        """Make it; `kind` is "plain" or "compiled"."""
        size = HEADER.SIZE + CPUS * CPU.SIZE + LOCK.SIZE + 64
        self.memory = Memory(kind, size)
        self.cpus = [0] + [HEADER.SIZE + n * CPU.SIZE for n in range(CPUS)]
        self.lock = HEADER.SIZE + CPUS * CPU.SIZE
        self.spare = self.lock + LOCK.SIZE
        for number, cpu in enumerate(self.cpus[1:], start=1):
            self.call(cpu_init, cpu, number, 0)
        self[HEADER.cpus], self[HEADER.nr_cpus], self[HEADER.cpu_stride] = self.cpus[1], CPUS, CPU.SIZE
        self.call(queue_init, self.lock)

    def call(self, function: Callable[..., int], *args: int) -> int:
        """Run a function on this memory."""
        return self.memory.call(function, *args)

    def play(self, number: int, function: Callable[..., int], *args: int) -> int:
        """Let CPU `number` run a function on the lock."""
        return self.call(function, self.cpus[number], self.lock, *args)

    def __getitem__(self, i: int) -> int:
        """Read one word."""
        return self.memory.word(i)

    def __setitem__(self, i: int, value: int) -> None:
        """Write one word."""
        self.memory.set_word(i, value)

    @property
    def word(self) -> int:
        """The word of the lock."""
        return self[self.lock + LOCK.word]

    @word.setter
    def word(self, value: int) -> None:
        self[self.lock + LOCK.word] = value

    def enqueue(self, number: int, mode: int, flags: int) -> None:
        """Put CPU `number` into the lock's queue, as one that came to wait just now, and set `flags` in the word."""
        self.call(queue_waiter, self.cpus[number], self.lock, mode)
        self.field(number, CPU.wait_for, self.lock)
        self.word |= flags
        self.field(number, CPU.wait_since, 1 << 62)

    def live(self, *numbers: int) -> None:
        """Give CPUs lives, of threads of some number."""
        for number in numbers:
            self.field(number, CPU.life, 100 + number | FUTEX_WAITERS)
            self[HEADER.lives] |= 1 << number

    def die(self, *numbers: int) -> None:
        """End the lives of CPUs, as the kernel would."""
        for number in numbers:
            self.field(number, CPU.life, FUTEX_OWNER_DIED | FUTEX_WAITERS)
            self[HEADER.lives] |= 1 << number

    def queue(self) -> list[int]:
        """Numbers of the queued CPUs, first come first."""
        queued = [n for n in range(1, CPUS + 1) if self[self.lock + LOCK.waiters] >> n & 1]
        return sorted(queued, key=lambda n: self.field(n, CPU.ticket))

    def field(self, number: int, offset: int, value: int | None = None) -> int:
        """Read, or set, a field of a CPU."""
        if value is not None:
            self[self.cpus[number] + offset] = value
        return self[self.cpus[number] + offset]

    def violations(self, number: int) -> list[int]:
        """Kinds of the violations that a CPU noted."""
        at = self.cpus[number] + CPU.violations
        return [self[at + 4 * k] for k in range(self.field(number, CPU.nr_violations))]

    def stat(self, number: int, klass: int, mode: int) -> dict[str, int]:
        """A CPU's lock_stat figures of one class and mode, by name."""
        at = self.cpus[number] + CPU.lockstats + (klass * 2 + mode) * LOCKSTAT_WORDS
        return {name: self[at + getattr(LOCKSTAT, name)] for name in LOCKSTAT._fields if name != "SIZE"}


def bit(number: int) -> int:
    """Reader bit of a CPU in an rwsem's word."""
    return 1 << (number + READER_SHIFT - 1)


def writer(number: int) -> int:
    """Bits of an rwsem's word that CPU `number` holds for write."""
    return WRITER | number << OWNER_SHIFT
