"""Who goes first: the three policies of an RwLock, one waiter at a time."""

import os
import threading
import time
from typing import Any

import pytest

from shmreclaim import RwLock
from shmreclaim.errors import UsageError
from shmreclaim.sync.lockdep import LOCK
from tests.sync.crew import PATIENCE, until

POLICIES = ["fair", "prefer_readers", "prefer_writers"]


class Queue:
    """Threads that wait for one lock, in the order in which they came, and the order in which they got in."""

    def __init__(self, policy: Any) -> None:
        """Make the lock."""
        self.lock = RwLock(policy=policy)
        self.order: list[str] = []
        self.threads: list[threading.Thread] = []

    def waiting(self) -> int:
        """How many are queued."""
        side = self.lock._read
        return int(side.tasks.words[side.at + LOCK.waiters]).bit_count()

    def join(self, name: str) -> None:
        """Let one more come: "r..." for read, "w..." for write."""
        how = "read" if name[0] == "r" else "write"

        def wait() -> None:
            getattr(self.lock, f"acquire_{how}")()
            self.order.append(name)
            getattr(self.lock, f"release_{how}")()

        before = self.waiting()
        self.threads.append(threading.Thread(target=wait))
        self.threads[-1].start()
        until(lambda: self.waiting() == before + 1, f"{name} to queue")

    def end(self) -> list[str]:
        """Wait until all have been in; their order."""
        for thread in self.threads:
            thread.join(PATIENCE)
        return self.order


@pytest.mark.parametrize(
    ("policy", "order"),
    [("fair", ["w1", "r1", "w2"]), ("prefer_readers", ["r1", "w1", "w2"]), ("prefer_writers", ["w1", "w2", "r1"])],
)
def test_a_queue_is_served_in_the_order_of_its_policy(policy: str, order: list[str]) -> None:
    """A writer, a reader, a writer, behind a writer."""
    queue = Queue(policy)
    queue.lock.acquire_write()
    for name in ("w1", "r1", "w2"):
        queue.join(name)
    queue.lock.release_write()
    assert queue.end() == order


@pytest.mark.parametrize(("policy", "admitted"), [("fair", False), ("prefer_readers", True), ("prefer_writers", False)])
def test_a_new_reader_passes_a_waiting_writer_only_where_readers_are_preferred(policy: str, admitted: bool) -> None:
    """By trying, and by waiting with a timeout; and the writer gets in afterwards."""
    queue = Queue(policy)
    queue.lock.acquire_read()
    queue.join("w1")
    outcome: list[bool] = []

    def come() -> None:
        for attempt in (queue.lock.try_read, lambda: queue.lock.acquire_read(timeout=0.05)):
            outcome.append(attempt())
            if outcome[-1]:
                queue.lock.release_read()

    thread = threading.Thread(target=come)
    thread.start()
    thread.join(PATIENCE)
    assert outcome == [admitted] * 2
    queue.lock.release_read()
    assert queue.end() == ["w1"]


@pytest.mark.parametrize("policy", POLICIES)
def test_a_lock_says_its_policy(policy: Any) -> None:
    """Its name, as it was given."""
    assert RwLock(policy=policy).policy == policy


def test_an_unknown_policy_is_refused() -> None:
    """With those that there are."""
    wrong: Any = "unfair"
    with pytest.raises(UsageError, match="no policy of a lock"):
        RwLock(policy=wrong)


@pytest.mark.stress
def test_a_fair_lock_lets_a_writer_in_under_an_endless_stream_of_readers() -> None:
    """Three processes that hold for 2 ms each, always one of them inside; fifty writes, none of them timed out."""
    lock, pids = RwLock(), []
    for _ in range(3):
        pid = os.fork()
        if pid == 0:
            while True:
                with lock.read():
                    time.sleep(0.002)
        pids.append(pid)
    try:
        for _ in range(50):
            assert lock.acquire_write(timeout=PATIENCE) is True
            lock.release_write()
    finally:
        for pid in pids:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
