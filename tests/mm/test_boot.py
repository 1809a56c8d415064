"""What a variant sets of the root record, against what its design's init does."""

import pytest

from shmreclaim.mm.boot import init_design
from shmreclaim.switches import Switch, parse_variant
from tests.emulated import Emulated


@pytest.mark.parametrize(
    ("design", "suffix", "on_demand"),
    [
        ("no_map", "", 0),
        ("no_map", "+lists_on_demand=1", 1),
        ("v6_7", "", 1),
        ("v6_7", "+lists_on_demand=0", 0),
        ("v6_7", "+lists_on_demand=1", 1),
    ],
)
def test_a_variants_layout_of_lists_wins_over_its_designs(design: str, suffix: str, on_demand: int) -> None:
    """Whether init leaves the word alone or writes it."""
    with Emulated(design, "plain") as kernel:
        init_design(kernel.arena, parse_variant(design + suffix), kernel.cpus[0])
        assert kernel.mm("lists_on_demand") == on_demand


def test_init_can_read_what_a_variant_sets() -> None:
    """v6_4_srcu takes its grace period from there, and gives the word a value only if nobody did."""
    with Emulated("v6_4_srcu", "plain") as kernel:
        init_design(kernel.arena, parse_variant("v6_4_srcu+srcu_gp_us=7+bit_first"), kernel.cpus[0])
        assert (kernel.mm("srcu_gp_ns"), kernel.mm("switches")) == (7000, Switch.BIT_FIRST)
