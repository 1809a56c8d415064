"""The reports of benches: what a reader sees."""

from pathlib import Path

import pytest

from shmreclaim.bench_result import (
    Axis,
    BenchResult,
    Change,
    Cost,
    DiffResult,
    Growth,
    IdsResult,
    ReclaimResult,
    Side,
    Turn,
)
from shmreclaim.report import bench_diff, bench_ids, bench_reclaim
from shmreclaim.report.rows import View, show
from shmreclaim.report.style import Style
from tests.report.samples import make_result

GOLDEN = Path(__file__).parent / "golden"
MACHINE = make_result().machine
ABOUT = {"version": "1.2.3", "started": "2026-01-01T00:00:00+00:00", "machine": MACHINE}


def cost(ns: float) -> Cost:
    """Within 5 % below and 10 % above."""
    return Cost(ns=ns, ns_ci=(0.95 * ns, 1.1 * ns))


def ids() -> IdsResult:
    """Two kinds; a peer is missing."""
    return IdsResult(
        **ABOUT,
        parameters={"quick": True},
        processes=1,
        not_installed=["sortedcontainers"],
        kinds={"idr": "the algorithm", "dict": "what Python has"},
        ids={
            name: {
                operation: {live: cost(scale * live**0.1) for live in (10, 1_000, 100_000)}
                for operation in ("find", "alloc", "remove")
            }
            for name, scale in (("idr", 1.0), ("dict", 800.0))
        },
    )


def reclaim() -> ReclaimResult:
    """Two designs on one axis."""

    def growth(costs: dict[int, float], verdict: str) -> Growth:
        named = {size: cost(ns) for size, ns in costs.items()}
        return Growth(costs=named, fixed_ns=80.0, each_ns=35.5, off=0.1, growth=19.5, verdict=verdict)

    designs = {"no_map": growth({1: 13_000, 64: 14_000}, "flat"), "v6_7": growth({1: 115, 64: 2_300}, "linear")}
    return ReclaimResult(
        **ABOUT,
        parameters={"quick": False},
        processes=9,
        axes={"set bits": Axis(title="a pass, by set bits", unit="bit", designs=designs)},
        each={"set a bit": {"no_map": cost(2), "v6_7": cost(24)}},
    )


def diff() -> DiffResult:
    """Every kind of change, and what only one has."""

    def change(name: str, ratio: float | None, spread: float, better: bool | None) -> Change:
        new = 0.0 if ratio is None else 100 * ratio
        interval = None if ratio is None else (ratio * (1 - spread), ratio * (1 + spread))
        told = interval is not None and not interval[0] <= 1 <= interval[1]
        return Change(
            figure=name, old=100.0, old_ci=(95.0, 105.0), new=new, new_ci=(new, new),
            ratio=ratio, ratio_ci=interval, told_apart=told, better=better,
        )  # fmt: skip

    side = Side(file="old.json", started="then", version="1.2.3", parameters={}, machine=MACHINE, peers={})
    return DiffResult(
        version="1.2.3",
        bench="ids",
        old=side,
        new=Side(file="new.json", started="now", version="1.2.4", parameters={}, machine=MACHINE, peers={}),
        differences=["shmreclaim: 1.2.3 → 1.2.4"],
        changes=[
            change("ids/a/ns", 10.0, 0.1, False),
            change("ids/b/ns", 0.8, 0.1, True),
            change("ids/c/size", 1.5, 0.1, None),
            change("ids/d/ns", 1.01, 0.1, None),
            change("ids/e/ns", None, 0.0, None),
        ],
        turned=[Turn(figure="ids/a/starved", old=False, new=True), Turn(figure="x/verdict", old="flat", new="linear")],
        only_old=["ids/f/ns"],
        only_new=["ids/g/ns", "ids/h/ns"],
    )


VIEWS = {"ids": bench_ids.view(ids()), "reclaim": bench_reclaim.view(reclaim()), "diff": bench_diff.view(diff())}
ENDINGS = {"table": "txt", "csv": "csv", "markdown": "md"}


@pytest.mark.parametrize("form", ENDINGS)
@pytest.mark.parametrize("name", VIEWS)
def test_the_report_of_a_bench_reads_like_this(name: str, form: str) -> None:
    """Character by character; print `show(VIEWS[name], form, Style(100))` to renew the file."""
    golden = GOLDEN / f"bench-{name}.{ENDINGS[form]}"
    assert show(VIEWS[name], form, Style(100)) == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("view", "number"), [(VIEWS["ids"], 100_000**0.1), (VIEWS["reclaim"], 2_300), (VIEWS["diff"], 3)], ids=VIEWS
)
def test_the_headline_is_the_number_that_help_names(view: View, number: float) -> None:
    """Idr's alloc with 100,000 in use; a pass over 64 bits under v6_7; how many figures changed."""
    assert show(view, "simple", Style()) == f"{number:.6g}\n"


def test_a_result_says_which_bench_it_is_of() -> None:
    """`bench diff` compares two of one."""
    results: list[BenchResult] = [ids(), reclaim()]
    assert [result.bench for result in results] == ["ids", "reclaim"]
