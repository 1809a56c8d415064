"""See that an installed shmreclaim is whole, and that its comparison found nothing broken.

Usage: check_installed.py RESULT.json, in the environment to check and outside of the checkout.
"""

import importlib
import json
import sys
from importlib.resources import files
from pathlib import Path

WANTED = ("py.typed", "workload/data/containers-24.ftrace.gz", "workload/presets/mailing-list.toml")


def check_package() -> None:
    """The workers are importable, and what is not Python came along."""
    importlib.import_module("shmreclaim.workers.cpu")
    package = files("shmreclaim")
    missing = [name for name in WANTED if not package.joinpath(name).is_file()]
    assert not missing, f"not installed: {missing}"


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
            workers = run["workers"]
            assert len({worker["pid"] for worker in workers}) == result["workload"]["cpus"], name
            assert max(each["started_ns"] for each in workers) < min(each["ended_ns"] for each in workers), name
        print(f"{name}: {design['runs']} runs, {design['invariants']['checked']} invariants checked, 0 violated")


check_package()
check_result(Path(sys.argv[1]))
