"""A run that hangs is ended with a report of who holds and who waits for what."""

import re
import time

import pytest

from shmreclaim.errors import Inconclusive
from shmreclaim.executions.native import RunSettings
from tests.executions.workloads import by_hand, play, register

BROKEN = "tests.executions.broken"
TIMEOUT_S = 2.0


def _report(design: str) -> str:
    workload = by_hand([register(k) for k in range(8)], [register(k) for k in range(8, 16)])
    began = time.monotonic()
    with pytest.raises(Inconclusive) as caught:
        play(workload, f"{BROKEN}.{design}", RunSettings(timeout=TIMEOUT_S))
    assert time.monotonic() - began > TIMEOUT_S
    assert caught.value.exit_code == 3
    return str(caught.value)


def test_a_lock_that_is_never_given_back_is_named_with_its_holder_and_who_waits() -> None:
    """Pid, CPU, operation, the lock held, the lock waited for, and since when."""
    report = _report("forgotten_lock")
    assert report.startswith("the run did not end within 2 s:\nCPU 0 (pid ")
    assert report.endswith("If it was only slow, allow more with --timeout.")
    lines = {line[:5]: line for line in report.splitlines() if line.startswith("CPU ") and "(pid" in line}
    assert len(lines) == 2
    holder = next(line for line in lines.values() if "holds list_lrus_mutex" in line)
    held = re.search(r"holds (list_lrus_mutex at \d+) \(write\) for ([\d.]+) ms", holder)
    assert held
    assert float(held[2]) > 1000
    for line in lines.values():
        waits = re.search(
            r"in register for ([\d.]+) ms.* waits for (list_lrus_mutex at \d+) \(write\) for ([\d.]+) ms", line
        )
        assert waits, line
        assert waits[2] == held[1]
        assert float(waits[1]) >= float(waits[3]) > 1000
    assert "kswapd0 (pid " in report


def test_two_locks_taken_in_opposite_orders_are_seen_from_both_sides() -> None:
    """Each CPU holds what the other waits for; and what the lock order says of it is there as well."""
    report = _report("crossed_locks")
    found = dict(re.findall(r"holds (\w+_mutex at \d+) .*waits for (\w+_mutex at \d+) ", report))
    assert len(found) == 2
    assert {found[found[lock]] for lock in found} == set(found)
    assert "lock order: a lock of class" in report
