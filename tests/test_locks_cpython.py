"""CPython's own tests of threading.Lock, run against Mutex; those left out say why."""

import unittest
from collections.abc import Callable
from typing import Any

import pytest

from shmreclaim.locks import Mutex

lock_tests = pytest.importorskip("test.lock_tests", reason="this Python comes without its test suite")

LEFT_OUT = {
    "test_different_thread": "a mutex is given up by the thread that took it",
    "test_reacquire": "another thread gives the lock up in it; a mutex has an owner",
    "test_at_fork_reinit": "_at_fork_reinit is private to threading",
}


def left_out(reason: str) -> Callable[[Any], None]:
    """A test that is skipped with a reason."""

    @unittest.skip(reason)
    def test(self: Any) -> None:
        """Left out."""

    return test


class TestMutexAsThreadingLock(lock_tests.LockTests):  # type: ignore[misc,name-defined]
    """All of LockTests but LEFT_OUT."""

    locktype = staticmethod(Mutex)

    for _name, _reason in LEFT_OUT.items():
        vars()[_name] = left_out(_reason)
