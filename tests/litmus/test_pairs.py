"""Every ordering pair but those of the maps, in two real processes: its forbidden outcome never shows.

These run on the hardware there is. On x86 only store buffering (P7, P9) can show at all, besides what
the compiler might do; the other pairs are tried here all the same, and in full under a model of memory.
"""

import os
import signal

import pytest

from shmreclaim.lib.list_head import list_init
from shmreclaim.machine.compile import entry_point
from shmreclaim.machine.cpu import CPU
from shmreclaim.machine.life import begin_life
from shmreclaim.machine.tasks import SLOT_WORDS
from shmreclaim.mm.memcg import MEMCG
from shmreclaim.sync.mutex import mutex_init
from shmreclaim.sync.rwsem import rwsem_init
from shmreclaim.sync.srcu import SRCU, init_srcu
from tests.litmus import programs
from tests.litmus.programs import TABLE
from tests.sync.crew import Crew, until

pytestmark = pytest.mark.stress
ROUNDS = 20_000
FEWER = 4_000
"""Rounds where every one costs a system call on each side."""
FEW = 200
"""Rounds of a mutant that does the forbidden in each."""


def both(crew: Crew, left: object, left_args: tuple[int, ...], right: object, right_args: tuple[int, ...]) -> int:
    """Run both sides in processes of their own; how often the forbidden outcome showed."""
    for side, args in ((left, left_args), (right, right_args)):
        entry_point(side, 2 + len(args))
    crew.start(1, left, *left_args)
    crew.start(2, right, *right_args)
    return sum(crew.finish().values())


def through_lock(crew: Crew, table: int, lock: int, kind: int) -> int:
    """What one side writes under a lock, the other looks for under it; how often it was seen in part."""
    args = (lock, table, kind, ROUNDS)
    forbidden = both(crew, programs.lock_writer, args, programs.lock_reader, args)
    assert crew.word(table + TABLE.seen) > 0, "the reader never came second: nothing was tried"
    return forbidden


def test_P1_a_spinlock_hands_over_what_was_written(crew: Crew, table: int) -> None:
    """Under the lock, and before it."""
    assert through_lock(crew, table, crew.lock(mutex_init), programs.SPIN) == 0


def test_P2_a_woken_waiter_sees_what_its_waker_wrote(crew: Crew, table: int) -> None:
    """Whether it slept or was just about to."""
    right = (table, FEWER, crew.cpus[1])
    assert both(crew, programs.woken, (table, FEWER), programs.waker, right) == 0


def test_P3_a_mutex_hands_over_what_was_written(crew: Crew, table: int) -> None:
    """Under the lock, and before it."""
    assert through_lock(crew, table, crew.lock(mutex_init), programs.MUTEX) == 0


@pytest.mark.parametrize("kind", ["WRITE_READ", "READ_WRITE", "DOWNGRADE"])
def test_P4_an_rwsem_hands_over_what_was_written(crew: Crew, table: int, kind: str) -> None:
    """From writer to reader, from reader to writer, from a writer that downgraded to a reader."""
    assert through_lock(crew, table, crew.lock(rwsem_init), getattr(programs, kind)) == 0


def test_P5_a_completion_hands_over_what_was_written(crew: Crew, table: int) -> None:
    """Whether the waiter slept or came later."""
    args = (table, FEWER, crew.arena.allocate(8))
    assert both(crew, programs.completer, args, programs.completed, args) == 0


def test_P6_the_last_reference_sees_what_others_wrote(crew: Crew, table: int) -> None:
    """Whoever drops last."""
    ref = crew.arena.allocate(8)
    crew.arena.memory[ref] = 2
    args = (table, ROUNDS, ref)
    assert both(crew, programs.dropper, args, programs.dropper, args) == 0


def grace_period(crew: Crew, table: int, barrier: int) -> int:
    """How often a grace period was over though a reader inside had seen the old pointer."""
    left, right = (table, ROUNDS, barrier), (table, ROUNDS)
    return both(crew, programs.pointer_reader, left, programs.pointer_updater, right)


