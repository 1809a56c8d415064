"""Thresholds in the style of k6: `write.p99<10ms` passes or fails once everything is measured.

    [SUBJECT:]FIGURE OP VALUE[UNIT]

What subjects and figures there are is the bench's own; it gives their names before it measures, so that a wrong one
is refused at once, and a table {subject: {figure: number}} after.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from shmreclaim.bench_result import Verdict
from shmreclaim.errors import UsageError

UNITS = {"ns": 1.0, "us": 1e3, "µs": 1e3, "μs": 1e3, "ms": 1e6, "s": 1e9}
SIGNS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
}
WORDS = {"yes": 1.0, "no": 0.0, "true": 1.0, "false": 0.0}
_FORM = re.compile(
    r"(?:(?P<subject>[^:]*):)?\s*(?P<figure>[^\s<>=!:]+)\s*(?P<sign><=|>=|==|!=|<|>)\s*(?P<value>[^\s<>=!]+)\s*"
)
_VALUE = re.compile(r"(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?P<unit>[a-zµμ]*)")
EXAMPLE = "write.p99<10ms"


@dataclass(frozen=True)
class Threshold:
    """One of them, taken apart; times are in ns."""

    text: str
    subject: str | None
    """None: all that the bench judges unless told otherwise."""
    figure: str
    sign: str
    value: float

    def holds(self, found: float) -> bool:
        """Whether a figure is as wanted."""
        return SIGNS[self.sign](found, self.value)


def parse(text: str, kinds: Mapping[str, str]) -> Threshold:
    """Read one; `kinds` has `time` or `number` for each figure there is. Raises UsageError."""
    form = _FORM.fullmatch(text.strip())
    if form is None:
        raise UsageError(
            f"--threshold {text!r} is none",
            cause="It has the form [LOCK:]FIGURE OP VALUE, with one of " + " ".join(SIGNS) + " as OP.",
            remedy=f"Example: --threshold '{EXAMPLE}'",
        )
    figure = form["figure"]
    if figure not in kinds:
        raise UsageError(
            f"--threshold {text!r}: there is no figure {figure!r}", remedy=f"Figures are: {', '.join(kinds)}."
        )
    subject = None if form["subject"] is None else form["subject"].strip()
    return Threshold(text, subject, figure, form["sign"], _value(text, form["value"], kinds[figure]))


def _value(text: str, value: str, kind: str) -> float:
    """Read a number with its unit; times without one are in ns."""
    if kind == "number" and value in WORDS:
        return WORDS[value]
    form = _VALUE.fullmatch(value)
    if form is None:
        raise UsageError(f"--threshold {text!r}: {value!r} is not a number", remedy=f"Example: '{EXAMPLE}'")
    unit = form["unit"]
    if unit and (kind != "time" or unit not in UNITS):
        allowed = f"Units are: {', '.join(UNITS)}." if kind == "time" else "This figure has no unit."
        raise UsageError(f"--threshold {text!r}: the unit {unit!r} does not fit", cause=allowed)
    return float(form["number"]) * UNITS.get(unit, 1.0)


def expect_subjects(thresholds: Iterable[Threshold], figures: Mapping[str, Sequence[str]]) -> None:
    """Refuse thresholds of subjects that are not measured, or that do not have the figure; `figures` by subject."""
    for threshold in thresholds:
        having = [subject for subject, names in figures.items() if threshold.figure in names]
        if threshold.subject is None and having:
            continue
        if threshold.subject not in having:
            named = threshold.subject or "what is measured"
            raise UsageError(
                f"--threshold {threshold.text!r}: {named} has no {threshold.figure}, or is not measured",
                remedy=f"These have it: {', '.join(having) or 'none'}.",
            )


def judge(
    threshold: Threshold, figures: Mapping[str, Mapping[str, float | None]], default: Sequence[str]
) -> list[Verdict]:
    """Compare: one verdict for each subject it is about. A figure that could not be had does not pass."""
    subjects = [threshold.subject] if threshold.subject is not None else default
    verdicts = []
    for subject in subjects:
        found = figures.get(subject, {}).get(threshold.figure)
        passed = found is not None and threshold.holds(found)
        verdicts.append(Verdict(threshold=threshold.text, subject=subject, found=found, passed=passed))
    return verdicts
