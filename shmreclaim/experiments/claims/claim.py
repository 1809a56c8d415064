"""A claim of the thread as an experiment: who said what, what is run, and the rule that judges what came of it.

The rule is fixed before anything runs: a function of outcomes alone, whose docstring says it in words. So it is tested
with outcomes made by hand, and every verdict can be reached.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shmreclaim.experiments.claims.lab import Lab

HOLDS = "holds"
REFUTED = "refuted"
CANNOT_TELL = "cannot-tell"
VERDICTS = (HOLDS, REFUTED, CANNOT_TELL)


@dataclass(frozen=True)
class Finding:
    """What an experiment came to."""

    verdict: str
    why: str
    """One sentence with the values that decided."""
    figures: dict[str, object] = field(default_factory=dict)
    """By name, the unit in it: a number, a text, a list of texts, or a table {row: {column: figure}}."""

    def __post_init__(self) -> None:
        """Refuse a verdict that there is not."""
        if self.verdict not in VERDICTS:
            raise ValueError(f"a verdict is one of {VERDICTS}, not {self.verdict!r}")


@dataclass(frozen=True)
class Claim:
    """One hypothesis, `H1` and so on, and the experiment that decides it."""

    number: str
    by: str
    """Who said it, and when."""
    says: str
    ran: str
    """What is run, in a sentence or two."""
    rule: str
    """The rule of the verdict in words: `worded` of the function that decides."""
    experiment: Callable[[Lab], Finding]


class CannotTell(Exception):  # noqa: N818 - a verdict, not an error
    """Raised inside an experiment that cannot go on: the verdict is cannot-tell, the message says why."""


def worded(rule: Callable[..., object]) -> str:
    """Give the docstring of a rule as one paragraph."""
    return " ".join((inspect.getdoc(rule) or "").split())
