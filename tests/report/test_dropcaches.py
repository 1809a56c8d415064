"""The report of `dropcaches`, and how runs are folded into it."""

import json
from pathlib import Path

import pytest

from shmreclaim.drop_passes import DesignPasses, DropPass, DropsAtSize, DropsResult
from shmreclaim.experiments.dropcaches import fold
from shmreclaim.report.dropcaches import render
from shmreclaim.report.json import encode
from shmreclaim.report.style import Style
from shmreclaim.result import Invariants, LoggedOp, RunRecord, Spread
from tests.report.samples import LOST_BIT, make_result, make_run

GOLDEN = Path(__file__).parent / "golden"


def run_of(*cpu_ms: float, calls: int = 100, freed: int = 16) -> RunRecord:
    """One run: passes that took so long, and twice that by the clock; the first freed something."""
    fields = {name: getattr(make_run(), name) for name in RunRecord.__struct_fields__}
    log = [
        LoggedOp(
            op="drop_caches", cpu=0, at_ns=0, ns=int(2e6 * ms), cpu_ns=int(1e6 * ms),
            events={"shrinker_calls": calls, "drop_rounds": 1, **({} if k else {"objects_freed": freed})},
        )
        for k, ms in enumerate(cpu_ms)
    ]  # fmt: skip
    return RunRecord(**fields | {"log": log})


def passes_of(scale: float, n: int, freed: int = 16, violations: tuple[str, ...] = ()) -> DesignPasses:
    """A design whose passes take `scale` ms for each container, the first ten times that."""
    seconds = [scale * n * factor / 1000 for factor in (10, 1, 1)]
    return DesignPasses(
        runs=3,
        passes=[
            DropPass(
                seconds=each, elapsed_s=each, shrinker_calls=n, scan_calls=0 if k else n,
                objects_freed=0 if k else freed, rounds=1, runs_s=[each] * 3,
            )
            for k, each in enumerate(seconds)
        ],
        later_s=Spread(median=seconds[1], min=seconds[1] * 0.9, max=seconds[1] * 1.2),
        ratio_first=Spread(median=5.0, min=5.0, max=5.0),
        ratio_later=Spread(median=640.0, min=600.0, max=700.0),
        invariants=Invariants(checked=1000, violations=list(violations)),
    )  # fmt: skip


def result_of(sizes: tuple[int, ...] = (4,), freed: int = 16, violations: tuple[str, ...] = ()) -> DropsResult:
    """Two designs at some sizes; `freed` and `violations` are of the second one."""
    found = [
        DropsAtSize(
            containers=n,
            segment_bytes=n << 20,
            designs={"no_map": passes_of(n, n), "v6_7": passes_of(0.01, n, freed, violations)},
        )
        for n in sizes
    ]
    parameters = {"containers": sizes[-1], "designs": ["no_map", "v6_7"], "passes": 3, "objects": 2, "repeat": 3}
    return DropsResult(
        version="0.1.0", started="2026-01-01T00:00:00+00:00", machine=make_result().machine,
        parameters=parameters | {"sweep": len(sizes) > 1, "timeout": 300.0},
        segment_bytes=found[-1].segment_bytes, designs=found[-1].designs, sweep=found if len(sizes) > 1 else [],
        design_files={},
    )  # fmt: skip


def test_the_report_of_a_sweep_reads_like_this() -> None:
    """Character by character; print `render(result_of((1, 2, 4)), Style(80))` to renew the file."""
    assert render(result_of((1, 2, 4)), Style(80)) == (GOLDEN / "dropcaches-80.txt").read_text(encoding="utf-8")


def test_a_design_that_broke_an_invariant_has_no_figure() -> None:
    """It is REFUSED in every table, its message is told, the last line says FAILURE."""
    text = render(result_of((1, 2, 4), violations=(LOST_BIT,)), Style())
    assert {tuple(line.split()) for line in text.splitlines() if line.startswith("  v6_7")} == {("v6_7", "REFUSED")}
    assert f"4 containers: v6_7: {LOST_BIT}" in text
    assert text.splitlines()[-1].startswith("end, FAILURE, 6,000 checks, 3 invariants broken: dropcaches")
    assert not result_of(violations=(LOST_BIT,)).is_sound


def test_designs_that_freed_different_numbers_of_objects_are_named() -> None:
    """They did not do the same work: that is a failure, whatever the oracles say."""
    text = render(result_of(freed=15), Style())
    assert "objects freed differ: no_map 16; v6_7 15" in text
    assert text.splitlines()[-1].startswith("end, FAILURE")


def test_without_the_design_without_maps_there_is_no_ratio() -> None:
    """Nobody to compare with."""
    found = fold({"v6_7": [run_of(9, 3, 1)]})["v6_7"]
    assert (found.ratio_first, found.ratio_later) == (None, None)


def test_ratios_are_of_runs_that_stood_next_to_each_other() -> None:
    """First passes apart from later ones, of which each run gives its median."""
    found = fold(
        {"no_map": [run_of(80, 30, 10, 20), run_of(160, 40, 40, 90)], "v6_7": [run_of(8, 2, 1, 3), run_of(8, 4, 4, 4)]}
    )
    assert found["v6_7"].ratio_first == Spread(median=15.0, min=10.0, max=20.0)
    assert found["v6_7"].ratio_later == Spread(median=10.0, min=10.0, max=10.0)
    assert found["no_map"].ratio_later == Spread(median=1.0, min=1.0, max=1.0)


def test_a_pass_is_the_median_of_the_runs() -> None:
    """Of each figure; the seconds of every run are kept."""
    (first,) = fold({"no_map": [run_of(10, calls=1), run_of(30, calls=3), run_of(20, calls=2)]})["no_map"].passes
    assert (first.seconds, first.elapsed_s, first.runs_s) == (0.02, 0.04, [0.01, 0.03, 0.02])
    assert (first.shrinker_calls, first.objects_freed, first.rounds) == (2, 16, 1)


def test_a_single_pass_has_no_later_ones() -> None:
    """Nothing is made up."""
    found = fold({"no_map": [run_of(10)]})["no_map"]
    assert (found.later_s, found.ratio_later) == (None, None)


def test_a_busy_machine_is_said() -> None:
    """Where the clock and CPU time differ; else not."""
    busy = result_of()
    for name, design in fold({"no_map": [run_of(9, 3)]}).items():
        busy.designs[name] = design
    assert "the machine was busy: by the clock the passes took up to 2 times as long" in render(busy, Style())
    assert "busy" not in render(result_of(), Style())


@pytest.mark.parametrize("sizes", [(4,), (1, 2, 4)], ids=["one size", "sweep"])
def test_the_json_has_exactly_these_keys(sizes: tuple[int, ...]) -> None:
    """Schema version 1."""
    tree = json.loads(encode(result_of(sizes)))
    assert list(tree) == [
        "schema_version", "version", "started", "parameters", "machine", "segment_bytes", "designs", "sweep",
        "design_files",
    ]  # fmt: skip
    assert tree["schema_version"] == 1
    assert [size["containers"] for size in tree["sweep"]] == list(sizes if len(sizes) > 1 else ())
    for design in tree["designs"].values():
        assert set(design) == {"runs", "passes", "later_s", "ratio_first", "ratio_later", "invariants"}
        for each in design["passes"]:
            assert set(each) == {
                "seconds", "elapsed_s", "shrinker_calls", "scan_calls", "objects_freed", "rounds", "runs_s",
            }  # fmt: skip
