"""A broken design is found out, in a run as users make it; a damaged segment too, without a crash."""

import random

import pytest

from shmreclaim.errors import InternalError
from shmreclaim.executions import oracles
from shmreclaim.experiments.combine import combine
from shmreclaim.machine.arena import Arena
from shmreclaim.machine.cpu import CPU
from shmreclaim.machine.layout import HEADER
from shmreclaim.mm.boot import Machine, boot
from shmreclaim.mm.state import MM
from tests.executions import command
from tests.executions.workloads import by_hand, load, play, register

BROKEN = "tests.executions.broken"
FORGETFUL = "tests.designs.broken.forgets_the_bit"
MACHINE = Machine(
    cpus=2, nodes=1, pages_per_node=256, watermark_min=4, watermark_low=5, watermark_high=6,
    max_memcgs=4, memcg_handles=4, shrinker_handles=4,
)  # fmt: skip

COMPARE_BROKEN = f"""
import sys
from shmreclaim import designs
designs.NAMES = (*designs.NAMES, "{FORGETFUL}")
from shmreclaim.cli import main
if __name__ == "__main__":
    sys.exit(main(["compare", "--designs", "{FORGETFUL},davydov", "--scenario", "starvation",
        "--repeat", "1", "--cpus", "2"]))
"""


def test_a_design_that_forgets_bits_is_refused() -> None:
    """I2: objects on a list whose bit is clear; one run of several is enough to refuse the row."""
    workload = load("starvation", 2)
    broken, fine = play(workload, FORGETFUL), play(workload, "davydov")
    assert any(message.startswith("I2") for message in broken.invariants.violations)
    assert combine([broken]).refused
    assert combine([fine, broken]).refused
    assert not combine([fine]).refused


def test_comparing_a_broken_design_ends_with_exit_code_2() -> None:
    """Its row is refused, the other design's figures are shown."""
    code, out, err = command.run_code(COMPARE_BROKEN)
    assert code == 2
    assert "I2" in out
    assert "invariants broken" in err
    assert "Traceback" not in err


def test_a_design_that_writes_outside_the_segment_is_a_fault() -> None:
    """The worker crashes, the run ends at once and says which CPU it was and what it did."""
    with pytest.raises(InternalError, match=r"CPU 0 \(pid \d+\) was killed by SIGSEGV:\nCPU 0 .* in register"):
        play(by_hand([register(0)]), f"{BROKEN}.wild")


def test_a_booted_machine_breaks_nothing() -> None:
    """The oracles' zero."""
    with Arena.create(MACHINE.words()) as arena:
        checked, violations = oracles.check_at_rest(arena, boot(arena, MACHINE))
        assert checked > 0
        assert violations == []


@pytest.mark.parametrize("seed", range(8))
def test_a_damaged_segment_is_a_violation_and_no_crash(seed: int) -> None:
    """Whatever words a broken design has left in the records that the oracles start from."""
    damage = random.Random(seed)
    with Arena.create(MACHINE.words()) as arena:
        slots = boot(arena, MACHINE)
        mm = arena.memory[HEADER.kernel]
        kept = (MM.zones, MM.heaps, MM.nr_nodes)
        for offset in range(MM.SIZE):
            if offset not in kept and damage.random() < 0.3:
                arena.memory[mm + offset] = damage.choice((-1, 1, 7, 1 << 40, -(1 << 62), damage.getrandbits(17)))
        arena.memory[mm + MM.memcgs] = damage.choice((0, 1, 1 << 40, -(1 << 62), damage.getrandbits(17)))
        assert oracles.check_at_rest(arena, slots)[1]


def test_what_a_cpu_found_is_told_even_where_its_slot_is_damaged() -> None:
    """A kind of violation that nobody knows is told with its values."""
    with Arena.create(MACHINE.words()) as arena:
        slots = boot(arena, MACHINE)
        arena.memory[slots[1] + CPU.nr_violations] = 1
        arena.view(slots[1] + CPU.violations, 4)[:] = (99, 1, 2, 3)
        assert oracles.found_on_line(arena, slots) == ["CPU 1: invariant 99 broken (1, 2, 3)"]


@pytest.mark.parametrize("kind", sorted(oracles.Violation), ids=lambda kind: kind.name)
def test_every_violation_has_words(kind: oracles.Violation) -> None:
    """None is told by its number."""
    assert not oracles.in_words(kind, 1, 2, 3).startswith("invariant")
