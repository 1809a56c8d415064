"""What changed between two results, and what is no result to compare."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from shmreclaim.errors import SetupError, ShmreclaimError, UsageError
from shmreclaim.experiments.bench.diff import bench_diff
from shmreclaim.experiments.bench.turns import Figure
from shmreclaim.report.json import encode
from tests.report.samples import make_result

MACHINE = json.loads(encode(make_result()))["machine"]


def bench_of(found: dict[str, Any], **header: Any) -> dict[str, Any]:
    """The JSON of a bench that found this."""
    said = {"schema_version": 1, "bench": "ids", "version": "1", "started": "then", "parameters": {}}
    return {**said, "machine": MACHINE, **header, "ids": found}


def cost(ns: float, low: float, high: float) -> dict[str, Any]:
    """A figure with its interval."""
    return {"ns": ns, "ns_ci": [low, high]}


class Files:
    """Writes results to be compared."""

    def __init__(self, folder: Path) -> None:
        """Into this folder."""
        self.folder = folder

    def write(self, name: str, content: dict[str, Any] | str) -> str:
        """Give the path."""
        path = self.folder / name
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return str(path)

    def diff(self, old: dict[str, Any], new: dict[str, Any]) -> Any:
        """Compare two."""
        return bench_diff(self.write("old.json", old), self.write("new.json", new))


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """A folder of its own."""
    return Files(tmp_path)


def test_a_figure_that_doubled_is_told_apart(files: Files) -> None:
    """With its ratio; more nanoseconds are worse."""
    (change,) = files.diff(bench_of({"a": cost(10, 9, 11)}), bench_of({"a": cost(20, 19, 21)})).changes
    assert (change.figure, change.ratio, change.told_apart, change.better) == ("ids/a/ns", 2.0, True, False)
    low, high = change.ratio_ci
    assert 19 / 11 < low < 2 < high < 21 / 9


def test_intervals_that_overlap_widely_tell_nothing_apart(files: Files) -> None:
    """Neither better nor worse."""
    (change,) = files.diff(bench_of({"a": cost(10, 8, 12)}), bench_of({"a": cost(11, 9, 13)})).changes
    assert (change.told_apart, change.better) == (False, None)
    assert change.ratio_ci[0] <= 1 <= change.ratio_ci[1]


def test_the_interval_of_a_ratio_holds_the_true_one_as_often_as_it_says(files: Files) -> None:
    """400 pairs of figures of 25 skewed samples each, seeded, the one truly 1.3 times the other."""
    draw = random.Random(2)

    def figures(scale: float) -> dict[str, Any]:
        samples = {str(k): [scale * draw.lognormvariate(0, 0.2) for _ in range(25)] for k in range(400)}
        return {name: Figure.of(values).named("ns") for name, values in samples.items()}

    found = files.diff(bench_of(figures(10)), bench_of(figures(13))).changes
    holds = sum(change.ratio_ci[0] <= 1.3 <= change.ratio_ci[1] for change in found)
    assert 0.93 * 400 < holds < 0.99 * 400


def test_a_result_beside_itself_has_not_changed(files: Files) -> None:
    """Not even where its intervals are points."""
    same = bench_of({"a": cost(10, 10, 10), "b": cost(7, 6, 9)})
    found = files.diff(same, same)
    assert [(change.ratio, change.told_apart) for change in found.changes] == [(1.0, False)] * 2
    assert (found.differences, found.turned, found.only_old, found.only_new) == ([], [], [], [])


def test_what_changed_comes_first_and_the_largest_first(files: Files) -> None:
    """A fifth of it is farther than three times as much; what cannot be told comes last, however far it seems."""
    old = {"a": cost(10, 1, 100), "b": cost(10, 9.9, 10.1), "c": cost(10, 9.9, 10.1), "d": cost(10, 9.9, 10.1)}
    new = {"a": cost(50, 5, 500), "b": cost(11, 10.9, 11.1), "c": cost(2, 1.9, 2.1), "d": cost(30, 29, 31)}
    names = [change.figure for change in files.diff(bench_of(old), bench_of(new)).changes]
    assert names == ["ids/c/ns", "ids/d/ns", "ids/b/ns", "ids/a/ns"]


def test_a_figure_of_nothing_has_no_ratio(files: Files) -> None:
    """And one whose interval reaches down to nothing no interval."""
    old, new = {"a": cost(0, 0, 0), "b": cost(1, -1, 2)}, {"a": cost(5, 4, 6), "b": cost(9, 8, 10)}
    changes = {change.figure: change for change in files.diff(bench_of(old), bench_of(new)).changes}
    a, b = changes["ids/a/ns"], changes["ids/b/ns"]
    assert (a.ratio, a.ratio_ci, a.told_apart) == (None, None, False)
    assert (b.ratio, b.ratio_ci, b.told_apart) == (9.0, None, False)


@pytest.mark.parametrize(
    ("name", "better"),
    [("ops_per_s", True), ("jain", True), ("uncontended_ns", False), ("size", None)],
)
def test_the_name_of_a_figure_says_whether_more_is_better(files: Files, name: str, better: bool | None) -> None:
    """Nothing is said where it does not."""
    old, new = ({"lock": {name: value, f"{name}_ci": [value, value]}} for value in (1.0, 2.0))
    (change,) = files.diff(bench_of(old), bench_of(new)).changes
    assert (change.told_apart, change.better) == (True, better)


def test_percentiles_of_a_wait_are_times(files: Files) -> None:
    """What is below a name in ns is in ns."""
    old, new = ({"lock": {"wait_ns": {"p50": value, "p50_ci": [value, value]}}} for value in (1.0, 2.0))
    (change,) = files.diff(bench_of(old), bench_of(new)).changes
    assert change.better is False


def test_a_figure_that_could_not_be_measured_is_none(files: Files) -> None:
    """It is in one run only, if the other has a number."""
    found = files.diff(bench_of({"a": {"ns": None, "ns_ci": None}}), bench_of({"a": cost(1, 1, 1)}))
    assert (found.changes, found.only_new) == ([], ["ids/a/ns"])


def test_what_only_one_run_has_is_named(files: Files) -> None:
    """On both sides."""
    found = files.diff(
        bench_of({"a": cost(1, 1, 1), "b": cost(1, 1, 1)}), bench_of({"a": cost(1, 1, 1), "c": cost(1, 1, 1)})
    )
    assert (found.only_old, found.only_new) == (["ids/b/ns"], ["ids/c/ns"])


def test_verdicts_that_turned_are_told(files: Files) -> None:
    """Yes or no, or a word; titles are no verdicts."""
    old = {"a": {"verdict": "flat", "title": "x"}, "b": {"writer_starved": False}}
    new = {"a": {"verdict": "linear", "title": "y"}, "b": {"writer_starved": True}}
    turned = files.diff(bench_of(old), bench_of(new)).turned
    assert [(turn.figure, turn.old, turn.new) for turn in turned] == [
        ("ids/a/verdict", "flat", "linear"),
        ("ids/b/writer_starved", False, True),
    ]


def test_another_machine_version_or_parameter_is_said(files: Files) -> None:
    """A change may be theirs."""
    old = bench_of({}, parameters={"quick": False}, peers={"sortedcontainers": "2.3"})
    new = bench_of({}, version="2", parameters={"quick": True}, machine={**MACHINE, "cores": 99})
    assert files.diff(old, new).differences == [
        "shmreclaim: 1 → 2",
        f"cores: {MACHINE['cores']} → 99",
        "sortedcontainers: 2.3 → -",
        "quick: False → True",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not JSON"),
        ('{"bench": "ids"', "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("\x00", "is not JSON"),
        ("[]", "is not the result of a bench"),
        (encode(make_result()), "is not the result of a bench: Object missing required field `bench`"),
        (json.dumps(bench_of({}, schema_version=99)), "has schema_version 99, this program reads 1"),
        (json.dumps(bench_of({"a": {"ns": 1, "ns_ci": [1]}})), "ids/a/ns is 1, its interval [1]"),
        (json.dumps(bench_of({"a": {"ns": "1", "ns_ci": [1, 2]}})), "ids/a/ns is '1'"),
        (json.dumps(bench_of({}, bench="locks")), "is of bench locks"),
    ],
    ids=[
        "empty",
        "cut off",
        "deep",
        "binary",
        "a list",
        "of compare",
        "newer",
        "cut interval",
        "text",
        "another bench",
    ],
)
def test_what_is_no_result_of_the_same_bench_is_refused(files: Files, content: str, message: str) -> None:
    """By name, with what to do."""
    good, bad = files.write("good.json", bench_of({"a": cost(1, 1, 1)})), files.write("bad.json", content)
    for pair in ((good, bad), (bad, good)):
        with pytest.raises(UsageError, match=r"bad\.json") as refused:
            bench_diff(*pair)
        assert message in str(refused.value) or "good.json is of bench ids" in str(refused.value)
        assert refused.value.remedy


@pytest.mark.parametrize("name", ["nonesuch.json", "."])
def test_a_file_that_cannot_be_read_is_named(files: Files, name: str) -> None:
    """Not there, or a folder."""
    with pytest.raises(SetupError, match="cannot read") as refused:
        bench_diff(files.write("good.json", bench_of({})), str(files.folder / name))
    assert isinstance(refused.value, ShmreclaimError)
    assert refused.value.remedy
