"""What `stress` refuses, how it cuts its time, and what it writes where something broke."""

import json
from pathlib import Path
from typing import Any

import pytest

from shmreclaim.errors import UsageError
from shmreclaim.experiments.stress import StressOptions, stress, write_report
from shmreclaim.report.json import encode
from shmreclaim.result import StressResult


class Silent:
    """Hears everything and says nothing; what was finished is kept."""

    def __init__(self) -> None:
        """Hear nothing yet."""
        self.finished_runs: list[str] = []
        self.told: list[tuple[int, int]] = []

    def finished(self, design: str, _run: int, _record: object) -> None:
        """Keep it."""
        self.finished_runs.append(design)

    def advanced(self, done: int, total: int) -> None:
        """Keep it."""
        self.told.append((done, total))

    def __getattr__(self, _name: str) -> Any:
        """Hear anything else."""
        return lambda *_: None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"seconds": 1.0, "ops": 5}, "--seconds and --ops were both given"),
        ({"seconds": 0.0}, "--seconds 0 is out of range"),
        ({"ops": 0}, "--ops 0 is out of range"),
        ({"cpus": 0}, "--cpus 0 is out of range"),
        ({"seed": -1}, "--seed -1 is out of range"),
        ({"timeout": float("nan")}, "--timeout nan is out of range"),
        ({"long_hold": -3.0}, "--long-hold -3 is out of range"),
        ({"long_hold": 10_000.0}, "--long-hold 10000 ms is not shorter than --timeout 10 s"),
        ({"chaos": "storm"}, "--chaos 'storm' is unknown\nThere are: none, stop, kill, both."),
        ({"kill_rate": 2.0}, "--kill-rate 2 with --chaos none: nobody is killed"),
        ({"kill_rate": 2.0, "chaos": "stop"}, "--kill-rate 2 with --chaos stop: nobody is killed"),
        ({"mutant": "no-recount", "chaos": "kill"}, "--mutant no-recount and --chaos kill were both given"),
        ({"crash_at": ("slab",)}, "--crash-at slab with --chaos none: nobody is killed"),
        ({"crash_at": ("slab", "rcu"), "chaos": "stop"}, "--crash-at slab,rcu with --chaos stop: nobody is killed"),
        ({"kill_rate": 0.0, "chaos": "kill"}, "--kill-rate 0 is out of range"),
        ({"mutant": "no-recount", "designs": ("v4_19",)}, "--mutant and --design were both given"),
        ({"mutant": "no-recount", "seconds": 3.0}, "--mutant and --seconds were both given"),
        ({"mutant": "all", "ops": 3}, "--mutant and --ops were both given"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], words: str) -> None:
    """With their values, before anything is compiled or started."""
    with pytest.raises(UsageError) as caught:
        StressOptions(**options)
    assert str(caught.value).startswith(words)


@pytest.mark.parametrize("options", [{"mutant": "nonsense"}, {"designs": ("nonsense",)}, {"scenario": "nonsense"}])
def test_names_that_do_not_exist_are_refused(options: dict[str, Any]) -> None:
    """And those that do are named."""
    with pytest.raises(UsageError, match="nonsense"):
        stress(StressOptions(**options), Silent())  # type: ignore[arg-type]


@pytest.mark.stress
def test_a_design_of_the_users_own_survives_kills_as_it_is(journaled_once: None) -> None:
    """It need not know of them."""
    file = str(Path(__file__).parents[2] / "docs" / "examples" / "ids_under_map_mutex.py")
    result = stressed(designs=(file,), seconds=2.0, chaos="kill", kill_rate=100.0, timeout=60.0)
    (found,) = result.stressed.values()
    assert found.failed == ""
    assert found.chaos.kills == sum(found.chaos.recoveries.values()) > 5


@pytest.mark.stress
def test_crash_points_are_asked_for_by_name(journaled_once: None) -> None:
    """The line that does it again has them; nobody dies elsewhere; a name that means none is refused at once."""
    names = ("list_lru_add", "v6_7.register_shrinker")
    result = stressed(designs=("v6_7",), seconds=1.5, chaos="kill", kill_rate=100.0, timeout=60.0, crash_at=names)
    done = result.stressed["v6_7"].chaos
    assert sum(done.crash_points.values()) == done.kills > 0
    assert {name.partition(":")[0] for name in done.crash_points} == {"list_lru.list_lru_add", "v6_7.register_shrinker"}
    assert result.again.endswith(" --crash-at list_lru_add,v6_7.register_shrinker")
    with pytest.raises(UsageError, match=r"(?s)v6_7 comes by no crash point 'v4_19'.*There are some in .*v6_7"):
        stressed(designs=("v6_7",), chaos="kill", crash_at=("v4_19",))


