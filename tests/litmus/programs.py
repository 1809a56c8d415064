"""Two sides of each litmus test, compiled; both are released at the start of every round.

Values grow with the round, so that no word needs to be reset: a word is "new" if it equals the round.
Every left or right side returns how often it saw the forbidden outcome; SEEN counts how often the
interesting half of it happened, so that a test can tell "never forbidden" from "never tried".
"""

from typing import Any

from shmreclaim.lib.bitmap import bitmap_fill
from shmreclaim.lib.list_head import LIST_HEAD_WORDS, list_add_rcu, list_del_rcu, list_next_rcu
from shmreclaim.machine.atomics import (
    clock_ns,
    cpu_relax,
    fetch_add,
    load_acquire,
    read_once,
    smp_mb,
    store_release,
    write_once,
)
from shmreclaim.machine.compile import compiled
from shmreclaim.machine.cpu import CPU, CpuState, slot_of
from shmreclaim.machine.futex import EVERYBODY, futex_wait, futex_wake
from shmreclaim.machine.layout import HEADER, Field, record
from shmreclaim.machine.life import is_dead
from shmreclaim.machine.tasks import _claim, _free
from shmreclaim.mm.memcg import MEMCG, NODEINFO, css_online, nodeinfo
from shmreclaim.mm.quiet import ask_to_rest, cpus_at_rest, rest_if_asked
from shmreclaim.mm.state import Phase, fatal_signal_pending
from shmreclaim.sync.completion import complete, wait_for_completion
from shmreclaim.sync.mutex import mutex_lock, mutex_unlock
from shmreclaim.sync.rcu import rcu_is_over, rcu_read_lock, rcu_read_unlock, rcu_start, synchronize_rcu
from shmreclaim.sync.refcount import refcount_dec_and_test, refcount_inc_not_zero_acquire, refcount_set_release
from shmreclaim.sync.rwsem import down_read, down_write, downgrade_write, up_read, up_write
from shmreclaim.sync.spinlock import spin_lock, spin_unlock
from shmreclaim.sync.srcu import SRCU, _run_grace_period, srcu_read_lock, srcu_read_unlock, synchronize_srcu
from shmreclaim.sync.wait_queue import (
    UNINTERRUPTIBLE,
    announce,
    grant,
    lives_seen,
    wait_for_wake,
    wait_while,
    wake_cpus,
)

TABLE = record(
    "LITMUS_TABLE",
    Field("gate", "atomic; how many have come to the start of a round"),
    Field("sleepers", "atomic"),
    Field("x", "the test", line=True),
    Field("y", "the test", line=True),
    Field("early", "the test", line=True),
    Field("left", "the left side; what it found", line=True),
    Field("right", "the right side; what it found", line=True),
    Field("seen", "one side; how often the interesting half happened", line=True),
)
SPINS = 2000
NAP = 50_000
SPIN, MUTEX, WRITE_READ, READ_WRITE, DOWNGRADE = range(5)
FILL_FIRST, REFERENCE_FIRST = range(2)
BEGUN_LATER, BEGUN_BEFORE = range(2)
"""Which grace period of SRCU an updater waits for."""


@compiled
def meet(mem: Any, table: int, count: int) -> int:
    """Wait until `count` arrivals were made at the gate; spin, and sleep if the other is not running."""
    arrived = fetch_add(mem, table + TABLE.gate, 1) + 1
    if read_once(mem, table + TABLE.sleepers):
        futex_wake(mem, table + TABLE.gate, 1)
    spins = 0
    while arrived < count:
        spins += 1
        if spins > SPINS:
            fetch_add(mem, table + TABLE.sleepers, 1)
            futex_wait(mem, table + TABLE.gate, arrived, 0)
            fetch_add(mem, table + TABLE.sleepers, -1)
        cpu_relax()
        arrived = load_acquire(mem, table + TABLE.gate)
    return 0


@compiled
def await_word(mem: Any, word: int, value: int) -> int:
    """Wait until a word has a value that nobody announces."""
    spins = 0
    while load_acquire(mem, word) != value:
        spins += 1
        if spins > SPINS:
            futex_wait(mem, word, read_once(mem, word), clock_ns() + NAP)
        cpu_relax()
    return 0


@compiled
def linger(turns: int) -> int:
    """Let a few nanoseconds a turn pass."""
    for _ in range(turns):
        cpu_relax()
    return 0


