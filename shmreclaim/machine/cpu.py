"""CPU slots: what one worker process (one CPU) owns in the segment.

`cpu` in every algorithm is the offset of its slot, so what a CPU needs of itself is one load away.
Only the owner writes its slot, except `wake` and `recovered` (whoever grants, under the wait_lock of the lock
waited for) and `life` (the kernel). Everybody may read: hang reports, `top` and recovery do.

Limits: MAX_CPUS slots, since a lock word names each of its readers by a bit of its own.
"""

from enum import IntEnum
from typing import Any

from shmreclaim.errors import UsageError
from shmreclaim.machine.arena import Arena
from shmreclaim.machine.atomics import clock_ns, read_once, write_once
from shmreclaim.machine.compile import compiled, out_of_line, plain
from shmreclaim.machine.histogram import HISTOGRAM
from shmreclaim.machine.layout import HEADER, Field, record

MAX_CPUS = 53
"""Reader bits of a 64-bit lock word beside 4 flags, the writer's number and the sign (see sync/rwsem.py)."""

READER_SHIFT = 10
"""CPU n reads under a lock with bit n + 9 of its word."""

GENERATION = 1 << 17
"""Added to `spin` for each task that has the slot: above a spinlock's owner and its flag (see sync/spinlock.py)."""

LIFE_WORDS = 6
"""Room for a pthread_mutex_t of any machine: 40 bytes on x86-64, 48 on aarch64."""

MAX_HELD = 8
MAX_KEPT_VIOLATIONS = 8
LOCK_CLASSES = 16
LOCKSTAT_WORDS = 9
N_EVENTS = 64
N_OPS = 16
OP_WORDS = 8
N_HISTOGRAMS = 16
KEPT_RECENT = 64
RECENT_WORDS = 4

CPU = record(
    "CPU",
    Field("id", "read-only after attach; 1 to MAX_CPUS, 0 is nobody"),
    Field("bit", "read-only after attach; this CPU's reader bit in a lock word"),
    Field("spin", "read-only after attach; what a spinlock says that it has: its number, and which task of the slot"),
    Field("node", "read-only after attach; its NUMA node"),
    Field("claim", "atomic; who has the slot of a task (machine/tasks.py), 0 for nobody"),
    Field("lived", "its task; the claim under which it began to live here"),
    Field("pid", "read-only after attach"),
    Field("tid", "read-only after attach"),
    Field("start_time", "read-only after attach; with pid, who this is"),
    Field("state", "the owner; a CpuState"),
    Field("flags", "the owner; PF_* bits", line=True),
    Field("held_depth", "the owner"),
    Field("op", "the owner; the operation being played, -1 for none"),
    Field("op_since", "the owner"),
    Field("ops_done", "the owner"),
    Field("started", "the owner; ns on the clock"),
    Field("ended", "the owner; ns on the clock"),
    Field("reclaimed", "the owner; lines of memory freed since its reclaim began"),
    Field("log_ops", "read-only after attach; operations that are logged, a bit each (machine/op_log.py)"),
    Field("log_begin", "read-only after attach; LOGGED records"),
    Field("log_next", "the owner; where the next one goes"),
    Field("log_end", "read-only after attach"),
    Field("journal", "read-only after boot; its JOURNAL (machine/journal.py), 0 where nothing is logged"),
    Field("preload", "the owner; memory for an id taken under a lock: a POOL of lib/radix_tree.py", 4),
    Field("rcu", "the owner; read by grace periods, so alone on its line", line=True),
    Field("rcu_nesting", "the owner", line=True),
    Field("rcu_head", "the owner; callbacks whose grace period has not been seen to end"),
    Field("rcu_tail", "the owner"),
    Field("rcu_pending", "the owner"),
    Field("srcu", "as rcu, of the one SRCU domain", line=True),
    Field("srcu_nesting", "the owner", line=True),
    Field("wake", "atomic, futex: 0 while waiting", line=True),
    Field("ticket", "under the lock's wait_lock; its place in the queue, lowest first"),
    Field("wait_mode", "the owner, before it queues"),
    Field("wait_for", "the owner; what it waits for, 0 for nothing"),
    Field("wait_since", "the owner"),
    Field("recovered", "the owner, or who grants it a share; 1: the lock it got last was left by a holder that died"),
    Field("life", "its task's, and the kernel's when that ends (machine/life.py)", LIFE_WORDS, line=True),
    Field("watch", "the owner; pairs (word, value) that it sleeps on", 2 * (MAX_CPUS + 1), line=True),
    Field("scratch", "the owner; what mm keeps of the reclaim it is in", 16, line=True),
    Field("held", "the owner; pairs (lock * 2 + mode, since)", MAX_HELD * 2, line=True),
    Field("nr_violations", "the owner", line=True),
    Field("violations", "the owner; (kind, a, b, c)", MAX_KEPT_VIOLATIONS * 4),
    Field("checks", "the owner; oracle checks made on line"),
    Field("lockstats", "the owner; by lock class, then mode", LOCK_CLASSES * 2 * LOCKSTAT_WORDS, line=True),
    Field("events", "the owner; by event", N_EVENTS, line=True),
    Field("ops", "the owner; by operation: done, skipped, failed by errno", N_OPS * OP_WORDS, line=True),
    Field("histograms", "the owner; by operation, then growth", N_HISTOGRAMS * HISTOGRAM.SIZE, line=True),
    Field(
        "recent",
        "the owner; what it did last, RECENT records (machine/recent.py)",
        KEPT_RECENT * RECENT_WORDS,
        line=True,
    ),
)


