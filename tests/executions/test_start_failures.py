"""What the machine refuses is said in one message, before or while workers start, and nothing is left of it."""

import re
from pathlib import Path

import pytest

from tests.executions.command import Command, compare

NO_MORE_FORKS = """
import os
allowed, fork = {allowed}, os.fork
def refuse():
    global allowed
    allowed -= 1
    if allowed < 0:
        raise BlockingIOError(11, "Resource temporarily unavailable")
    return fork()
os.fork = refuse
"""
"""As the limit of processes does, which root, as in a container, does not have: for the fork server alone forks."""


@pytest.mark.parametrize("limit", [12, 20, 28, 40])
def test_too_few_open_files_are_an_error_of_the_environment(limit: int) -> None:
    """Wherever they run out."""
    before = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({limit}, {limit}))"
    code, out, err = compare("--cpus", "32", "--repeat", "1", before=before)
    assert (code, out) == (1, "")
    assert "Too many open files" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("allowed", [0, 2, 4])
def test_too_few_processes_are_an_error_of_the_environment(allowed: int, tmp_path: Path) -> None:
    """The fork server cannot fork a worker: which one, the usual cause, and no traceback of the fork server."""
    (tmp_path / "sitecustomize.py").write_text(NO_MORE_FORKS.format(allowed=allowed))
    with Command("compare", "--cpus", "4", "--repeat", "1", path=str(tmp_path)) as command:
        code, out, err = command.end()
        command.assert_nothing_is_left()
    assert (code, out) == (1, "")
    name = ("CPU 0", "CPU 1", "CPU 2", "CPU 3", "kswapd0")[allowed]
    assert f"shmreclaim: cannot start {name}, of 5 workers: the fork server ended\n" in err
    assert "ulimit -u" in err
    assert "Traceback" not in err


def test_a_fork_server_that_cannot_be_started_is_one_too() -> None:
    """The first of all processes."""
    before = (
        "from multiprocess import util\n"
        "def refuse(*_):\n"
        "    raise BlockingIOError(11, 'Resource temporarily unavailable')\n"
        "util.spawnv_passfds = refuse"
    )
    code, out, err = compare("--repeat", "1", before=before)
    assert (code, out) == (1, "")
    assert "shmreclaim: cannot start CPU 0, of 5 workers: [Errno 11] Resource temporarily unavailable\n" in err
    assert "Traceback" not in err


def test_more_memory_than_there_is_is_refused_before_a_worker_starts(tmp_path: Path) -> None:
    """With what is needed and what is free."""
    scenario = tmp_path / "huge.toml"
    scenario.write_text('name = "huge"\ngenerator = "churn"\n[memory]\npages_per_node = 16777216\n')
    before = "import sys; sys.modules['multiprocess.forkserver'] = None"  # a fork server would be an ImportError
    code, out, err = compare("--scenario", str(scenario), "--nodes", "8", "--repeat", "1", before=before)
    assert (code, out) == (1, "")
    found = re.search(r"shared memory of (\d+) KiB is needed, /dev/shm has (\d+) KiB free", err)
    assert found
    assert int(found[1]) > int(found[2])
    assert "enlarge it" in err
    assert "Traceback" not in err
