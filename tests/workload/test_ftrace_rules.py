"""What recorded tasks become: the rules H1 to H6, M1 to M5 and I1 to I5 of the trace reader, one by one."""

import numpy as np
import pytest

from shmreclaim.workload import Op

SB = "00000000c193adaa"
OTHER = "00000000deadbeef"
UNAWARE = {"function": "ext4_es_scan+0x0/0x3d0"}


def test_a_pass_is_a_run_of_calls_at_one_priority(tape, load, rows_of):
    """H4: two shrinkers at priority 12, one of them again at 11: two passes."""
    tape.mkdir(7, 1)
    tape.call(7, SB, 10)
    tape.call(7, OTHER, 4)
    tape.call(7, SB, 10, priority=11)
    passes = [row for row in rows_of(load(tape)) if row[0] == "shrink_slab"]
    assert [(row[1], row[5]) for row in passes] == [(1, 12), (1, 11)]


def test_the_same_shrinker_again_begins_a_new_pass(tape, load):
    """H4: a pass calls each shrinker once."""
    tape.mkdir(7, 1)
    tape.call(7, SB, 10)
    tape.call(7, SB, 10)
    assert load(tape).planned()["shrink_slab"] == 2


def test_a_new_reclaim_begins_a_new_pass(tape, load):
    """H4: the vmscan events bracket a reclaim."""
    tape.mkdir(7, 1)
    tape.call(7, SB, 10)
    tape.line(7, "mm_vmscan_memcg_reclaim_end: nr_reclaimed=128")
    tape.call(7, OTHER, 10)
    assert load(tape).planned()["shrink_slab"] == 2


def test_objects_are_added_before_the_pass_that_found_them(tape, load, rows_of):
    """I2: eleven objects are six dentries and five inodes of the task's memcg, at the time of the pass."""
    tape.mkdir(7, 1)
    tape.call(7, SB, 11)
    workload = load(tape)
    assert [row for row in rows_of(workload) if row[0] in ("lru_add", "shrink_slab")] == [
        ("lru_add", 1, 0, 0, 6, 0),
        ("lru_add", 1, 0, 0, 5, 1),
        ("shrink_slab", 1, 0, 0, 0, 12),
    ]
    whens = [int(when) for stream in workload.streams for when in stream["when"]]
    assert whens == [0, 10_000, 10_000, 10_000]


def test_only_the_missing_objects_are_added_and_the_surplus_is_deleted(tape, load, rows_of):
    """I2: 10 found and 4 freed leave 6; then 9 are found (3 added), then 5 (4 deleted)."""
    tape.mkdir(7, 1)
    tape.call(7, SB, 10, freed=4)
    tape.call(7, SB, 9)
    tape.call(7, SB, 5)
    changes = [(row[0], row[4], row[5]) for row in rows_of(load(tape)) if row[0].startswith("lru_")]
    assert changes == [
        ("lru_add", 5, 0),
        ("lru_add", 5, 1),
        ("lru_add", 2, 0),
        ("lru_add", 1, 1),
        ("lru_del", 2, 0),
        ("lru_del", 2, 1),
    ]


def test_a_pointer_of_one_task_during_its_mount_is_that_mount(tape, load, rows_of):
    """M1: the objects are added to the registered handle, and setup is empty."""
    tape.mkdir(7, 1)
    tape.mount(7)
    tape.call(7, SB, 4)
    tape.umount(7)
    workload = load(tape)
    assert len(workload.setup) == 0
    assert [row[:3] for row in rows_of(workload)] == [
        ("memcg_online", 1, 0),
        ("register", 1, 0),
        ("lru_add", 1, 0),
        ("lru_add", 1, 0),
        ("shrink_slab", 1, 0),
        ("unregister", 0, 0),
    ]


def test_a_pointer_that_two_tasks_call_existed_before(tape, load):
    """M4: a superblock of several tasks is registered in setup and stays."""
    for pid in (7, 8):
        tape.mkdir(pid, pid)
        tape.mount(pid)
    for pid in (7, 8):
        tape.call(pid, SB, 4)
    workload = load(tape)
    assert [(row[1], row[3], row[6]) for row in workload.setup.tolist()] == [(Op.REGISTER, 0, 1)]
    assert workload.n_shrinkers == 3