class CpuState(IntEnum):
    """What a slot is used for right now."""

    FREE = 0
    ATTACHED = 1
    RUNNING = 2
    DONE = 3
    RESTING = 4
    """Between two operations, while a pause lasts (mm/quiet.py)."""


PF_MEMALLOC, PF_KSWAPD = 1, 2
"""CPU.flags: its task is reclaiming; is the background reclaimer (include/linux/sched.h)."""


class Violation(IntEnum):
    """What an oracle on line can find broken; the text says how its values a, b, c read."""

    HELD_OVERFLOW = 1
    LOCK_ORDER = 2
    NOT_HELD = 3
    EXCLUSION = 4
    DOUBLE_FREE = 5
    LIST_CORRUPT = 6
    ID_BEYOND_MAP = 7
    NEGATIVE_COUNT = 8
    USE_AFTER_FREE = 9
    RECLAIM_BLOCKED = 10
    REF_UNDERFLOW = 11
    ID_BOUND = 12
    RECURSION = 13


@out_of_line
def violation(mem: Any, cpu: int, kind: int, a: int, b: int, c: int) -> int:
    """Write down that an invariant broke; the first few keep their values, the rest are counted."""
    n = read_once(mem, cpu + CPU.nr_violations)
    if n < MAX_KEPT_VIOLATIONS:
        at = cpu + CPU.violations + 4 * n
        write_once(mem, at, kind)
        write_once(mem, at + 1, a)
        write_once(mem, at + 2, b)
        write_once(mem, at + 3, c)
    write_once(mem, cpu + CPU.nr_violations, n + 1)
    return 0


@compiled
def expect(mem: Any, cpu: int, holds: int, kind: int, a: int, b: int) -> int:
    """Check an invariant on line: count the check, write down a violation if it does not hold."""
    write_once(mem, cpu + CPU.checks, read_once(mem, cpu + CPU.checks) + 1)
    if not holds:
        violation(mem, cpu, kind, a, b, 0)
    return 0


@compiled
def count_event(mem: Any, cpu: int, event: int, n: int) -> int:
    """Add to one of this CPU's counters (kernel: count_vm_events)."""
    at = cpu + CPU.events + event
    write_once(mem, at, read_once(mem, at) + n)
    return 0


@compiled
def cpu_init(mem: Any, cpu: int, number: int, node: int) -> int:
    """Make a zeroed slot that of CPU `number` (1 to MAX_CPUS); done before anyone else looks."""
    write_once(mem, cpu + CPU.id, number)
    write_once(mem, cpu + CPU.spin, number)
    write_once(mem, cpu + CPU.bit, 1 << (number + READER_SHIFT - 1))
    write_once(mem, cpu + CPU.node, node)
    write_once(mem, cpu + CPU.op, -1)
    return 0


@compiled
def slot_of(mem: Any, number: int) -> int:
    """The slot of CPU `number`."""
    return read_once(mem, HEADER.cpus) + (number - 1) * read_once(mem, HEADER.cpu_stride)


@compiled
def begin_op(mem: Any, cpu: int, op: int) -> int:
    """Note what this CPU starts to do, for hang reports; give the time."""
    now = clock_ns()
    write_once(mem, cpu + CPU.op_since, now)
    write_once(mem, cpu + CPU.op, op)
    return now


def make_cpus(arena: Arena, count: int, nodes: int = 1) -> list[int]:
    """Give a new segment `count` CPU slots, dealt round to the nodes; returns their offsets.

    Raises UsageError if a lock word has no bits for that many.
    """
    if not 1 <= count <= MAX_CPUS:
        raise UsageError(
            f"{count} CPUs asked for; 1 to {MAX_CPUS} are possible",
            cause="A lock word has one bit for each CPU that may read under it.",
        )
    first = arena.allocate(count * CPU.SIZE)
    slots = [first + k * CPU.SIZE for k in range(count)]
    for k, slot in enumerate(slots):
        plain(cpu_init)(arena.memory, slot, k + 1, k % nodes)
    arena.memory[HEADER.cpus] = first
    arena.memory[HEADER.nr_cpus] = count
    arena.memory[HEADER.cpu_stride] = CPU.SIZE
    return slots
