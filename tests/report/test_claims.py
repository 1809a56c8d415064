"""What a reader of the claims sees: every part of each, its figures, and all verdicts once more at the end."""

import pytest

from shmreclaim.report.claims import render
from shmreclaim.report.style import Style
from shmreclaim.result import ClaimResult, ClaimsResult, Machine

MACHINE = Machine(cores=2, cpu="a CPU", architecture="x86_64", kernel="6.18", python="3.11.7", libraries={})


def claim(verdict: str = "holds", **figures: object) -> ClaimResult:
    """A claim with figures."""
    return ClaimResult(
        claim="reclaim deadlocks",
        by="somebody, March 2018",
        ran="many mounts",
        rule="it holds if a run hangs",
        verdict=verdict,
        why="0 of 4 runs hung",
        figures=figures,
        seconds=1.25,
    )


def report(width: int = 120, **claims: ClaimResult) -> str:
    """The report as plain text."""
    result = ClaimsResult(version="1.0", started="now", parameters={}, machine=MACHINE, claims=claims)
    return render(result, Style(width=width))


def test_every_part_of_a_claim_is_told() -> None:
    """Who said what, what was run, the rule, the verdict, and why."""
    text = report(H2=claim("refuted"))
    for part in (
        "H2  reclaim deadlocks\n",
        "by: somebody, March 2018\n",
        "ran: many mounts\n",
        "rule: it holds if a run hangs\n",
        "verdict: refuted\n",
        "why: 0 of 4 runs hung\n",
    ):
        assert part in text


def test_figures_are_tables_lists_and_lines() -> None:
    """By what they are: rows of rows, several texts, names with values, one value."""
    text = report(
        H1=claim(
            failures={"v4_19": {"registered": 12345, "failed %": 1.5}, "v6_7": {"registered": 7}},
            hangs=["CPU 0 waits for CPU 1", "CPU 1 waits for CPU 0"],
            latency_ms={"p50": 0.25, "max": 1234567.0},
            runs=4,
            threshold="none",
        )
    )
    lines = [line.split() for line in text.splitlines()]
    assert ["failures", "registered", "failed", "%"] in lines
    assert ["v4_19", "12,345", "1.5"] in lines
    assert ["v6_7", "7"] in lines
    assert "    hangs:\n      CPU 0 waits for CPU 1\n      CPU 1 waits for CPU 0\n" in text
    assert "    latency_ms: p50 0.25, max 1.235e+06\n" in text
    assert "    runs: 4\n" in text
    assert "    threshold: none\n" in text


def test_the_end_counts_the_verdicts() -> None:
    """One line a claim, then how many came to what, and the time they took."""
    text = report(H1=claim("refuted"), H2=claim("holds"), H11=claim("cannot-tell"), H12=claim("holds"))
    end = text.splitlines()[-5:]
    assert [line.split()[:2] for line in end[:4]] == [
        ["H1", "refuted"], ["H2", "holds"], ["H11", "cannot-tell"], ["H12", "holds"],
    ]  # fmt: skip
    assert end[4] == "end: 4 claims in 5 s: 2 holds, 1 refuted, 1 cannot-tell"


@pytest.mark.parametrize("width", [80, 120])
def test_long_texts_are_wrapped_to_the_width(width: int) -> None:
    """What a person reads; the title and the last lines stay one line each, to be searched for."""
    long = " ".join(["words"] * 60)
    text = report(width, H1=ClaimResult(**{**claim_fields(), "why": long, "rule": f"{long}\n{long}"}))
    body = [line for line in text.splitlines() if "words" in line]
    assert len(body) > 6
    assert max(map(len, body)) <= width


def claim_fields() -> dict[str, object]:
    """The fields of a claim."""
    one = claim()
    return {name: getattr(one, name) for name in one.__struct_fields__}
