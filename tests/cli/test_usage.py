"""Every wrong value of every option: one message, exit code 1, no traceback, no worker."""

from pathlib import Path

import pytest

from tests.cli import runner

WRONG = [
    ("--cpus 0", "--cpus 0 is out of range"),
    ("--cpus -3", "--cpus -3 is out of range"),
    ("--cpus 1000000", "--cpus 1000000 is out of range"),
    ("--cpus many", "'many' is not a whole number"),
    ("--cpus 1.5", "'1.5' is not a whole number"),
    ("--repeat 0", "--repeat 0 is out of range"),
    ("--repeat x", "'x' is not a whole number"),
    ("--nodes 0", "--nodes 0 is out of range"),
    ("--seed -1", "--seed -1 is out of range"),
    ("--seed 9223372036854775808", "--seed 9223372036854775808 is out of range"),
    ("--seconds 0", "--seconds 0 is out of range"),
    ("--seconds nan", "--seconds nan is out of range"),
    ("--seconds inf", "--seconds inf is out of range"),
    ("--speed 0", "--speed 0 is out of range"),
    ("--speed -1", "--speed -1 is out of range"),
    ("--speed fast", "'fast' is not a number"),
    ("--timeout 0", "--timeout 0 is out of range"),
    ("--designs nonesuch", "there is no design 'nonesuch'"),
    ("--designs no_map,", "there is no design ''"),
    ("--designs no_map,no_map", "names a design twice"),
    ("--trace a --scenario b", "--trace a and --scenario b were both given"),
    ("--json /nonesuch/result.json", "there is no folder /nonesuch"),
    ("--json /", "--json / is a folder"),
    ("--nonesuch", "No such option"),
    ("--cpus", "requires an argument"),
    ("surplus", "unexpected extra argument"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=[arguments for arguments, _ in WRONG])
def test_a_wrong_value_is_refused_with_a_message_that_names_it(arguments: str, message: str) -> None:
    """Exit code 1, on stderr alone."""
    found = runner.run("compare", *arguments.split())
    assert found.returncode == 1
    assert message in found.stderr
    assert found.stderr.startswith("shmreclaim: ")
    assert "Traceback" not in found.stderr
    assert found.stdout == ""


def test_an_unknown_command_is_refused() -> None:
    """And told where to look."""
    found = runner.run("campare")
    assert found.returncode == 1
    assert "campare" in found.stderr
    assert "See: shmreclaim --help" in found.stderr


def test_no_command_at_all_shows_the_help_and_fails() -> None:
    """On stderr: a script that forgot the command must not take help for a result."""
    found = runner.run()
    assert (found.returncode, found.stdout) == (1, "")
    assert "Commands:" in found.stderr


def test_the_message_about_an_unknown_design_lists_those_there_are() -> None:
    """The reader need not look them up."""
    found = runner.run("compare", "--designs", "davidov")
    assert "The designs are: no_map, tkhai_v1, davydov" in found.stderr


def test_every_design_is_listed_with_what_it_is() -> None:
    """One a line: its name, then the first line of its docstring."""
    found = runner.run("designs")
    assert found.returncode == 0
    listed = dict(line.split(maxsplit=1) for line in found.stdout.splitlines())
    assert {"no_map", "tkhai_v1", "davydov"} <= set(listed)


def test_every_preset_is_listed_with_what_it_is() -> None:
    """One a line."""
    found = runner.run("scenarios")
    assert found.returncode == 0
    listed = dict(line.split(maxsplit=1) for line in found.stdout.splitlines())
    assert {"mailing-list", "containers", "churn", "starvation"} <= set(listed)


def test_a_trace_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """By name."""
    found = runner.run("compare", "--trace", str(tmp_path / "nonesuch.txt"))
    assert found.returncode == 1
    assert "nonesuch.txt" in found.stderr
