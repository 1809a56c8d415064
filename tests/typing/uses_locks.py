"""How a program uses the locks, for pyright to check in its strict mode (`.ci/run`): every type must be known."""

from typing import assert_type

from shmreclaim import Arena, Completion, Mutex, OwnerDied, RwLock, Semaphore, lock_arena


def repair(who: OwnerDied) -> None:
    """Set right what a dead holder left."""
    assert_type(who.tid, int)
    assert_type(who.mode, str)


def use_mutex(arena: Arena) -> None:
    """All of Mutex."""
    for mutex in (Mutex(), Mutex(arena), Mutex(name="a", on_owner_died=repair)):
        with mutex as taken:
            assert_type(taken, bool)
        assert_type(mutex.acquire(), bool)
        assert_type(mutex.acquire(False), bool)
        assert_type(mutex.acquire(timeout=0.5), bool)
        assert_type(mutex.locked(), bool)
        assert_type(mutex.recovered, bool)
        mutex.release()


def use_rwlock(lock: RwLock) -> None:
    """All of RwLock."""
    with lock.read() as reading, lock.write() as writing:
        assert_type(reading, bool)
        assert_type(writing, bool)
    assert_type(lock.acquire_read(timeout=1), bool)
    assert_type(lock.acquire_write(blocking=False), bool)
    assert_type(lock.try_read(), bool)
    assert_type(lock.try_write(), bool)
    assert_type(lock.is_contended(), bool)
    assert_type(lock.recovered, bool)
    assert_type(lock.policy, str)
    lock.downgrade()
    lock.release_read()
    lock.release_write()


def use_counts(semaphore: Semaphore, completion: Completion) -> None:
    """All of Semaphore and Completion."""
    with semaphore as taken:
        assert_type(taken, bool)
    assert_type(semaphore.acquire(timeout=None), bool)
    assert_type(semaphore.get_value(), int)
    semaphore.release(2)
    assert_type(completion.wait(0.1), bool)
    assert_type(completion.try_wait(), bool)
    assert_type(completion.done(), bool)
    completion.complete()
    completion.complete_all()


with lock_arena(2) as segment:
    use_mutex(segment)
    use_rwlock(RwLock(segment, policy="prefer_writers"))
    use_counts(Semaphore(2), Completion())