@compiled
def count_seen(mem: Any, table: int) -> int:
    """Note that the interesting half of an outcome happened."""
    return write_once(mem, table + TABLE.seen, read_once(mem, table + TABLE.seen) + 1)


# --- store buffering: the shape that P7 and P9 forbid -----------------------------------------------


@compiled
def store_buffering(mem: Any, cpu: int, table: int, rounds: int, barrier: int) -> int:
    """X = 1; read y, against y = 1; read x. Forbidden: both read the old value."""
    first = read_once(mem, cpu + CPU.id) == 1
    mine, other = (table + TABLE.x, table + TABLE.y) if first else (table + TABLE.y, table + TABLE.x)
    found = table + (TABLE.left if first else TABLE.right)
    forbidden = 0
    for k in range(1, rounds + 1):
        meet(mem, table, 4 * k - 2)
        linger(k & 7 if first else k >> 3 & 7)
        write_once(mem, mine, k)
        if barrier:
            smp_mb()  # pairs with itself on the other side
        write_once(mem, found, read_once(mem, other))
        meet(mem, table, 4 * k)
        forbidden += read_once(mem, table + TABLE.left) != k and read_once(mem, table + TABLE.right) != k
    return forbidden


# --- P1, P3, P4: what was written under a lock, and before it ----------------------------------------


@compiled
def hand_over(mem: Any, cpu: int, lock: int, kind: int, table: int, k: int) -> int:
    """Under the lock: x = k, then y = k."""
    if kind == SPIN:
        spin_lock(mem, cpu, lock)
    elif kind == MUTEX:
        mutex_lock(mem, cpu, lock)
    elif kind == READ_WRITE:
        down_read(mem, cpu, lock)
    else:
        down_write(mem, cpu, lock)
    write_once(mem, table + TABLE.x, k)
    if kind == DOWNGRADE:
        downgrade_write(mem, cpu, lock)
    write_once(mem, table + TABLE.y, k)
    if kind == SPIN:
        return spin_unlock(mem, cpu, lock)
    if kind == MUTEX:
        return mutex_unlock(mem, cpu, lock)
    return up_write(mem, cpu, lock) if kind == WRITE_READ else up_read(mem, cpu, lock)


@compiled
def lock_writer(mem: Any, cpu: int, lock: int, table: int, kind: int, rounds: int) -> int:
    """Before the lock: early = k; under it: x = k, y = k."""
    for k in range(1, rounds + 1):
        meet(mem, table, 2 * k)
        write_once(mem, table + TABLE.early, k)
        linger(k & 15)
        hand_over(mem, cpu, lock, kind, table, k)
    return 0


@compiled
def lock_reader(mem: Any, cpu: int, lock: int, table: int, kind: int, rounds: int) -> int:
    """Under the lock: read y, then x and early. Forbidden: y is new and one of the others is not."""
    forbidden = 0
    for k in range(1, rounds + 1):
        meet(mem, table, 2 * k)
        linger(k >> 4 & 31)
        if kind == SPIN:
            spin_lock(mem, cpu, lock)
        elif kind == MUTEX:
            mutex_lock(mem, cpu, lock)
        elif kind == READ_WRITE:
            down_write(mem, cpu, lock)
        else:
            down_read(mem, cpu, lock)
        y = read_once(mem, table + TABLE.y)
        new = read_once(mem, table + TABLE.x) == k and read_once(mem, table + TABLE.early) == k
        if kind == SPIN:
            spin_unlock(mem, cpu, lock)
        elif kind == MUTEX:
            mutex_unlock(mem, cpu, lock)
        elif kind == READ_WRITE:
            up_write(mem, cpu, lock)
        else:
            up_read(mem, cpu, lock)
        if y == k:
            count_seen(mem, table)
            forbidden += 1 - new
    return forbidden


# --- P2, P5, P6: wake-ups, completions, references ---------------------------------------------------


@compiled
def woken(mem: Any, cpu: int, table: int, rounds: int) -> int:
    """Get ready, wait for a wake-up, read x. Forbidden: x is old."""
    forbidden = 0
    for k in range(1, rounds + 1):
        write_once(mem, cpu + CPU.wake, 0)
        store_release(mem, table + TABLE.y, k)
        wait_for_wake(mem, cpu, 0, 0, UNINTERRUPTIBLE)
        forbidden += read_once(mem, table + TABLE.x) != k
        store_release(mem, table + TABLE.left, k)
    return forbidden


