"""What the machine refuses is said in one message, before or while workers start, and nothing is left of it."""

import os
import re
import subprocess
import sys
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


NO_FORK_SERVER = "import sys; sys.modules['multiprocess.forkserver'] = None\n"
"""A worker would be an ImportError."""

SMALL = """
import atexit, ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 0x4000, 0x40000
assert libc.unshare(CLONE_NEWNS) == 0
assert libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None) == 0
assert libc.mount(b"tmpfs", b"/dev/shm", b"tmpfs", 0, b"size={size}") == 0
atexit.register(lambda: print("left:", os.listdir("/dev/shm"), file=sys.stderr))
"""
"""A /dev/shm of its own, which goes with the process; what is in it at the end is told."""


def _may_mount() -> bool:
    """Whether this process may have a /dev/shm of its own: root may, unless a container keeps it from that."""
    if os.geteuid() != 0:
        return False
    probe = [sys.executable, "-c", "import os, sys\n" + SMALL.format(size="64k")]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


needs_mounts = pytest.mark.skipif(not _may_mount(), reason="only root may mount a small /dev/shm for a test")


@needs_mounts
def test_a_small_shared_memory_is_told_with_both_sizes_before_a_worker_starts() -> None:
    """As in a container, which has 64 MiB of it."""
    code, out, err = compare("--repeat", "1", "--cpus", "2", before=NO_FORK_SERVER + SMALL.format(size="8m"))
    assert (code, out) == (1, "")
    found = re.search(r"shared memory of (\d+) KiB is needed, /dev/shm has 8192 KiB free: No space left on device", err)
    assert found
    assert int(found[1]) > 100_000
    assert "--shm-size" in err
    assert "left: []" in err


@needs_mounts
def test_a_small_shared_memory_has_room_for_no_named_lock_and_keeps_none_of_it() -> None:
    """Not even an empty file under its name."""
    code = (
        "from shmreclaim import Mutex\n"
        "from shmreclaim.errors import SetupError\n"
        "try: Mutex(name='small')\n"
        "except SetupError as error: print(str(error).splitlines()[0])"
    )
    with Command(before=NO_FORK_SERVER + SMALL.format(size="16k"), code=code) as command:
        _, out, err = command.end()
    assert re.fullmatch(r"shared memory of \d+ KiB is needed, /dev/shm has 16 KiB free: No space left on device\n", out)
    assert "left: []" in err


def test_a_limit_of_a_files_size_is_told_with_both_sizes_before_a_worker_starts() -> None:
    """Shared memory is a file."""
    before = NO_FORK_SERVER + "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (16 << 20, 16 << 20))"
    code, out, err = compare("--repeat", "1", "--cpus", "2", before=before)
    assert (code, out) == (1, "")
    assert re.search(r"shared memory of \d{6} KiB is needed, a file may have 16384 KiB: File too large\n", err)
    assert "ulimit -f" in err
    assert "Traceback" not in err


def test_a_result_that_may_not_be_written_is_an_error_and_leaves_no_part_of_it(tmp_path: Path) -> None:
    """The limit of a file's size again, reached at the end."""
    path = tmp_path / "result.json"
    before = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))"
    with Command("list", "--json", str(path), before=before) as command:
        code, _, err = command.end()
    assert code == 1
    assert f"cannot write the result to {path}: File too large" in err
    assert list(tmp_path.iterdir()) == []


LIMITED = """
import ctypes, os, resource
libc = ctypes.CDLL(None, use_errno=True)
PR_CAPBSET_DROP, CAP_SYS_ADMIN, CAP_SYS_RESOURCE, VERSION_3 = 24, 21, 24, 0x20080522
os.setresuid({user}, 0, 0)
for capability in (CAP_SYS_ADMIN, CAP_SYS_RESOURCE):
    assert libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0
words = (ctypes.c_uint32 * 6)()
header = (ctypes.c_uint32 * 2)(VERSION_3, 0)
assert libc.capget(header, words) == 0
for k in (0, 1):
    words[k] &= ~(1 << CAP_SYS_ADMIN | 1 << CAP_SYS_RESOURCE)
assert libc.capset(header, words) == 0
resource.setrlimit(resource.RLIMIT_NPROC, ({allowed}, {allowed}))
"""
"""Counted as another user's process, who has none yet, without what exempts from the limit; files stay root's."""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be counted as a user that has no process yet")
@pytest.mark.parametrize("allowed", [1, 2, 3, 5])
def test_the_limit_of_processes_is_an_error_of_the_environment(allowed: int, tmp_path: Path) -> None:
    """The kernel's own: the command is one process, the resource tracker, the fork server and workers are more."""
    before = LIMITED.format(user=60_000 + os.getpid() % 5000, allowed=allowed)
    # access(2) asks for the real user, who may not use the cache
    effective = "import os, functools\nos.access = functools.partial(os.access, effective_ids=True)"
    (tmp_path / "sitecustomize.py").write_text(effective)
    options = ("--cpus", "4", "--repeat", "1", "--designs", "v6_7")
    with Command("compare", *options, before=before, path=str(tmp_path)) as command:
        code, out, err = command.end()
        command.assert_nothing_is_left()
    assert (code, out) == (1, "")
    assert re.search(r"^shmreclaim: cannot start \w+ ?\d?, of 5 workers: ", err, re.MULTILINE)
    assert "ulimit -u" in err
    assert "Traceback" not in err
