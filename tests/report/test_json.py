"""The JSON of a result: its schema, and how it reaches the disk."""

import json
import os
import stat
from pathlib import Path

import msgspec
import pytest

from shmreclaim.errors import SetupError, UsageError
from shmreclaim.report.json import check_writable, encode, write
from shmreclaim.result import Result
from tests.report.samples import make_result

LATENCY = {"p50", "p90", "p99", "p99_9", "max"}
RANGE = {"min", "max", "total"}
SPREAD = {"median", "min", "max"}


@pytest.fixture(scope="module")
def tree() -> dict:
    """The JSON of the sample result, parsed."""
    return json.loads(encode(make_result()))


def test_the_schema_version_comes_first(tree: dict) -> None:
    """A reader can tell before it reads on."""
    assert next(iter(tree.items())) == ("schema_version", 1)


def test_the_top_level_has_exactly_these_keys(tree: dict) -> None:
    """Schema version 1."""
    assert set(tree) == {
        *("schema_version", "version", "started", "parameters", "machine", "workload", "designs", "design_files")
    }


def test_the_workload_has_exactly_these_keys(tree: dict) -> None:
    """Schema version 1."""
    assert set(tree["workload"]) == {"kind", "name", "cpus", "seed", "ops", "nodes", "parameters", "notes"}
    assert tree["workload"]["ops"] == {"register": 246, "memcg_online": 24, "shrink_slab": 300}


def test_a_design_has_exactly_these_keys(tree: dict) -> None:
    """Schema version 1."""
    design = tree["designs"]["davydov"]
    assert set(design) == {
        *("runs", "ops", "reclaim", "growth", "locks", "fairness", "objects", "ids", "invariants", "wall_s", "per_run")
    }
    assert set(design["fairness"]) == {"jain", "longest_wait_ns"}
    assert set(design["objects"]) == {"added", "deleted", "freed", "remaining"}
    assert set(design["ids"]) == {"peak_live", "max_id"}
    assert set(design["invariants"]) == {"checked", "violations"}
    assert set(design["reclaim"]) == {
        *("passes", "trylock_failed", "bailed_out", "shrinker_calls", "objects_freed", "pages_freed")
    }


def test_operations_growth_and_locks_have_exactly_these_keys(tree: dict) -> None:
    """Schema version 1."""
    design = tree["designs"]["davydov"]
    assert set(design["ops"]["register"]) == {"count", "failed", "skipped", "latency_ns", "rate_per_s"}
    assert set(design["ops"]["register"]["latency_ns"]) == LATENCY
    assert set(design["ops"]["register"]["rate_per_s"]) == SPREAD
    assert design["ops"]["register"]["failed"] == {"ENOMEM": 6}
    assert set(design["growth"]) == {"count", "latency_ns", "rate_per_s"}
    use = design["locks"]["shrinker_rwsem"]["write"]
    assert set(use) == {"acquisitions", "contentions", "trylock_failed", "waittime_ns", "holdtime_ns"}
    assert set(use["waittime_ns"]) == set(use["holdtime_ns"]) == RANGE


def test_each_run_proves_its_parallelism(tree: dict) -> None:
    """Distinct pids whose times overlap, for each run by itself."""
    run = tree["designs"]["davydov"]["per_run"][0]
    assert set(run) == {"wall_s", "ops", "failed", "reclaim", "violations", "workers"}
    assert len({worker["pid"] for worker in run["workers"]}) == 4
    assert max(worker["started_ns"] for worker in run["workers"]) < min(worker["ended_ns"] for worker in run["workers"])


def test_a_result_read_back_is_the_same_result() -> None:
    """Reports can be made from a file as well as from a run."""
    result = make_result()
    assert msgspec.json.decode(encode(result), type=Result) == result


def test_a_written_file_replaces_the_old_one_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    """A reader sees the old file or the new one, never half of it."""
    path = tmp_path / "result.json"
    path.write_text("old")
    path.chmod(0o640)
    write(make_result(), path)
    assert json.loads(path.read_text())["schema_version"] == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    """The file that it points to is replaced."""
    (tmp_path / "link").symlink_to(tmp_path / "file")
    write(make_result(), tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text().startswith("{")


def test_a_full_disk_is_an_error_that_names_the_file() -> None:
    """And says what to do."""
    with pytest.raises(SetupError, match=r"cannot write the result to /dev/full: No space left(.|\n)*Free some space"):
        write(make_result(), Path("/dev/full"))


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path, monkeypatch) -> None:
    """Whole or not at all."""

    def refuse(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "result.json"
    path.write_text("old")
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(SetupError, match="No space left"):
        write(make_result(), path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_path_in_no_folder_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    """Minutes of work would be lost otherwise."""
    with pytest.raises(UsageError, match="there is no folder"):
        check_writable(tmp_path / "none" / "result.json")


def test_a_folder_is_refused_as_a_file(tmp_path: Path) -> None:
    """It cannot be replaced by one."""
    with pytest.raises(UsageError, match="is a folder"):
        check_writable(tmp_path)
