"""`conform` and `record` as a user runs them; `record` on this machine's real tracefs where there is one.

The tree of plain files below stands for the KERNEL's interface where it refuses: no event, no permission, a root that
is read-only. A directory made among plain files has no trace_pipe, so what a recording needs more of, only a real
kernel can show: those tests are skipped where tracefs cannot be mounted (not root, no CONFIG_TRACING).
"""

import ctypes
import functools
import gzip
import json
import os
import re
import signal
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

from shmreclaim import tracefs
from shmreclaim.errors import SetupError
from shmreclaim.workload.ftrace_events import EVENTS, Event, parse_line
from tests.cli import runner

CONTAINERS = str(files("shmreclaim.workload") / "data" / "containers-24.ftrace.gz")


# --- conform --------------------------------------------------------------------------------------


def test_conform_says_success_and_ends_with_0():
    """The last line is the verdict."""
    found = runner.run("conform", CONTAINERS)
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.splitlines()[-1] == "end, SUCCESS: 6,249 of 6,249 calls match v5.13+, which fits best"


def test_conform_writes_json_alone_on_stdout():
    """The keys that scripts rely on."""
    found = runner.run("conform", CONTAINERS, "--json", "-")
    tree = json.loads(found.stdout)
    assert next(iter(tree.items())) == ("schema_version", 1)
    assert (tree["rows"], tree["matched"], tree["era"], tree["mismatches"]) == (6249, 6249, "v5.13+", [])
    assert "SUCCESS" in found.stderr


