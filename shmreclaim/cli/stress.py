"""`shmreclaim stress`: parse its options, run it, hand the result to the report."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

from typer import Option

from shmreclaim.cli.reporting import Json, produce
from shmreclaim.cli.values import names_in, number, whole_number
from shmreclaim.errors import Inconclusive, InternalError, ModelViolation

if TYPE_CHECKING:
    from shmreclaim.result import StressResult

EXIT_CODES = {"violation": ModelViolation.exit_code, "hang": Inconclusive.exit_code, "crash": InternalError.exit_code}


def stress(
    design: Annotated[
        str,
        Option(
            metavar="D|all",
            help="Stress these designs, separated by commas (default: all). Example: --design v6_7. Variants and files "
            "of your own are named as for compare --designs: --design v4_19+copy_bits, --design ./mine.py.",
            show_default=False,
        ),
    ] = "all",
    scenario: Annotated[
        str,
        Option(
            metavar="NAME|FILE",
            help="Play this scenario again and again: a preset's NAME or a .toml FILE (default: torture, which does "
            "everything at once in too little memory).",
            show_default=False,
        ),
    ] = "torture",
    cpus: Annotated[
        int | None,
        Option(
            metavar="NUM",
            parser=whole_number,
            help="Play NUM CPUs, each one process (default: as many as cores, at least 4). More CPUs than cores are "
            "taken off their cores while they hold locks, which finds more.",
        ),
    ] = None,
    nodes: Annotated[
        int,
        Option(
            metavar="NUM",
            parser=whole_number,
            help="Give the emulated machine NUM memory nodes (default: 1).",
            show_default=False,
        ),
    ] = 1,
    seconds: Annotated[
        float | None,
        Option(
            metavar="SEC",
            parser=number,
            help="Stress each design for SEC seconds (default: 10), in boots of 10 s or less with seeds that count up.",
        ),
    ] = None,
    ops: Annotated[
        int | None,
        Option(
            metavar="NUM",
            parser=whole_number,
            help="Or play NUM operations, all CPUs together, in one boot. Use it where the end must not hang on speed.",
        ),
    ] = None,
    seed: Annotated[
        int,
        Option(
            metavar="NUM",
            parser=whole_number,
            help="Make the workload and the chaos of the first boot from this seed (default: 1).",
            show_default=False,
        ),
    ] = 1,
    chaos: Annotated[
        str,
        Option(
            metavar="none|stop|kill|both",
            help="Stop workers at random moments, for up to 0.1 s each (SIGSTOP, SIGCONT); kill them, at random "
            "moments, at random accesses to memory, and at each crash point in its turn, which is before a statement "
            "(SIGKILL); or both (default: none). Who needs a lock that a stopped worker holds must wait; another "
            "process goes on where a killed one was. Nothing may break.",
            show_default=False,
        ),
    ] = "none",
    kill_rate: Annotated[
        float | None,
        Option(
            metavar="R", parser=number, help="Kill about R workers a second (default: 20); with --chaos kill or both."
        ),
    ] = None,
    crash_at: Annotated[
        str | None,
        Option(
            metavar="NAME",
            help="Kill at these crash points and nowhere else, separated by commas: a function of the design or of "
            "what it calls (list_lru_add), a file (list_lru), or one statement (FILE.FUNCTION:LINE). "
            "Example: --chaos kill --crash-at register_shrinker,rcu.",
            show_default=False,
        ),
    ] = None,
    stutter: Annotated[
        bool, Option("--stutter", help="Let all CPUs rest for a moment now and then: they start again at once.")
    ] = False,
    shuffle: Annotated[bool, Option("--shuffle", help="Move workers to other cores now and then.")] = False,
    long_hold: Annotated[
        float | None,
        Option(
            metavar="MS",
            parser=number,
            help="Once in each round, let a scan sleep MS milliseconds with all that reclaim holds then. "
            "Example: --long-hold 50.",
        ),
    ] = None,
    mutant: Annotated[
        str | None,
        Option(
            metavar="NAME|all",
            help="Stress a variant that is broken on purpose until it is found out, for 30 s at most; or all of them: "
            "the proof that this command can fail. A wrong name is answered with those there are.",
        ),
    ] = None,
    timeout: Annotated[
        float,
        Option(
            metavar="SEC",
            parser=number,
            help="Call a run hung when a CPU does not end its operation within SEC seconds (default: 10).",
            show_default=False,
        ),
    ] = 10.0,
    live: Annotated[
        bool, Option("--live", help="Show how it goes: a table that refreshes; in a pipe, a line a second.")
    ] = False,
    json: Json = None,
) -> int:
    """Torture designs: everything at once, for a while, with all invariants checked again and again.

    Once a second all CPUs rest between two operations, the whole segment is checked, and they go on. What CPUs find
    broken themselves is seen at once. A violation, a hang or a crash stops everything: a report is written to
    stress-DESIGN-PID.txt (what broke; who held what; the last 64 operations of every CPU; how to run it again), and the
    segment stays in /dev/shm.

    Exit codes: 0 nothing broke (with --mutant: all were caught but those for the checker), 1 usage or environment, 2 an
    invariant broke, 3 inconclusive (a hang; a mutant not caught), 5 a worker crashed or another fault of shmreclaim.

    Example: shmreclaim stress --design v5_13,v6_7 --seconds 60 --cpus 8 --chaos stop --stutter --shuffle
    """
    from shmreclaim.experiments import stress as experiment
    from shmreclaim.report import stress as report

    options = experiment.StressOptions(
        designs=() if design == "all" else names_in(design),
        scenario=scenario,
        cpus=cpus,
        nodes=nodes,
        seconds=seconds,
        ops=ops,
        seed=seed,
        chaos=chaos,
        kill_rate=kill_rate,
        crash_at=names_in(crash_at),
        stutter=stutter,
        shuffle=shuffle,
        long_hold=long_hold,
        mutant=mutant,
        timeout=timeout,
    )
    return exit_code(produce(json, partial(experiment.stress, options), report.render, live=live))


def exit_code(result: StressResult) -> int:
    """What the command ends with."""
    if any(not mutant.caught and not mutant.checker for mutant in result.mutants.values()):
        return Inconclusive.exit_code
    for name, design in result.stressed.items():
        if design.failed == "crash" and name in result.design_files:
            return ModelViolation.exit_code  # a user's file is suspected first
        if design.failed:
            return EXIT_CODES[design.failed]
    return 0
