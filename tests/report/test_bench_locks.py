"""The report of `bench locks`: what a reader sees."""

import csv
import math
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shmreclaim.bench_result import Verdict
from shmreclaim.lock_figures import (
    LockFigures,
    LocksResult,
    ModeFigures,
    Ratio,
    StreamFigures,
    Survival,
    WaitTimes,
)
from shmreclaim.report.bench_locks import view
from shmreclaim.report.rows import show
from shmreclaim.report.style import Style
from tests.report.samples import make_result

GOLDEN = Path(__file__).parent / "golden"
ENDINGS = {"table": "txt", "csv": "csv", "markdown": "md"}


def figure(name: str, value: float) -> dict[str, Any]:
    """Within 5 % below and 10 % above."""
    return {name: value, f"{name}_ci": (0.95 * value, 1.1 * value)}


def mode(scale: float, *, pair: float | None = None, slept: bool = True) -> ModeFigures:
    """Figures in proportion to `scale`."""
    nobody = {"handoff_ns": None, "handoff_ns_ci": None}
    return ModeFigures(
        **figure("uncontended_ns", 9.4 * scale),
        **figure("ops_per_s", 5e7 / scale),
        **({} if pair is None else figure("pair_ops_per_s", pair)),
        **figure("jain", 0.9),
        wait_ns=WaitTimes(
            **figure("p50", 30 * scale), **figure("p99", 300 * scale), **figure("p99_9", 3e4 * scale),
            max=int(3e6 * scale), samples=1000,
        ),
        longest_bypass=int(3 * scale),
        **(figure("handoff_ns", 4_000 * scale) if slept else nobody),
    )  # fmt: skip


def locks(**changes: Any) -> LocksResult:
    """Ours and two peers; one is missing, one was refused, one threshold failed."""
    stream = StreamFigures(tries=900, p50=1_020_000, p99=1_100_000, p99_9=7_400_000, max=7_400_000)
    starved = StreamFigures(tries=1, p50=None, p99=None, p99_9=None, max=3_010_000_000)
    fields: dict[str, Any] = {
        "version": "1.2.3",
        "started": "2026-01-01T00:00:00+00:00",
        "machine": make_result().machine,
        "parameters": {"peers": "all", "quick": False, "hold": 500},
        "not_installed": ["prwlock"],
        "processes": 4, "readers": 3, "writers": 1, "loop": "closed",
        "rounds": 6, "part_s": 0.06, "starvation_limit_s": 3.0,
        "locks": {
            "shmreclaim.Mutex (compiled)": LockFigures(
                called="compiled", exclusive=mode(1, pair=4e7),
                survives_kill=Survival(reader=None, writer=True, writer_ns=52_000),
            ),
            "glibc rwlock": LockFigures(
                called="compiled", read=mode(1.2), write=mode(300, slept=False),
                survives_kill=Survival(reader=False, writer=False), writer_starved=True, stream=starved,
            ),
            "shmreclaim.RwLock": LockFigures(
                called="python", read=mode(3), write=mode(3.1), writer_starved=False, stream=stream,
                survives_kill=Survival(reader=True, writer=True, reader_ns=9_000, writer_ns=52_000),
            ),
        },
        **figure("floor_ns", 9.3),
        "broken": {"busted": "12 changes left counts of 11 and 12"},
        "ratios": [
            Ratio(what="a / b", found=0.65, sign="<=", wanted=0.7),
            Ratio(what="a much longer name / b", found=5.0, sign=">=", wanted=10),
        ],
        "thresholds": [
            Verdict(threshold="write.p99<10us", subject="shmreclaim.RwLock", found=930.0, passed=True),
            Verdict(threshold="shmreclaim.RwLock:read.jain>0.95", subject="shmreclaim.RwLock", found=0.9, passed=False),
            Verdict(threshold="busted:exclusive.max<1s", subject="busted", found=None, passed=False),
        ],
    }  # fmt: skip
    return LocksResult(**fields | changes)


@pytest.mark.parametrize("form", ENDINGS)
def test_the_report_of_bench_locks_reads_like_this(form: str) -> None:
    """Character by character; print `show(view(locks()), form, Style(100))` to renew the file."""
    golden = GOLDEN / f"bench-locks.{ENDINGS[form]}"
    assert show(view(locks()), form, Style(100)) == golden.read_text(encoding="utf-8")


def test_csv_has_a_row_for_each_lock_and_mode() -> None:
    """With every figure of the JSON; what was not measured is empty."""
    rows = list(csv.DictReader(show(view(locks()), "csv", Style()).splitlines()))
    assert [(row["lock"], row["mode"]) for row in rows] == [
        ("shmreclaim.Mutex (compiled)", "exclusive"),
        ("glibc rwlock", "read"),
        ("glibc rwlock", "write"),
        ("shmreclaim.RwLock", "read"),
        ("shmreclaim.RwLock", "write"),
    ]
    assert (rows[2]["handoff_ns"], rows[2]["survives_kill"], rows[2]["writer_starved"]) == ("", "0", "1")
    assert (float(rows[0]["wait_p99_ns_high"]), rows[3]["survives_kill"], rows[3]["writer_starved"]) == (330, "1", "")


def test_the_headline_is_what_our_mutex_does_in_compiled_loops() -> None:
    """Not a number where it was refused."""
    assert show(view(locks()), "simple", Style()) == "5e+07\n"
    assert math.isnan(view(locks(locks={})).headline)


def test_an_open_loop_says_from_when_waits_count() -> None:
    """Figures of both kinds of loop must not be taken for each other."""
    opening = view(locks(loop="open, Poisson arrivals")).opening
    assert "open, Poisson arrivals loop" in opening[1]
    assert "from the planned arrival" in opening[2]


def test_locks_that_did_not_keep_up_with_the_plan_are_named() -> None:
    """With how many arrivals they still owed."""
    late = LockFigures(called="compiled", read=mode(1), write=msgspec.structs.replace(mode(1), unserved=1_234))
    closing = view(locks(locks={"shmreclaim.RwLock (compiled)": late})).closing
    assert "planned arrivals that were not served by the end: shmreclaim.RwLock (compiled)-W 1,234" in closing
    assert not any("planned arrivals" in line for line in view(locks()).closing)


def test_an_interval_that_says_nothing_is_not_told() -> None:
    """More than ten times the figure."""
    wide = msgspec.structs.replace(mode(1), ops_per_s=800.0, ops_per_s_ci=(0.0, 9e6))
    told = show(view(locks(locks={"shmreclaim.Mutex": LockFigures(called="python", exclusive=wide)})), "table", Style())
    assert "800 ±>999%" in told


def test_fewer_processes_than_cores_measure_no_scheduler() -> None:
    """So nothing is said of it."""
    assert "scheduler" not in " ".join(view(locks(processes=2, readers=1)).opening)