def test_conform_ends_with_2_on_a_mismatch_and_shows_both_values(tmp_path):
    """A carry of 5 where 4 is due."""
    head = "sh-7 [000] ..... 100.00000"
    call = "super_cache_scan+0x0/0x210 aa: nid: 0"
    (tmp_path / "t").write_text(
        f"{head}1: mm_shrink_slab_start: {call} objects to shrink 0 gfp_flags GFP_KERNEL cache items 2 delta 4 "
        f"total_scan 4 priority 0\n{head}2: mm_shrink_slab_end: {call} unused scan count 0 new scan count 5 "
        "total_scan 4 last shrinker return val 0\n"
    )
    found = runner.run("conform", str(tmp_path / "t"))
    assert found.returncode == 2
    assert "super_cache_scan aa: carry is 5, expected 4 (freeable 2 priority 0 deferred 0" in found.stdout
    assert "these eras fit equally well" in found.stdout


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file"),
        ("", "holds no event"),
        ("sh-7 [0] 1.0: cgroup_mkdir: root=1 id=1 level=1 path=/a\n", "holds no pair of mm_shrink_slab_start"),
    ],
)
def test_conform_ends_with_1_where_there_is_nothing_to_check(content, message, tmp_path):
    """One message, no traceback, nothing on stdout."""
    path = tmp_path / "trace.txt"
    if content is not None:
        path.write_text(content)
    found = runner.run("conform", str(path))
    assert (found.returncode, found.stdout) == (1, "")
    assert message in found.stderr
    assert "trace.txt" in found.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("conform", "Missing argument 'FILE'"),
        (f"conform {CONTAINERS} --mismatches -1", "--mismatches -1 is out of range"),
        (f"conform {CONTAINERS} --json /", "--json / is a folder"),
        ("record", "Missing option '-o'"),
        ("record -o /nonesuch/a", "there is no folder /nonesuch"),
        ("record -o /", "-o / is a folder"),
        ("record -o a --seconds 0", "--seconds 0 is out of range"),
        ("record -o a --seconds nan", "--seconds nan is out of range"),
        ("record -o a --buffer 1", "--buffer 1 is out of range"),
        ("record -o a --buffer x", "'x' is not a whole number"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_is_done(arguments, message):
    """Exit code 1 and its name."""
    found = runner.run(*arguments.split())
    assert (found.returncode, found.stdout) == (1, "")
    assert message in found.stderr


# --- record: what the kernel's interface refuses ----------------------------------------------------


@pytest.fixture
def tree(tmp_path):
    """Plain files where a kernel has tracefs."""
    (tmp_path / "instances").mkdir()
    for event in EVENTS:
        folder = tmp_path / "events" / event.replace(":", "/")
        folder.mkdir(parents=True)
        (folder / "enable").write_text("0")
    return tmp_path


def _record(root, sink):
    limits = tracefs.Limits(0.1, 64, lambda: False)
    return tracefs.record(root, EVENTS, sink, limits, lambda *_: None)


def test_a_kernel_without_the_events_is_named(tree, tmp_path):
    """Which one, where it was looked for; no instance is made."""
    event = tree / "events" / "vmscan" / "mm_shrink_slab_end"
    (event / "enable").unlink()
    event.rmdir()
    with (tmp_path / "out").open("wb") as sink, pytest.raises(SetupError, match="no event vmscan:mm_shrink_slab_end"):
        _record(tree, sink)
    assert list((tree / "instances").iterdir()) == []


def test_an_interface_that_does_not_answer_leaves_no_instance(tree, tmp_path):
    """Plain files have no trace_pipe; what was made until then is removed, or the message says that it was not."""
    with (tmp_path / "out").open("wb") as sink, pytest.raises(SetupError) as caught:
        _record(tree, sink)
    assert caught.value.remedy
    left = list((tree / "instances").iterdir())
    assert left == [] or str(left[0]) in str(caught.value)


def test_a_tracefs_that_cannot_be_written_is_one_message(tree, tmp_path):
    """Instances is no folder: making one fails."""
    (tree / "instances").rmdir()
    (tree / "instances").write_text("")
    with (tmp_path / "out").open("wb") as sink, pytest.raises(SetupError, match="tracefs refused making"):
        _record(tree, sink)


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming nobody takes root")
@pytest.mark.parametrize("closed", ["", "instances"], ids=["the root is closed", "instances is closed"])
def test_whoever_is_not_root_is_told_so(closed, tree):
    """With a tracefs that is closed to all but root, as kernels have it, or only its instances."""
    for folder in (tree, *tree.parents):
        if folder.stat().st_mode & 0o001 == 0 and folder.is_relative_to("/tmp"):
            folder.chmod(folder.stat().st_mode | 0o055)
    (tree / closed).chmod(0o700)
    probe = (
        "import os\nfrom pathlib import Path\nfrom shmreclaim import tracefs\n"
        "from shmreclaim.errors import SetupError\nfrom shmreclaim.workload.ftrace_events import EVENTS\n"
        f"os.setgid(65534), os.setuid(65534)\ntracefs.USUAL = (Path({str(tree)!r}),)\n"
        "limits = tracefs.Limits(0.1, 64, lambda: False)\n"
        "try: tracefs.record(tracefs.find_tracefs(), EVENTS, None, limits, print)\n"
        "except SetupError as error: print(error)"
    )
    found = subprocess.run(
        [sys.executable, "-c", probe], env=runner.environment(), capture_output=True, text=True, check=True
    )
    assert found.stdout.startswith("recording a kernel's events takes root")


def test_every_event_that_is_recorded_is_one_that_is_read():
    """As the kernel prints them: system calls without `enter` and `exit`."""
    lines = {
        "mm_shrink_slab_start": "mm_shrink_slab_start: a b: nid: 0 cache items 1",
        "mm_shrink_slab_end": "mm_shrink_slab_end: a b: last shrinker return val 1",
        "cgroup_mkdir": "cgroup_mkdir: root=1 id=1 level=1 path=/a",
        "cgroup_rmdir": "cgroup_rmdir: root=1 id=1 level=1 path=/a",
        "sys_enter_mount": "sys_enter_mount: dir_name: 0x1",
        "sys_enter_umount": "sys_enter_umount: name: 0x1",
        "sys_exit_mount": "sys_exit_mount: 0x0",
        "sys_exit_umount": "sys_exit_umount: 0x0",
    }
    for event in EVENTS:
        name = event.partition(":")[2]
        assert isinstance(parse_line(f"sh-1 [000] 1.0: {lines.get(name, name + ':')}"), Event), event


# --- record: on a real kernel -----------------------------------------------------------------------


@functools.cache
def _has_tracefs():
    """In a process of its own: finding tracefs may mount it in a namespace of that process."""
    probe = "from shmreclaim.tracefs import find_tracefs; find_tracefs()"
    done = subprocess.run([sys.executable, "-c", probe], env=runner.environment(), capture_output=True, check=False)
    return os.geteuid() == 0 and done.returncode == 0


real = pytest.mark.skipif("not _has_tracefs()", reason="no tracefs here, or not root")


def _instances_of(pid):
    """Instances that a process left, seen in a mount namespace of the probe's own."""
    probe = (
        "from shmreclaim.tracefs import find_tracefs; print(*[p.name for p in (find_tracefs()/'instances').iterdir()])"
    )
    found = subprocess.run(
        [sys.executable, "-c", probe], env=runner.environment(), capture_output=True, text=True, check=True
    )
    return [name for name in found.stdout.split() if name == f"shmreclaim-{pid}"]


def _umount_nothing():
    """A system call that fails, harms nobody, and is recorded all the same."""
    ctypes.CDLL(None).umount2(b"/nonexistent-shmreclaim", 0)


def _interrupted(number, path):
    with runner.start("record", "-o", str(path), "--seconds", "60") as process:
        assert process.stderr.readline().startswith("recording for 60 s")
        for _ in range(10_000):  # the instance is made right after that line: until it is there
            if _instances_of(process.pid):
                break
        for _ in range(100):
            _umount_nothing()
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert _instances_of(process.pid) == []
    return process.returncode, out, err


@real
@pytest.mark.stress
def test_ctrl_c_ends_a_recording_early_and_keeps_it(tmp_path):
    """Exit code 0, a whole gzip file, no instance left, no tracefs mounted that was not before."""
    mounts = Path("/proc/self/mounts").read_text()
    code, out, err = _interrupted(signal.SIGINT, tmp_path / "t.gz")
    assert (code, err) == (0, "")
    text = gzip.decompress((tmp_path / "t.gz").read_bytes()).decode()
    assert re.match(rf"{tmp_path}/t.gz: [\d,]+ lines in", out)
    assert all(isinstance(parse_line(line), Event) for line in text.splitlines() if "sys_umount" in line)
    assert [path.name for path in tmp_path.iterdir()] == ["t.gz"]
    assert Path("/proc/self/mounts").read_text() == mounts


@real
@pytest.mark.stress
def test_sigterm_unwinds_and_leaves_the_old_file(tmp_path):
    """143, the instance removed, what was at the path before is still there."""
    path = tmp_path / "t"
    path.write_text("old")
    code, out, _ = _interrupted(signal.SIGTERM, path)
    assert (code, out) == (143, "")
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["t"]


@real
def test_a_short_recording_ends_by_itself():
    """Onto a device it is written as it comes."""
    found = runner.run("record", "-o", "/dev/null", "--seconds", "0.2", "--buffer", "64")
    assert found.returncode == 0
    assert found.stdout.startswith("/dev/null: ")


@real
def test_what_happens_meanwhile_is_in_the_file(tmp_path):
    """Events of this process, in the form that the reader knows, each once."""
    path = tmp_path / "t"
    probe = (
        "import ctypes\nfrom shmreclaim import tracefs\nfrom shmreclaim.workload.ftrace_events import EVENTS\n"
        "umount = ctypes.CDLL(None).umount2\ncalls = []\n"
        "def told(*_):\n    calls.append(umount(b'/nonexistent-shmreclaim', 0))\n"
        "limits = tracefs.Limits(60, 64, lambda: len(calls) >= 5)\n"
        f"with open({str(path)!r}, 'wb') as sink:\n"
        "    tracefs.record(tracefs.find_tracefs(), EVENTS, sink, limits, told)\n"
        "import os; print(os.getpid())"
    )
    found = subprocess.run(
        [sys.executable, "-c", probe], env=runner.environment(), capture_output=True, text=True, check=True
    )
    mine = [line for line in path.read_text().splitlines() if f"-{found.stdout.strip()} " in line]
    assert [("->" in line, "sys_umount" in line) for line in mine] == [(False, True), (True, True)] * 5
    assert _instances_of(int(found.stdout)) == []


@real
def test_a_full_disk_is_one_message_and_leaves_no_instance():
    """/dev/full takes nothing; the file is only written when its buffer is full or it is closed."""
    probe = (
        "import ctypes\nfrom shmreclaim import tracefs\nfrom shmreclaim.experiments.record import *\nimport os\n"
        "umount = ctypes.CDLL(None).umount2\nfrom pathlib import Path\n"
        "def told(*_):\n    umount(b'/nonexistent-shmreclaim', 0)\n"
        "print(os.getpid(), flush=True)\n"
        "record(RecordOptions(Path('/dev/full'), 0.5, 64), lambda: False, told)\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", probe], env=runner.environment(), capture_output=True, text=True, check=False
    )
    assert "SetupError: cannot write the recording to /dev/full: No space left on device" in found.stderr
    assert _instances_of(int(found.stdout)) == []


