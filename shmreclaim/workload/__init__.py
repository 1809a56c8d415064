"""Workloads: what each CPU does, decided before a run starts; from a recording of a kernel or from a scenario."""

from shmreclaim.workload.ftrace import load_trace
from shmreclaim.workload.ops import OP_DTYPE, Gfp, Memory, Op, Stream, Workload, make_stream
from shmreclaim.workload.rounds import repeatable, with_long_hold
from shmreclaim.workload.scenario import load_scenario, preset_names

__all__ = [
    "OP_DTYPE",
    "Gfp",
    "Memory",
    "Op",
    "Stream",
    "Workload",
    "load_scenario",
    "load_trace",
    "make_stream",
    "preset_names",
    "repeatable",
    "with_long_hold",
]
