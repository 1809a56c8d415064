"""The report of `stress`, and the file that a run leaves which went wrong."""

from shmreclaim.experiments.combine import combine
from shmreclaim.report import evidence
from shmreclaim.report.stress import render
from shmreclaim.report.style import Style
from shmreclaim.result import ChaosDone, Evidence, Histogram, MutantResult, StressedDesign, StressResult
from tests.report.samples import LOST_BIT, make_result, make_run

AGAIN = "shmreclaim stress --scenario torture --cpus 4 --seed 3"


def stressed(failed: str = "", violations: tuple[str, ...] = (), **fields: object) -> StressedDesign:
    """Two boots of a design."""
    folded = combine([make_run(), make_run(violations=violations)])
    known = {name: getattr(folded, name) for name in type(folded).__struct_fields__}
    made = {
        "chaos": ChaosDone(),
        "throughput_per_s": [[1_000_000, 900_000], [500_000]],
        "quiet_points": 3,
        "seeds": [3, 4],
        "failed": failed,
        "report": "/home/me/stress-v6_7-77.txt",
        "segment": "shmreclaim.77.1.0",
        "again": f"{AGAIN} --design v6_7",
    }
    return StressedDesign(**known | made | fields)  # type: ignore[arg-type]


def result_of(**fields: object) -> StressResult:
    """A result with what is given; else of two designs that held."""
    sample = make_result()
    known = {name: getattr(sample, name) for name in type(sample).__struct_fields__}
    made = {"designs": {"v5_13": stressed(), "v6_7": stressed()}, "again": AGAIN}
    return StressResult(**known | made | fields)  # type: ignore[arg-type]


def lines(result: StressResult) -> list[str]:
    """As it is printed to a pipe."""
    return render(result, Style()).splitlines()


def row(shown: list[str], title: str, name: str) -> list[str]:
    """Cells of a design below a title, by blanks of two or more."""
    at = next(k for k, line in enumerate(shown) if line.startswith(f"{title} "))
    found = next(line for line in shown[at:] if line.startswith(f"  {name} "))
    return [cell for cell in found.split("  ") if cell.strip()][1:]


def test_the_pace_is_told_with_its_dips_boots_and_seeds() -> None:
    """The median, the least and the most; then every stretch, boot by boot."""
    shown = lines(result_of())
    cells = [cell.strip() for cell in row(shown, "throughput", "v6_7")]
    assert cells == ["900,000", "500,000", "1,000,000", "3", "2", "3-4"]
    assert "  v6_7, thousands a second: 1,000 900; 500" in shown


def test_every_figure_of_a_comparison_is_there() -> None:
    """Its sections, in its order."""
    titles = [line.split("  ")[0] for line in lines(result_of()) if line and not line.startswith((" ", "note: "))]
    assert titles[1:-1] == [
        "register",
        "growth",
        "memcg_online",
        "shrink_slab",
        "reclaim",
        "shrinker_rwsem, write",
        "oracles",
        "throughput",
    ]


def test_chaos_has_a_section_where_there_was_any() -> None:
    """How many recovered, how soon; in what they were killed and what they left; a dash where nobody was."""
    assert not any(line.startswith("chaos ") for line in lines(result_of()))
    done = ChaosDone(
        kills=7,
        stops=1200,
        recoveries={"register": 5, "lru_add": 2},
        left={"locks held": 3},
        longest_recovery_ns=3_200_000,
        parent_late_ns=250_000,
        stolen_ns=20_000_000,
        crash_points={"list_lru.list_lru_add:57": 2, "list_lru.list_lru_add:58": 0, "v6_7.register_shrinker:120": 1},
        recovery_ns=Histogram.of([1000, 1000, 1000, 3_200_000]).latency(),
    )
    shown = lines(result_of(designs={"v5_13": stressed(chaos=ChaosDone(stops=8)), "v6_7": stressed(chaos=done)}))
    cells = [cell.strip() for cell in row(shown, "chaos", "v6_7")]
    assert cells == ["1,200", "7", "7", "999 ns", "3.20 ms", "3.20 ms", "250 µs", "20.0 ms"]
    assert [cell.strip() for cell in row(shown, "chaos", "v5_13")] == ["8", "0", "0", "-", "-", "-", "0 ns", "0 ns"]
    assert "  v6_7, killed in: register 5, lru_add 2" in shown
    assert "  v6_7, left behind: locks held 3" in shown
    assert "  v6_7, killed 3 times at 2 of 3 crash points: list_lru 1/2, v6_7 1/1" in shown


def test_what_broke_is_told_with_where_more_is_and_how_to_do_it_again() -> None:
    """Of many violations the first, and how many more there are."""
    many = tuple(f"{LOST_BIT} ({k})" for k in range(11))
    shown = lines(result_of(designs={"v6_7": stressed("violation", many)}))
    at = shown.index("v6_7 failed: violation")
    assert shown[at + 1] == f"  {LOST_BIT} (0)"
    assert shown[at + 9 : at + 13] == [
        "  and 3 more",
        "  report:  /home/me/stress-v6_7-77.txt",
        "  segment: /dev/shm/shmreclaim.77.1.0, kept: see shmreclaim inspect; shmreclaim clean removes it",
        f"  again:   {AGAIN} --design v6_7",
    ]
    assert shown[-1] == f"end, FAILURE, v6_7 failed: {AGAIN}"


def test_a_hang_is_told_with_who_waits_for_whom() -> None:
    """Every line of it."""
    shown = lines(result_of(designs={"v6_7": stressed("hang", why="not all came to rest:\nCPU 0 waits")}))
    at = shown.index("v6_7 failed: hang")
    assert shown[at + 1 : at + 3] == ["  not all came to rest:", "  CPU 0 waits"]


def mutant(caught: bool, by: str = "", checker: str = "") -> MutantResult:
    """One of v4_19."""
    return MutantResult(
        broken="it", design="v4_19", expected="I2", caught=caught, by=by, seconds=30.04, checker=checker
    )


def test_mutants_are_told_with_what_caught_them_or_why_nothing_could() -> None:
    """One that should have been caught and was not cannot be missed."""
    mutants = {"a": mutant(True, "I2: broken"), "b": mutant(False), "c": mutant(False, checker="weak memory")}
    shown = lines(result_of(designs={}, mutants=mutants))
    cells = {name: [cell.strip() for cell in row(shown, "mutant", name)] for name in mutants}
    assert cells == {
        "a": ["v4_19", "30.0 s", "I2: broken"],
        "b": ["v4_19", "-", "NOT CAUGHT in 30 s"],
        "c": ["v4_19", "-", "for the checker: weak memory"],
    }
    assert shown[-1] == f"end: 1 of 3 mutants caught, 1 are for the checker: {AGAIN}"


def test_the_file_has_all_that_is_known() -> None:
    """A section without lines says so."""
    proof = Evidence(
        failed="violation", what="an invariant broke", violations=[LOST_BIT], standings=["CPU 0 holds nothing"],
        recent=[], segment="shmreclaim.77.1.0",
    )  # fmt: skip
    text = evidence.render(proof, "./mine.py", AGAIN)
    assert text.startswith("shmreclaim stress: ./mine.py failed: violation\nagain:   shmreclaim stress --scenario")
    for words in (f"\n{LOST_BIT}\n", "\nCPU 0 holds nothing\n", "/dev/shm/shmreclaim.77.1.0", "in order of time\n"):
        assert words in text
    assert text.endswith("-\nnothing\n")
