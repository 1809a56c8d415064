"""`shmreclaim bench locks`: parse its options, run it, hand the result to the report."""

from __future__ import annotations

from typing import Annotated

from typer import Option

from shmreclaim.cli import reporting
from shmreclaim.cli.bench import Csv, Format, Markdown, Quick
from shmreclaim.cli.reporting import Json
from shmreclaim.cli.values import number, whole_number
from shmreclaim.errors import Inconclusive, ModelViolation, ThresholdFailed


def locks(
    peers: Annotated[
        str,
        Option(
            metavar="all|none|NAMES",
            help="Measure these beside ours: locks or whole packages, separated by commas (default: all). Example: "
            "--peers glibc,multiprocessing.Lock. `busted` is a lock that does nothing, to show that this is noticed.",
            show_default=False,
        ),
    ] = "all",
    readers: Annotated[
        int | None,
        Option(metavar="NUM", parser=whole_number, help="Let NUM processes read (default: 3)."),
    ] = None,
    writers: Annotated[
        int | None,
        Option(
            metavar="NUM",
            parser=whole_number,
            help="Let NUM processes write (default: 1). A lock without readers is taken by all of them exclusively.",
        ),
    ] = None,
    cpus: Annotated[
        int | None,
        Option(
            metavar="NUM",
            parser=whole_number,
            help="Use NUM processes in all, a quarter of them writers (default: as many as readers and writers). More "
            "than cores measure the scheduler too.",
        ),
    ] = None,
    hold: Annotated[
        int | None,
        Option(
            metavar="NS",
            parser=whole_number,
            help="Keep the lock for NS nanoseconds, busy (default: 1000 where waits are measured, 0 where operations "
            "are counted).",
        ),
    ] = None,
    think: Annotated[
        int | None,
        Option(
            metavar="NS",
            parser=whole_number,
            help="Do something else for NS nanoseconds in between (default: as --hold).",
        ),
    ] = None,
    arrival: Annotated[
        float | None,
        Option(
            metavar="RATE",
            parser=number,
            help="Let each process ask RATE times a second, at random times planned ahead (Poisson), where waits are "
            "measured; they then count from the planned time, so that a stall is not left out (default: closed loop, "
            "who was served asks again). Example: --arrival 2000.",
        ),
    ] = None,
    seconds: Annotated[
        float | None,
        Option(
            metavar="SEC",
            parser=number,
            help="Take about SEC seconds for everything (default: 60, with --quick 15). Use more where intervals "
            "are wide.",
        ),
    ] = None,
    threshold: Annotated[
        list[str] | None,
        Option(
            metavar="EXPR",
            help="End with exit code 4 unless EXPR holds: [LOCK:]MODE.FIGURE OP VALUE[UNIT]. MODE is exclusive, read "
            "or write; FIGURE is p50, p99, p99.9, max, uncontended, handoff (times), ops_per_s, jain, bypass, survives "
            "(yes or no). write.starved says whether a writer starves beside endless readers, stream.p99.9 how long "
            "it waits. Without LOCK it is for all of ours. May be given several times. Example: --threshold "
            "'write.p99<10ms' --threshold 'read.survives==yes'.",
        ),
    ] = None,
    quick: Quick = False,
    json: Json = None,
    form: Format = None,
    csv: Csv = False,
    markdown: Markdown = False,
) -> int:
    """Measure what a lock between processes costs, how fair it is, and what becomes of it when its holder is killed.

    This project's Mutex and RwLock, from Python and from compiled loops, beside multiprocessing's Lock and RLock, a
    semaphore of posix_ipc, prwlock, fasteners, filelock, and glibc's mutex, robust mutex and rwlock of both kinds in
    the same compiled loops as ours. Every figure is measured in this run, in real processes; a lock that lets somebody
    in who has to stay out gets none. `--format simple` prints operations a second of our Mutex in compiled loops, all
    processes contending.

    Exit codes: 0 ok, 1 usage or environment, 2 a lock let two in at once, 3 one could not be measured, 4 a threshold
    failed, 5 a fault of shmreclaim.

    Example: shmreclaim bench locks --peers glibc,multiprocessing --threshold 'exclusive.p99.9<5ms'
    """
    from shmreclaim.experiments.bench.locks import bench_locks
    from shmreclaim.experiments.bench.locks.options import LockOptions
    from shmreclaim.report.bench_locks import view

    shown = reporting.form(form, csv=csv, markdown=markdown)
    options = LockOptions(
        peers=peers,
        readers=readers,
        writers=writers,
        cpus=cpus,
        hold=hold,
        think=think,
        arrival=arrival,
        seconds=seconds,
        quick=quick,
        thresholds=tuple(threshold or ()),
    )
    result = reporting.produce_view(json, shown, lambda progress: bench_locks(options, progress), view)
    if result.broken:
        return ModelViolation.exit_code
    if result.failed:
        return Inconclusive.exit_code
    return 0 if all(verdict.passed for verdict in result.thresholds) else ThresholdFailed.exit_code
