"""The report of `bench ids`: operations by ids in use, a table for each operation."""

from shmreclaim.bench_result import IdsResult
from shmreclaim.report import units
from shmreclaim.report.rows import Rows, View, figure, not_installed, opening, sampled

OPERATIONS = ("find", "alloc", "remove")
HEADLINE = ("idr", "alloc", 100_000)


def view(result: IdsResult) -> View:
    """Make it ready to be shown."""
    kind, operation, live = HEADLINE
    return View(
        opening=(opening(result), sampled(result.processes)),
        tables=[_table(result, operation) for operation in OPERATIONS],
        closing=[*(f"{name}: {what}" for name, what in result.kinds.items()), *not_installed(result)],
        figures=_figures(result),
        headline=result.ids[kind][operation][live].ns,
    )


def _table(result: IdsResult, operation: str) -> Rows:
    sizes = list(result.ids[HEADLINE[0]][operation])
    body = [
        (name, *(figure(costs[operation][live].ns, costs[operation][live].ns_ci) for live in sizes))
        for name, costs in result.ids.items()
    ]
    return Rows(f"{operation}, ns, by ids in use", ("kind", *map(units.count, sizes)), body)


def _figures(result: IdsResult) -> Rows:
    body = [
        (name, operation, live, cost.ns, *cost.ns_ci)
        for name, operations in result.ids.items()
        for operation, costs in operations.items()
        for live, cost in costs.items()
    ]
    return Rows("", ("kind", "operation", "live", "ns", "ns_low", "ns_high"), body)
