"""Every lock in real processes, racing for half a second each; and the broken ones, which must be found out."""

from collections.abc import Callable

import pytest

from shmreclaim.machine.compile import entry_point
from shmreclaim.machine.layout import LINE
from shmreclaim.sync.lockdep import LOCK
from shmreclaim.sync.mutex import mutex_init, mutex_lock
from shmreclaim.sync.rwsem import down_read, rwsem_init
from shmreclaim.sync.rwsem_queue import READERS_MASK, WRITER
from tests.sync import broken, programs
from tests.sync.crew import Crew, HangError
from tests.sync.torture import (
    ITEM,
    ITEMS_EACH,
    TARGET,
    Kind,
    start_now,
    torture_exclusive,
    torture_rcu_caller,
    torture_rcu_reader,
    torture_rcu_updater,
    torture_rwsem,
)

pytestmark = pytest.mark.stress
RUN = 500_000_000
"""ns that one run lasts."""


class Broken(AssertionError):  # noqa: N818 - it is the lock that is broken
    """What the oracle found."""


def torture(crew: Crew, program: Callable[..., int], lock: int, kind: Kind, processes: int) -> int:
    """Let processes attack a lock; raises Broken or HangError, else gives the number of changes made."""
    target = crew.arena.allocate(TARGET.SIZE)
    entry_point(program, 5)
    crew.call(start_now, target, RUN)
    for number in range(1, processes + 1):
        crew.start(number, program, lock, target, kind)
    errors = sum(crew.finish(10).values())
    changes = crew.word(target + TARGET.changes)
    found = crew.word(target + TARGET.first), crew.word(target + TARGET.second)
    if errors or found != (changes, changes):
        raise Broken(f"{errors} errors; {changes} changes, found {found}")
    assert crew.violations() == 0
    return changes


@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.parametrize("kind", [Kind.SPINLOCK, Kind.MUTEX, Kind.MUTEX_ANY], ids=lambda kind: kind.name)
def test_an_exclusive_lock_excludes(crew: Crew, kind: Kind, processes: int) -> None:
    """No change is lost or seen half done; the lock is free and its queue empty at the end."""
    lock = crew.lock(mutex_init)
    assert torture(crew, torture_exclusive, lock, kind, processes) > 0
    assert (crew.word(lock + LOCK.word), crew.queue(lock)) == (0, [])


@pytest.mark.parametrize("processes", [2, 3, 6])
@pytest.mark.parametrize("kind", [Kind.RWSEM, Kind.RWSEM_ANY], ids=lambda kind: kind.name)
def test_an_rwsem_keeps_writers_from_everybody(crew: Crew, kind: Kind, processes: int) -> None:
    """Blocking, tried, timed and downgraded; the sem is free and its queue empty at the end."""
    sem = crew.lock(rwsem_init)
    assert torture(crew, torture_rwsem, sem, kind, processes) > 0
    assert (crew.word(sem + LOCK.word), crew.queue(sem)) == (0, [])


def torture_rcu(crew: Crew, updater: Callable[..., int], kind: Kind, readers: int, updaters: int) -> None:
    """Let readers follow a pointer that updaters change; raises Broken if a reader found what was taken back."""
    target = crew.arena.allocate(TARGET.changes + (readers + updaters + 2) * LINE)
    pointer = crew.arena.allocate(LINE)
    entry_point(updater, 5)
    entry_point(torture_rcu_reader, 5)
    crew.arena.memory[pointer] = crew.arena.allocate(ITEM.SIZE)
    for number in range(1, updaters + 1):
        items = [crew.arena.allocate(ITEM.SIZE) for _ in range(ITEMS_EACH)]
        for item, after in zip(items, [*items[1:], 0], strict=True):
            crew.arena.memory[item + ITEM.spare] = after
        crew.arena.memory[target + TARGET.changes + number * LINE] = items[0]
    crew.call(start_now, target, RUN)
    for number in range(1, readers + updaters + 1):
        program = updater if number <= updaters else torture_rcu_reader
        crew.start(number, program, pointer, target, kind)
    errors = sum(crew.finish(10).values())
    assert crew.word(target + TARGET.changes) > 0
    assert crew.word(target + TARGET.reads) > 0
    if errors:
        raise Broken(f"{errors} of {crew.word(target + TARGET.reads)} readers found a poisoned item")


