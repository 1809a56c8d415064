"""The shipped recording: what it becomes, counted a second time in the plain text."""

import gzip
from collections import Counter
from importlib.resources import files

import numpy as np
import pytest

from shmreclaim.workload import Op, load_trace


@pytest.fixture(scope="module")
def lines():
    """The recording's lines."""
    data = (files("shmreclaim.workload") / "data" / "containers-24.ftrace.gz").read_bytes()
    return [line for line in gzip.decompress(data).decode().split("\n") if line and not line.startswith("#")]


@pytest.fixture(scope="module")
def workload():
    """The recording as a workload for four CPUs."""
    return load_trace(None, cpus=4, nodes=1, seed=3)


def _count(lines, part):
    return sum(part in line for line in lines)


def test_every_memcg_and_mount_of_the_recording_is_planned(lines, workload):
    """One online for each cgroup_mkdir, one register for each mount that succeeded, and so for the ends."""
    planned = workload.planned()
    assert planned["memcg_online"] == _count(lines, "cgroup_mkdir: ") == 24
    assert planned["memcg_offline"] == _count(lines, "cgroup_rmdir: ") == 24
    assert planned["register"] == _count(lines, "sys_mount -> 0x0") == 88
    assert planned["unregister"] == _count(lines, "sys_umount -> 0x0") == 88


def test_every_pass_is_planned_with_its_priority(lines, workload):
    """Runs of calls by one task at one priority, each shrinker once, not across a reclaim's begin or end."""
    expected, running = Counter(), {}
    for line in lines:
        task = line.split()[0]
        if "mm_shrink_slab_start" in line and (priority := int(line.split()[-1])):
            pointer = line.split("nid:")[0].split()[-1]
            before, seen = running.get(task, (None, set()))
            if before != priority or pointer in seen:
                expected[priority] += 1
                seen = set()
            running[task] = priority, seen | {pointer}
        elif "mm_shrink_slab_end" not in line:
            running.pop(task, None)
    planned = Counter()
    for stream in workload.streams:
        planned.update(stream["arg"][stream["op"] == Op.SHRINK_SLAB].tolist())
    assert planned == expected
    assert planned.total() == 5733


def test_drop_caches_is_one_op_for_each_time_it_was_written(workload):
    """The recording program wrote three times."""
    assert workload.planned()["drop_caches"] == 3


def test_nothing_of_it_is_left_unused(lines, workload):
    """Every line is an event, every event is used."""
    assert workload.notes == ()
    assert workload.parameters["unused"] == {}
    assert workload.parameters["events"] == len(lines) == 15084
    assert workload.parameters["tasks"] == len({line.split()[0] for line in lines}) == 25


def test_superblocks_from_before_the_recording_are_registered_in_setup(lines, workload):
    """As many as there are shrinker pointers: no mount of the recording was ever called."""
    pointers = {line.split("nid:")[0].split()[-1] for line in lines if "mm_shrink_slab_start" in line}
    assert len(workload.setup) == len(pointers) == 11
    assert sorted(workload.setup["arg"].tolist()) == [0, 0, 0, *[1] * 8]
    assert workload.n_shrinkers == 11 + 88
    assert workload.n_memcgs == 25


def test_the_objects_added_are_those_that_calls_lacked(workload):
    """A golden number: it moves if the model of the lists does."""
    added = sum(int(stream["count"][stream["op"] == Op.LRU_ADD].sum()) for stream in workload.streams)
    assert added == workload.parameters["objects_added"] == 180_490


def test_times_are_kept(lines, workload):
    """The first event is at 0, the last op is a pass near the end of the 6.2 seconds."""
    times = np.concatenate([stream["when"] for stream in workload.streams])
    assert times.min() == 0
    assert 6_000_000_000 < times.max() <= workload.parameters["span_ns"] == 6_211_078_000


@pytest.mark.parametrize("cpus", [1, 2, 4, 8])
def test_tasks_are_spread_evenly(cpus, workload):
    """No CPU has a quarter more than its share, and the sum does not depend on the CPUs."""
    spread = load_trace(None, cpus=cpus, nodes=1, seed=3)
    sizes = [len(stream) for stream in spread.streams]
    assert spread.planned() == workload.planned()
    assert max(sizes) < 1.25 * sum(sizes) / cpus


def test_more_cpus_than_tasks_is_said(workload):
    """25 tasks cannot keep 32 CPUs busy."""
    wide = load_trace(None, cpus=32, nodes=1, seed=3)
    assert sum(len(stream) > 0 for stream in wide.streams) == 25
    assert any("32 CPUs play 25" in note for note in wide.notes)


def test_memory_holds_all_objects_even_if_none_is_freed(workload):
    """Sized so that the workload alone never runs out."""
    needed = workload.parameters["objects_added"] * (192 + 704) / 2 / 4096
    memory = workload.memory
    assert memory.pages_per_node > needed
    assert 0 < memory.watermark_min < memory.watermark_low < memory.watermark_high < memory.pages_per_node / 8
