"""Who may take a node's memory down to what; nothing is ever lost between taking and giving."""

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from shmreclaim.machine.cpu import CPU, PF_MEMALLOC
from shmreclaim.mm.page_alloc import alloc_lines
from shmreclaim.mm.state import GFP_ATOMIC, GFP_KERNEL, GFP_NOFS, GFP_NOWAIT, LINES_PER_PAGE
from shmreclaim.mm.zone import ZONE, zone_give, zone_take
from tests.both import KINDS
from tests.emulated import SMALL, Emulated

MIN, LOW = SMALL.watermark_min * LINES_PER_PAGE, SMALL.watermark_low * LINES_PER_PAGE
RECLAIMING = "a task in reclaim"


@pytest.mark.parametrize(
    ("who", "floor"),
    [
        (GFP_KERNEL, MIN),
        (GFP_NOFS, MIN),
        (GFP_NOWAIT, MIN),
        (GFP_ATOMIC, MIN // 2),
        (RECLAIMING, 0),
    ],
)
def test_everybody_may_take_down_to_the_watermark(kernel: Emulated, who: int | str, floor: int) -> None:
    """To the last line above it, and not one more."""
    cpu = kernel.cpus[0]
    gfp = GFP_NOWAIT
    if isinstance(who, str):
        kernel.set_word(cpu + CPU.flags, PF_MEMALLOC)
    else:
        gfp = who
    kernel.stop_reclaiming()
    room = kernel.free()
    assert kernel.call(alloc_lines, cpu, 0, room - floor + 1, gfp) == 0
    assert kernel.free() == room
    assert kernel.call(alloc_lines, cpu, 0, room - floor, gfp) == 1
    assert kernel.free() == floor
    assert kernel.call(alloc_lines, cpu, 0, 1, gfp) == 0


def test_kswapd_is_asked_below_the_low_watermark(kernel: Emulated) -> None:
    """Once for each that takes from below; not above it, and not while it is at work."""
    cpu, asked = kernel.cpus[0], kernel.zone() + ZONE.kswapd
    kernel.call(alloc_lines, cpu, 0, kernel.free() - LOW, GFP_KERNEL)
    assert kernel.word(asked) == 0
    kernel.call(alloc_lines, cpu, 0, 1, GFP_KERNEL)
    assert kernel.word(asked) == 1
    kernel.set_word(kernel.zone() + ZONE.kswapd_runs, 1)
    kernel.call(alloc_lines, cpu, 0, 1, GFP_KERNEL)
    assert kernel.word(asked) == 1


def test_a_node_gives_of_its_own_only(kernel: Emulated) -> None:
    """The other one may be empty or full."""
    kernel.stop_reclaiming()
    full = kernel.free(1)
    assert kernel.call(alloc_lines, kernel.cpus[0], 0, kernel.free(0) - MIN, GFP_KERNEL) == 1
    assert kernel.call(alloc_lines, kernel.cpus[0], 0, 1, GFP_KERNEL) == 0
    assert kernel.free(1) == full


@pytest.mark.parametrize("kind", KINDS)
def test_I11_free_and_taken_are_the_size(kind: str) -> None:
    """After any takings, those that were refused too, and givings; giving counts as the giver's success."""
    steps = st.lists(st.tuples(st.booleans(), st.integers(0, 9000), st.integers(0, 9000)), max_size=15)
    with Emulated("no_map", kind) as kernel:
        cpu, size = kernel.cpus[0], kernel.free()

        @settings(deadline=None, max_examples=40)
        @given(steps)
        def play(todo: list[tuple[bool, int, int]]) -> None:
            taken, reclaimed = 0, kernel.word(cpu + CPU.reclaimed)
            for giving, lines, floor in todo:
                if giving:
                    kernel.call(zone_give, cpu, 0, min(lines, taken))
                    reclaimed += min(lines, taken)
                    taken -= min(lines, taken)
                elif kernel.call(zone_take, kernel.zone(), lines, floor):
                    taken += lines
                    assert size - taken >= floor
                else:
                    assert size - taken - lines < floor
                assert kernel.free() == size - taken
            assert kernel.word(cpu + CPU.reclaimed) == reclaimed
            kernel.call(zone_give, cpu, 0, taken)

        play()