@real
def test_events_that_found_no_room_are_counted_and_said(tmp_path):
    """A buffer of 4 KiB, and thousands of events between two reads; the text says it where they are missing."""
    path = tmp_path / "t"
    probe = (
        "import ctypes\nfrom shmreclaim import tracefs\nfrom shmreclaim.workload.ftrace_events import EVENTS\n"
        "umount = ctypes.CDLL(None).umount2\ncalls = []\n"
        "def told(*_):\n    calls.extend(umount(b'/nonexistent-shmreclaim', 0) for _ in range(5000))\n"
        "limits = tracefs.Limits(60, 4, lambda: len(calls) > 5000)\n"
        f"with open({str(path)!r}, 'wb') as sink:\n"
        "    print(tracefs.record(tracefs.find_tracefs(), EVENTS, sink, limits, told).lost)"
    )
    found = subprocess.run(
        [sys.executable, "-c", probe], env=runner.environment(), capture_output=True, text=True, check=True
    )
    said = [parse_line(line) for line in path.read_text().splitlines() if "LOST" in line]
    assert 10_000 < int(found.stdout) < 40_000
    assert all(line.reason == "events lost while recording ([LOST EVENTS])" for line in said)
    assert said


@real
def test_an_instance_that_somebody_holds_open_is_named_and_silent():
    """Removing it fails with EBUSY: its events are off, and the message says what to do."""
    probe = (
        "import os\nfrom shmreclaim import tracefs\nfrom shmreclaim.errors import SetupError\n"
        "from shmreclaim.workload.ftrace_events import EVENTS\n"
        "root = tracefs.find_tracefs()\ninstance = root / 'instances' / f'shmreclaim-{os.getpid()}'\nheld = []\n"
        "def told(*_):\n    held.append((instance / 'trace_options').open())\n"
        "limits = tracefs.Limits(60, 64, lambda: bool(held))\n"
        "try: tracefs.record(root, EVENTS, open(os.devnull, 'wb'), limits, told)\n"
        "except SetupError as error: print(error)\n"
        "print(*{(instance / 'events' / e.replace(':', '/') / 'enable').read_text().strip() for e in EVENTS})\n"
        "for each in held: each.close()\n"
        "instance.rmdir()"
    )
    found = subprocess.run(
        [sys.executable, "-c", probe], env=runner.environment(), capture_output=True, text=True, check=False
    )
    assert "could not be removed: Device or resource busy" in found.stdout, found.stderr
    assert "Its events are disabled" in found.stdout
    assert found.stdout.splitlines()[-1] == "0"
