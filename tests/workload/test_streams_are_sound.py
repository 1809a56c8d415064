"""Every stream keeps the rules that executions rely on; a workload that breaks them would fail in every design."""

import pytest

from shmreclaim.workload import load_scenario, load_trace, preset_names

CPUS = (1, 2, 4, 8, 32)
CPUS_AND_NODES = ((1, 1), (1, 2), (2, 1), (2, 2), (4, 1), (8, 2), (32, 1), (32, 2))


@pytest.mark.parametrize(("cpus", "nodes"), CPUS_AND_NODES)
@pytest.mark.parametrize("preset", preset_names())
def test_a_preset_keeps_the_rules(preset, cpus, nodes, problems_of):
    """Handles are made once and used where they were made, times do not run backwards, no list is overdrawn."""
    assert problems_of(load_scenario(preset, cpus=cpus, nodes=nodes, seed=7)) == []


@pytest.mark.parametrize(("cpus", "nodes"), CPUS_AND_NODES)
def test_the_shipped_trace_keeps_the_rules(cpus, nodes, problems_of):
    """The same rules, for the recording."""
    assert problems_of(load_trace(None, cpus=cpus, nodes=nodes, seed=7)) == []


@pytest.mark.parametrize("cpus", CPUS)
def test_a_trace_of_nothing_but_drop_caches_keeps_the_rules(cpus, tape, load, problems_of):
    """Such a trace has one task, no memcg and no mount."""
    for _ in range(3):
        for pointer in range(40):
            tape.call(7, f"{pointer:016x}", items=1 + pointer % 5, priority=0, freed=pointer % 5)
        tape.pause(100)
    workload = load(tape, cpus=cpus)
    assert problems_of(workload) == []
    assert workload.planned()["drop_caches"] == 3


def test_a_broken_stream_is_found(problems_of):
    """The checker itself finds what it is for."""
    workload = load_scenario("churn", cpus=2, nodes=1, seed=0)
    workload.streams[0]["memcg"][:] = 1
    assert problems_of(workload) != []
