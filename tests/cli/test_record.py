"""`record` as a user runs it: on this machine's real tracefs where there is one.

The tree of plain files below stands for the KERNEL's interface where it refuses: no event, no permission, a root that
is read-only. A directory made among plain files has none of an instance's, so what a recording needs more of, only a
real kernel can show: those tests are skipped where tracefs cannot be mounted (not root, no CONFIG_TRACING).
"""

import ctypes
import functools
import gzip
import os
import re
import signal
import threading
from pathlib import Path

import pytest

from shmreclaim import tracefs
from shmreclaim.errors import SetupError
from shmreclaim.workload.ftrace_events import EVENTS, Event, parse_line
from tests.cli import runner

KNOWN = """
import ctypes, os, signal, sys, threading
from pathlib import Path
from shmreclaim import tracefs
from shmreclaim.cli import main
from shmreclaim.errors import SetupError
from shmreclaim.workload.ftrace_events import EVENTS
umount = ctypes.CDLL(None).umount2
def act():  # a system call that fails, harms nobody, and is recorded all the same
    return umount(b"/nonexistent-shmreclaim", 0)
"""
"""What the programs below begin with. They are processes of their own: finding tracefs may mount it for the process."""


def _probe(code):
    return runner.probe(KNOWN + code).stdout


# --- what the kernel's interface refuses --------------------------------------------------------------


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


@pytest.mark.skipif(os.geteuid() != 0, reason="who is not root is told that first")
def test_a_kernel_without_the_events_is_named(tree, tmp_path):
    """Which one, where it was looked for; no instance is made."""
    event = tree / "events" / "vmscan" / "mm_shrink_slab_end"
    (event / "enable").unlink()
    event.rmdir()
    with (tmp_path / "out").open("wb") as sink, pytest.raises(SetupError, match="no event vmscan:mm_shrink_slab_end"):
        _record(tree, sink)
    assert list((tree / "instances").iterdir()) == []


def test_an_interface_that_does_not_answer_leaves_no_instance(tree, tmp_path):
    """Among plain files an instance is an empty folder: the first file is missed, and the folder taken away again."""
    missed = r"tracefs refused writing 0 to \S+/tracing_on: No such file"
    with (tmp_path / "out").open("wb") as sink, pytest.raises(SetupError, match=missed):
        _record(tree, sink)
    assert list((tree / "instances").iterdir()) == []


def test_a_tracefs_that_cannot_be_written_is_one_message(tree, tmp_path):
    """Instances is no folder: making one fails."""
    (tree / "instances").rmdir()
    (tree / "instances").write_text("")
    with (tmp_path / "out").open("wb") as sink, pytest.raises(SetupError, match="tracefs refused making"):
        _record(tree, sink)


