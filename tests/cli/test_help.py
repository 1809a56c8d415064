"""`--help` of every command: its text, and how soon it comes."""

import time
from pathlib import Path

import pytest

import shmreclaim
from tests.cli import runner

GOLDEN = Path(__file__).parent / "golden"
COMMANDS = [
    "",
    "bench",
    "bench diff",
    "bench ids",
    "bench locks",
    "bench reclaim",
    "claims",
    "clean",
    "compare",
    "conform",
    "designs",
    "dropcaches",
    "inspect",
    "list",
    "record",
    "scenarios",
    "stress",
    "top",
]
HEAVY = ("numba", "numpy", "msgspec", "rich", "multiprocess", "posix_ipc")


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_reads_like_this(command: str) -> None:
    """Word by word: how they are wrapped is the option parser's business, and differs between its releases."""
    found = runner.run(*command.split(), "--help")
    golden = GOLDEN / f"help-{command.replace(' ', '-') or 'shmreclaim'}.txt"
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.split() == golden.read_text(encoding="utf-8").split()


def test_the_version_is_printed_alone() -> None:
    """For scripts."""
    found = runner.run("--version")
    assert (found.returncode, found.stdout, found.stderr) == (0, f"shmreclaim {shmreclaim.__version__}\n", "")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_imports_nothing_heavy(command: str) -> None:
    """Importing numba alone takes longer than help may."""
    arguments = [*command.split(), "--help"]
    probe = (
        f"import sys; from shmreclaim.cli import main; main({arguments!r});"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    assert runner.probe(probe).stderr.strip() == "[]"


@pytest.mark.slow
def test_help_comes_within_three_tenths_of_a_second() -> None:
    """The best of five, on a machine that does nothing else."""

    def once() -> float:
        began = time.monotonic()
        assert runner.run("compare", "--help").returncode == 0
        return time.monotonic() - began

    assert min(once() for _ in range(5)) < 0.3
