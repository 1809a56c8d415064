"""Does a real kernel's do_shrink_slab compute what ours does: a trace against the formulas of every era."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import and_
from pathlib import Path

from shmreclaim import __version__
from shmreclaim.conformance import Conformance, EraFit, Inferred, Mismatch
from shmreclaim.errors import UsageError
from shmreclaim.experiments.shrink_formulas import Checked, Others, Wrong
from shmreclaim.mm.shrinker import Arithmetic
from shmreclaim.ranges import expect_whole
from shmreclaim.workload.ftrace_calls import Calls, pair_calls
from shmreclaim.workload.ftrace_text import Recording
from shmreclaim.workload.recordings import read_file, recorded_drops

ERAS = {
    Arithmetic.V4_16: "v4.16 to v4.18",
    Arithmetic.V4_19: "v4.19 and v4.20",
    Arithmetic.V5_0: "v5.0 to v5.12",
    Arithmetic.V5_13: "v5.13+",
}


@dataclass(frozen=True)
class ConformOptions:
    """What to check; refused with a UsageError when a value is out of range."""

    trace: Path
    mismatches: int = 10
    """How many of them to keep."""

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        expect_whole("mismatches", self.mismatches, 0)


def conform(options: ConformOptions) -> Conformance:
    """Read the trace and check every call in it; a trace without one is a UsageError."""
    recording = read_file(options.trace)
    calls = pair_calls(recording)
    if not calls.calls:
        raise _nothing(options.trace, calls)
    return judge(recording, calls, options)


def _nothing(trace: Path, calls: Calls) -> UsageError:
    reasons = "; ".join(f"{count:,} {reason}" for reason, count in calls.unused.most_common() if count)
    return UsageError(
        f"{trace} holds no pair of mm_shrink_slab_start and mm_shrink_slab_end",
        cause=f"Found: {reasons}." if reasons else "Nothing was reclaimed from slab while it was recorded.",
        remedy="Record while memory is short, or write 2 to /proc/sys/vm/drop_caches meanwhile.",
    )


def judge(recording: Recording, calls: Calls, options: ConformOptions) -> Conformance:
    """Check the calls under every era and tell which fits best."""
    others = Others(calls.calls)
    fits = {era: Checked(era, calls.calls, others) for era in Arithmetic}
    most = max(fit.matched for fit in fits.values())
    best = [era for era, fit in fits.items() if fit.matched == most]
    chosen = fits[best[-1]]
    return Conformance(
        version=__version__,
        parameters={"file": str(options.trace), "mismatches": options.mismatches},
        trace=options.trace.name,
        era=ERAS[chosen.era],
        ambiguous=[ERAS[era] for era in best] if len(best) > 1 else [],
        rows=len(calls.calls),
        matched=chosen.matched,
        mismatched=len(calls.calls) - chosen.matched,
        mismatches=[_mismatch(wrong, chosen) for wrong in chosen.wrong[: options.mismatches]],
        mismatched_figures=len(chosen.wrong),
        eras={ERAS[era]: _fit(fit) for era, fit in fits.items()},
        inferred=_inferred(chosen),
        starts=calls.starts,
        ends=calls.ends,
        unused=_said(calls.unused),
        unread=_said(recording.unused),
        remarks=list(recording.remarks),
        drop_caches_calls=[drop.calls for drop in recorded_drops(recording)],
    )


def _said(reasons: Counter[str]) -> dict[str, int]:
    return {reason: count for reason, count in sorted(reasons.items()) if count}


def _fit(fit: Checked) -> EraFit:
    right = fit.right
    return EraFit(
        matched=fit.matched,
        delta=right["delta"],
        total_scan=right["total_scan"],
        carry=right["carry"],
        carry_with_others=right["carry_with_others"],
    )


def _mismatch(wrong: Wrong, fit: Checked) -> Mismatch:
    call, choice = wrong.call, fit.inference.chosen[wrong.call.pointer]
    inputs = {"freeable": call.freeable, "priority": call.priority, "deferred": call.deferred}
    inputs |= {"delta": call.delta, "total_scan": call.total_scan, "left": call.left, "seeks": choice.seeks}
    if fit.era == Arithmetic.V4_19:
        inputs["batch"] = choice.batch
    return Mismatch(
        figure=wrong.figure,
        expected=wrong.expected,
        found=wrong.found,
        time_ns=call.began,
        pid=call.pid,
        function=call.function,
        shrinker=call.pointer,
        inputs=inputs,
    )


def _inferred(fit: Checked) -> list[Inferred]:
    """Say for each function which values its shrinkers got, most rows first."""
    rows = Counter(call.pointer for call in fit.calls)
    function = {call.pointer: call.function for call in fit.calls}
    groups: dict[tuple[str, int, int], list[str]] = defaultdict(list)
    for pointer, choice in fit.inference.chosen.items():
        groups[function[pointer], choice.seeks, choice.batch].append(pointer)
    found = [_group(key, pointers, fit, rows) for key, pointers in groups.items()]
    return sorted(found, key=lambda each: (-each.rows, each.function, each.seeks))


def _group(key: tuple[str, int, int], pointers: Sequence[str], fit: Checked, rows: Counter[str]) -> Inferred:
    name, seeks, batch = key
    common = reduce(and_, (fit.inference.left[pointer] for pointer in pointers))
    possible = {choice.seeks for bit, choice in enumerate(fit.choices) if common >> bit & 1}
    return Inferred(
        function=name,
        seeks=seeks,
        batch=batch if fit.era == Arithmetic.V4_19 else None,
        shrinkers=len(pointers),
        alternatives=sorted(possible - {seeks}),
        rows=sum(rows[pointer] for pointer in pointers),
        telling=sum(fit.inference.telling[pointer] for pointer in pointers),
    )