@compiled
def waker(mem: Any, cpu: int, table: int, rounds: int, sleeper: int) -> int:
    """When the other is ready: x = k, wake it."""
    for k in range(1, rounds + 1):
        await_word(mem, table + TABLE.y, k)
        linger(k & 63)
        write_once(mem, table + TABLE.x, k)
        wake_cpus(mem, grant(mem, sleeper))
        await_word(mem, table + TABLE.left, k)
    return 0


@compiled
def completer(mem: Any, cpu: int, table: int, rounds: int, completion: int) -> int:
    """X = k, complete."""
    for k in range(1, rounds + 1):
        meet(mem, table, 2 * k)
        linger(k & 31)
        write_once(mem, table + TABLE.x, k)
        complete(mem, completion)
    return 0


@compiled
def completed(mem: Any, cpu: int, table: int, rounds: int, completion: int) -> int:
    """Wait for the completion, read x. Forbidden: x is old."""
    forbidden = 0
    for k in range(1, rounds + 1):
        meet(mem, table, 2 * k)
        wait_for_completion(mem, cpu, completion, 0, UNINTERRUPTIBLE)
        forbidden += read_once(mem, table + TABLE.x) != k
    return forbidden


@compiled
def dropper(mem: Any, cpu: int, table: int, rounds: int, ref: int) -> int:
    """Write one's own word, drop a reference; the last one reads both. Forbidden: one is old."""
    mine = table + (TABLE.x if read_once(mem, cpu + CPU.id) == 1 else TABLE.y)
    forbidden = 0
    for k in range(1, rounds + 1):
        meet(mem, table, 2 * k)
        write_once(mem, mine, k)
        if refcount_dec_and_test(mem, ref):
            forbidden += read_once(mem, table + TABLE.x) != k or read_once(mem, table + TABLE.y) != k
            write_once(mem, ref, 2)
    return forbidden


@compiled
def opener(mem: Any, cpu: int, table: int, rounds: int, ref: int, order: int) -> int:
    """Fill two words, then let references be taken; for the mutant first let them, and fill when one was."""
    for k in range(1, rounds + 1):
        meet(mem, table, 4 * k - 2)
        linger(k & 31)
        if order == REFERENCE_FIRST:
            refcount_set_release(mem, ref, 1)
            await_word(mem, table + TABLE.left, k)
        write_once(mem, table + TABLE.x, k)
        write_once(mem, table + TABLE.y, k)
        if order == FILL_FIRST:
            refcount_set_release(mem, ref, 1)
        meet(mem, table, 4 * k)
        write_once(mem, ref, 0)
    return 0


@compiled
def taker(mem: Any, cpu: int, table: int, rounds: int, ref: int, order: int) -> int:
    """Take a reference if there is one, read both words. Forbidden: one is old."""
    forbidden = 0
    for k in range(1, rounds + 1):
        meet(mem, table, 4 * k - 2)
        linger(k >> 5 & 63)
        if order == REFERENCE_FIRST:
            await_word(mem, ref, 1)
        if refcount_inc_not_zero_acquire(mem, ref):
            count_seen(mem, table)
            forbidden += read_once(mem, table + TABLE.y) != k or read_once(mem, table + TABLE.x) != k
        store_release(mem, table + TABLE.left, k)
        meet(mem, table, 4 * k)
    return forbidden


# --- P7, P8, P9, P25: grace periods -----------------------------------------------------------------------


@compiled
def enter(mem: Any, cpu: int, barrier: int) -> int:
    """Enter a read section; without the barrier it is what P7 warns of."""
    if barrier:
        return rcu_read_lock(mem, cpu)
    write_once(mem, cpu + CPU.rcu_nesting, 1)
    return write_once(mem, cpu + CPU.rcu, read_once(mem, HEADER.rcu_seq) + 1)


@compiled
def pointer_reader(mem: Any, cpu: int, table: int, rounds: int, barrier: int) -> int:
    """Enter, read the pointer x, stay inside until the updater has looked."""
    for k in range(1, rounds + 1):
        meet(mem, table, 2 * k)
        enter(mem, cpu, barrier)
        old = read_once(mem, table + TABLE.x) != k
        store_release(mem, table + TABLE.left, 2 * k + old)
        await_word(mem, table + TABLE.right, k)
        rcu_read_unlock(mem, cpu)
    return 0


