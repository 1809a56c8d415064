"""What switches do to a design, one CPU at a time."""

import pytest

from shmreclaim.designs import NAMES
from shmreclaim.mm.mount import mount as mount_superblock
from shmreclaim.mm.shrinker_map import MAP
from shmreclaim.mm.slab import POISON_FREE
from shmreclaim.switches import KNOWN, Switch
from shmreclaim.sync.rcu import rcu_read_lock, rcu_read_unlock
from tests.designs.expected import EXPECTED
from tests.emulated import Emulated, mkdir, mount

REPLACES_MAPS = tuple(name for name in NAMES if Switch.NO_GRACE_PERIOD in KNOWN[name])


@pytest.mark.parametrize("design", REPLACES_MAPS)
@pytest.mark.parametrize(("suffix", "at_once"), [("", False), ("+no_grace_period", True)])
def test_a_replaced_map_is_freed_under_its_readers_only_without_a_grace_period(
    design: str, suffix: str, at_once: bool, execution: str
) -> None:
    """A reader is inside while maps grow; where it is waited for, the old map is freed when it has left."""
    with Emulated(design + suffix, execution) as kernel:
        count = EXPECTED[design].lengths[0]
        kernel.play([mkdir(1), *(mount(k) for k in range(count))])
        old = kernel.map_block(1)
        kernel.call(rcu_read_lock, kernel.cpus[3])
        sb = kernel.call(mount_superblock, kernel.cpus[0], count, 1, 0)  # a row would end by waiting for the reader
        assert kernel.map_block(1) != old
        assert (kernel.word(old + MAP.nr_bits) == POISON_FREE) == at_once
        kernel.call(rcu_read_unlock, kernel.cpus[3])
        kernel.set_word(kernel.mm("shrinker_table") + count, sb)
        assert kernel.oracles() == []
        assert kernel.word(old + MAP.nr_bits) == POISON_FREE
