"""What options may be: a value out of range is a UsageError that says which would do. None is an option not given."""

import math

from shmreclaim.errors import UsageError


def expect_whole(option: str, value: int | None, least: int = 1, most: int | None = None, cause: str = "") -> None:
    """Refuse a whole number of `--option` below `least` or above `most`."""
    if value is None or (value >= least and (most is None or value <= most)):
        return
    wanted = f"{least} or more" if most is None else f"{least} to {most}"
    raise UsageError(f"--{option} {value} is out of range", cause=cause, remedy=f"Give a whole number, {wanted}.")


def expect_number(option: str, value: float | None, least: float = 0.0, most: float = math.inf) -> None:
    """Refuse a number of `--option` that is not above 0, not finite, below `least` or above `most`."""
    if value is None or (value > 0 and math.isfinite(value) and least <= value <= most):
        return
    wanted = "above 0" if most == math.inf else f"from {least:g} to {most:g}"
    raise UsageError(f"--{option} {value:g} is out of range", remedy=f"Give a number {wanted}.")
