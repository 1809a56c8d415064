"""Mutants are found out: one of each kind here, all of them where there is time (`-m slow`)."""

import re

import pytest

from shmreclaim.executions import hunt, stress
from shmreclaim.mutants import MUTANTS
from shmreclaim.result import MutantResult
from shmreclaim.workload import Workload, load_scenario, repeatable

pytestmark = pytest.mark.stress


def workload(scenario: str, seed: int) -> Workload:
    """What a boot plays."""
    return repeatable(load_scenario(scenario, cpus=4, nodes=1, seed=seed))


def hunted(name: str) -> tuple[MutantResult, list[str]]:
    """What came of it, and what was said of compiling."""
    said: list[str] = []
    hunt.compile_mutant(MUTANTS[name], said.append)
    return hunt.hunt(MUTANTS[name], workload, stress.Plan(quiet_s=0.1), lambda _: None), said


@pytest.mark.parametrize(
    ("name", "by"),
    [
        ("cyclic-ids", "^I6: id "),
        ("reference-kept", r"^memcg \d+ has \d+ references, \d+ are known"),
        ("id-not-given-back", r"I\d+: |^crash|^hang"),
    ],
)
def test_a_mutant_is_found_out_by_what_it_breaks(name: str, by: str) -> None:
    """A switch, a text of mm/, and one of a design, whose shrinkers are found dead in more ways than one."""
    found, said = hunted(name)
    assert found.caught
    assert re.search(by, found.by), found.by
    assert found.seconds < hunt.TRIED_S
    assert said == (["compiling it"] if MUTANTS[name].file else [])


def test_a_mutant_is_nowhere_but_in_its_own_workers() -> None:
    """The same design holds, in the next run of the same process."""
    assert hunted("object-freed-twice")[0].caught
    assert stress.run(workload("torture", 1), "v4_19", stress.Plan(seconds=0.5), lambda _: None).evidence is None


@pytest.mark.slow
@pytest.mark.parametrize("name", [mutant.name for mutant in MUTANTS.values() if not mutant.checker])
def test_every_mutant_that_stress_can_see_is_found_out(name: str) -> None:
    """Within half a minute each."""
    assert hunted(name)[0].caught
