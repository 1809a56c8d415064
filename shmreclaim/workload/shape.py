"""The shape a workload is cut to: how many CPUs play it, over how many nodes, from which seed.

Both sources of workloads, traces and scenarios, take the same three numbers and refuse the same values.
"""

from dataclasses import dataclass

from shmreclaim.errors import UsageError

MAX_CPUS = 4096
MAX_NODES = 64
MAX_SEED = 2**63 - 1


@dataclass(frozen=True)
class Shape:
    """CPUs, nodes and seed, checked on the way in."""

    cpus: int
    nodes: int
    seed: int

    def __post_init__(self) -> None:
        """Refuse what no stream can be made for, before any work is done."""
        _in_range("--cpus", self.cpus, 1, MAX_CPUS)
        _in_range("--nodes", self.nodes, 1, MAX_NODES)
        _in_range("--seed", self.seed, 0, MAX_SEED)


def _in_range(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise UsageError(
            f"{name} {value!r} is not a whole number from {low} to {high}",
            remedy=f"Give {name} a value from {low} to {high}.",
        )
