"""What things cost beside their peers: each bench a module with one function that measures and gives its result."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from shmreclaim import __version__
from shmreclaim.experiments.compare import describe_machine


def about(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Give what every result says of itself, as keywords of `BenchResult`; to be asked for before measuring."""
    return {
        "version": __version__,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "parameters": dict(parameters),
        "machine": describe_machine(),
    }
