"""See that an installed shmreclaim is whole, and that its comparison found nothing broken.

Usage: check_installed.py RESULT.json, in the environment to check and outside of the checkout. The result is of an
open loop (`--speed`): at planned times every worker of every run is busy together with the others for most of it.
"""

import importlib
import json
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

WANTED = (
    "py.typed",
    "workload/data/containers-24.ftrace.gz",
    "workload/data/dropcaches-1000x5.ftrace.gz",
    "workload/presets/mailing-list.toml",
)


def check_package() -> None:
    """The workers are importable, and what is not Python came along."""
    importlib.import_module("shmreclaim.workers.cpu")
    package = files("shmreclaim")
    missing = [name for name in WANTED if not package.joinpath(name).is_file()]
    assert not missing, f"not installed: {missing}"


def overlap(run: dict[str, Any]) -> bool:
    """Whether all workers of a run were at work at one moment."""
    workers = run["workers"]
    return max(each["started_ns"] for each in workers) < min(each["ended_ns"] for each in workers)


def check_result(path: Path) -> None:
    """Every design ran, on workers of its own that worked at the same time, and broke nothing."""
    result = json.loads(path.read_text())
    assert result["schema_version"] == 1
    assert set(result["designs"]) == set(result["parameters"]["designs"])
    for name, design in result["designs"].items():
        assert design["invariants"]["violations"] == [], name
        assert design["invariants"]["checked"] > 0, name
        assert design["reclaim"]["passes"] > 0, name
        for run in design["per_run"]:
            assert len({worker["pid"] for worker in run["workers"]}) == result["workload"]["cpus"], name
            assert overlap(run), f"{name}: a worker began when another was done already"
        print(f"{name}: {design['runs']} runs, {design['invariants']['checked']} invariants checked, 0 violated")


check_package()
check_result(Path(sys.argv[1]))