def test_a_pointer_called_before_the_mount_existed_before(tape, load):
    """M1 asks that no call falls outside the mount's life."""
    tape.mkdir(7, 1)
    tape.call(7, SB, 4)
    tape.mount(7)
    tape.call(7, SB, 4)
    assert len(load(tape).setup) == 1


def test_a_pointer_used_again_after_umount_is_another_mount(tape, load, rows_of):
    """M2: the kernel gives the memory to the next superblock, here of another task."""
    for pid in (7, 8):
        tape.mkdir(pid, pid)
        tape.mount(pid)
        tape.call(pid, SB, 6)
        tape.umount(pid)
    workload = load(tape, cpus=1)
    assert len(workload.setup) == 0
    added = [row[1:3] for row in rows_of(workload) if row[0] == "lru_add"]
    assert added == [(1, 0), (1, 0), (2, 1), (2, 1)]


def test_a_drop_fills_a_mount_on_the_cpu_that_registered_it(tape, load, problems_of):
    """I3: a task outside all memcgs met objects of a mount; they belong to the memcg that mounted it."""
    tape.mkdir(7, 1)
    tape.mount(7)
    tape.call(7, SB, 4, freed=4)
    tape.call(9, SB, 6, priority=0, freed=6)
    workload = load(tape)
    assert problems_of(workload) == []
    owner = next(stream for stream in workload.streams if Op.REGISTER in stream["op"])
    assert owner["count"][owner["op"] == Op.LRU_ADD].tolist() == [2, 2, 3, 3]
    assert set(owner["memcg"][owner["op"] == Op.LRU_ADD].tolist()) == {1}


def test_a_shrinker_without_memcgs_belongs_to_the_root(tape, load, rows_of):
    """I4 and H6: it is registered with arg 0, its objects are the root's dentries, and the pass is the root's."""
    tape.mkdir(7, 1)
    tape.call(7, SB, 3, **UNAWARE)
    workload = load(tape)
    assert workload.setup["arg"].tolist() == [0]
    assert rows_of(workload)[1:] == [("lru_add", 0, 0, 0, 3, 0), ("shrink_slab", 0, 0, 0, 0, 12)]


@pytest.mark.parametrize(
    ("function", "aware"),
    [("super_cache_scan+0x0/0x1", 1), ("scan_shadow_nodes.isra.0+0x0/0x1", 1), ("kfree_rcu_shrink_scan+0x0/0x1", 0)],
)
def test_awareness_follows_the_function(tape, load, function, aware):
    """I4, when only a task outside all memcgs called it."""
    tape.call(9, SB, 3, priority=0, function=function)
    assert load(tape).setup["arg"].tolist() == [aware]


@pytest.mark.parametrize("inside", [True, False])
def test_an_unknown_function_is_aware_if_a_memcg_called_it(tape, load, inside):
    """Reclaim of a memcg calls only what is memcg-aware."""
    tape.mkdir(7, 1)
    tape.call(7 if inside else 9, SB, 3, function="my_scan+0x0/0x1")
    assert load(tape).setup["arg"].tolist() == [int(inside)]


def test_a_drop_is_one_op_and_a_pause_begins_the_next(tape, load, rows_of):
    """H5: 40 calls in a row are one drop_caches; after 100 ms another one begins."""
    for _ in range(2):
        for _ in range(20):
            tape.call(9, SB, 5, priority=0, freed=5)
        tape.pause(100)
    labels = [row[0] for row in rows_of(load(tape))]
    assert labels == ["lru_add", "lru_add", "drop_caches"] * 2


def test_what_a_drop_must_have_met_is_the_roots_as_far_as_no_memcg_has_it(tape, load, rows_of):
    """I3: two memcgs hold 10 each; a drop that freed 26 met 6 more, which are the root's."""
    for pid in (7, 8):
        tape.mkdir(pid, pid)
        tape.call(pid, SB, 10)
    tape.call(9, SB, 13, priority=0, freed=13)
    tape.call(9, SB, 13, priority=0, freed=13)
    tape.call(7, SB, 4, priority=11)
    rows = rows_of(load(tape, cpus=1))
    at = [row[0] for row in rows].index("drop_caches")
    assert rows[at - 2 : at] == [("lru_add", 0, 0, 0, 3, 0), ("lru_add", 0, 0, 0, 3, 1)]
    assert rows[at + 1 : at + 3] == [("lru_add", 1, 0, 0, 2, 0), ("lru_add", 1, 0, 0, 2, 1)], (
        "the drop emptied the lists"
    )


