"""`dropcaches` for real, with few containers: what each pass counts is what one computes by hand."""

import json
import signal
from pathlib import Path

import pytest

import shmreclaim
from shmreclaim.designs import NAMES
from shmreclaim.errors import SetupError
from shmreclaim.experiments import dropcaches as experiment
from shmreclaim.experiments.dropcaches import DropOptions, dropcaches
from shmreclaim.result import RunRecord
from tests.cli import runner
from tests.designs.expected import EXPECTED
from tests.executions.command import Command, send


class Quiet:
    """Hears how far it is."""

    def __init__(self) -> None:
        """Nothing heard yet."""
        self.heard: list[str] = []

    def compiling(self, done: int, total: int) -> None:
        """Not heard."""

    def admitting(self, design: str, what: str) -> None:
        """Not heard."""

    def started(self, design: str, run: int, runs: int) -> None:
        """Remember it."""
        self.heard.append(f"{run} of {runs}: {design}")

    def advanced(self, done: int, total: int) -> None:
        """Not heard."""

    def finished(self, design: str, run: int, record: RunRecord) -> None:
        """Not heard."""


def growths(design: str, containers: int) -> list[int]:
    """The ids at whose registration maps become longer, and how long the old ones were, if that sets bits."""
    return [n for n in EXPECTED[design].lengths if n < containers and EXPECTED[design].growth_sets_bits]


def expected_calls(design: str, containers: int, rounds: int) -> int:
    """Shrinker calls of the first pass: `rounds` rounds, the first of which frees everything.

    Growth at id g sets bits 0 to g - 1 of the memcgs that are there: those of containers 0 to g, and root's in the
    first series. A bit whose list has objects costs one call; a bit too many, or one whose objects went in the
    round before, two: asked, cleared, asked again.
    """
    if not EXPECTED[design].mapped:
        return rounds * (containers + 1) * containers
    root_by_map = EXPECTED[design].unaware_pass == "none"
    bits = {memcg: {memcg} for memcg in range(containers)}
    root = set()
    for n in growths(design, containers):
        for memcg in range(n + 1):
            bits[memcg] |= set(range(n))
        root |= set(range(n)) if root_by_map else set()
    too_many = sum(len(each) - 1 for each in bits.values()) + len(root)
    walk_of_root = 0 if root_by_map else rounds * containers
    return walk_of_root + containers + 2 * too_many + (2 * containers if rounds == 2 else 0)


@pytest.mark.parametrize(("containers", "objects"), [(8, 2), (50, 1), (70, 1), (3, 1)])
def test_each_pass_calls_and_frees_what_one_computes_by_hand(containers: int, objects: int) -> None:
    """All designs; enough freed makes a second round, later passes find nothing but what they always ask."""
    result = dropcaches(DropOptions(containers=containers, objects=objects, repeat=1, passes=3), Quiet())
    for design, found in result.designs.items():
        first, *later = found.passes
        rounds = 2 if 2 * objects * containers > EXPECTED[design].rounds_end_at else 1
        assert found.invariants.violations == []
        assert (first.shrinker_calls, first.rounds) == (expected_calls(design, containers, rounds), rounds), design
        assert (first.objects_freed, first.scan_calls) == (2 * objects * containers, containers)
        asks_all = {"no_map": (containers + 1) * containers, "tkhai_v1": 0}.get(design, containers)
        left = 2 * containers if rounds == 1 and design != "no_map" else 0  # bits that the only round left set
        assert [each.shrinker_calls for each in later] == [asks_all + left, asks_all], design
        assert [each.objects_freed for each in later] == [0, 0]
    assert result.is_sound


def test_a_pass_runs_no_longer_than_it_takes() -> None:
    """CPU time is part of the time by the clock; both are there for every pass."""
    result = dropcaches(DropOptions(containers=20, designs=("no_map",), repeat=2), Quiet())
    for each in result.designs["no_map"].passes:
        assert 0 < each.seconds <= each.elapsed_s * 1.01
        assert len(each.runs_s) == 2


def test_the_layout_of_the_lists_changes_no_call() -> None:
    """Only how they are found, and how much memory the run needs of what it got."""
    names = ("no_map", "no_map+lists_on_demand=1", "v6_7", "v6_7+lists_on_demand=0")
    designs = dropcaches(DropOptions(containers=30, designs=names, repeat=1), Quiet()).designs
    for one, other in (names[:2], names[2:]):
        calls = [[each.shrinker_calls for each in designs[name].passes] for name in (one, other)]
        assert calls[0] == calls[1]
    assert [design.invariants.violations for design in designs.values()] == [[]] * 4


