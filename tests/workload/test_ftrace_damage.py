"""Traces of other kernels, cut, mixed and hostile ones: they load, or one message says what is wrong."""

import gzip
import os
import threading

import pytest

from shmreclaim.errors import UsageError
from shmreclaim.workload import ftrace_replay, ftrace_text, load_trace
from shmreclaim.workload.ftrace_events import parse_line

SB = "00000000c193adaa"


def _unused(workload):
    return workload.parameters["unused"]


@pytest.mark.parametrize("name", ["a.ftrace", "a.gz"])
def test_plain_and_gzip_are_told_by_their_bytes(tape, load, name):
    """The same workload either way."""
    tape.mkdir(7, 1)
    tape.call(7, SB, 3)
    assert load(tape, name=name).planned() == {"memcg_online": 1, "lru_add": 2, "shrink_slab": 1}


@pytest.mark.parametrize(
    "prefix",
    [
        "sh-7 [001] 100.1: ",
        "   sh-7     [001] d..1 100.100000: ",
        "   sh-7     [001] d..1. 100.100000: ",
        "   sh-7     (      7) [001] d..1. 100.100000: ",
        "   sh-7     (-------) [001] d..1. 100.100000: ",
        "kworker/u4:1-events-123-7 [000] ..... 100.1: ",
        "my prog - 2-7 [000] ..... 100.1: ",
        "<...>-7 [000] 100.123456789: ",
        "sh-7 [000] .N... 8812342: ",
    ],
)
def test_every_form_of_a_lines_head_is_read(load, prefix):
    """Flag columns of any width or none, a tgid column, names with spaces and dashes, other clocks."""
    workload = load(f"{prefix}cgroup_mkdir: root=1 id=1 level=1 path=/a\n{prefix}sys_mount -> 0x0\n")
    assert workload.planned() == {"memcg_online": 1}
    assert workload.parameters["tasks"] == 1


def test_headers_may_stand_anywhere(tape, load):
    """Buffers saved one after the other are one trace, in the order of their times."""
    tape.mkdir(7, 1)
    later = tape.text()
    tape.lines.clear()
    tape.now -= 50
    tape.mkdir(8, 2)
    assert load(later + tape.text()).streams[0]["when"].tolist() == [0]


def test_crlf_and_bytes_that_are_no_utf8_do_not_matter(tape, load):
    """Line ends of another system; a task's name in Latin-1."""
    tape.mkdir(7, 1)
    tape.mount(7)
    data = tape.text().replace("\n", "\r\n").replace("sh-7", "b\xe4r-7").encode("latin-1")
    assert load(data).planned() == {"memcg_online": 1, "register": 1}


def test_trace_cmd_report_is_read_as_well(load):
    """Names are padded, and system calls have two events."""
    head = "  sh-7 [001] 100.{}: "
    lines = ["cgroup_mkdir:         root=1 id=1 level=1 path=/a", "sys_enter_mount:      dev_name: 0x1, dir_name: 0x2"]
    lines += ["sys_exit_mount:       0x0", "sys_enter_umount:     name: 0x2, flags: 0x2", "sys_exit_umount:      0x0"]
    text = "cpus=2\n" + "".join(head.format(i) + line + "\n" for i, line in enumerate(lines))
    assert load(text).planned() == {"memcg_online": 1, "register": 1, "unregister": 1}


def test_other_tracepoints_and_lines_are_counted(tape, load):
    """One of each: another tracepoint, prose, fields that cannot be read."""
    tape.mkdir(7, 1)
    tape.line(7, "sched_switch: prev_comm=a prev_pid=1")
    tape.line(7, "cgroup_mkdir: no fields here")
    tape.lines.append("this is prose")
    assert _unused(load(tape)) == {
        "cgroup_mkdir events whose fields could not be read": 1,
        "events of other tracepoints": 1,
        "lines that are no event": 1,
    }


def test_lost_and_overwritten_events_are_counted(tape, load):
    """As ftrace reports them: with and without CPU and number, and in the header."""
    tape.mkdir(7, 1)
    tape.lines += ["CPU:0 [LOST 123 EVENTS]", "[LOST 7 EVENTS]", "CPU:1 [LOST EVENTS]"]
    tape.lines.append("# entries-in-buffer/entries-written: 100/160   #P:2")
    assert _unused(load(tape)) == {
        "events lost while recording ([LOST EVENTS])": 131,
        "events overwritten in the ring buffer before it was read": 60,
    }