def test_reclaim_outside_all_memcgs_is_a_pass_over_the_root(tape, load, rows_of):
    """I5; kswapd never drops caches, not even at priority 0."""
    tape.call(9, SB, 2, priority=5)
    tape.call(44, SB, 2, priority=0, comm="kswapd0")
    passes = [row for row in rows_of(load(tape)) if row[0] in ("shrink_slab", "drop_caches")]
    assert [(row[0], row[1], row[5]) for row in passes] == [("shrink_slab", 0, 5), ("shrink_slab", 0, 0)]


def test_a_memcg_is_removed_on_the_cpu_that_made_it(tape, load, problems_of):
    """I1: rmdir by another task."""
    tape.mkdir(7, 1)
    tape.call(7, SB, 2)
    tape.rmdir(8, 1)
    workload = load(tape)
    assert problems_of(workload) == []
    assert workload.planned()["memcg_offline"] == 1


def test_after_rmdir_a_task_is_outside(tape, load, rows_of):
    """H1: its later calls are the root's."""
    tape.mkdir(7, 1)
    tape.rmdir(7, 1)
    tape.call(7, SB, 2)
    assert rows_of(load(tape))[-1] == ("shrink_slab", 0, 0, 0, 0, 12)


def test_a_memcg_below_another_one_has_it_as_parent(tape, load, rows_of, problems_of):
    """H1, I1: by path; both tasks play on one CPU, or the child could come first."""
    tape.mkdir(7, 1, path="/a")
    tape.mkdir(8, 2, path="/a/b")
    workload = load(tape, cpus=4)
    assert problems_of(workload) == []
    assert [(row[1], row[5]) for row in rows_of(workload)] == [(1, 0), (2, 1)]
    assert sum(len(stream) > 0 for stream in workload.streams) == 1


def test_an_umount_takes_the_mount_of_its_name_else_the_oldest(tape, load, rows_of):
    """H3: of three mounts the second is named; then the first and the third go by age."""
    for name in ("0xa", "0xb", "0xc"):
        tape.mount(7, dir_name=name)
    for name in ("0xb", "0x1", "0x1"):
        tape.umount(7, name=name)
    assert [row[2] for row in rows_of(load(tape)) if row[0] == "unregister"] == [1, 0, 2]


def test_mounts_that_make_no_superblock_are_not_registered(tape, load):
    """H2: a bind mount and a change of propagation."""
    tape.mount(7)
    tape.mount(7, flags="1000")
    tape.mount(7, flags="0x44000")
    workload = load(tape, cpus=1)
    assert workload.planned() == {"register": 1}
    assert workload.notes == ("2 mounts that make no superblock (bind, remount, move, propagation)",)


def test_failed_mounts_and_umounts_are_counted(tape, load):
    """They made and took nothing."""
    tape.mount(7)
    tape.mount(7, result="0xfffffffffffffff0")
    tape.umount(7, result="-16")
    workload = load(tape)
    assert workload.planned() == {"register": 1}
    assert workload.parameters["unused"] == {"mounts that failed": 1, "umounts that failed": 1}


def test_nodes_beyond_the_workloads_are_folded_and_said(tape, load, rows_of):
    """Node 3 of the recording is node 1 of two."""
    tape.mkdir(7, 1)
    tape.call(7, SB, 1, nid=3)
    workload = load(tape, nodes=2)
    assert rows_of(workload)[-1][3] == 1
    assert any("modulo --nodes" in note for note in workload.notes)


def test_the_seed_changes_nothing_but_its_own_record(tape, load):
    """A trace is replayed as recorded; loading it twice gives the same streams."""
    for pid in range(5, 9):
        tape.mkdir(pid, pid)
        tape.call(pid, SB, pid)
    first, second = load(tape), load(tape)
    assert all(np.array_equal(a, b) for a, b in zip(first.streams, second.streams, strict=True))