def test_a_sweep_measures_smaller_sizes_too() -> None:
    """Each half of the next; the last is what was asked for; designs take turns at every size."""
    progress = Quiet()
    options = DropOptions(containers=32, designs=("no_map", "v6_7"), repeat=2, sweep=True)
    result = dropcaches(options, progress)
    assert [size.containers for size in result.sweep] == [2, 4, 8, 16, 32]
    assert result.sweep[-1].designs == result.designs
    calls = [size.designs["no_map"].passes[-1].shrinker_calls for size in result.sweep]
    assert calls == [n * (n + 1) for n in (2, 4, 8, 16, 32)]
    assert progress.heard[:3] == [
        f"{k} of 20: {name}, 2 containers" for k, name in ((1, "no_map"), (2, "v6_7"), (3, "no_map"))
    ]


def test_a_users_design_is_measured_beside_the_built_in_ones() -> None:
    """By its file, which the result names."""
    example = Path(shmreclaim.__file__).parents[1] / "docs" / "examples" / "ids_under_map_mutex.py"
    result = dropcaches(DropOptions(containers=12, designs=("davydov", str(example)), repeat=1), Quiet())
    davydov, own = result.designs.values()
    assert [each.shrinker_calls for each in own.passes] == [each.shrinker_calls for each in davydov.passes]
    assert result.design_files["ids_under_map_mutex"].path == str(example)


@pytest.mark.parametrize("room_mib", [64, 200])
def test_too_little_memory_is_refused_with_what_fits(room_mib: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is run; the number named is the largest whose segment fits."""
    monkeypatch.setattr("shmreclaim.machine.arena.free_bytes", lambda: room_mib << 20)
    options = DropOptions(containers=4000)
    with pytest.raises(
        SetupError, match=f"4000 containers need a segment of 16.. MiB, /dev/shm .* {room_mib} MiB"
    ) as error:
        dropcaches(options, Quiet())
    assert error.value.remedy is not None
    fits = int(error.value.remedy.split()[1])
    settings = experiment.settings_of(options)
    assert experiment.segment_bytes(options, fits, settings) <= room_mib << 20
    assert experiment.segment_bytes(options, fits + 1, settings) > room_mib << 20


def test_the_command_prints_tables_and_writes_json() -> None:
    """JSON alone on stdout, tables on stderr; every pass has the keys that programs rely on."""
    found = runner.run("dropcaches", "--containers", "20", "--repeat", "1", "--json", "-")
    assert found.returncode == 0, found.stderr
    result = json.loads(found.stdout)
    assert list(result["designs"]) == list(NAMES)
    assert result["segment_bytes"] % 4096 == 0
    assert result["schema_version"] == 1
    for design in result["designs"].values():
        assert len(design["passes"]) == 5
        assert all({"seconds", "shrinker_calls", "objects_freed"} <= set(each) for each in design["passes"])
    assert "every design freed the same 80 objects" in found.stderr
    assert "end, SUCCESS" in found.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--containers", "0"), "--containers 0 is out of range"),
        (("--containers", "60001"), "--containers 60001 is out of range"),
        (("--containers", "many"), "'many' is not a whole number"),
        (("--designs", "v9_9"), "there is no design 'v9_9'"),
        (("--designs", "no_map,no_map"), "names a design twice"),
        (("--designs", "no_map+lists_on_demand=2"), "'2' is no value for lists_on_demand"),
        (("--passes", "0"), "--passes 0 is out of range"),
        (("--objects", "0"), "--objects 0 is out of range"),
        (("--repeat", "0"), "--repeat 0 is out of range"),
        (("--timeout", "0"), "--timeout 0 is out of range"),
        (("--json", "/"), "is a folder"),
        (("extra",), "extra"),
    ],
)
def test_bad_input_ends_with_exit_code_1_before_anything_is_run(arguments: tuple[str, ...], message: str) -> None:
    """One message that names what was given; no progress."""
    found = runner.run("dropcaches", *arguments)
    assert (found.returncode, found.stdout) == (1, "")
    assert message in found.stderr
    assert "started" not in found.stderr


@pytest.mark.stress
def test_ctrl_c_in_the_middle_of_a_pass_leaves_nothing() -> None:
    """A drop of caches is one operation, but it looks whether it is to stop."""
    with Command("dropcaches", "--containers", "1000", "--designs", "no_map", "--passes", "1000") as command:
        command.await_running()
        send(command, signal.SIGINT, to_group=True)
        code, out, err = command.end()
        assert (code, out) == (130, "")
        assert "Traceback" not in err
        command.assert_nothing_is_left()
