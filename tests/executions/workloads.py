"""Workloads for runs in tests: what the package ships, and small ones made by hand."""

from collections.abc import Sequence

from shmreclaim import workload
from shmreclaim.executions import native
from shmreclaim.result import RunRecord
from shmreclaim.workload import Memory, Op, Workload, make_stream

TRACE = "trace"
SHIPPED = (TRACE, *workload.preset_names())
Row = tuple[int, ...]


def load(name: str, cpus: int, nodes: int = 1) -> Workload:
    """Load the shipped trace or a preset."""
    if name == TRACE:
        return workload.load_trace(None, cpus=cpus, nodes=nodes, seed=1)
    return workload.load_scenario(name, cpus=cpus, nodes=nodes, seed=1)


def by_hand(*streams: Sequence[Row], setup: Sequence[Row] = ()) -> Workload:
    """Make a workload of rows `(when, op, memcg, shrinker, nid, count, arg)`: one CPU a stream, a small machine."""
    return Workload(
        kind="scenario",
        name="by hand",
        seed=1,
        nodes=1,
        memory=Memory(pages_per_node=1024, watermark_min=16, watermark_low=20, watermark_high=24),
        n_memcgs=4,
        n_shrinkers=64,
        setup=make_stream(list(setup)),
        streams=tuple(make_stream(list(rows)) for rows in streams),
    )


def idle(ns: int, when: int = 0) -> Row:
    """Sleep for a while."""
    return (when, Op.IDLE, 0, 0, 0, ns, 0)


def register(handle: int, when: int = 0) -> Row:
    """Mount a superblock that knows memcgs."""
    return (when, Op.REGISTER, 0, handle, 0, 0, 1)


def play(workload: Workload, design: str = "davydov", settings: native.RunSettings | None = None) -> RunRecord:
    """Run it and tell nobody how far it is."""
    return native.run(workload, design, settings or native.RunSettings(), lambda *_: None)