def test_P7_a_grace_period_waits_for_a_reader_that_saw_the_old_pointer(crew: Crew, table: int) -> None:
    """The updater looks while the reader is inside, so one of the two must see the other."""
    assert grace_period(crew, table, 1) == 0
    assert crew.word(table + TABLE.seen) > 0, "no grace period was ever over: nothing was tried"


def test_P7_without_its_barrier_a_grace_period_misses_a_reader(crew: Crew, table: int) -> None:
    """The mutant: a plain store in place of the full barrier; the test above can see what it forbids."""
    if grace_period(crew, table, 0) == 0:
        pytest.skip(f"this machine did not show the reordering in {ROUNDS} rounds")


def test_P8_nothing_of_a_read_section_leaks_past_its_grace_period(crew: Crew, table: int) -> None:
    """What was written inside is seen by whoever waited for the section."""
    assert both(crew, programs.section_writer, (table, ROUNDS), programs.section_waiter, (table, ROUNDS)) == 0


def test_P9_a_grace_period_that_sleeps_is_woken(crew: Crew, table: int) -> None:
    """The reader leaves while the updater is about to sleep: a lost wake-up would hang here."""
    left, right = (table, FEWER), (table, FEWER)
    assert both(crew, programs.section_sleeper, left, programs.section_waiter, right) == 0


def test_P25_a_grace_period_covers_those_who_asked_before_it(crew: Crew, table: int) -> None:
    """Another process runs grace periods all the time, so that half of those asked for are its."""
    srcu = crew.arena.allocate(SRCU.SIZE)
    crew.call(init_srcu, srcu, 0)
    entry_point(programs.grace_periods, 4)
    entry_point(programs.asker, 6)
    entry_point(programs.srcu_reader, 5)
    crew.start(3, programs.grace_periods, table, srcu)
    crew.start(1, programs.asker, table, FEWER, srcu, programs.BEGUN_LATER)
    crew.start(2, programs.srcu_reader, table, FEWER, programs.BEGUN_LATER)
    forbidden = crew.result(2)
    crew.result(1)
    crew.arena.memory[table + TABLE.early] = 1
    assert crew.result(3) > 0, "it ran no grace period"
    assert forbidden == 0
    assert crew.word(table + TABLE.seen) > 0, "the reader was never first: nothing was tried"


def test_P25_a_grace_period_that_began_before_misses_whoever_is_inside(crew: Crew, table: int) -> None:
    """The mutant asks for one less, and for one that is over already: the test above can see what it forbids."""
    srcu = crew.arena.allocate(SRCU.SIZE)
    crew.call(init_srcu, srcu, 0)
    left, right = (table, FEW, srcu, programs.BEGUN_BEFORE), (table, FEW, programs.BEGUN_BEFORE)
    assert both(crew, programs.asker, left, programs.srcu_reader, right) == FEW


def test_P26_a_reference_taken_sees_what_was_there_before_the_first(crew: Crew, table: int) -> None:
    """Whoever finds the object early takes none."""
    args = (table, ROUNDS, crew.arena.allocate(8), programs.FILL_FIRST)
    assert both(crew, programs.opener, args, programs.taker, args) == 0
    assert crew.word(table + TABLE.seen) > 0, "no reference was ever taken: nothing was tried"


def test_P26_a_reference_that_was_there_before_shows_an_object_half_filled(crew: Crew, table: int) -> None:
    """The mutant fills the object last, and a reference is taken between: the test above can see what it forbids."""
    args = (table, FEW, crew.arena.allocate(8), programs.REFERENCE_FIRST)
    assert both(crew, programs.opener, args, programs.taker, args) == FEW


def store_buffering(crew: Crew, table: int, barrier: int) -> int:
    """How often both sides read the old value."""
    args = (table, ROUNDS, barrier)
    return both(crew, programs.store_buffering, args, programs.store_buffering, args)


def test_stores_are_buffered_where_there_is_no_barrier(crew: Crew, table: int) -> None:
    """The shape behind P7 and P9, and proof that these tests can see a reordering at all."""
    if store_buffering(crew, table, 0) == 0:
        pytest.skip(f"this machine did not show store buffering in {ROUNDS} rounds")


