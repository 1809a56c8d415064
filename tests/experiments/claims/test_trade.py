"""H10 and H16: every verdict of their rules, and that the counts of sources count what they say."""

import ast

import pytest

from shmreclaim.experiments.claims.claim import CANNOT_TELL, HOLDS, REFUTED, Finding
from shmreclaim.experiments.claims.trade import (
    MERGED,
    PROPOSED,
    V1,
    Proxies,
    failure_exits_in,
    lines_in,
    locks_in,
    simplicity_rule,
    source_of,
    trade_rule,
)

SOURCE = '''"""A design.

Two paragraphs.
"""

# A comment.
A = 1
"""About A."""


def init(mem):
    """Make locks."""
    rwsem_init(mem, 1)  # one
    return mutex_init(mem, 2)


def grow(mem):
    if not mem:
        return 0
    return 1


def register(mem):
    return -ENOMEM if grow(mem) == 0 else 0
'''


def test_sources_are_counted_without_what_explains_them() -> None:
    """By hand: A = 1, three lines of init(), four of grow(), two of register()."""
    tree = ast.parse(SOURCE)
    assert lines_in(SOURCE) == 1 + 3 + 4 + 2
    assert locks_in(tree) == 2
    assert failure_exits_in(tree) == 2


@pytest.mark.parametrize(
    ("change", "lines", "locks", "exits"),
    [
        ("\n\n    # why\n", 0, 0, 0),
        ("\n\ndef more(mem):\n    return mutex_init(mem, 3)\n", 2, 1, 0),
        ("\n\ndef more(mem):\n    return -EAGAIN\n", 2, 0, 1),
        ("\n\ndef more(mem):\n    return 0\n", 2, 0, 0),
    ],
)
def test_each_count_follows_its_own_kind_of_change(change: str, lines: int, locks: int, exits: int) -> None:
    """And no other."""
    before, after = ast.parse(SOURCE), ast.parse(SOURCE + change)
    assert lines_in(SOURCE + change) - lines_in(SOURCE) == lines
    assert locks_in(after) - locks_in(before) == locks
    assert failure_exits_in(after) - failure_exits_in(before) == exits


def test_each_design_has_the_locks_that_its_docstring_says() -> None:
    """Two, and one of 5.13."""
    assert [locks_in(ast.parse(source_of(d))) for d in (V1, PROPOSED, MERGED, "v5_13")] == [2, 2, 2, 1]


def test_H10_is_judged_by_more_smaller_than_larger_proxies() -> None:
    """Equal ones do not count."""
    v1 = Proxies(2, 240, 11, 2.0, 603)
    assert simplicity_rule(v1, Proxies(2, 200, 5, 3.0, 2)).verdict == HOLDS
    assert simplicity_rule(v1, Proxies(3, 300, 5, 3.0, 2)).verdict == REFUTED
    assert simplicity_rule(v1, Proxies(2, 200, 12, 2.0, 603)).verdict == CANNOT_TELL


@pytest.mark.parametrize(
    ("loss", "simpler", "verdict"),
    [(HOLDS, HOLDS, HOLDS), (REFUTED, HOLDS, REFUTED), (HOLDS, REFUTED, REFUTED), (CANNOT_TELL, HOLDS, CANNOT_TELL),
     (HOLDS, CANNOT_TELL, CANNOT_TELL), (CANNOT_TELL, REFUTED, REFUTED)],
)  # fmt: skip
def test_H16_is_judged_by_H5_and_H10(loss: str, simpler: str, verdict: str) -> None:
    """The trade is acceptable if the loss is small and the benefit is there."""
    assert trade_rule(Finding(loss, "so much"), Finding(simpler, "")).verdict == verdict
