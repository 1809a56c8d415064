"""What a CPU does, access by access, so that another process can go on where a killed one was.

A CPU is not its process. What an operation does depends on nothing but what it reads: words of the segment, the clock,
how the kernel answers. In a process that may be killed every such access goes through this module (compiled so where
SHMRECLAIM_JOURNALED=1; machine/atomics.py), which writes down what was read. When the process dies, whatever it had in
hand stays as it was: locks held, read sections open, lists half linked. Another process takes the slot, runs the same
code from the beginning of the same unit, is given from the journal what was read, and changes nothing, until the
journal ends. From there on it goes on. So no update is ever undone or repaired, and no design has to know.

A unit is what is repeated: from one `begin_unit` to the next. It forgets what came before, and so must the code: what
it needs of the time before it reads again.

What a death can leave in doubt is one access, the one that was not yet written down; so it is announced first
(`pending_*`), with what the word was and what it will be.

| died | the word | so the access |
|---|---|---|
| before it announced a store or a change | any | was not made: made now |
| between announcing and logging a store | as it was | was not made, or changes nothing: made now |
| | another | was made: logged now |
| the same of a change (read, modify, write) | as it was | was not made: made now |
| | another | was made: logged now, with what the word was |

J1  nobody else stores into a word between somebody's store and its entry: it is guarded by a lock that a dead CPU
    keeps, or a lock itself, which nobody takes from its holder.
J2  nobody else changes a word between somebody's change and its entry: changes of a word are made with its stripe,
    a lock with its holder's number in it.
J3  an entry is whole before `length` counts it, `length` counts it before the next access. (A process that is killed
    has made all stores up to some instruction and none behind it: no barrier is needed, only that the compiler keeps
    their order.)
J4  who repeats a unit reads what its predecessor read: the same words in the same order, or it aborts.

Lock order: a stripe is innermost; nothing is waited for with one, but its holder may be dead until somebody goes on.
Points: before and after everything that a death may leave in doubt; `fuse` lets a CPU kill itself at the n-th. Others
have names (machine/crash_points.py): in `traps` are those that whoever comes by first is to die at.
Limits: one process plays one CPU. A unit of more accesses than there is room for cannot be repeated (`overflowed`);
who is in one is not killed by us.
Sequence locks and other reads of half-written data are repeated as they were, faults included.
"""

import contextlib
import os
import signal
from typing import Any, NamedTuple

from shmreclaim.machine import _intrinsics as ll
from shmreclaim.machine.arena import Arena
from shmreclaim.machine.atomics import ADD, AND, OR, clock_ns, cpu_clock_ns, fetch_add, operation, wrap
from shmreclaim.machine.compile import compiled, out_of_line
from shmreclaim.machine.cpu import CPU, LIFE_WORDS, MAX_CPUS
from shmreclaim.machine.futex import EVERYBODY, futex_wait, futex_wait_any, futex_wake
from shmreclaim.machine.layout import LINE, Field, record
from shmreclaim.machine.sources import JOURNALED

JOURNAL = record(
    "JOURNAL",
    Field("length", "the owner; entries that are whole"),
    Field("next", "the owner; while a unit is repeated, the entry that comes next; else `length`"),
    Field("resuming", "who takes the slot over; 1 until it has entered the unit"),
    Field("overflowed", "the owner; entries of this unit that there was no room for"),
    Field("pending_entry", "the owner; the entry that an announced access will be, -1 for none"),
    Field("pending_kind", "the owner; its Kind"),
    Field("pending_at", "the owner; its word"),
    Field("pending_old", "the owner; what was there before", line=True),
    Field("pending_new", "the owner; what will be"),
    Field("stripe", "the owner; the stripe that it has or wants, 0 for none"),
    Field("me", "read-only after boot; the number of the CPU"),
    Field("room", "read-only after boot; entries that fit"),
    Field("stripes", "read-only after boot; where the stripes are"),
    Field("fuse", "anybody; points until the owner kills itself, 0: never", line=True),
    Field("died_at", "the owner, then the nursery; the crash point that it killed itself at, 0: elsewhere"),
    Field("life", "anybody; points that each process may pass which plays the CPU, 0: any number"),
    Field("died", "who kills; when, ns on the clock"),
    Field("went_on", "who takes the slot over; when it had repeated all, ns on the clock"),
    Field("deaths", "who takes the slot over; how often that was needed"),
    Field("repeated", "who takes the slot over; entries that were repeated, in sum"),
    Field("in_doubt", "who takes the slot over; deaths that left an access in doubt"),
    Field("were_made", "who takes the slot over; how many of those accesses had been made"),
    Field("astray", "the owner; 1 + the entry that was another access than the one repeated, 0: none"),
    Field("astray_wanted", "the owner; which one that was, word * 8 + Kind"),
    Field("order", "who wants the owner killed, then the nursery; a signal, 0 for none", line=True),
    Field("bell", "read-only after boot; where the nursery's bell is"),
    Field("traps", "read-only after boot; how far from here BELL.traps is"),
    Field(
        "process", "its process's, at its end the kernel's (machine/life.py), then the nursery's", LIFE_WORDS, line=True
    ),
    Field("entries", "the owner; pairs (word * 8 + Kind, value), `room` of them", line=True),
)
ENTRY_WORDS = 2

