"""What the machine refuses is said in one message, before or while workers start, and nothing is left of it."""

import os
import re
import resource
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from shmreclaim.machine.compile import cache_folder
from tests.executions.command import Command, compare

NOBODY = 65534


@pytest.mark.parametrize("limit", [12, 20, 28, 40])
def test_too_few_open_files_are_an_error_of_the_environment(limit: int) -> None:
    """Wherever they run out."""
    before = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({limit}, {limit}))"
    code, out, err = compare("--cpus", "32", "--repeat", "1", before=before)
    assert (code, out) == (1, "")
    assert "Too many open files" in err
    assert "Traceback" not in err


@pytest.fixture
def cache_of_nobody() -> Iterator[str]:
    """A copy of the compiled code that another user may use."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder, "shmreclaim")
        shutil.copytree(cache_folder(), home / cache_folder().name)
        for path in (Path(folder), *Path(folder).rglob("*")):
            os.chown(path, NOBODY, NOBODY)
        yield folder


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user, whose processes nobody else adds to")
@pytest.mark.parametrize("processes", [1, 3, 5])
def test_too_few_processes_are_an_error_of_the_environment(processes: int, cache_of_nobody: str) -> None:
    """The fork server, or one of the workers, cannot be started; root has no such limit, so another user tries."""
    before = (
        "import os, resource; "
        f"resource.setrlimit(resource.RLIMIT_NPROC, ({processes}, {processes})); os.setgid({NOBODY}); os.setuid({NOBODY})"
    )
    threads = {name: "1" for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS")}
    with Command(
        "compare", "--cpus", "8", "--repeat", "1", before=before, SHMRECLAIM_CACHE_DIR=cache_of_nobody, **threads
    ) as command:
        code, out, err = command.end()
        command.assert_nothing_is_left()
    assert (code, out) == (1, ""), err
    assert "shmreclaim: cannot start " in err
    assert "ulimit -u" in err
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


def test_the_limits_of_this_process_are_as_they_were() -> None:
    """Limits are set in commands only."""
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 64
