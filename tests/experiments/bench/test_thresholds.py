"""Thresholds: what may be written, what it means, and who is asked."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shmreclaim.errors import UsageError
from shmreclaim.experiments.bench.thresholds import SIGNS, UNITS, expect_subjects, judge, parse

KINDS = {"write.p99": "time", "write.p99.9": "time", "read.ops_per_s": "number", "write.starved": "number"}
FIGURES = {"ours.A": {"write.p99": 5e6, "read.ops_per_s": 1e6}, "ours.B (x)": {"write.p99": 2e7}, "peer": {}}
BLANKS = st.text(" ", max_size=2)


@given(
    subject=st.none() | st.sampled_from(["peer", "shmreclaim.RwLock (compiled)", "glibc rwlock (prefers writers)"]),
    figure=st.sampled_from([name for name, kind in KINDS.items() if kind == "time"]),
    sign=st.sampled_from(list(SIGNS)),
    number=st.decimals(0, 10**6, places=3),
    unit=st.sampled_from(["", *UNITS]),
    blanks=st.tuples(BLANKS, BLANKS, BLANKS, BLANKS),
)
def test_what_is_written_is_what_is_meant(subject, figure, sign, number, unit, blanks) -> None:
    """Any lock, figure, comparison, number and unit, with or without blanks."""
    a, b, c, d = blanks
    text = f"{a}{'' if subject is None else subject + b + ':'}{c}{figure}{b}{sign}{d}{number}{unit}{a}"
    found = parse(text, KINDS)
    assert (found.subject, found.figure, found.sign) == (subject, figure, sign)
    assert found.value == pytest.approx(float(number) * UNITS.get(unit, 1))
    assert found.text == text


@given(value=st.floats(0, 1e12), sign=st.sampled_from(list(SIGNS)), found=st.floats(0, 1e12), equal=st.booleans())
def test_a_threshold_holds_as_python_compares(value: float, sign: str, found: float, equal: bool) -> None:
    """`a OP b`, evaluated."""
    found = value if equal else found
    assert parse(f"write.p99{sign}{value!r}", KINDS).holds(found) == eval(f"{found!r} {sign} {value!r}")


@given(st.text())
def test_no_text_makes_anything_but_a_threshold_or_a_refusal(text: str) -> None:
    """UsageError, whatever was typed."""
    try:
        found = parse(text, KINDS)
    except UsageError:
        return
    assert found.figure in KINDS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is none"),
        ("write.p99", "is none"),
        ("write.p99<", "is none"),
        ("write.p99=10ms", "is none"),
        ("write.p99<10 ms", "is none"),
        ("write.p98<10ms", "there is no figure 'write.p98'"),
        ("write<10ms", "there is no figure 'write'"),
        ("write.p99<10min", "the unit 'min' does not fit"),
        ("write.p99<ms", "'ms' is not a number"),
        ("write.p99<yes", "'yes' is not a number"),
        ("read.ops_per_s>5ms", "This figure has no unit."),
    ],
)
def test_what_is_not_one_is_refused_and_says_why(text: str, message: str) -> None:
    """Before anything is measured."""
    with pytest.raises(UsageError) as refused:
        parse(text, KINDS)
    assert message in str(refused.value)


@pytest.mark.parametrize(("word", "value"), [("yes", 1), ("no", 0), ("true", 1), ("false", 0), ("1", 1)])
def test_yes_and_no_are_numbers(word: str, value: int) -> None:
    """For figures that are an answer."""
    assert parse(f"write.starved=={word}", KINDS).value == value


def test_a_subject_that_is_not_measured_or_has_no_such_figure_is_refused() -> None:
    """And those that have it are named."""
    names = {name: list(figures) for name, figures in FIGURES.items()}
    expect_subjects([parse("write.p99<1ms", KINDS), parse("ours.A:write.p99<1ms", KINDS)], names)
    for text in ("nobody:write.p99<1ms", "peer:write.p99<1ms", "ours.B (x):read.ops_per_s>1", "write.starved==no"):
        with pytest.raises(UsageError) as refused:
            expect_subjects([parse(text, KINDS)], names)
        assert repr(text) in str(refused.value)
    assert "none" in str(refused.value)


def test_one_threshold_gives_a_verdict_for_each_it_is_about() -> None:
    """Those of the default where none is named, else that one."""
    verdicts = judge(parse("write.p99<10ms", KINDS), FIGURES, ["ours.A", "ours.B (x)"])
    assert [(each.subject, each.found, each.passed) for each in verdicts] == [
        ("ours.A", 5e6, True),
        ("ours.B (x)", 2e7, False),
    ]
    (alone,) = judge(parse("ours.A:read.ops_per_s>=1e6", KINDS), FIGURES, ["ours.B (x)"])
    assert (alone.subject, alone.passed) == ("ours.A", True)


def test_a_figure_that_could_not_be_had_does_not_pass() -> None:
    """A lock that was refused has none."""
    (verdict,) = judge(parse("gone:write.p99>=0", KINDS), FIGURES, [])
    assert (verdict.found, verdict.passed) == (None, False)