TRAPS = 256
"""Crash points that may be set at a time, each in the word that its number says."""

BELL = record(
    "BELL",
    Field("rung", "atomic, futex: how often there was something for the nursery", line=True),
    Field("traps", "anybody; crash points that whoever comes by first is to die at, 0 for none", TRAPS, line=True),
    Field("watch", "the nursery; pairs (word, value) that it sleeps on", 2 * (MAX_CPUS + 1), line=True),
)

STRIPES = 256
"""Locks for words that several CPUs change; a line each."""
PARKED = 1 << 16
"""In a stripe, beside its holder's number: somebody may sleep for it."""
SPINS = 64

LOAD, STORE, CHANGE, CLOCK, CPU_CLOCK, WAIT, WAKE = range(7)
KINDS = ("a load", "a store", "a change", "a look at the clock", "a look at the CPU clock", "a wait", "a wake-up")
"""The kinds of an entry, and what they are called."""

by_pointer = out_of_line if JOURNALED else compiled
"""Where nothing is logged, nobody calls what stands for the accesses, so it is not compiled."""

_cell = ll.new_cell("shmreclaim_journal")
"""The address of this process's journal; 0 while it logs nothing."""


# --- accesses that are not logged ------------------------------------------------------------------


@operation(ll.read_cell("shmreclaim_journal"))
def journal() -> int:
    """The address of this process's journal, 0 for none."""
    return _cell.value


@operation(ll.load("acquire"))
def peek(mem: Any, i: int) -> int:
    """mem[i]."""
    return mem[i]  # type: ignore[no-any-return]


@operation(ll.store("release"))
def poke(mem: Any, i: int, value: int) -> int:
    """mem[i] = value."""
    mem[i] = wrap(value)
    return 0


@operation(ll.compare_exchange("seq_cst", "seq_cst"))
def swap(mem: Any, i: int, expected: int, new: int) -> int:
    """If mem[i] == expected: mem[i] = new; what was there before."""
    old = mem[i]
    if old == expected:
        mem[i] = wrap(new)
    return old  # type: ignore[no-any-return]


@operation(ll.futex_wait)
def sleep(mem: Any, i: int, expected: int, deadline: int) -> int:
    """futex_wait, not logged."""
    return futex_wait(mem, i, expected, deadline)


@operation(ll.futex_wait_any)
def sleep_any(mem: Any, pairs: int, count: int, deadline: int) -> int:
    """futex_wait_any, not logged."""
    return futex_wait_any(mem, pairs, count, deadline)


@operation(ll.futex_wake)
def rouse(mem: Any, i: int, count: int) -> int:
    """futex_wake, not logged."""
    return futex_wake(mem, i, count)


@operation(ll.clock)
def now() -> int:
    """clock_ns, not logged."""
    return clock_ns()


@operation(ll.cpu_clock)
def cpu_now() -> int:
    """cpu_clock_ns, not logged."""
    return cpu_clock_ns()


@operation(ll.die)
def die(signum: int) -> int:
    """Send this process a signal; who may gets the right of way first: others wait until it is dead."""
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, 0)
    os.kill(os.getpid(), signum)
    return 0


# --- the journal -----------------------------------------------------------------------------------


@compiled
def _is_repeated(j: int) -> int:
    """Whether the next access was made already, by another process."""
    return 1 if peek(j, JOURNAL.next) < peek(j, JOURNAL.length) else 0


