"""`shmreclaim bench` as users run it: forms, files, pipes, wrong use, Ctrl-C."""

import csv
import json
import signal
from pathlib import Path

import pytest

from shmreclaim.report.json import encode
from tests.cli import runner
from tests.executions.command import Command, send
from tests.report.test_bench import ids

WRONG = [
    ("bench", "no bench given"),
    ("bench lock", "No such command 'lock'"),
    ("bench ids --nonesuch", "No such option"),
    ("bench ids surplus", "unexpected extra argument"),
    ("bench ids --csv --markdown", "--csv and --markdown were both given"),
    ("bench ids --format simple --csv", "--format simple and --csv were both given"),
    ("bench ids --format html", "--format html: there is no such form\nThe forms are: table, csv, markdown, simple."),
    ("bench ids --json /nonesuch/result.json", "there is no folder /nonesuch"),
    ("bench ids --json /", "--json / is a folder"),
    ("bench reclaim --format html", "--format html: there is no such form"),
    ("bench reclaim --json /nonesuch/result.json", "there is no folder /nonesuch"),
    ("bench diff", "Missing argument 'OLD'"),
    ("bench diff nonesuch.json nonesuch.json", "cannot read nonesuch.json"),
    ("bench diff nonesuch.json nonesuch.json --format html", "--format html: there is no such form"),
    ("bench diff nonesuch.json nonesuch.json --json /", "--json / is a folder"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=[arguments for arguments, _ in WRONG])
def test_wrong_use_is_refused_with_a_message_that_names_it(arguments: str, message: str) -> None:
    """Exit code 1, on stderr alone, before anything is measured."""
    found = runner.run(*arguments.split())
    assert (found.returncode, found.stdout) == (1, "")
    assert message in found.stderr
    assert found.stderr.startswith("shmreclaim: ")
    assert "Traceback" not in found.stderr


@pytest.fixture
def results(tmp_path: Path) -> tuple[str, str]:
    """Two results of `bench ids`; in the second an idr finds in a tenth of the time."""
    old, new = json.loads(encode(ids())), json.loads(encode(ids()))
    for cost in new["ids"]["idr"]["find"].values():
        cost["ns"], cost["ns_ci"] = cost["ns"] / 10, [end / 10 for end in cost["ns_ci"]]
    paths = tmp_path / "old.json", tmp_path / "new.json"
    for path, result in zip(paths, (old, new), strict=True):
        path.write_text(json.dumps(result), encoding="utf-8")
    return str(paths[0]), str(paths[1])


def test_a_diff_says_what_changed(results: tuple[str, str]) -> None:
    """On standard output; nothing else is said."""
    found = runner.run("bench", "diff", *results)
    assert (found.returncode, found.stderr) == (0, "")
    assert "changed: 3 figures" in found.stdout
    assert found.stdout.splitlines()[-1].startswith("end: 18 figures in both, 3 changed: 3 better, 0 worse")


def test_the_json_of_a_diff_has_standard_output_to_itself(results: tuple[str, str]) -> None:
    """The table goes to standard error."""
    found = runner.run("bench", "diff", *results, "--json", "-")
    changes = json.loads(found.stdout)["changes"]
    assert [change["told_apart"] for change in changes] == [True] * 3 + [False] * 15
    assert "changed: 3 figures" in found.stderr


def test_the_newer_result_may_come_through_a_pipe(results: tuple[str, str]) -> None:
    """`-` is standard input."""
    old, new = results
    with Path(new).open(encoding="utf-8") as stdin:
        found = runner.run("bench", "diff", old, "-", "--format", "simple", stdin=stdin)
    assert (found.returncode, found.stdout) == (0, "3\n")


def test_ids_are_measured_into_a_file_and_a_table_of_values(tmp_path: Path) -> None:
    """CSV on standard output has the figures that the JSON has; progress is on standard error, nothing is left."""
    path = tmp_path / "ids.json"
    found = runner.run("bench", "ids", "--quick", "--csv", "--json", str(path))
    assert found.returncode == 0
    result = json.loads(path.read_text(encoding="utf-8"))
    assert (result["schema_version"], result["bench"], result["parameters"]) == (1, "ids", {"quick": True})
    rows = list(csv.DictReader(found.stdout.splitlines()))
    figures = {(row["kind"], row["operation"], row["live"]): float(row["ns"]) for row in rows}
    assert len(figures) == len(rows) == len(result["ids"]) * 9
    for (kind, operation, live), ns in figures.items():
        assert result["ids"][kind][operation][live]["ns"] == pytest.approx(ns)
    assert "measuring, " in found.stderr


@pytest.mark.stress
@pytest.mark.usefixtures("compiled_once")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
@pytest.mark.parametrize(
    ("bench", "line"),
    [
        ("ids", "compiling"),
        ("ids", "measuring in process"),
        ("ids --quick", "filling"),
        ("ids --quick", "measuring"),
        ("reclaim", "measuring in process"),
        ("reclaim --quick", "set bits: booting"),
        ("reclaim --quick", "set bits: measuring"),
    ],
)
def test_a_signal_ends_a_bench_at_once(bench: str, line: str, number: int) -> None:
    """While it compiles, boots or measures: no traceback, no process, no segment."""
    with Command("bench", *bench.split()) as command:
        command.await_line(line)
        send(command, number, to_group=True)
        code, out, err = command.end()
        assert (code, out) == (128 + number, "")
        assert "Traceback" not in err
        command.assert_nothing_is_left()
