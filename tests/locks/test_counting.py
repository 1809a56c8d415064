"""Semaphore and Completion: counts that processes and threads wait for."""

import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable

import multiprocess
import pytest

from shmreclaim import Completion, Semaphore
from tests.sync.crew import PATIENCE, until, until_asleep


@pytest.mark.parametrize("value", [0, 1, 3])
def test_a_semaphore_lets_as_many_in_as_its_value(value: int) -> None:
    """One more waits in vain; a release lets one in."""
    semaphore = Semaphore(value)
    assert [semaphore.acquire(False) for _ in range(value + 1)] == [True] * value + [False]
    assert semaphore.acquire(timeout=0.02) is False
    semaphore.release()
    assert semaphore.get_value() == 1
    with semaphore:
        assert semaphore.get_value() == 0
    assert semaphore.get_value() == 1


def test_a_release_of_many_lets_as_many_go_on() -> None:
    """Threads that sleep until then."""
    semaphore, gone = Semaphore(0), threading.Semaphore(0)
    threads = [threading.Thread(target=lambda: semaphore.acquire() and gone.release()) for _ in range(3)]
    for thread in threads:
        thread.start()
    semaphore.release(3)
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert semaphore.get_value() == 0


@pytest.mark.parametrize("wrong", [-1, 1 << 30])
def test_a_value_out_of_range_is_refused(wrong: int) -> None:
    """As in threading.Semaphore."""
    with pytest.raises(ValueError, match="semaphore initial value must be"):
        Semaphore(wrong)


def test_a_release_of_none_is_refused() -> None:
    """As in threading.Semaphore."""
    with pytest.raises(ValueError, match="one or more"):
        Semaphore().release(0)


def _wait(completion: Completion) -> None:
    raise SystemExit(0 if completion.wait(PATIENCE) else 1)


@pytest.mark.parametrize("library", [multiprocess, multiprocessing], ids=["multiprocess", "multiprocessing"])
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_completion_lets_a_process_go_on(library: multiprocessing, method: str) -> None:  # type: ignore[valid-type]
    """However it got it."""
    completion = Completion()
    child = library.get_context(method).Process(target=_wait, args=(completion,))  # type: ignore[attr-defined]
    child.start()
    completion.complete()
    child.join(2 * PATIENCE)
    assert child.exitcode == 0
    assert not completion.done()


def test_a_completion_of_all_stays() -> None:
    """Every wait ends at once from then on."""
    completion = Completion()
    assert (completion.done(), completion.try_wait(), completion.wait(0.01)) == (False, False, False)
    completion.complete_all()
    assert [completion.wait() for _ in range(3)] == [True] * 3
    assert completion.done()


@pytest.mark.parametrize("make", [lambda: Semaphore(2), Completion], ids=["semaphore", "completion"])
def test_a_count_travels_by_pickle_and_says_what_it_is(make: Callable[[], Semaphore | Completion]) -> None:
    """To the same words."""
    count = make()
    other = pickle.loads(pickle.dumps(count))
    assert type(other) is type(count)
    assert other._place.at == count._place.at
    assert f"shmreclaim.{type(count).__name__} object" in repr(count)


def test_a_waiter_that_was_woken_and_dies_keeps_no_other_waiting() -> None:
    """It took the wake-up with it; what it did not use up is there for the next."""
    semaphore, pids = Semaphore(0), []
    for _ in range(2):
        pid = os.fork()
        if pid == 0:
            semaphore.acquire()
            os._exit(0)
        until_asleep(pid)
        pids.append(pid)
    os.kill(pids[0], signal.SIGSTOP)
    semaphore.release()
    os.kill(pids[0], signal.SIGKILL)
    os.waitpid(pids[0], 0)
    codes: list[int] = []

    def second_ended() -> bool:
        done, status = os.waitpid(pids[1], os.WNOHANG)
        codes.extend([status] if done else [])
        return bool(done)

    until(second_ended, "the second waiter to go on")
    assert codes == [0]