def stressed(progress: Silent | None = None, **options: Any) -> StressResult:
    """Run it with two CPUs."""
    return stress(StressOptions(**{"cpus": 2} | options), progress or Silent())  # type: ignore[arg-type]


@pytest.mark.stress
def test_time_is_cut_into_boots_with_seeds_that_count_up(compiled_once: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of a fresh machine, none longer than a boot may be; progress goes through all of them."""
    monkeypatch.setattr("shmreclaim.experiments.stress.BOOT_S", 0.4)
    heard = Silent()
    result = stressed(heard, designs=("davydov",), seconds=1.0, seed=7)
    design = result.stressed["davydov"]
    assert (design.runs, design.seeds, design.failed) == (3, [7, 8, 9], "")
    assert heard.finished_runs == ["davydov"] * 3
    assert all(run.wall_s < 1.0 for run in design.per_run)
    assert {total for _, total in heard.told} == {1}
    words = (
        "stress --scenario torture --cpus 2 --nodes 1 --seed 7 --seconds 1 --timeout 10 --design davydov --chaos none"
    )
    assert result.again == f"shmreclaim {words}"


@pytest.mark.stress
def test_what_breaks_stops_everything_and_leaves_a_report_and_the_segment(
    compiled_once: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Designs after it are not run. The report says what broke, what was done last and how to do it again."""
    monkeypatch.chdir(tmp_path)
    result = stressed(designs=("v4_19+cyclic_ids", "v6_7"), seconds=20.0)
    design = result.stressed["v4_19+cyclic_ids"]
    kept = Path("/dev/shm", design.segment)
    try:
        assert list(result.designs) == ["v4_19+cyclic_ids"]
        assert design.failed == "violation"
        assert kept.is_file()
        (path,) = tmp_path.iterdir()
        assert str(path) == design.report
        text = path.read_text("utf-8")
        assert design.invariants.violations[0] in text
        assert design.again in text
        assert "--seed 1 " in design.again
        assert "--design v4_19+cyclic_ids " in design.again
        assert design.segment in text
        assert text.count("  CPU ") == 2 * 64
        assert "CPU 1 (pid " in text
    finally:
        kept.unlink(missing_ok=True)


def test_a_report_goes_to_the_temporary_files_where_the_user_is_nothing_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that was removed takes no file, not even root's; where none does, the path is empty."""
    gone, other = tmp_path / "gone", tmp_path / "other"
    gone.mkdir()
    other.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    monkeypatch.setattr("tempfile.tempdir", str(other))
    assert write_report("text", "stress-a/b-1.txt") == str(other / "stress-a_b-1.txt")
    assert (other / "stress-a_b-1.txt").read_text("utf-8") == "text"
    monkeypatch.setattr("tempfile.tempdir", str(gone))
    assert write_report("text", "stress-1.txt") == ""


@pytest.mark.stress
def test_the_json_has_chaos_for_each_design_and_every_mutant(compiled_once: None) -> None:
    """Under the names that the issue gives them."""
    found = json.loads(encode(stressed(designs=("v6_7",), seconds=0.6, chaos="stop", seed=3)))
    assert set(found["designs"]["v6_7"]["chaos"]) == {
        "kills",
        "stops",
        "recoveries",
        "left",
        "crash_points",
        "longest_recovery_ns",
        "recovery_ns",
        "parent_late_ns",
        "stolen_ns",
    }
    assert found["designs"]["v6_7"]["chaos"]["stops"] > 0
    assert found["designs"]["v6_7"]["ops"]["register"]["count"] > 0
    found = json.loads(encode(stressed(mutant="cyclic-ids", cpus=4)))
    assert found["designs"] == {}
    assert found["mutants"]["cyclic-ids"]["caught"] is True
    assert found["mutants"]["cyclic-ids"]["by"].startswith("I6: ")
    assert 0 < found["mutants"]["cyclic-ids"]["seconds"] < 30
