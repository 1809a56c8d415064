"""What holds for every test of executions: all is compiled before, no process is left after."""

import os
import time
from collections.abc import Iterator

import pytest

from tests.executions.left import holders_of, segments_of


@pytest.fixture(autouse=True)
def _no_worker_is_left(compiled_once: None) -> Iterator[None]:
    """No process has a segment of this one mapped, but this one."""
    yield
    assert segments_of(os.getpid()) == []
    deadline = time.monotonic() + 2
    while (left := holders_of(os.getpid())) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not left
