"""`compare` for real: its options reach the runs, its progress and its JSON are as promised."""

import json
import re
from pathlib import Path

import pytest

from shmreclaim.designs import NAMES
from tests.executions.command import compare, run_code

OP = {"count", "failed", "skipped", "latency_ns"}
DESIGN = {"ops", "reclaim", "growth", "locks", "fairness", "objects", "ids", "invariants", "wall_s"}
LATENCY = {"p50", "p90", "p99", "p99_9", "max"}
USE = {"acquisitions", "contentions", "trylock_failed", "waittime_ns", "holdtime_ns"}
RECLAIM = {"passes", "trylock_failed", "bailed_out", "shrinker_calls", "objects_freed", "pages_freed"}


@pytest.mark.stress
def test_repeats_interleave_the_designs() -> None:
    """A B C A B C, so that a machine that slows down half way slows all of them; the table has every design."""
    code, out, err = compare("--repeat", "2", "--cpus", "2", "--scenario", "mailing-list")
    assert code == 0
    found = re.findall(r"^run (\d+) of 14, (\w+): [\d.]+ s, no invariant broken$", err, re.MULTILINE)
    assert found == [(str(k + 1), NAMES[k % len(NAMES)]) for k in range(2 * len(NAMES))]
    for name in NAMES:
        assert f"\n  {name} " in out


@pytest.mark.stress
def test_json_on_stdout_is_the_whole_result() -> None:
    """Nothing else is there; the keys are those that programs rely on."""
    code, out, err = compare("--repeat", "1", "--cpus", "2", "--nodes", "2", "--seed", "7", "--json", "-")
    assert code == 0
    assert "end, SUCCESS" in err
    result = json.loads(out)
    assert result["schema_version"] == 1
    assert result["machine"]["cores"] >= 1
    work = result["workload"]
    assert (work["kind"], work["cpus"], work["seed"], work["nodes"]) == ("trace", 2, 7, 2)
    assert list(result["designs"]) == list(NAMES)
    for design in result["designs"].values():
        _has_the_promised_keys(design)
        played = {op: one["count"] + one["skipped"] + sum(one["failed"].values()) for op, one in design["ops"].items()}
        assert played == work["ops"]
        spans = design["per_run"][0]["workers"]
        assert len({span["pid"] for span in spans}) == 2


def _has_the_promised_keys(design: dict[str, dict[str, object]]) -> None:
    assert set(design) >= DESIGN
    assert all(set(one) >= OP and set(one["latency_ns"]) == LATENCY for one in design["ops"].values())
    assert set(design["reclaim"]) == RECLAIM
    assert set(design["growth"]) >= {"count", "latency_ns"}
    assert all(set(use) == USE for uses in design["locks"].values() for use in uses.values())
    assert {mode for uses in design["locks"].values() for mode in uses} == {"read", "write"}
    assert set(design["fairness"]) == {"jain", "longest_wait_ns"}
    assert set(design["objects"]) == {"added", "deleted", "freed", "remaining"}
    assert set(design["ids"]) == {"peak_live", "max_id"}
    assert design["invariants"]["violations"] == []


@pytest.mark.stress
def test_json_goes_to_a_file_and_the_options_into_it(tmp_path: Path) -> None:
    """The table stays on stdout; a run that --seconds ends early has played less than was planned."""
    path = tmp_path / "result.json"
    code, out, _ = compare(
        "--designs", "davydov", "--repeat", "1", "--cpus", "2", "--speed", "2", "--seconds", "0.5", "--json", str(path)
    )  # fmt: skip
    assert code == 0
    assert out.startswith("shmreclaim ")
    result = json.loads(path.read_text())
    given = {name: result["parameters"][name] for name in ("designs", "cpus", "speed", "seconds", "repeat")}
    assert given == {"designs": ["davydov"], "cpus": 2, "speed": 2.0, "seconds": 0.5, "repeat": 1}
    design = result["designs"]["davydov"]
    assert 0.4 < design["wall_s"] < 3
    assert sum(one["count"] for one in design["ops"].values()) < sum(result["workload"]["ops"].values())


@pytest.mark.stress
def test_a_program_without_a_main_guard_can_compare() -> None:
    """Workers do not run the caller's main module, or they would start workers of their own."""
    code, out, err = run_code(
        "from shmreclaim.cli import main\n"
        "import sys\n"
        "sys.exit(main(['compare', '--designs', 'davydov', '--repeat', '1', '--cpus', '2']))"
    )
    assert code == 0, err
    assert out.count("end, SUCCESS") == 1
