"""What changed between two runs of a bench: every figure that both have, as a ratio with its uncertainty.

The interval of a ratio is made from the intervals of both figures, each side by itself, in logarithms: its lower end is
as far below the ratio as the root of the sum of squares of how far the new figure may be below its median and the old
one above (Donner and Zou's method of variance estimates recovery). Where it contains 1, no change is told apart.

It knows what the processes of a run show. What changes from run to run, how busy or how warm the machine is, is in
neither interval: two runs of the same version show how much that is. Of `--quick` runs it knows one process each.
"""

import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from shmreclaim import __version__
from shmreclaim.bench_result import BENCH_SCHEMA_VERSION, BenchResult, Change, DiffResult, Interval, Side, Turn
from shmreclaim.errors import SetupError, UsageError

STDIN = "-"
CI = "_ci"
REMEDY = "Make one with: shmreclaim bench ids --json FILE"

Figures = dict[str, tuple[float, Interval]]
"""By the names that lead to them, joined with slashes."""


def bench_diff(old: str, new: str) -> DiffResult:
    """Compare two files that `--json` wrote; raises UsageError for anything else."""
    (before, old_found), (after, new_found) = _load(old), _load(new)
    if before.bench != after.bench:
        raise UsageError(
            f"{old} is of bench {before.bench}, {new} of bench {after.bench}",
            remedy="Compare two results of one bench.",
        )
    figures, others = _figures(old_found, old), _figures(new_found, new)
    changes = [_change(name, figures[name], others[name]) for name in figures if name in others]
    return DiffResult(
        version=__version__,
        bench=before.bench,
        old=_side(old, before),
        new=_side(new, after),
        differences=[*_differences(before, after)],
        changes=sorted(changes, key=_far),
        turned=[*_turned(old_found, new_found)],
        only_old=[name for name in figures if name not in others],
        only_new=[name for name in others if name not in figures],
    )


# --- files ---------------------------------------------------------------------------------------------


def _load(path: str) -> tuple[BenchResult, dict[str, Any]]:
    """Read a result: what it says of itself, and what it found."""
    try:
        text = sys.stdin.buffer.read() if path == STDIN else Path(path).read_bytes()
    except OSError as error:
        raise SetupError(f"cannot read {path}: {error.strerror}", remedy=REMEDY) from None
    try:
        data = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{path} is not JSON: {error}", cause="Perhaps it was cut off.", remedy=REMEDY) from None
    try:
        header = msgspec.convert(data, BenchResult)
    except msgspec.ValidationError as error:
        raise UsageError(f"{path} is not the result of a bench: {error}", remedy=REMEDY) from None
    if header.schema_version != BENCH_SCHEMA_VERSION:
        raise UsageError(
            f"{path} has schema_version {header.schema_version}, this program reads {BENCH_SCHEMA_VERSION}",
            cause=f"It was written by shmreclaim {header.version}; this is {__version__}.",
            remedy="Compare with the shmreclaim that is the newer one.",
        )
    return header, {name: found for name, found in data.items() if name not in BenchResult.__struct_fields__}


def _side(path: str, header: BenchResult) -> Side:
    return Side(
        file=path,
        version=header.version,
        started=header.started,
        parameters=header.parameters,
        machine=header.machine,
        peers=header.peers,
    )


def _figures(found: Any, path: str, at: str = "") -> Figures:
    """Collect every number that has an interval beside it; null is a figure that could not be measured."""
    if not isinstance(found, dict):
        return {}
    figures: Figures = {}
    for name, value in found.items():
        if value is not None and name + CI in found:
            figures[f"{at}{name}"] = _figure(value, found[name + CI], f"{path}: {at}{name}")
        figures |= _figures(value, path, f"{at}{name}/")
    return figures


def _figure(value: Any, interval: Any, where: str) -> tuple[float, Interval]:
    numbers = [value, *interval] if isinstance(interval, list) else []
    if len(numbers) != 3 or not all(isinstance(each, int | float) for each in numbers):
        raise UsageError(
            f"{where} is {value!r}, its interval {interval!r}",
            cause="Both must be numbers, the interval two of them.",
            remedy="Measure it again.",
        )
    return numbers[0], (numbers[1], numbers[2])


# --- what changed ---------------------------------------------------------------------------------------


def _change(name: str, old: tuple[float, Interval], new: tuple[float, Interval]) -> Change:
    (before, (old_low, old_high)), (after, (new_low, new_high)) = old, new
    ratio, interval = None, None
    if before > 0 and after > 0:
        ratio = after / before
        if min(old_low, new_low) > 0:
            down = math.hypot(math.log(after / new_low), math.log(old_high / before))
            up = math.hypot(math.log(new_high / after), math.log(before / old_low))
            interval = (ratio * math.exp(-down), ratio * math.exp(up))
    told = interval is not None and not interval[0] <= 1 <= interval[1]
    return Change(
        figure=name,
        old=before,
        old_ci=(old_low, old_high),
        new=after,
        new_ci=(new_low, new_high),
        ratio=ratio,
        ratio_ci=interval,
        told_apart=told,
        better=_better(name, after > before) if told else None,
    )


def _better(name: str, more: bool) -> bool | None:
    """Whether more, or less, of a figure is better; None where its name does not tell."""
    parts = name.split("/")
    if parts[-1].endswith("_per_s") or parts[-1] == "jain":
        return more
    if any(part == "ns" or part.endswith("_ns") for part in parts):
        return not more
    return None


def _far(change: Change) -> tuple[bool, float]:
    """Sort what was told apart first, and the farthest first."""
    return not change.told_apart, -abs(math.log(change.ratio)) if change.ratio else 0.0


def _turned(old: Mapping[str, Any], new: Mapping[str, Any], at: str = "") -> Iterator[Turn]:
    """Find verdicts, yes or no, or in a word, that are other ones now."""
    for name, before in old.items():
        after = new.get(name)
        if isinstance(before, dict) and isinstance(after, dict):
            yield from _turned(before, after, f"{at}{name}/")
        elif after is not None and before != after and _is_verdict(name, before) and _is_verdict(name, after):
            yield Turn(figure=f"{at}{name}", old=before, new=after)


def _is_verdict(name: str, value: Any) -> bool:
    return isinstance(value, bool) or (name == "verdict" and isinstance(value, str))


def _differences(old: BenchResult, new: BenchResult) -> Iterator[str]:
    """Say what else differs between the runs than what is measured."""
    before, after = _said(old), _said(new)
    for name in dict.fromkeys((*before, *after)):
        if before.get(name) != after.get(name):
            yield f"{name}: {before.get(name, '-')} → {after.get(name, '-')}"


def _said(header: BenchResult) -> dict[str, Any]:
    machine = msgspec.to_builtins(header.machine)
    libraries = machine.pop("libraries")
    return {"shmreclaim": header.version, **machine, **libraries, **header.peers, **header.parameters}
