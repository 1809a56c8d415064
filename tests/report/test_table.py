"""The table of a comparison, line by line."""

from pathlib import Path

import pytest

from shmreclaim.report.style import Style
from shmreclaim.report.table import render
from tests.report.samples import LOST_BIT, make_result

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_of_two_designs_reads_like_this(width: int) -> None:
    """Character by character; print `render(make_result(), Style(width))` to renew the file."""
    assert render(make_result(), Style(width)) == (GOLDEN / f"compare-{width}.txt").read_text(encoding="utf-8")


def test_a_design_that_broke_an_invariant_is_refused_with_its_reason() -> None:
    """Its rows have no figure, the message stands below the tables, the last line says FAILURE."""
    lines = render(make_result((LOST_BIT,)), Style()).splitlines()
    assert {tuple(line.split()) for line in lines if line.startswith("  davydov")} == {("davydov", "REFUSED")}
    assert "davydov is refused: 1 invariant broken" in lines
    assert f"  {LOST_BIT}" in lines
    assert lines[-1].startswith("end, FAILURE, 1 invariant broken: compare --scenario churn")


def test_a_refused_design_is_compared_with_nobody() -> None:
    """Its figures mean nothing in a sentence either."""
    assert "times as many" not in render(make_result((LOST_BIT,)), Style())


def test_the_first_and_the_last_line_name_every_parameter_the_seed_and_the_machine() -> None:
    """Whoever has one end of a log knows what it was."""
    lines = render(make_result(), Style(80)).splitlines()
    for line in (lines[0], lines[-1]):
        assert "--scenario churn --designs no_map,davydov --cpus 4 --nodes 1 --seed 7 --repeat 3 --timeout 60" in line
        assert "2 cores of Example CPU (x86_64, Linux 6.18.0, Python 3.11.7, numba 0.68.1)" in line


def test_more_cpus_than_cores_is_said_plainly() -> None:
    """What is measured then is the scheduler too."""
    assert "4 CPUs on 2 cores: the scheduler is measured too" in render(make_result(cores=2), Style())
    assert "scheduler" not in render(make_result(cores=4), Style())


def test_the_summary_says_how_many_times_as_many_calls_were_made() -> None:
    """988,800 against 24,000 for the same objects."""
    text = render(make_result(), Style())
    assert "no_map made 41.2 times as many shrinker calls as davydov for the same 12,345 objects freed" in text


def test_nothing_but_the_lines_of_parameters_and_sentences_is_wider_than_eighty_columns() -> None:
    """Those two are for grep and wrap by themselves; every table fits the narrowest terminal."""
    lines = render(make_result(), Style(80)).splitlines()
    tables = lines[1 : lines.index("Summary")]
    assert max(map(len, tables)) <= 80


def test_output_that_is_not_a_terminal_has_no_escape_codes() -> None:
    """A pipe gets plain text."""
    assert "\x1b" not in render(make_result((LOST_BIT,)), Style(colour=False))
