"""Random and mutated traces: a sound workload or a UsageError, nothing else."""

import gzip
from importlib.resources import files

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shmreclaim.errors import UsageError
from shmreclaim.workload import load_trace
from shmreclaim.workload.ftrace_replay import MAX_OBJECTS

FAST = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))

numbers = st.one_of(st.integers(0, 40), st.sampled_from([-1, 13, 2**31, 2**63, 10**19, 10**25]))
pointers = st.sampled_from(["a1", "b2", "(____ptrval____)", ""])
functions = st.sampled_from(["super_cache_scan+0x0/0x1", "ext4_es_scan+0x0/0x1", "x_scan [m]", ""])
bodies = st.one_of(
    st.builds(
        "cgroup_mkdir: root={} id={} level=1 path=/{}".format, st.integers(0, 1), numbers, st.text("ab/", max_size=4)
    ),
    st.builds("cgroup_rmdir: root={} id={} level=1 path=/a".format, st.integers(0, 1), numbers),
    st.builds(
        "sys_mount(dev_name: 1, dir_name: {:x}, flags: {:x})".format, st.integers(0, 2), st.sampled_from([0, 4096])
    ),
    st.builds("sys_{}mount -> {}".format, st.sampled_from(["", "u"]), st.sampled_from(["0x0", "-1", "0xfff", "zz"])),
    st.builds("sys_umount(name: {:x}, flags: 2)".format, st.integers(0, 2)),
    st.builds(
        "mm_shrink_slab_start: {} {}: nid: {} cache items {} priority {}".format,
        functions,
        pointers,
        numbers,
        numbers,
        numbers,
    ),
    st.builds("mm_shrink_slab_end: {} {}: nid: 0 last shrinker return val {}".format, functions, pointers, numbers),
    st.just("mm_vmscan_memcg_reclaim_end: nr_reclaimed=1"),
    st.text(max_size=30),
)
times = st.one_of(st.integers(0, 10).map("1.{:06d}".format), st.sampled_from(["5", "9999999999.9", "1.", "x"]))
lines = st.builds(
    "{}-{} [000] d..1. {}: {}".format, st.sampled_from(["sh", "kswapd0", "a-1 b"]), st.integers(1, 4), times, bodies
)


@pytest.fixture(scope="module")
def real_lines():
    """The first lines of the shipped recording."""
    data = (files("shmreclaim.workload") / "data" / "containers-24.ftrace.gz").read_bytes()
    return gzip.decompress(data).decode().split("\n")[11:900]


@pytest.fixture(scope="module")
def survives(tmp_path_factory, problems_of):
    """Load a text and hold the outcome to the rules."""
    path = tmp_path_factory.mktemp("fuzz") / "trace"

    def survives(content: bytes, cpus: int = 3, nodes: int = 2) -> None:
        path.write_bytes(content)
        try:
            workload = load_trace(path, cpus=cpus, nodes=nodes, seed=0)
        except UsageError:
            return
        assert problems_of(workload) == []
        assert workload.parameters["objects_added"] <= MAX_OBJECTS

    return survives


@FAST
@given(st.lists(lines, max_size=60))
def test_random_events_make_a_sound_workload(survives, text):
    """Events of all kinds in any order, with numbers of any size."""
    survives("\n".join(text).encode("utf-8", "replace"))


@FAST
@given(st.binary(max_size=400))
def test_random_bytes_are_refused(survives, content):
    """With one message."""
    survives(content)
    survives(b"\x1f\x8b\x08" + content)


@FAST
@given(st.data())
def test_a_recording_with_lines_cut_moved_and_changed_stays_sound(survives, real_lines, data):
    """Lines lost, swapped, doubled, and one character in some of them replaced."""
    text = list(real_lines)
    at = st.integers(0, len(text) - 1)
    for _ in range(data.draw(st.integers(1, 12))):
        here, there = data.draw(at), data.draw(at)
        kind = data.draw(st.sampled_from(["lose", "swap", "double", "change"]))
        if kind == "lose":
            del text[here % len(text) : here % len(text) + data.draw(st.integers(1, 40))]
            text = text or [""]
        elif kind == "swap":
            text[here % len(text)], text[there % len(text)] = text[there % len(text)], text[here % len(text)]
        elif kind == "double":
            text.insert(here % len(text), text[there % len(text)])
        else:
            line = text[here % len(text)]
            spot = data.draw(st.integers(0, max(0, len(line) - 1)))
            text[here % len(text)] = line[:spot] + data.draw(st.sampled_from("0 9-:x\0\n")) + line[spot + 1 :]
    survives("\n".join(text).encode())