@by_pointer
def _repeat(j: int, kind: int, i: int) -> int:
    """What the access gave when it was made."""
    at = peek(j, JOURNAL.next)
    entry = JOURNAL.entries + at * ENTRY_WORDS
    if peek(j, entry) != i * 8 + kind:
        poke(j, JOURNAL.astray_wanted, i * 8 + kind)
        poke(j, JOURNAL.astray, at + 1)
        die(signal.SIGABRT)
    poke(j, JOURNAL.next, at + 1)
    if at + 1 == peek(j, JOURNAL.length):
        poke(j, JOURNAL.went_on, now())
    return peek(j, entry + 1)


@compiled
def _log(j: int, kind: int, i: int, value: int) -> int:
    """Write down what an access gave (J3); the value."""
    at = peek(j, JOURNAL.length)
    if at >= peek(j, JOURNAL.room):
        poke(j, JOURNAL.overflowed, peek(j, JOURNAL.overflowed) + 1)
        return value
    entry = JOURNAL.entries + at * ENTRY_WORDS
    poke(j, entry, i * 8 + kind)
    poke(j, entry + 1, value)
    poke(j, JOURNAL.next, at + 1)
    poke(j, JOURNAL.length, at + 1)
    return value


@compiled
def _announce(j: int, kind: int, i: int, old: int, new: int) -> int:
    """Say which access comes now. The last store makes the others count."""
    poke(j, JOURNAL.pending_entry, -1)
    poke(j, JOURNAL.pending_kind, kind)
    poke(j, JOURNAL.pending_at, i)
    poke(j, JOURNAL.pending_old, old)
    poke(j, JOURNAL.pending_new, new)
    return poke(j, JOURNAL.pending_entry, peek(j, JOURNAL.length))


@compiled
def _point(j: int) -> int:
    """A place to die at, for who can be succeeded."""
    fuse = peek(j, JOURNAL.fuse)
    if fuse and peek(j, JOURNAL.overflowed) == 0:
        poke(j, JOURNAL.fuse, fuse - 1)
        if fuse == 1:
            poke(j, JOURNAL.died, now())
            die(signal.SIGKILL)
    return 0


@by_pointer
def pass_point(number: int) -> int:
    """Come by a crash point (machine/crash_points.py). Whoever is first where somebody is wanted dies there."""
    j = journal()
    if j == 0:
        return 0
    trap = peek(j, JOURNAL.traps) + number % TRAPS
    if peek(j, trap) != number or peek(j, JOURNAL.overflowed) or _is_repeated(j):
        return 0
    if swap(j, trap, number, 0) == number:
        poke(j, JOURNAL.died_at, number)
        poke(j, JOURNAL.died, now())
        die(signal.SIGKILL)
    return 0


@by_pointer
def begin_logged_unit() -> int:
    """All that was logged is done: a successor need not repeat it."""
    j = journal()
    if j == 0:
        return 0
    if peek(j, JOURNAL.resuming):
        return poke(j, JOURNAL.resuming, 0)
    _point(j)
    poke(j, JOURNAL.pending_entry, -1)
    poke(j, JOURNAL.overflowed, 0)
    poke(j, JOURNAL.length, 0)
    return poke(j, JOURNAL.next, 0)


@operation(ll.nothing, ll.journaled("begin_logged_unit", 0))
def begin_unit() -> int:
    """Begin what another process would repeat if this one were killed. Costs nothing where nothing is logged."""
    return 0


# --- logged accesses: what machine/atomics.py and futex.py become ------------------------------------


@by_pointer
def load(mem: Any, i: int) -> int:
    """A load of any order."""
    j = journal()
    if j == 0:
        return peek(mem, i)
    return _repeat(j, LOAD, i) if _is_repeated(j) else _log(j, LOAD, i, peek(mem, i))


@by_pointer
def store(mem: Any, i: int, value: int) -> int:
    """A store of any order."""
    j = journal()
    if j == 0:
        return poke(mem, i, value)
    if _is_repeated(j):
        _repeat(j, STORE, i)
        return 0
    _point(j)
    _announce(j, STORE, i, peek(mem, i), value)
    _point(j)
    poke(mem, i, value)
    _point(j)
    _log(j, STORE, i, value)
    return 0


@by_pointer
def change(mem: Any, i: int, value: int, how: int) -> int:
    """A read, modify, write of any order; what was there before."""
    j = journal()
    if j and _is_repeated(j):
        return _repeat(j, CHANGE, i)
    if j:
        _take_stripe(mem, j, i)
    old = peek(mem, i)
    seen = _try_change(mem, j, i, old, _changed(old, value, how))
    while seen != old:
        old = seen
        seen = _try_change(mem, j, i, old, _changed(old, value, how))
    return _end_change(mem, j, i, old)