def test_halves_of_pairs_are_counted(tape, load, problems_of):
    """Starts without end are passes all the same; the other halves are of no use."""
    tape.mkdir(7, 1)
    tape.start(7, SB, 5)
    tape.start(7, SB, 5, priority=11)
    tape.end(7, "00000000deadbeef")
    tape.end(8, SB)
    tape.line(8, "sys_mount -> 0x0")
    tape.line(8, "sys_umount -> 0x0")
    tape.umount(8)
    tape.line(8, "sys_mount(dev_name: 0x1, dir_name: 0x1, type: 0x2, flags: 0, data: 0x3)")
    tape.rmdir(8, 99)
    workload = load(tape)
    assert problems_of(workload) == []
    assert workload.planned() == {"memcg_online": 1, "lru_add": 2, "shrink_slab": 2}
    assert _unused(workload) == {
        "cgroup_rmdir of a memcg whose cgroup_mkdir is not in the trace": 1,
        "mm_shrink_slab_end without its start": 2,
        "shrinker calls whose end is missing (taken as freeing nothing)": 2,
        "sys_mount calls without a return": 1,
        "sys_mount returns without a call": 1,
        "sys_umount returns without a call": 1,
        "umounts without a live mount of that task": 1,
    }


def test_memcgs_that_cannot_be_removed_stay(tape, load, problems_of):
    """An id made twice, a parent removed before its child, another hierarchy."""
    tape.mkdir(7, 1, path="/a")
    tape.mkdir(7, 2, path="/a/b")
    tape.rmdir(7, 1)
    tape.mkdir(7, 2, path="/c")
    tape.mkdir(7, 5, root=9)
    tape.rmdir(7, 5, root=9)
    workload = load(tape)
    assert problems_of(workload) == []
    assert workload.planned() == {"memcg_online": 3}
    assert sum(_unused(workload).values()) == 4


def test_calls_of_kernels_before_4_16_are_counted_not_guessed(tape, load):
    """They have no priority."""
    tape.mkdir(7, 1)
    call = f"super_cache_scan+0x0/0x1 {SB}: nid: 0 objects to shrink 5 gfp_flags GFP_KERNEL pgs_scanned 4 lru_pgs 9"
    tape.line(7, f"mm_shrink_slab_start: {call} cache items 5 delta 2 total_scan 2")
    workload = load(tape)
    assert workload.planned() == {"memcg_online": 1}
    assert _unused(workload) == {"shrinker calls without a priority (kernels before 4.16)": 1}


def test_fields_that_newer_kernels_add_are_passed_over(tape, load):
    """A memcg id, modules in brackets, an address instead of a name, no hash yet."""
    tape.mkdir(7, 1)
    rest = (
        "nid: 0 memcg_id: 81 objects to shrink 5 gfp_flags GFP_KERNEL|0x1 cache items 5 delta 2 total_scan 2 priority 3"
    )
    for called in (
        f"es_scan+0x0/0x3 [ext4] {SB}",
        f"0xffffffff81234567 {SB}",
        "super_cache_scan+0x0/0x1 (____ptrval____)",
    ):
        tape.line(7, f"mm_shrink_slab_start: {called}: {rest} in_irq 0")
        tape.line(7, f"mm_shrink_slab_end: {called}: nid: 0 total_scan 2 last shrinker return val 0")
    workload = load(tape, cpus=1)
    assert workload.parameters["calls"] == 3
    assert workload.notes == ()


@pytest.mark.parametrize(
    "line",
    ["nid: {} cache items 5 priority 3", "nid: 1 cache items 5 priority {}", "nid: 1 cache items {} priority 3"],
    ids=["nid", "priority", "items"],
)
@pytest.mark.parametrize("figure", ["-5", "9" * 21])
def test_a_figure_that_no_kernel_prints_is_none(line, figure):
    """Below 0, or of too many digits: the line is read as if the figure were not there."""
    head = "sh-1 [000] 1.0: mm_shrink_slab_start: scan+0x0/0x1 aa: "
    assert parse_line(head + line.format(figure)) == parse_line(head + line.format("none"))


def test_calls_during_mount_and_umount_are_left_out(tape, load, problems_of):
    """A drop that meets a superblock which is just going: its objects cannot be added any more."""
    tape.mkdir(7, 1)
    tape.mount(7)
    tape.call(7, SB, 4)
    tape.line(7, "sys_umount(name: 0x1, flags: 2)")
    tape.call(9, SB, 8, priority=0)
    tape.line(7, "sys_umount -> 0x0")
    workload = load(tape)
    assert problems_of(workload) == []
    assert _unused(workload) == {"calls of a superblock while it was mounted or unmounted": 1}


def test_counts_beyond_all_reason_are_capped_and_said(tape, load, monkeypatch):
    """10^18 objects in a call, priorities of 200, and more objects in all than the limit."""
    monkeypatch.setattr(ftrace_replay, "MAX_FOUND", 100)
    monkeypatch.setattr(ftrace_replay, "MAX_OBJECTS", 150)
    tape.mkdir(7, 1)
    tape.call(7, SB, 10**18, freed=10**18)
    tape.call(7, SB, 80, freed=-5)
    tape.call(7, SB, 80, priority=200)
    workload = load(tape)
    assert workload.parameters["objects_added"] == 150
    assert (
        sum(count for reason, count in _unused(workload).items() if reason.startswith("objects not made"))
        == 10**18 - 70
    )
    assert _unused(workload)["shrinker calls with a priority above 12"] == 1