@compiled
def pointer_updater(mem: Any, cpu: int, table: int, rounds: int) -> int:
    """Change the pointer x, start a grace period, look. Forbidden: it is over and the reader inside saw the old x."""
    forbidden = 0
    for k in range(1, rounds + 1):
        meet(mem, table, 2 * k)
        write_once(mem, table + TABLE.x, k)
        over = rcu_is_over(mem, rcu_start(mem))
        while read_once(mem, table + TABLE.left) >> 1 != k:
            cpu_relax()
        if over:
            count_seen(mem, table)
            forbidden += load_acquire(mem, table + TABLE.left) & 1
        store_release(mem, table + TABLE.right, k)
    return forbidden


@compiled
def section_writer(mem: Any, cpu: int, table: int, rounds: int) -> int:
    """Inside a read section: say so, then x = k."""
    for k in range(1, rounds + 1):
        meet(mem, table, 2 * k)
        rcu_read_lock(mem, cpu)
        store_release(mem, table + TABLE.y, k)
        linger(k & 63)
        write_once(mem, table + TABLE.x, k)
        rcu_read_unlock(mem, cpu)
    return 0


@compiled
def section_waiter(mem: Any, cpu: int, table: int, rounds: int) -> int:
    """When the other is inside: wait for a grace period, read x. Forbidden: x is old."""
    forbidden = 0
    for k in range(1, rounds + 1):
        meet(mem, table, 2 * k)
        await_word(mem, table + TABLE.y, k)
        linger(k >> 6 & 63)
        synchronize_rcu(mem, cpu)
        forbidden += read_once(mem, table + TABLE.x) != k
    return forbidden


@compiled
def section_sleeper(mem: Any, cpu: int, table: int, rounds: int) -> int:
    """Inside a read section: x = k, say so, stay for about as long as the other takes to fall asleep."""
    for k in range(1, rounds + 1):
        meet(mem, table, 2 * k)
        rcu_read_lock(mem, cpu)
        write_once(mem, table + TABLE.x, k)
        store_release(mem, table + TABLE.y, k)
        linger((k & 31) * 16)
        rcu_read_unlock(mem, cpu)
    return 0


@compiled
def grace_periods(mem: Any, cpu: int, table: int, srcu: int) -> int:
    """Ask for one grace period after the other until told to stop; how many there were."""
    n = 0
    while not load_acquire(mem, table + TABLE.early):
        synchronize_srcu(mem, cpu, srcu)
        n += 1
    return n


@compiled
def wait_for_the_last_begun(mem: Any, cpu: int, srcu: int) -> int:
    """As synchronize_srcu(), but a grace period that began before this call will do: the mutant."""
    wanted = fetch_add(mem, srcu + SRCU.started, 0)
    mutex_lock(mem, cpu, srcu + SRCU.gp_mutex)
    if read_once(mem, srcu + SRCU.completed) < wanted:
        _run_grace_period(mem, cpu, srcu)
    return mutex_unlock(mem, cpu, srcu + SRCU.gp_mutex)


@compiled
def asker(mem: Any, cpu: int, table: int, rounds: int, srcu: int, which: int) -> int:
    """Change the pointer x, wait for a grace period of SRCU; as the mutant, with the reader inside."""
    for k in range(1, rounds + 1):
        meet(mem, table, 2 * k)
        linger(k & 31)
        if which == BEGUN_BEFORE:
            await_word(mem, table + TABLE.y, k)
        write_once(mem, table + TABLE.x, k)
        if which == BEGUN_BEFORE:
            wait_for_the_last_begun(mem, cpu, srcu)
        else:
            synchronize_srcu(mem, cpu, srcu)
        store_release(mem, table + TABLE.right, k)
    return 0


@compiled
def srcu_reader(mem: Any, cpu: int, table: int, rounds: int, which: int) -> int:
    """Enter, read the pointer x, stay a while; for the mutant until it has waited.

    Forbidden: x was old, and who changed it did not wait for us.
    """
    forbidden = 0
    for k in range(1, rounds + 1):
        meet(mem, table, 2 * k)
        linger(k >> 5 & 63)
        srcu_read_lock(mem, cpu)
        old = read_once(mem, table + TABLE.x) != k
        store_release(mem, table + TABLE.y, k)
        linger((k & 7) * 8)
        if which == BEGUN_BEFORE:
            await_word(mem, table + TABLE.right, k)
        over = load_acquire(mem, table + TABLE.right) == k
        if old:
            count_seen(mem, table)
        forbidden += 1 if old and over else 0
        srcu_read_unlock(mem, cpu)
        await_word(mem, table + TABLE.right, k)
    return forbidden