@pytest.mark.parametrize(("readers", "updaters"), [(1, 1), (3, 1), (2, 2)])
def test_no_reader_sees_what_was_taken_back_after_a_grace_period(crew: Crew, readers: int, updaters: int) -> None:
    """Readers nest and linger; several updaters wait at the same time."""
    torture_rcu(crew, torture_rcu_updater, Kind.RCU, readers, updaters)


@pytest.mark.parametrize(("readers", "updaters"), [(1, 1), (2, 2)])
def test_no_reader_sees_what_came_back_from_call_rcu(crew: Crew, readers: int, updaters: int) -> None:
    """Items come back in order, and only when nobody sees them."""
    torture_rcu(crew, torture_rcu_caller, Kind.CALL_RCU, readers, updaters)


# --- the oracle must bite ----------------------------------------------------------------------------


def test_a_lock_that_does_nothing_is_found_out(crew: Crew) -> None:
    """Changes are lost, or seen half done."""
    lock = crew.lock(mutex_init)
    with pytest.raises(Broken, match="errors"):
        torture(crew, torture_exclusive, lock, Kind.NO_LOCK, 3)


def test_a_read_trylock_that_succeeds_while_a_writer_holds_is_found_out(crew: Crew) -> None:
    """Readers see a change half done."""
    sem = crew.lock(rwsem_init)
    with pytest.raises(Broken, match="errors"):
        torture(crew, torture_rwsem, sem, Kind.SLACK_TRYLOCK, 3)


def test_a_grace_period_that_ends_at_once_is_found_out(crew: Crew) -> None:
    """Readers find poison."""
    with pytest.raises(Broken, match="poisoned"):
        torture_rcu(crew, torture_rcu_updater, Kind.RCU_AT_ONCE, 3, 1)


def test_an_up_read_that_forgets_to_wake_is_found_out(crew: Crew) -> None:
    """The writer hangs, and the report names it and what it waits for."""
    sem, log = crew.lock(rwsem_init), crew.arena.allocate(4)
    crew.call(down_read, crew.cpus[1], sem)
    crew.start(2, programs.pass_write, sem, log)
    crew.until_queued(sem, 2)
    crew.call(broken.up_read_without_wake, crew.cpus[1], sem)
    assert crew.word(sem) & (READERS_MASK | WRITER) == 0
    with pytest.raises(HangError, match=f"CPU 2 waits for word {sem}"):
        crew.finish(0.5)


def test_a_completion_that_forgets_to_wake_is_found_out(crew: Crew) -> None:
    """Who waits hangs, and the report names it and what it waits for."""
    word, other = crew.arena.allocate(1), crew.arena.allocate(1)
    crew.start(2, programs.bounce, word, other, 1)
    crew.until_asleep_on(2, word)
    crew.call(broken.complete_without_wake, word)
    with pytest.raises(HangError, match=f"CPU 2 waits for word {word}"):
        crew.finish(0.5)


def test_an_owner_that_never_lets_go_is_found_out(crew: Crew) -> None:
    """Not the lock's fault, but the report is the same."""
    mutex, log = crew.lock(mutex_init), crew.arena.allocate(4)
    crew.call(mutex_lock, crew.cpus[1], mutex)
    crew.start(2, programs.pass_mutex, mutex, log)
    crew.until_queued(mutex, 2)
    with pytest.raises(HangError, match=f"CPU 2 waits for word {mutex}"):
        crew.finish(0.2)
