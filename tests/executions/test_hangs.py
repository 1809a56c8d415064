"""A run that hangs is ended with a report of who holds and who waits for what."""

import re
import time

import pytest

from shmreclaim.errors import Inconclusive
from shmreclaim.executions.native import RunSettings
from shmreclaim.workload import Workload
from tests.executions.workloads import by_hand, idle, play, register

BROKEN = "tests.executions.broken"
TIMEOUT_S = 2.0
SOON, LONG = 100_000_000, 60_000_000_000


def _report(design: str, workload: Workload) -> str:
    began = time.monotonic()
    with pytest.raises(Inconclusive) as caught:
        play(workload, f"{BROKEN}.{design}", RunSettings(timeout=TIMEOUT_S))
    assert time.monotonic() - began > TIMEOUT_S
    assert caught.value.exit_code == 3
    return str(caught.value)


def test_a_lock_that_is_never_given_back_is_named_with_its_holder_and_who_waits() -> None:
    """Pid, CPU, operation, the lock held, the lock waited for, and since when; a CPU that is done is told as well."""
    workload = by_hand([register(0), idle(LONG)], [idle(SOON), register(1)], [idle(1)])
    first, holder, waiter, done, kswapd, last = _report("forgotten_lock", workload).splitlines()
    assert first == "the run did not end within 2 s:"
    assert last == "If it was only slow, allow more with --timeout."
    lock = r"list_lrus_mutex at \d+ \(write\)"
    held = re.fullmatch(rf"CPU 0 \(pid \d+\), in idle for ([\d.]+) ms, holds ({lock}) for ([\d.]+) ms", holder)
    waits = re.fullmatch(rf"CPU 1 \(pid \d+\), in register for ([\d.]+) ms, waits for ({lock}) for ([\d.]+) ms", waiter)
    assert held, holder
    assert waits, waiter
    assert held[2] == waits[2]
    assert all(1000 < float(ms) < 60_000 for ms in (held[1], held[3], waits[1], waits[3]))
    assert re.fullmatch(r"CPU 2 \(pid \d+, dead\), is done", done)
    assert re.fullmatch(r"kswapd0 \(pid \d+\), in no operation", kswapd)


def test_two_locks_taken_in_opposite_orders_are_seen_from_both_sides() -> None:
    """Each CPU holds what the other waits for; and what the lock order says of it is there as well."""
    report = _report("crossed_locks", by_hand([register(0)], [register(1)]))
    found = dict(re.findall(r"holds (\w+_mutex at \d+) .*waits for (\w+_mutex at \d+) ", report))
    assert len(found) == 2
    assert {found[found[lock]] for lock in found} == set(found)
    assert re.search(r"lock order: (\w+) \(at \d+\) was waited for inside (?!\1)\w+", report)