# --- P27, P28: ends that are announced, and seen ------------------------------------------------------


@compiled
def end_announcer(mem: Any, cpu: int, table: int, rounds: int) -> int:
    """X = k; announce it."""
    for k in range(1, rounds + 1):
        meet(mem, table, 2 * k)
        linger(k & 31)
        write_once(mem, table + TABLE.x, k)
        announce(mem, 0)
    return 0


@compiled
def end_watcher(mem: Any, cpu: int, table: int, rounds: int) -> int:
    """Read how many were announced, then x. Forbidden: x is older."""
    forbidden = 0
    for k in range(1, rounds + 1):
        meet(mem, table, 2 * k)
        linger(k >> 5 & 31)
        seen = lives_seen(mem)
        forbidden += read_once(mem, table + TABLE.x) < seen
        if seen == k:
            count_seen(mem, table)
    return forbidden


@compiled
def await_end(mem: Any, cpu: int, table: int) -> int:
    """Wait until the task of CPU 1 has ended; give x."""
    while not is_dead(mem, slot_of(mem, 1)):
        cpu_relax()
    return read_once(mem, table + TABLE.x)


@compiled
def count_up(mem: Any, cpu: int, table: int) -> int:
    """X = x + 1, until this task is ended."""
    while True:
        write_once(mem, table + TABLE.x, read_once(mem, table + TABLE.x) + 1)
    return 0


# --- P29: rests --------------------------------------------------------------------------------------


@compiled
def restless(mem: Any, cpu: int, table: int) -> int:
    """Count up between two looks at whether a rest is asked for, until the run is stopped; done then."""
    write_once(mem, cpu + CPU.state, CpuState.RUNNING)
    while not fatal_signal_pending(mem):
        rest_if_asked(mem, cpu)
        write_once(mem, table + TABLE.x, read_once(mem, table + TABLE.x) + 1)
        write_once(mem, table + TABLE.y, read_once(mem, table + TABLE.x))
    return 0


@compiled
def pauser(mem: Any, cpu: int, table: int, rounds: int) -> int:
    """Ask for a rest, wait until CPU 1 has come to it, look twice. Forbidden: it goes on, or was half way."""
    forbidden = 0
    for k in range(rounds):
        ask_to_rest(mem)
        while cpus_at_rest(mem, 1) == 0:
            cpu_relax()
        x = read_once(mem, table + TABLE.x)
        linger(k & 255)
        forbidden += read_once(mem, table + TABLE.x) != x or read_once(mem, table + TABLE.y) != x
        store_release(mem, HEADER.phase, Phase.RUN)
        futex_wake(mem, HEADER.phase, EVERYBODY)
        linger(k & 63)
    store_release(mem, HEADER.phase, Phase.STOP)
    futex_wake(mem, HEADER.phase, EVERYBODY)
    return forbidden


# --- P11, P12, P13, P22, P23: what is published, and found -------------------------------------------

ENTRY_WORDS = 16
"""A list entry and what it carries: two lines, so that it could be seen in part."""


@compiled
def list_publisher(mem: Any, cpu: int, table: int, rounds: int, head: int, entries: int) -> int:
    """Fill an entry with k, put it on the list first; take the one before it off."""
    for k in range(1, rounds + 1):
        meet(mem, table, 4 * k - 2)
        linger(k & 31)
        entry = entries + (k & 1) * ENTRY_WORDS
        bitmap_fill(mem, entry + LIST_HEAD_WORDS, ENTRY_WORDS - LIST_HEAD_WORDS, k)
        list_add_rcu(mem, entry, head)
        meet(mem, table, 4 * k)
        list_del_rcu(mem, entry)
    return 0