@by_pointer
def compare_exchange(mem: Any, i: int, expected: int, new: int) -> int:
    """A compare-exchange of any order; what was there before. One that fails is a load."""
    j = journal()
    if j == 0:
        return swap(mem, i, expected, new)
    if _is_repeated(j):
        return _repeat(j, CHANGE, i)
    seen = peek(mem, i)
    if seen != expected:
        return _log(j, CHANGE, i, seen)
    _take_stripe(mem, j, i)
    seen = peek(mem, i)  # announced is only what will be made: else a death would make it seem so
    if seen == expected:
        seen = _try_change(mem, j, i, expected, new)
    return _end_change(mem, j, i, seen)


@compiled
def _changed(old: int, value: int, how: int) -> int:
    if how == ADD:
        return old + value
    if how == OR:
        return old | value
    if how == AND:
        return old & value
    return value


@compiled
def _try_change(mem: Any, j: int, i: int, old: int, new: int) -> int:
    """Change a word that is `old`; what it was. One that is not is changed by nobody who takes stripes: the parent."""
    if j:
        _announce(j, CHANGE, i, old, new)
        _point(j)
    seen = swap(mem, i, old, new)
    if j:
        _point(j)
    return seen


@compiled
def _end_change(mem: Any, j: int, i: int, old: int) -> int:
    if j:
        _log(j, CHANGE, i, old)
        _point(j)
        _give_stripe(mem, j)
    return old


@compiled
def _take_stripe(mem: Any, j: int, i: int) -> int:
    """Take the lock of all changes of a word. Who dies with it has its number in it (J2)."""
    stripe, me = peek(j, JOURNAL.stripes) + i % STRIPES * LINE, peek(j, JOURNAL.me)
    poke(j, JOURNAL.stripe, stripe)
    _point(j)
    if swap(mem, stripe, 0, me) != 0:
        _wait_for_stripe(mem, stripe, me)
    return _point(j)


@by_pointer
def _wait_for_stripe(mem: Any, stripe: int, me: int) -> int:
    for _ in range(SPINS):
        if peek(mem, stripe) == 0 and swap(mem, stripe, 0, me) == 0:
            return 0
    while True:
        seen = swap(mem, stripe, 0, me | PARKED)
        if seen == 0:
            return 0
        if seen & PARKED or swap(mem, stripe, seen, seen | PARKED) == seen:
            sleep(mem, stripe, seen | PARKED, 0)


@compiled
def _give_stripe(mem: Any, j: int) -> int:
    """Give it up; wake one who sleeps. Who takes the slot over of one that died in between wakes all."""
    stripe = peek(j, JOURNAL.stripe)
    seen = peek(mem, stripe)
    while swap(mem, stripe, seen, 0) != seen:
        seen = peek(mem, stripe)
    if seen & PARKED:
        rouse(mem, stripe, 1)
    return poke(j, JOURNAL.stripe, 0)


@by_pointer
def clock() -> int:
    """clock_ns."""
    j = journal()
    if j == 0:
        return now()
    return _repeat(j, CLOCK, 0) if _is_repeated(j) else _log(j, CLOCK, 0, now())


@by_pointer
def cpu_clock() -> int:
    """cpu_clock_ns; of another process it may be less."""
    j = journal()
    if j == 0:
        return cpu_now()
    return _repeat(j, CPU_CLOCK, 0) if _is_repeated(j) else _log(j, CPU_CLOCK, 0, cpu_now())


@by_pointer
def wait(mem: Any, i: int, expected: int, deadline: int) -> int:
    """futex_wait. Who is killed asleep is succeeded by one that looks at the word first, so no wake-up is lost."""
    j = journal()
    if j == 0:
        return sleep(mem, i, expected, deadline)
    return _repeat(j, WAIT, i) if _is_repeated(j) else _log(j, WAIT, i, sleep(mem, i, expected, deadline))


@by_pointer
def wait_any(mem: Any, pairs: int, count: int, deadline: int) -> int:
    """futex_wait_any."""
    j = journal()
    if j == 0:
        return sleep_any(mem, pairs, count, deadline)
    return _repeat(j, WAIT, pairs) if _is_repeated(j) else _log(j, WAIT, pairs, sleep_any(mem, pairs, count, deadline))


