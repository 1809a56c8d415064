"""H10 and H16: every verdict of their rules, and that the counts of sources count what they say."""

import ast

import pytest

from shmreclaim.experiments.claims.claim import CANNOT_TELL, HOLDS, REFUTED
from shmreclaim.experiments.claims.trade import (
    MERGED,
    PROPOSED,
    V1,
    Price,
    Proxies,
    failure_exits_in,
    filled,
    lines_in,
    locks_in,
    simplicity_rule,
    source_of,
    trade_rule,
)
from tests.experiments.claims.silent import lab

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


def price(at_90: float, all_slab: float = 0.0, reclaims: int = 0) -> Price:
    """A price by the two shares that matter."""
    return Price({0.0: 0.0, 0.9: at_90, 1.0: all_slab}, reclaims, 1.0)


def test_H16_is_judged_by_what_more_fails_and_by_H10() -> None:
    """More failures in nothing but slab are no loss; no reclaim under the lock, or no benefit known, tells nothing."""
    assert trade_rule(price(0.5), price(1.5, 30.0, 9), HOLDS).verdict == HOLDS
    assert trade_rule(price(0.5), price(1.6, 0.0, 9), HOLDS).verdict == REFUTED
    assert trade_rule(price(0.0), price(0.0, 0.0, 9), REFUTED).verdict == REFUTED
    assert trade_rule(price(0.0), price(0.0, 0.0, 0), HOLDS).verdict == CANNOT_TELL
    assert trade_rule(price(0.0), price(0.0, 0.0, 9), CANNOT_TELL).verdict == CANNOT_TELL


@pytest.mark.stress
def test_only_designs_that_hold_the_lock_enter_reclaim_under_it() -> None:
    """Or H16 compares nothing."""
    found = lab().measure((V1, PROPOSED, MERGED), filled(0.0), repeat=3)
    entered = {d: sum(record.events["reclaims_under_write"] for record in runs) for d, runs in found.items()}
    assert entered[V1] == 0
    assert min(entered[PROPOSED], entered[MERGED]) > 0