def test_times_that_jump_stay_in_range(load):
    """From second 0 to second 9999999999: planned times fit 64 bits."""
    lines = [
        f"sh-7 [0] {time}.0: cgroup_mkdir: root=1 id={time} level=1 path=/a{time}\n" for time in (0, 9_999_999_999)
    ]
    assert load("".join(lines)).streams[0]["when"].tolist() == [0, 1 << 62]


def test_long_lines_are_skipped(tape, load):
    """Two of them, one longer than a block; what stands between and after is read."""
    tape.mkdir(7, 1)
    tape.lines.append("x" * 1_000_000)
    tape.mkdir(8, 2)
    tape.lines.append("y" * 9000)
    tape.mkdir(9, 3)
    workload = load(tape)
    assert workload.planned() == {"memcg_online": 3}
    assert sum(_unused(workload).values()) == 2


def test_a_cut_gzip_file_is_used_as_far_as_it_goes(tape, tmp_path):
    """Half of the file: some events, and a note."""
    for i in range(2000):
        tape.mkdir(7 + i % 3, i)
    whole = gzip.compress(tape.text().encode())
    path = tmp_path / "cut.gz"
    path.write_bytes(whole[: len(whole) // 2])
    workload = load_trace(path, cpus=1, nodes=1, seed=0)
    assert 100 < workload.planned()["memcg_online"] < 2000
    assert "ends too early" in workload.notes[0]


def test_a_damaged_gzip_file_is_used_as_far_as_it_goes(tape, tmp_path):
    """Garbage after a whole member."""
    tape.mkdir(7, 1)
    path = tmp_path / "bad.gz"
    path.write_bytes(gzip.compress(tape.text().encode()) + b"garbage that is no gzip member")
    workload = load_trace(path, cpus=1, nodes=1, seed=0)
    assert workload.planned() == {"memcg_online": 1}
    assert "damaged" in workload.notes[0]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["is empty", "Record the events"]),
        (b"# tracer: nop\n#\n", ["no event", "begins with b'# tracer: nop"]),
        (b'{"traceEvents": []}\n', ["1 lines that are no event", "traceEvents"]),
        (bytes(range(256)) * 100, ["no event"]),
        (b"\x17\x08\x44tracing\x36\x00", ["binary file of trace-cmd", "trace-cmd report"]),
        (b"PERFILE2\x68", ["binary file of perf"]),
        (b"\x28\xb5\x2f\xfd\x00", ["zstd -d"]),
        (b"sh-7 [000] 1.5: sched_switch: prev=1\n", ["no event", "1 events of other tracepoints"]),
        (gzip.compress(b"", mtime=0), ["is empty"]),
        (gzip.compress(b"hello\n", mtime=0), ["begins with b'hello"]),
        (b"\x1f\x8b\x08\x00", ["ends too early"]),
    ],
)
def test_a_file_that_is_no_trace_is_named_and_explained(load, content, words):
    """The file's name, what was found in it, and what to do."""
    with pytest.raises(UsageError) as caught:
        load(content, name="strange-file")
    message = str(caught.value)
    assert "strange-file" in message
    assert all(word in message for word in words), message
    assert caught.value.remedy


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    """Missing; a folder; a name with a zero byte."""
    for path in (tmp_path / "missing", tmp_path, tmp_path / "a\0b"):
        with pytest.raises(UsageError, match="cannot be read"):
            load_trace(path, cpus=1, nodes=1, seed=0)


def test_a_pipe_is_read_like_a_file(tape, tmp_path):
    """As `--trace <(zcat ...)` gives it."""
    tape.mkdir(7, 1)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=(tape.text(),))
    writer.start()
    assert load_trace(pipe, cpus=1, nodes=1, seed=0).planned() == {"memcg_online": 1}
    writer.join()


@pytest.mark.parametrize("limit", ["MAX_TEXT", "MAX_LINES"])
def test_a_text_that_unfolds_without_end_is_refused(tape, load, monkeypatch, limit):
    """A small gzip file can hold gigabytes; the error says how to give a part."""
    monkeypatch.setattr(ftrace_text, limit, 1000)
    tape.mkdir(7, 1)
    with pytest.raises(UsageError, match="holds more than") as caught:
        load(tape.text() + "\n" * 5000, name="bomb.gz")
    assert "head -n" in caught.value.remedy


def test_reading_stops_after_the_most_events(tape, load, monkeypatch):
    """And says so."""
    monkeypatch.setattr(ftrace_text, "MAX_EVENTS", 10)
    for i in range(20):
        tape.mkdir(7, i)
    workload = load(tape)
    assert workload.planned() == {"memcg_online": 10}
    assert "reading stopped after 10 events" in workload.notes[0]


@pytest.mark.parametrize(
    ("wrong", "name"), [({"cpus": 0}, "--cpus"), ({"nodes": 65}, "--nodes"), ({"seed": -1}, "--seed")]
)
def test_a_shape_out_of_range_is_refused(wrong, name):
    """Before the file is opened; with the range."""
    with pytest.raises(UsageError, match=f"{name} .* whole number from"):
        load_trace(None, **({"cpus": 2, "nodes": 1, "seed": 0} | wrong))