@by_pointer
def wake(mem: Any, i: int, count: int) -> int:
    """futex_wake. Made twice it wakes somebody in vain."""
    j = journal()
    if j == 0:
        return rouse(mem, i, count)
    if _is_repeated(j):
        return _repeat(j, WAKE, i)
    _point(j)
    woken = rouse(mem, i, count)
    _point(j)
    return _log(j, WAKE, i, woken)


# --- boot, and what a successor does -----------------------------------------------------------------


def journal_words(cpus: int, room: int) -> int:
    """Words of a segment that journals of so many entries take, stripes included."""
    words: int = cpus * (JOURNAL.SIZE + room * ENTRY_WORDS + LINE) + (STRIPES + 2) * LINE + BELL.SIZE
    return words


def make_journals(arena: Arena, slots: list[int], room: int) -> None:
    """Give each CPU of a new segment a journal of so many entries."""
    stripes, bell = arena.allocate(STRIPES * LINE), arena.allocate(BELL.SIZE)
    for slot in slots:
        at = arena.allocate(JOURNAL.SIZE + room * ENTRY_WORDS)
        arena.memory[at + JOURNAL.pending_entry] = -1
        arena.memory[at + JOURNAL.me] = arena.memory[slot + CPU.id]
        arena.memory[at + JOURNAL.room] = room
        arena.memory[at + JOURNAL.stripes] = stripes
        arena.memory[at + JOURNAL.bell] = bell
        arena.memory[at + JOURNAL.traps] = bell + BELL.traps - at
        arena.memory[slot + CPU.journal] = at


def open_journal(arena: Arena, slot: int) -> None:
    """Let this process log what it does as the CPU of a slot."""
    memory, j = arena.memory, arena.memory[slot + CPU.journal]
    if memory[j + JOURNAL.life]:
        memory[j + JOURNAL.fuse] = memory[j + JOURNAL.life]
    _cell.value = arena.address + 8 * j


def close_journal() -> None:
    """Log no more."""
    _cell.value = 0


@compiled
def ring(mem: Any, bell: int) -> int:
    """Let the nursery look."""
    fetch_add(mem, bell + BELL.rung, 1)  # P12: pairs with the nursery, which reads it before it looks for orders
    return futex_wake(mem, bell + BELL.rung, 1)


class Doubt(NamedTuple):
    """What a death left in doubt, and what was found."""

    access: str
    """"store", "change", or "none"."""
    made: bool


def take_over(arena: Arena, slot: int) -> Doubt:
    """Settle what the dead process of a slot left in doubt; the next unit begun is the one it was in, repeated.

    May die itself at any point: done twice it does the same.
    """
    memory, j = arena.memory, arena.memory[slot + CPU.journal]
    doubt = _settle(memory, j)
    memory[j + JOURNAL.pending_entry] = -1  # settled once: the word may change from now on
    stripe = memory[j + JOURNAL.stripe]
    if stripe:
        if memory[stripe] & ~PARKED == memory[j + JOURNAL.me]:
            memory[stripe] = 0
        rouse_all(arena.address, stripe)
    memory[j + JOURNAL.stripe] = 0
    memory[j + JOURNAL.next] = 0
    memory[j + JOURNAL.resuming] = 1
    memory[j + JOURNAL.deaths] += 1
    memory[j + JOURNAL.repeated] += memory[j + JOURNAL.length]
    memory[j + JOURNAL.in_doubt] += doubt.access != "none"
    memory[j + JOURNAL.were_made] += doubt.made
    if memory[j + JOURNAL.length] == 0:
        memory[j + JOURNAL.went_on] = clock_ns()
    return doubt


def _settle(memory: memoryview, j: int) -> Doubt:
    """Log the access that was announced last, if it was made and is not logged (the table above)."""
    length, kind = memory[j + JOURNAL.length], memory[j + JOURNAL.pending_kind]
    if memory[j + JOURNAL.pending_entry] != length:
        return Doubt("none", False)
    at, old, new = (memory[j + field] for field in (JOURNAL.pending_at, JOURNAL.pending_old, JOURNAL.pending_new))
    made = old != new and memory[at] != old
    if made and length < memory[j + JOURNAL.room]:
        entry = j + JOURNAL.entries + length * ENTRY_WORDS
        memory[entry], memory[entry + 1] = at * 8 + kind, old if kind == CHANGE else new
        memory[j + JOURNAL.length] = length + 1
    return Doubt("change" if kind == CHANGE else "store", made)


@compiled
def rouse_all(mem: Any, word: int) -> int:
    """Wake all who sleep on a word."""
    return rouse(mem, word, EVERYBODY)
