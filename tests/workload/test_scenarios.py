"""Scenarios: what a wrong TOML file is told, and what a right one gives."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from shmreclaim.errors import UsageError
from shmreclaim.workload import Gfp, Op, load_scenario, preset_names
from shmreclaim.workload.generators import GENERATORS

RIGHT = """
name = "mine"
generator = "mailing-list"
[memory]
pages_per_node = 2048
[parameters]
registrations = 50
pressure_ops = 50
"""


@pytest.fixture
def load(tmp_path: Path):
    """Write a scenario file and load it."""

    def load(text: str, cpus: int = 2, nodes: int = 1, seed: int = 1, **more):
        path = tmp_path / "mine.toml"
        path.write_text(text, encoding="utf-8")
        return load_scenario(str(path), cpus=cpus, nodes=nodes, seed=seed, **more)

    return load


def _same(one, other) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one.streams, other.streams, strict=True))


def test_a_right_file_gives_a_workload(load):
    """Name, memory and parameters are the file's; what it leaves out has defaults."""
    workload = load(RIGHT)
    assert (workload.kind, workload.name, workload.seed, workload.cpus) == ("scenario", "mine", 1, 2)
    assert workload.memory.pages_per_node == 2048
    assert workload.planned()["register"] == 50
    assert workload.parameters["slab_share"] == 0.35


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "generator =",
            "generatr =",
            ["top-level 'generatr'", "did you mean 'generator'?", "Allowed here: name, generator"],
        ),
        ("[memory]", "[memroy]", ["top-level 'memroy'", "did you mean 'memory'?"]),
        ("pages_per_node", "pages", ["[memory] 'pages'", "Allowed here: pages_per_node"]),
        ("registrations", "registration", ["[parameters] 'registration'", "did you mean 'registrations'?"]),
        ("pressure_ops", "passes", ["[parameters] 'passes': there is no such key", "Allowed here:", "pressure_ops"]),
        ("2048", '"big"', ["[memory] pages_per_node = 'big'", "a whole number from 256 to 16777216"]),
        ("2048", "2048.5", ["[memory] pages_per_node = 2048.5", "a whole number from 256"]),
        ("2048", "true", ["[memory] pages_per_node = True", "a whole number"]),
        ("2048", "100", ["[memory] pages_per_node = 100", "from 256 to"]),
        ("2048", "9" * 80, ["[memory] pages_per_node = 999", "...", "from 256 to"]),
        (
            "registrations = 50",
            "slab_share = 1.5",
            ["[parameters] slab_share = 1.5", "a number from 0 to 1", "filled with"],
        ),
        ("registrations = 50", "slab_share = nan", ["[parameters] slab_share = nan", "from 0 to 1"]),
        (
            "registrations = 50",
            "slab_share = 0.9",
            ["[parameters] page_cache_share 0.55 and slab_share 0.9", "1 at most"],
        ),
        ("[memory]\npages_per_node = 2048", "memory = 3", ["top-level memory = 3", "a table"]),
        ('name = "mine"', "", ["top-level name is missing", "a string of 1 to 80 characters"]),
        ('"mine"', '""', ["top-level name = ''", "a string of 1 to 80 characters"]),
        (
            '"mailing-list"',
            '"maling-list"',
            ["generator = 'maling-list'", "did you mean 'mailing-list'?", "starvation"],
        ),
        (
            "pages_per_node = 2048",
            "watermark_min_permille = 30",
            ["[memory] watermarks are min 30, low 20", "must not fall"],
        ),
        ('"mine"', "mine", ["is not valid TOML", "line 2"]),
        ("[parameters]", "x = " + "[" * 4000 + "]" * 4000, ["nested too deeply"]),
        ("[parameters]", "x = " + "9" * 5000, ["is not valid TOML", "4300 digits"]),
        ("[parameters]", "x = 0x" + "f" * 5000, ["'x'", "there is no such key"]),
        ("pages_per_node = 2048", "pages_per_node = 0x" + "f" * 5000, ["a number of thousands of digits", "256"]),
        ("[parameters]", "a" + ".a" * 5000 + " = 1", ["a line of more than 8192 bytes"]),
    ],
)
def test_a_wrong_file_names_key_place_and_what_is_allowed(load, old, new, words):
    """Each kind of mistake; the message holds all `words` and the file's name."""
    assert old in RIGHT
    with pytest.raises(UsageError) as caught:
        load(RIGHT.replace(old, new, 1))
    message = str(caught.value)
    assert all(word in message for word in [*words, "mine.toml"]), message
    assert caught.value.remedy


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    """Missing, a folder, not UTF-8, too large."""
    (tmp_path / "latin.toml").write_bytes(b'name = "b\xe4r"')
    (tmp_path / "large.toml").write_bytes(b"#" * (1 << 21))
    for name, words in (
        ("missing.toml", "cannot be read"),
        ("latin.toml", "utf-8"),
        ("large.toml", "more than"),
        ("", "cannot"),
    ):
        with pytest.raises(UsageError, match=words):
            load_scenario(f"{tmp_path}/{name}", cpus=1, nodes=1, seed=0)


