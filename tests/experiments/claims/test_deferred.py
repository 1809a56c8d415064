"""H26 and H30: every verdict of their rules, the figures by hand, and that real passes free them."""

import pytest

from shmreclaim.designs import NAMES
from shmreclaim.experiments.claims.claim import CANNOT_TELL, HOLDS, REFUTED
from shmreclaim.experiments.claims.deferred import (
    ANOTHERS,
    BOUND,
    ITS_OWN,
    NO_DEBT,
    OTHER_ID,
    OWED,
    PAID_OFF,
    PER_MEMCG,
    SHARED,
    after_reuse,
    by_formulas,
    deferring,
    era_of,
    innocent_rule,
    last_pass,
    reuse_rule,
    reusing,
)
from tests.emulated import Emulated
from tests.experiments.claims.silent import lab

Table = dict[str, dict[str, int]]

ALL_SHARE = {NO_DEBT: 2048, ANOTHERS: 7168, ITS_OWN: 7168}
"""f 10,000, p 3: delta 2,500, two batches of 1,024; two debts of that make 7,500, seven batches."""
EACH_ITS_OWN = {NO_DEBT: 2048, ANOTHERS: 2048, ITS_OWN: 3072}
"""Since 5.13: (5,000 >> 3) + 2,500 = 3,125, three batches."""
GONE = {PAID_OFF: 2048, OWED: 2048, OTHER_ID: 2048}
INHERITED = {PAID_OFF: 2048, OWED: 4096, OTHER_ID: 2048}
"""A debt of 2f: (20,000 >> 3) + 2,500 = 5,000, four batches."""


def innocent() -> Table:
    """What H26 gives where it holds."""
    return {design: dict(ALL_SHARE if design in SHARED else EACH_ITS_OWN) for design in NAMES}


def reuse() -> Table:
    """What H30 gives where it holds."""
    return {design: dict(GONE if design in SHARED else INHERITED) for design in NAMES}


def but(table: Table, design: str, **columns: int) -> Table:
    """Give `table` with other figures of one design."""
    names = {"no_debt": NO_DEBT, "anothers": ANOTHERS, "its_own": ITS_OWN}
    names |= {"paid_off": PAID_OFF, "owed": OWED, "other_id": OTHER_ID}
    return {**table, design: {**table[design], **{names[name]: value for name, value in columns.items()}}}


def test_the_formulas_give_what_is_computed_by_hand() -> None:
    """For every design, and for the bound."""
    assert {design: by_formulas(design) for design in NAMES} == innocent()
    assert {design: after_reuse(design) for design in NAMES} == reuse()
    assert BOUND == 5000


@pytest.mark.parametrize("design", NAMES)
def test_each_design_has_the_formulas_that_its_figures_are_held_against(design: str) -> None:
    """As it says when it boots."""
    with Emulated(design, "plain") as kernel:
        assert kernel.mm("arithmetic") == era_of(design)


def test_H26_holds_if_others_pay_where_the_count_is_shared_and_only_there() -> None:
    """With exactly what the formulas say."""
    assert innocent_rule(innocent(), innocent()).verdict == HOLDS


@pytest.mark.parametrize(
    ("freed", "verdict"),
    [
        pytest.param(but(innocent(), "davydov", anothers=2048), REFUTED, id="nothing paid where it is shared"),
        pytest.param(but(innocent(), "v6_7", anothers=3072), REFUTED, id="paid where it is not"),
        pytest.param(but(innocent(), "v6_7", anothers=1024), REFUTED, id="less freed than without debt"),
        pytest.param(but(innocent(), "v5_13", its_own=2048), CANNOT_TELL, id="nothing was deferred"),
        pytest.param(but(innocent(), "no_map", anothers=6144), CANNOT_TELL, id="not what the formulas say"),
    ],
)
def test_H26_is_judged_by_what_the_innocent_lose(freed: Table, verdict: str) -> None:
    """One design decides."""
    assert innocent_rule(freed, innocent()).verdict == verdict


def test_H30_holds_if_the_next_owner_of_the_id_pays_since_5_13() -> None:
    """Under that id alone."""
    assert reuse_rule(reuse(), reuse()).verdict == HOLDS


@pytest.mark.parametrize(
    ("freed", "verdict"),
    [
        pytest.param(but(reuse(), "v6_4_srcu", owed=2048), REFUTED, id="one since 5.13 forgets"),
        pytest.param(but(reuse(), "v4_19", owed=4096), REFUTED, id="one before remembers"),
        pytest.param(but(reuse(), "v6_7", owed=BOUND + 1), REFUTED, id="more than the bound"),
        pytest.param(but(reuse(), "v6_7", other_id=4096), CANNOT_TELL, id="paid under another id too"),
        pytest.param(but(reuse(), "v5_13", owed=3072), CANNOT_TELL, id="not what the formulas say"),
    ],
)
def test_H30_is_judged_by_what_the_next_owner_pays(freed: Table, verdict: str) -> None:
    """One design decides."""
    assert reuse_rule(freed, reuse()).verdict == verdict


@pytest.mark.parametrize("design", ["v4_19", "v5_13"])
@pytest.mark.parametrize("column", [NO_DEBT, ANOTHERS, ITS_OWN])
def test_a_pass_after_others_deferred_frees_what_its_era_says(design: str, column: str) -> None:
    """One CPU, so to the object."""
    assert last_pass(lab(), design, deferring(column)) == innocent()[design][column]


@pytest.mark.parametrize("design", ["v4_19", *PER_MEMCG])
def test_the_next_owner_of_an_id_frees_what_its_era_says(design: str) -> None:
    """Where the last one owed 2f."""
    assert last_pass(lab(), design, reusing(OWED)) == reuse()[design][OWED]


def test_a_debt_stays_with_the_id_and_does_not_follow_the_memcg() -> None:
    """Somebody else has the id now."""
    assert last_pass(lab(), "v5_13", reusing(OTHER_ID)) == 2048
