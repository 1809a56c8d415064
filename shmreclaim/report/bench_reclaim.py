"""The report of `bench reclaim`: a table for each axis, with the line through its figures and what that says."""

from collections.abc import Iterator

from shmreclaim.bench_result import Axis, ReclaimResult
from shmreclaim.report import units
from shmreclaim.report.rows import Rows, View, figure, opening, sampled

HEADLINE = ("set bits", "v6_7", 64)

CLOSING = (
    "flat: grows by less than half; linear: no point is further from fixed + slope × size than a third of itself",
    "From the root every design since davydov walks the list of all shrinkers, as kernels since 4.19 do.",
)


def view(result: ReclaimResult) -> View:
    """Make it ready to be shown."""
    axis, design, size = HEADLINE
    return View(
        opening=(opening(result), sampled(result.processes), "ns; one CPU, no contention; passes free nothing"),
        tables=[*map(_axis, result.axes.values()), _each(result)],
        closing=CLOSING,
        figures=_figures(result),
        headline=result.axes[axis].designs[design].costs[size].ns,
    )


def _axis(axis: Axis) -> Rows:
    sizes = list(next(iter(axis.designs.values())).costs)
    body = [
        (
            name,
            *(figure(cost.ns, cost.ns_ci) for cost in growth.costs.values()),
            f"{growth.fixed_ns:,.0f}",
            f"{growth.each_ns:.3g}",
            f"×{growth.growth:.3g}",
            growth.verdict,
        )
        for name, growth in axis.designs.items()
    ]
    head = ("design", *map(units.count, sizes), "fixed", f"a {axis.unit}", f"over ×{sizes[-1] // sizes[0]}", "")
    return Rows(axis.title, head, body)


def _each(result: ReclaimResult) -> Rows:
    designs = next(iter(result.each.values()))
    body = [(name, *(figure(row[name].ns, row[name].ns_ci) for row in result.each.values())) for name in designs]
    return Rows("by itself", ("design", *result.each), body)


def _figures(result: ReclaimResult) -> Rows:
    return Rows("", ("what", "design", "size", "ns", "ns_low", "ns_high"), list(_lines(result)))


def _lines(result: ReclaimResult) -> Iterator[tuple[object, ...]]:
    for what, axis in result.axes.items():
        for design, growth in axis.designs.items():
            yield from ((what, design, size, cost.ns, *cost.ns_ci) for size, cost in growth.costs.items())
    for what, row in result.each.items():
        yield from ((what, design, None, cost.ns, *cost.ns_ci) for design, cost in row.items())
