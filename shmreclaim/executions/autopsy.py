"""After a worker crashed: the same workload once more, interpreted, to find the line.

The streams are played by one process, an operation of each CPU in turn. What shows only where two operations overlap
does not show here; then it is said in which operation each CPU was.
"""

from __future__ import annotations

from collections.abc import Callable

from shmreclaim.errors import ModelViolation
from shmreclaim.executions.interpreted import ROW_WORDS, DesignError, Interpreted, Limits, TooLong, limited
from shmreclaim.mm.boot import Machine
from shmreclaim.plugins import Design
from shmreclaim.workload.ops import Op, Workload

LIMITS = Limits(uses=200_000_000, seconds=30.0)


def verdict(design: Design, crash: str, found: DesignError | None) -> ModelViolation:
    """Make the error of a design that crashed a worker; `crash` says which and what all CPUs were doing."""
    what = f"{design.path} used memory that is not there: {crash}"
    if found is None:
        return ModelViolation(
            what,
            cause="Interpreted, one operation at a time, the same workload does not show it, as far as "
            f"{LIMITS.seconds:g} s and the memory here go: most likely it takes operations that overlap. Usually "
            "memory was used after it was freed, or without the lock that protects it.",
            remedy=f"Look at what {design.path} does in the operations above.",
        )
    where = found.where or f"{design.path}: none of its functions was running, but what they left behind was used"
    return ModelViolation(
        what,
        cause=f"Interpreted, the same workload shows where:\n{where}: {found.why}",
        remedy=f"It happened during: {found.during}.",
    )


def repeat(
    design: Design, workload: Workload, machine: Machine, tell: Callable[[str], None]
) -> tuple[str, str, str] | None:
    """Play a workload interpreted; what went wrong, if anything did within the limits, those of memory included."""
    tell("repeating it, interpreted, to find the line")
    try:
        with limited(LIMITS):
            _play(Interpreted(design, machine, LIMITS), workload)
    except DesignError as fault:
        return None if fault.is_limit else (fault.where, fault.why, fault.during)
    except (OSError, MemoryError, TooLong):  # outside of the design, as where the memory of the machine is made
        return None
    return None


def _play(machine: Interpreted, workload: Workload) -> None:
    machine.play(0, machine.put(workload.setup), len(workload.setup))
    streams = [stream[stream["op"] != Op.IDLE] for stream in workload.streams]
    places = [machine.put(stream) for stream in streams]
    for k in range(max(map(len, streams))):
        for cpu, stream in enumerate(streams):
            if k < len(stream):
                machine.play(cpu, places[cpu] + k * ROW_WORDS, 1)
