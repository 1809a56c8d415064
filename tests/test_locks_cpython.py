"""CPython's own tests of threading's and multiprocessing's locks, run against ours; those left out say why.

A class of tests is one entry of BORROWED. What is left out is skipped with its reason where this Python has it.
"""

import multiprocessing
import unittest
from typing import Any, NamedTuple

import pytest

from shmreclaim.locks import Mutex, Semaphore
from tests.locks.test_locks import PATIENCE, until, waiters

NO_SUITE = "this Python comes without its test suite"
lock_tests = pytest.importorskip("test.lock_tests", reason=NO_SUITE)
multiprocessing_tests = pytest.importorskip("test._test_multiprocessing", reason=NO_SUITE)

OWNED = "another thread gives the lock up in it; a mutex has an owner"
NOT_RECURSIVE = "whoever holds it takes it again; a mutex is not recursive"
PRIVATE = "what it calls is private to threading"
OWN_WORDS = "multiprocessing's own words for who holds a lock"


class Borrowed(NamedTuple):
    """A class of CPython's tests, and how it is run."""

    bases: tuple[type, ...]
    attributes: dict[str, Any]
    """What the tests look for in their class: the lock."""
    left_out: dict[str, str]
    """Why, by the test's name."""


BORROWED = {
    "TestMutexAsThreadingLock": Borrowed(
        (lock_tests.LockTests,),
        {"locktype": Mutex},
        {"test_different_thread": OWNED, "test_reacquire": OWNED, "test_at_fork_reinit": PRIVATE},
    ),
    "TestMutexAsThreadingRLock": Borrowed(
        (lock_tests.RLockTests,),
        {"locktype": Mutex},
        {
            "test_reacquire": NOT_RECURSIVE,
            "test_release_unacquired": NOT_RECURSIVE,
            "test_recursion_count": PRIVATE,
            "test_release_save_unacquired": PRIVATE,
            "test__is_owned": PRIVATE,
        },
    ),
    "TestMutexAsMultiprocessingLock": Borrowed(
        (multiprocessing_tests._TestLock, multiprocessing_tests.ProcessesMixin, unittest.TestCase),
        {"Lock": Mutex},
        {
            "test_rlock": NOT_RECURSIVE,
            "test_rlock_context": NOT_RECURSIVE,
            "test_rlock_locked_2processes": NOT_RECURSIVE,
            "test_repr_lock": OWN_WORDS,
            "test_repr_rlock": OWN_WORDS,
        },
    ),
    "TestSemaphoreAsThreadingSemaphore": Borrowed(
        (lock_tests.SemaphoreTests,), {"semtype": Semaphore}, {"test_repr": "threading's own words for a semaphore"}
    ),
    "TestSemaphoreAsMultiprocessingSemaphore": Borrowed(
        (multiprocessing_tests._TestSemaphore, multiprocessing_tests.ProcessesMixin, unittest.TestCase),
        {"Semaphore": Semaphore},
        {
            "test_bounded_semaphore": "there is no bounded one",
            "test_timeout": "it gives a timeout to a call that does not wait, which threading refuses, and so do we",
        },
    ),
}


def borrow(name: str, **attributes: Any) -> type[unittest.TestCase]:
    """Make the test case of an entry; attributes win over the entry's."""
    entry = BORROWED[name]
    present = {test: reason for test, reason in entry.left_out.items() if any(hasattr(b, test) for b in entry.bases)}
    skipped = {test: unittest.skip(reason)(_left_out) for test, reason in present.items()}
    return type(name, entry.bases, {"__module__": __name__, **entry.attributes, **attributes, **skipped})


def _left_out(self: unittest.TestCase) -> None:
    """Stand for a test that is not run."""


for _name in BORROWED:
    globals()[_name] = borrow(_name)


# --- between processes ---------------------------------------------------------------------------------


def run_with(mutex: Mutex) -> None:
    """In a child: run the tests of multiprocessing's lock on one that somebody else made; raise if one fails."""
    case = borrow("TestMutexAsMultiprocessingLock", Lock=lambda _self: mutex)
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
    assert result.wasSuccessful(), result.failures + result.errors
    assert result.testsRun > len(result.skipped)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessings_tests_pass_in_a_process_on_a_lock_of_another(method: str) -> None:
    """They wait until its maker gives it up, so it is the same lock, and leave it free."""
    mutex = Mutex()
    mutex.acquire()
    child = multiprocessing.get_context(method).Process(target=run_with, args=(mutex,), daemon=True)
    child.start()
    until(lambda: waiters(mutex) == 1 or child.exitcode is not None)
    assert child.exitcode is None, "it did not wait"
    mutex.release()
    child.join(PATIENCE)
    assert child.exitcode == 0
    assert not mutex.locked()