def test_a_full_barrier_forbids_store_buffering(crew: Crew, table: int) -> None:
    """smp_mb between the store and the load, on both sides."""
    assert store_buffering(crew, table, 1) == 0


def test_P11_an_entry_found_on_a_list_is_whole(crew: Crew, table: int) -> None:
    """To the last word, for whoever reaches it without a lock."""
    head = crew.arena.allocate(8)
    crew.call(list_init, head)
    args = (table, ROUNDS, head, crew.arena.allocate(2 * programs.ENTRY_WORDS))
    assert both(crew, programs.list_publisher, args, programs.list_follower, args) == 0
    assert crew.word(table + TABLE.seen) > 0, "the reader always came first: nothing was tried"


def test_P12_who_waited_for_a_word_sees_what_came_before_its_change(crew: Crew, table: int) -> None:
    """Whether it slept or came later."""
    args = (table, FEWER)
    assert both(crew, programs.announcer, args, programs.listener, args) == 0


def test_P13_a_slot_is_claimed_as_it_was_left(crew: Crew, table: int) -> None:
    """By one at a time, and with all that the last one wrote."""
    slot = crew.arena.allocate(SLOT_WORDS)
    args = (table, ROUNDS, slot)
    assert both(crew, programs.slot_user, args, programs.slot_user, args) == 0
    assert crew.word(table + TABLE.x) == crew.word(table + TABLE.y) == 2 * ROUNDS


def published_memcg(crew: Crew, table: int, finder: object) -> int:
    """One side makes memcgs, the other looks for them; how often one was seen in part."""
    args = (table, ROUNDS, crew.arena.allocate(2 * MEMCG.SIZE), crew.arena.allocate(8))
    forbidden = both(crew, programs.memcg_maker, args, finder, args)
    assert crew.word(table + TABLE.seen) > 0, "the reader always came first: nothing was tried"
    return forbidden


def test_P22_a_memcg_found_by_its_handle_is_whole(crew: Crew, table: int) -> None:
    """Its limit, and that it is online."""
    assert published_memcg(crew, table, programs.memcg_finder) == 0


def test_P23_a_memcg_seen_online_has_its_maps(crew: Crew, table: int) -> None:
    """Whoever sees the flag may follow the pointer."""
    assert published_memcg(crew, table, programs.map_finder) == 0


def test_P27_who_sees_that_an_end_was_announced_sees_the_end(crew: Crew, table: int) -> None:
    """The life that the announcer found dead, for which x stands here."""
    args = (table, ROUNDS)
    assert both(crew, programs.end_announcer, args, programs.end_watcher, args) == 0
    assert crew.word(table + TABLE.seen) > 0, "the watcher always came first: nothing was tried"


def test_P29_who_is_counted_at_rest_has_stopped(crew: Crew, table: int) -> None:
    """Whether it slept through the last pause, has just left it, or comes to this one."""
    assert both(crew, programs.restless, (table,), programs.pauser, (table, FEWER)) == 0
    assert crew.word(table + TABLE.x) > 0, "it never went on: nothing was tried"


def test_P28_who_sees_that_a_task_ended_sees_what_it_did(crew: Crew, table: int) -> None:
    """All of it: once it is seen dead, what it wrote changes no more."""
    entry = entry_point(programs.count_up, 3)

    def live_and_count(mem: int, cpu: int) -> int:
        begin_life(mem + 8 * (cpu + CPU.life))
        return entry(mem, cpu, table)

    for _ in range(20):
        pid = crew.start_python(1, live_and_count)
        until(lambda: crew.word(table + TABLE.x) > 0, "the counter to run")
        crew.start(2, programs.await_end, table)
        os.kill(pid, signal.SIGKILL)
        seen = crew.result(2)
        crew.forget(1)
        assert crew.word(table + TABLE.x) == seen
        crew.arena.words[table + TABLE.x] = 0
        crew.arena.words[crew.cpus[1] + CPU.life] = 0