def test_an_unknown_preset_lists_those_there_are():
    """With the nearest, and how to name a file."""
    with pytest.raises(UsageError) as caught:
        load_scenario("starvaton", cpus=1, nodes=1, seed=0)
    assert "did you mean 'starvation'?" in str(caught.value)
    assert all(name in str(caught.value) for name in ["churn", "containers", "mailing-list", "starvation", ".toml"])


def test_parameters_may_be_replaced_by_the_caller(load):
    """For experiments that sweep one; checked like the file's own."""
    assert load(RIGHT, parameters={"registrations": 7}).planned()["register"] == 7
    with pytest.raises(UsageError, match=r"\[parameters\] registrations = 0"):
        load(RIGHT, parameters={"registrations": 0})


def test_too_many_lists_are_refused_before_they_are_made(load):
    """Two numbers in range whose product is not."""
    text = RIGHT.replace("mailing-list", "starvation").replace("pressure_ops = 50", "memcgs = 9999\nsuperblocks = 9999")
    with pytest.raises(UsageError, match="too many lists"):
        load(text)


@pytest.mark.parametrize("preset", preset_names())
def test_the_seed_alone_decides_what_is_drawn(preset):
    """Equal arrays for an equal seed, others for another one."""
    first, again, other = (load_scenario(preset, cpus=3, nodes=2, seed=seed) for seed in (5, 5, 6))
    assert _same(first, again)
    assert np.array_equal(first.setup, again.setup)
    assert not _same(first, other)


@pytest.mark.parametrize("preset", preset_names())
def test_a_presets_work_does_not_depend_on_the_number_of_cpus(preset):
    """Thousands of ops, a tenth more or less, and no CPU is without any."""
    totals = []
    for cpus in (1, 2, 4, 8, 32):
        workload = load_scenario(preset, cpus=cpus, nodes=1, seed=1)
        assert all(len(stream) for stream in workload.streams)
        totals.append(sum(workload.planned().values()))
    assert all(5_000 <= total <= 60_000 for total in totals), totals
    assert max(totals) < 1.1 * min(totals)


@pytest.mark.parametrize("preset", preset_names())
def test_a_preset_says_what_its_generator_takes(preset):
    """All parameters are written out, with the defaults where it has its generator's name: a copy shows them all."""
    workload = load_scenario(preset, cpus=2, nodes=1, seed=1)
    generator = str(workload.parameters["generator"])
    defaults = GENERATORS[generator].parameters()
    given = {key: workload.parameters[key] for key in msgspec.structs.asdict(defaults)}
    assert preset != generator or given == msgspec.structs.asdict(defaults)
    text = (Path(__file__).parents[2] / "shmreclaim/workload/presets" / f"{preset}.toml").read_text()
    assert all(f"\n{key} = " in text for key in given)