def test_figures_of_lost_events_that_cannot_be_read_are_tracefs_fault(tmp_path):
    """Not the recording's, which is whole."""
    (tmp_path / "per_cpu" / "cpu0" / "stats").mkdir(parents=True)
    with pytest.raises(SetupError, match="tracefs refused reading stats: Is a directory"):
        tracefs._lost(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming nobody takes root")
@pytest.mark.parametrize("closed", ["", "instances", "events"], ids=["the root", "instances", "events"])
def test_whoever_is_not_root_is_told_so(closed, tree):
    """With a tracefs that is closed to all but root, as kernels have it, or only a folder of it."""
    for folder in (tree, *tree.parents):
        if folder.stat().st_mode & 0o001 == 0 and folder.is_relative_to("/tmp"):
            folder.chmod(folder.stat().st_mode | 0o055)
    (tree / closed).chmod(0o700)
    said = _probe(f"""
os.setgid(65534), os.setuid(65534)
tracefs.USUAL = (Path({str(tree)!r}),)
try:
    tracefs.record(tracefs.find_tracefs(), EVENTS, None, tracefs.Limits(0.1, 64, lambda: False), print)
except SetupError as error:
    print(error)
""")
    assert said.startswith("recording a kernel's events takes root")


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


# --- on a real kernel ---------------------------------------------------------------------------------


@functools.cache
def _has_tracefs():
    return os.geteuid() == 0 and runner.probe(KNOWN + "tracefs.find_tracefs()", check=False).returncode == 0


real = pytest.mark.skipif("not _has_tracefs()", reason="no tracefs here, or not root")


def _instance_of(pid):
    """What the process `pid` has in tracefs: nothing, an instance, or one that records."""
    return _probe(f"""
instance = tracefs.find_tracefs() / "instances" / "shmreclaim-{pid}"
try:  # the last event is enabled after recording was turned off, and before it is turned on
    files = (instance / "events" / EVENTS[-1].replace(":", "/") / "enable", instance / "tracing_on")
    print("records" if [file.read_text() for file in files] == ["1\\n", "1\\n"] else "is there")
except FileNotFoundError:
    print("nothing")
""").strip()


def _interrupted(number, path):
    """Record a hundred umounts of this thread, then send the signal."""
    with runner.start("record", "-o", str(path), "--seconds", "60") as process:
        assert process.stderr.readline().startswith("recording for 60 s")
        while _instance_of(process.pid) != "records":
            assert process.poll() is None, process.communicate()
        for _ in range(100):
            ctypes.CDLL(None).umount2(b"/nonexistent-shmreclaim", 0)
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert _instance_of(process.pid) == "nothing"
    return process.returncode, out, err


@real
@pytest.mark.stress
def test_ctrl_c_ends_a_recording_early_and_keeps_it(tmp_path):
    """Exit code 0, a whole gzip file with all that happened, no instance left, no tracefs mounted that was not."""
    mounts = Path("/proc/self/mounts").read_text()
    code, out, err = _interrupted(signal.SIGINT, tmp_path / "t.gz")
    assert (code, err) == (0, "")
    text = gzip.decompress((tmp_path / "t.gz").read_bytes()).decode()
    mine = [line for line in text.splitlines() if f"-{threading.get_native_id()} " in line and "sys_umount" in line]
    assert len(mine) == 200
    assert all(isinstance(parse_line(line), Event) for line in mine)
    assert re.match(rf"{tmp_path}/t.gz: [\d,]+ lines in", out)
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
@pytest.mark.parametrize("moment", [("c_return", "mkdir"), ("c_call", "rmdir")], ids=["made", "being removed"])
def test_sigterm_leaves_no_instance_wherever_it_comes(moment, tmp_path):
    """The instance is just made, or about to be removed; another thread takes the signal, as libraries have them."""
    path = tmp_path / "t"
    found = runner.probe(
        f"""{KNOWN}
read, write = os.pipe()
os.set_blocking(write, False)
signal.set_wakeup_fd(write)
threading.Thread(target=threading.Event().wait, daemon=True).start()
def watch(_frame, event, function):
    if (event, getattr(function, "__name__", "")) == {moment!r}:
        sys.setprofile(None)
        print(os.getpid(), flush=True)
        os.kill(os.getpid(), signal.SIGTERM)
        os.read(read, 1)  # whoever took it: it is Python's now
sys.setprofile(watch)
sys.exit(main(["record", "-o", {str(path)!r}, "--seconds", "0.1"]))
""",
        check=False,
    )
    assert found.returncode == 143, found.stderr
    assert _instance_of(int(found.stdout)) == "nothing"
    assert list(tmp_path.iterdir()) == []


@real
def test_ctrl_c_ends_a_command_that_waits_for_the_reader_of_its_pipe(tmp_path):
    """Nothing is recorded yet that were worth keeping."""
    os.mkfifo(tmp_path / "pipe")
    with runner.start_probe(f"""{KNOWN}
def watch(event, arguments):
    if event == "open" and str(arguments[0]) == {str(tmp_path / "pipe")!r}:
        print("opening", flush=True)
sys.addaudithook(watch)
sys.exit(main(["record", "-o", {str(tmp_path / "pipe")!r}]))
""") as process:
        assert process.stdout.readline() == "opening\n"
        process.send_signal(signal.SIGINT)
        try:
            assert process.wait(timeout=30) == 130
        finally:
            process.kill()


@real
def test_a_short_recording_ends_by_itself():
    """Onto a device it is written as it comes."""
    found = runner.run("record", "-o", "/dev/null", "--seconds", "0.2", "--buffer", "64")
    assert found.returncode == 0
    assert found.stdout.startswith("/dev/null: ")


@real
def test_progress_that_cannot_be_told_does_not_end_a_recording(tmp_path):
    """The disk below standard error is full; that is not the recording's fault."""
    with Path("/dev/full").open("w") as full:
        found = runner.run("record", "-o", str(tmp_path / "t"), "--seconds", "0.1", stderr=full)
    assert found.returncode == 0
    assert (tmp_path / "t").exists()


@real
def test_progress_is_told_however_much_there_is_to_copy():
    """Whenever something was copied there is more: the pipe is never found empty."""
    told = _probe("""
class Sink:
    def write(self, _data):
        act()
told = []
def tell(*_):
    told.append(act())
limits = tracefs.Limits(10, 64, lambda: len(told) == 5)
tracefs.record(tracefs.find_tracefs(), EVENTS, Sink(), limits, tell)
print(len(told))
""")
    assert int(told) == 5


@real
def test_what_happens_meanwhile_is_in_the_file(tmp_path):
    """Events of this process, in the form that the reader knows, each once."""
    path = tmp_path / "t"
    pid = _probe(f"""
calls = []
limits = tracefs.Limits(60, 64, lambda: len(calls) >= 5)
with open({str(path)!r}, "wb") as sink:
    tracefs.record(tracefs.find_tracefs(), EVENTS, sink, limits, lambda *_: calls.append(act()))
print(os.getpid())
""").strip()
    mine = [line for line in path.read_text().splitlines() if f"-{pid} " in line]
    assert [("->" in line, "sys_umount" in line) for line in mine] == [(False, True), (True, True)] * 5
    assert _instance_of(pid) == "nothing"


@real
def test_a_full_disk_is_one_message_and_leaves_no_instance():
    """/dev/full takes nothing; the file is only written when its buffer is full or it is closed."""
    found = runner.probe(
        f"""{KNOWN}
from shmreclaim.experiments.record import RecordOptions, record
print(os.getpid(), flush=True)
record(RecordOptions(Path("/dev/full"), 0.5, 64), lambda *_: act())
""",
        check=False,
    )
    assert "SetupError: cannot write the recording to /dev/full: No space left on device" in found.stderr
    assert _instance_of(int(found.stdout)) == "nothing"


@real
def test_events_that_found_no_room_are_counted_and_said(tmp_path):
    """A buffer of 4 KiB, and thousands of events between two reads; the text says it where they are missing."""
    path = tmp_path / "t"
    lost = _probe(f"""
calls = []
limits = tracefs.Limits(60, 4, lambda: len(calls) > 5000)
with open({str(path)!r}, "wb") as sink:
    tell = lambda *_: calls.extend(act() for _ in range(5000))
    print(tracefs.record(tracefs.find_tracefs(), EVENTS, sink, limits, tell).lost)
""")
    said = [parse_line(line) for line in path.read_text().splitlines() if "LOST" in line]
    assert 10_000 < int(lost) < 40_000
    assert all(line.reason == "events lost while recording ([LOST EVENTS])" for line in said)
    assert said


@real
def test_an_instance_that_somebody_holds_open_is_named_and_silent():
    """Removing it fails with EBUSY: its events are off, and the message says what to do."""
    said = _probe("""
root = tracefs.find_tracefs()
instance = root / "instances" / f"shmreclaim-{os.getpid()}"
held = []
limits = tracefs.Limits(60, 64, lambda: bool(held))
try:
    tell = lambda *_: held.append((instance / "trace_options").open())
    tracefs.record(root, EVENTS, open(os.devnull, "wb"), limits, tell)
except SetupError as error:
    print(error)
print(*{(instance / "events" / event.replace(":", "/") / "enable").read_text().strip() for event in EVENTS})
for each in held:
    each.close()
instance.rmdir()
""")
    assert "could not be removed: Device or resource busy" in said
    assert "Its events are disabled" in said
    assert said.splitlines()[-1] == "0"
