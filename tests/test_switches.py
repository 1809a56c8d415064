"""Variants: what a design's name may be followed by, and what is refused."""

import pytest

from shmreclaim.designs import NAMES
from shmreclaim.errors import UsageError
from shmreclaim.switches import KNOWN, PARAMETERS, Switch, Variant, parse_variant


def test_every_design_is_known() -> None:
    """And every switch belongs to one."""
    assert set(KNOWN) == set(NAMES)
    assert {each for known in KNOWN.values() for each in known} == set(Switch) | set(PARAMETERS)


def test_switches_are_distinct_bits() -> None:
    """Any of them may be set with any other."""
    assert sum(Switch) == (1 << len(Switch)) - 1
    assert all(each.bit_count() == 1 for each in Switch)


def test_a_variant_is_its_design_with_switches_and_parameters() -> None:
    """In any order."""
    assert parse_variant("v4_19") == Variant("v4_19")
    assert parse_variant("v4_19+copy_bits+cyclic_ids").switches == Switch.COPY_BITS | Switch.CYCLIC_IDS
    assert parse_variant("v6_4_srcu+srcu_gp_us=250+bit_first") == Variant(
        "v6_4_srcu", Switch.BIT_FIRST, {"srcu_gp_ns": 250_000}
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("v6_7+copy_bits", "'v6_7+copy_bits': v6_7 has no switch 'copy_bits'\nIt has: no_recount, "),
        ("no_map+faster", "no_map has no switch 'faster'\nIt has: blocking_reclaim, lists_on_demand=NUM."),
        ("v6_4_srcu+srcu_gp_us", "no switch 'srcu_gp_us'"),
        ("v6_4_srcu+srcu_gp_us=-1", "'-1' is no value for srcu_gp_us"),
        ("v6_4_srcu+srcu_gp_us=9999999999", "is no value for srcu_gp_us"),
        ("no_map+lists_on_demand=2", "'2' is no value for lists_on_demand\nGive a whole number, 0 to 1."),
        ("v6_7+", "no switch ''"),
        ("mine+copy_bits", "there is no design 'mine' to vary"),
    ],
)
def test_what_a_design_does_not_know_is_refused_with_what_it_does(text: str, message: str) -> None:
    """The list is the design's own."""
    with pytest.raises(UsageError) as refused:
        parse_variant(text)
    assert message in str(refused.value)