def test_mailing_list_fills_memory_by_its_shares():
    """Half of the memory above the high watermark is page cache, a quarter is slab."""
    shares = {"page_cache_share": 0.5, "slab_share": 0.25}
    workload = load_scenario("mailing-list", cpus=4, nodes=2, seed=1, parameters=shares)
    room = 2 * (workload.memory.pages_per_node - workload.memory.watermark_high)
    setup = workload.setup
    cached = setup["count"][setup["op"] == Op.CACHE_PAGES].sum()
    added = setup[setup["op"] == Op.LRU_ADD]
    slab = (added["count"] * np.where(added["arg"] == 1, 704, 192)).sum() / 4096
    assert cached == pytest.approx(room * 0.5, rel=0.01)
    assert slab == pytest.approx(room * 0.25, rel=0.02)


@pytest.mark.parametrize(("arm", "absent"), [("page_cache_share", Op.LRU_ADD), ("slab_share", Op.CACHE_PAGES)])
def test_mailing_list_presses_in_the_proportion_of_its_shares(arm, absent):
    """With memory full of one kind, those CPUs that keep it full add that kind only."""
    shares = {"page_cache_share": 0.0, "slab_share": 0.0} | {arm: 0.9}
    workload = load_scenario("mailing-list", cpus=2, nodes=1, seed=1, parameters=shares)
    assert Op.REGISTER in workload.streams[0]["op"]
    assert absent not in workload.streams[1]["op"]


def test_mailing_list_allocates_with_and_without_reclaim():
    """GFP_KERNEL and NOFS may reclaim, NOWAIT and ATOMIC may not."""
    stream = load_scenario("mailing-list", cpus=2, nodes=1, seed=1).streams[1]
    assert set(stream["arg"][stream["op"] == Op.ALLOC].tolist()) == {Gfp.KERNEL, Gfp.NOFS, Gfp.NOWAIT, Gfp.ATOMIC}


def test_roles_alternate_on_a_single_cpu():
    """In each tenth of a single CPU's stream there is some of both roles."""
    stream = load_scenario("starvation", cpus=1, nodes=1, seed=1).streams[0]
    for part in np.array_split(stream["op"], 10):
        assert {Op.REGISTER, Op.SHRINK_SLAB} <= set(part.tolist())


def test_containers_drop_caches_on_cpu_0_when_all_is_made():
    """All additions are planned before the first drop, and an idle stands between."""
    workload = load_scenario("containers", cpus=4, nodes=1, seed=1)
    first = workload.streams[0]
    drops = first["when"][first["op"] == Op.DROP_CACHES]
    assert len(drops) == 5
    assert max(int(stream["when"][stream["op"] == Op.LRU_ADD].max()) for stream in workload.streams) < drops[0]
    assert first["op"][-6:].tolist() == [Op.IDLE, *[Op.DROP_CACHES] * 5]


def test_containers_that_nobody_uses_only_hold_their_first_objects():
    """churn_ops = 0 is the series' benchmark as it was."""
    workload = load_scenario("containers", cpus=2, nodes=1, seed=1, parameters={"churn_ops": 0})
    assert workload.planned() == {
        "register": 200,
        "memcg_online": 200,
        "lru_add": 200,
        "drop_caches": 5,
        "idle": 1,
    }


def test_starvation_has_one_writer_and_readers_for_the_rest():
    """Up to 12 CPUs; nobody does both."""
    workload = load_scenario("starvation", cpus=8, nodes=1, seed=1)
    writes = [Op.REGISTER in stream["op"] for stream in workload.streams]
    reads = [Op.SHRINK_SLAB in stream["op"] for stream in workload.streams]
    assert writes == [True] + [False] * 7
    assert reads == [False] + [True] * 7


def test_churn_nests_memcgs_and_ends_with_none():
    """All that came went, some had another one as parent, in both orders of the end."""
    workload = load_scenario("churn", cpus=2, nodes=1, seed=1)
    planned = workload.planned()
    assert planned["memcg_online"] == planned["memcg_offline"] == planned["register"] == planned["unregister"] == 2500
    ops = workload.streams[0]
    nested = ops["arg"][ops["op"] == Op.MEMCG_ONLINE] > 0
    assert 0.1 < nested.mean() < 0.4
    pairs = set(zip(ops["op"][:-1].tolist(), ops["op"][1:].tolist(), strict=True))
    assert {(Op.MEMCG_OFFLINE, Op.UNREGISTER), (Op.UNREGISTER, Op.MEMCG_OFFLINE)} <= pairs