@compiled
def list_follower(mem: Any, cpu: int, table: int, rounds: int, head: int, entries: int) -> int:
    """Follow the list. Forbidden: its first entry is the new one and carries something older."""
    forbidden = 0
    for k in range(1, rounds + 1):
        meet(mem, table, 4 * k - 2)
        linger(k >> 5 & 63)
        entry = list_next_rcu(mem, head)
        if entry == entries + (k & 1) * ENTRY_WORDS:
            count_seen(mem, table)
            for i in range(ENTRY_WORDS - LIST_HEAD_WORDS):
                forbidden += read_once(mem, entry + ENTRY_WORDS - 1 - i) != k
        meet(mem, table, 4 * k)
    return forbidden


@compiled
def announcer(mem: Any, cpu: int, table: int, rounds: int) -> int:
    """X = k, then change the word that the other waits for, and wake it."""
    for k in range(1, rounds + 1):
        meet(mem, table, 2 * k)
        linger(k & 31)
        write_once(mem, table + TABLE.x, k)
        store_release(mem, table + TABLE.y, k)
        futex_wake(mem, table + TABLE.y, 1)
    return 0


@compiled
def listener(mem: Any, cpu: int, table: int, rounds: int) -> int:
    """Wait until the word is no longer that of the last round, read x. Forbidden: x is old."""
    forbidden = 0
    for k in range(1, rounds + 1):
        meet(mem, table, 2 * k)
        wait_while(mem, table + TABLE.y, k - 1, 0, UNINTERRUPTIBLE)
        forbidden += read_once(mem, table + TABLE.x) != k
    return forbidden


@compiled
def slot_user(mem: Any, cpu: int, table: int, rounds: int, slot: int) -> int:
    """Claim a slot that both want, use it, give it back. Forbidden: it is not as the last one left it."""
    me = read_once(mem, cpu + CPU.id)
    forbidden = 0
    for k in range(1, rounds + 1):
        meet(mem, table, 2 * k)
        linger(k >> (4 * me) & 15)
        while not _claim(mem, slot, 0, me):
            cpu_relax()
        x, y = read_once(mem, table + TABLE.x), read_once(mem, table + TABLE.y)
        forbidden += x != y or read_once(mem, slot + CPU.state) != CpuState.FREE
        write_once(mem, slot + CPU.state, CpuState.ATTACHED)
        write_once(mem, table + TABLE.x, x + 1)
        write_once(mem, table + TABLE.y, y + 1)
        _free(mem, slot)
    return forbidden


@compiled
def memcg_maker(mem: Any, cpu: int, table: int, rounds: int, memcgs: int, slot: int) -> int:
    """Fill a memcg with k, its map too, put it online, publish it under a handle; two take turns."""
    for k in range(1, rounds + 1):
        meet(mem, table, 4 * k - 2)
        linger(k & 31)
        memcg = memcgs + (k & 1) * MEMCG.SIZE
        write_once(mem, memcg + MEMCG.online, 0)
        write_once(mem, memcg + MEMCG.limit, k)
        write_once(mem, nodeinfo(memcg, 0) + NODEINFO.map, k)
        store_release(mem, memcg + MEMCG.online, k)
        store_release(mem, slot, memcg)
        meet(mem, table, 4 * k)
    return 0


@compiled
def memcg_finder(mem: Any, cpu: int, table: int, rounds: int, memcgs: int, slot: int) -> int:
    """Find it by its handle. Forbidden: it is the new one and something of it is older."""
    forbidden = 0
    for k in range(1, rounds + 1):
        meet(mem, table, 4 * k - 2)
        linger(k >> 5 & 63)
        memcg = load_acquire(mem, slot)
        if memcg == memcgs + (k & 1) * MEMCG.SIZE:
            count_seen(mem, table)
            forbidden += read_once(mem, memcg + MEMCG.limit) != k or css_online(mem, memcg) != k
        meet(mem, table, 4 * k)
    return forbidden


@compiled
def map_finder(mem: Any, cpu: int, table: int, rounds: int, memcgs: int, slot: int) -> int:
    """Look whether the memcg is online. Forbidden: it is, and its map is older."""
    forbidden = 0
    for k in range(1, rounds + 1):
        meet(mem, table, 4 * k - 2)
        linger(k >> 5 & 63)
        memcg = memcgs + (k & 1) * MEMCG.SIZE
        if css_online(mem, memcg) == k:
            count_seen(mem, table)
            forbidden += read_once(mem, nodeinfo(memcg, 0) + NODEINFO.map) != k
        meet(mem, table, 4 * k)
    return forbidden
