"""Numbers as people read them: three digits, a unit, the spread."""

from collections.abc import Sequence

NONE = "-"


def duration(ns: float | None) -> str:
    """Three significant digits and the unit that fits: `12.3 µs`."""
    if ns is None:
        return NONE
    value, unit = float(ns), "ns"
    for larger in ("µs", "ms", "s"):
        # 999.5 would be printed as 1000: the next unit is due.
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} ns" if unit == "ns" else f"{_three_digits(value)} {unit}"


def _three_digits(value: float) -> str:
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:,.0f}"


def count(number: float) -> str:
    """A whole number with its thousands apart: `12,345`."""
    return f"{number:,.0f}"


def rate(per_s: float) -> str:
    """Operations a second: whole ones, or three digits where they are few."""
    return count(per_s) if per_s >= 100 else f"{per_s:.3g}"


def ratio(factor: float) -> str:
    """How many times as much: `41.2`, `1,234`."""
    return f"{factor:.3g}" if factor < 1000 else f"{factor:,.0f}"


def plural(number: int, thing: str) -> str:
    """A number with its noun: `1 core`, `12,345 runs`."""
    return f"{count(number)} {thing}" if number == 1 else f"{count(number)} {thing}s"


def spread(values: Sequence[float], middle: float) -> str:
    """How far the farthest value is from the middle one: ` ±4%`; nothing where all are the same."""
    if middle == 0 or len(values) < 2:
        return ""
    farthest = max(abs(value - middle) for value in values) / abs(middle) * 100
    return f" ±{farthest:.0f}%" if farthest >= 0.5 else ""
