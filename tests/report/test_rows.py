"""Rows under headings, in every form."""

import csv

import pytest

from shmreclaim.report.rows import FORMS, Rows, View, as_csv, as_markdown, figure, show
from shmreclaim.report.style import Style

ODD = ('a "quoted", name', "two\nlines", "a|pipe", 1.5, 8.854299999999999, 12_345_678.0, None, 3)
ROWS = Rows("odd ones", tuple("abcdefgh"), (ODD,))
VIEW = View(
    opening=["what was measured"],
    tables=[Rows("times", ("kind", "10", "1,000"), [("idr", "1.2 ±3%", "3"), ("ida", None, "4")])],
    closing=["what it means"],
    figures=Rows("", ("kind", "live", "ns"), [("idr", 10, 1.2), ("idr", 1000, 3.0), ("ida", 1000, 4.0)]),
    headline=1234.5678,
)


def test_csv_gives_every_cell_back() -> None:
    """To any reader of CSV; an empty cell for None, ten digits at most."""
    head, row = csv.reader(as_csv(ROWS).splitlines(keepends=True))
    assert head == list("abcdefgh")
    assert row == ['a "quoted", name', "two\nlines", "a|pipe", "1.5", "8.8543", "12345678", "", "3"]


def test_markdown_keeps_one_row_on_one_line() -> None:
    """Whatever is in a cell; a bar in it is no border."""
    lines = as_markdown(ROWS).splitlines()
    assert len(lines) == 3
    assert lines[1] == "| --- |" + " ---: |" * 7
    assert lines[2].startswith('| a "quoted", name | two lines | a\\|pipe | 1.5 |')


TABLE = """\
what was measured

times
  kind             10  1,000
  idr         1.2 ±3%      3
  ida                      4

what it means
"""
MARKDOWN = """\
what was measured

**times**

| kind | 10 | 1,000 |
| --- | ---: | ---: |
| idr | 1.2 ±3% | 3 |
| ida |  | 4 |

what it means
"""
CSV = "kind,live,ns\nidr,10,1.2\nidr,1000,3\nida,1000,4\n"


@pytest.mark.parametrize(("form", "text"), [*zip(FORMS, (TABLE, CSV, MARKDOWN, "1234.57\n"), strict=True)], ids=FORMS)
def test_a_view_reads_like_this(form: str, text: str) -> None:
    """In each form, character by character."""
    assert show(VIEW, form, Style(80)) == text


@pytest.mark.parametrize(
    ("value", "interval", "text"),
    [
        (1.234, (1.234, 1.234), "1.23"),
        (1.0, (0.9, 1.02), "1 ±10%"),
        (999.4, (999.4, 999.4), "999"),
        (999.6, (999.6, 999.6), "1,000"),
        (123_456.0, (100_000.0, 150_000.0), "123,456 ±22%"),
    ],
)
def test_a_figure_has_three_digits_and_the_farther_end_of_its_interval(
    value: float, interval: tuple[float, float], text: str
) -> None:
    """In percent of it."""
    assert figure(value, interval) == text
