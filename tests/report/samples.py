"""Results made by hand, for reports to print."""

from shmreclaim.experiments.combine import combine
from shmreclaim.result import (
    Histogram,
    Ids,
    Invariants,
    LockUse,
    Machine,
    Objects,
    OpRun,
    Range,
    Reclaim,
    Result,
    RunRecord,
    WorkerSpan,
    WorkloadSummary,
)


def make_run(wall_s: float = 0.5, calls: int = 24_000, violations: tuple[str, ...] = (), pid: int = 4000) -> RunRecord:
    """One run: 240 registrations of 12.3 µs, one of them of 1.2 ms; 300 passes, 3 of which found the lock taken."""
    register = Histogram.of([12_300] * 239 + [1_234_567])
    return RunRecord(
        wall_s=wall_s,
        ops={
            "register": OpRun(count=240, failed={"ENOMEM": 6}, latency=register),
            "memcg_online": OpRun(count=24, latency=Histogram.of([45_600] * 24)),
            "shrink_slab": OpRun(count=300, skipped=2, latency=Histogram.of([800] * 299 + [2_500_000])),
        },
        reclaim=Reclaim(
            passes=300, trylock_failed=3, bailed_out=1, shrinker_calls=calls, objects_freed=12_345, pages_freed=678
        ),
        growth=Histogram.of([333_000, 444_000]),
        locks={
            "shrinker_rwsem": {
                "read": LockUse(acquisitions=297, trylock_failed=3, holdtime_ns=Range(min=50, max=90_000, total=10**7)),
                "write": LockUse(
                    acquisitions=480,
                    contentions=17,
                    waittime_ns=Range(min=700, max=88_000, total=2_000_000),
                    holdtime_ns=Range(min=90, max=5_000, total=432_000),
                ),
            },
            "map_mutex": {"write": LockUse(acquisitions=26)},
        },
        jain={"register": 0.981, "shrink_slab": 0.9996},
        longest_wait_ns=88_000,
        objects=Objects(added=20_000, deleted=1_000, freed=12_345, remaining=6_655),
        ids=Ids(peak_live=96, max_id=95),
        invariants=Invariants(checked=123_456, violations=list(violations)),
        workers=[
            WorkerSpan(cpu=cpu, pid=pid + cpu, started_ns=1_000 + cpu, ended_ns=500_000_000 - cpu, ops=141)
            for cpu in range(4)
        ],
    )


LOST_BIT = "I2 broken: memcg 3 holds 7 objects of shrinker 5 but its bit is clear"


def make_result(violations: tuple[str, ...] = (), cores: int = 2) -> Result:
    """Two designs, three runs each; `no_map` calls 41.2 times as many shrinkers; `violations` are of `davydov`."""
    return Result(
        version="0.1.0",
        started="2026-01-02T03:04:05+00:00",
        parameters={
            "trace": None,
            "scenario": "churn",
            "designs": ["no_map", "davydov"],
            "cpus": 4,
            "seconds": None,
            "speed": None,
            "repeat": 3,
            "nodes": 1,
            "seed": 7,
            "timeout": 60.0,
        },
        machine=Machine(
            cores=cores,
            cpu="Example CPU",
            architecture="x86_64",
            kernel="6.18.0",
            python="3.11.7",
            libraries={"numba": "0.68.1"},
        ),
        workload=WorkloadSummary(
            kind="scenario",
            name="churn",
            cpus=4,
            seed=7,
            ops={"register": 246, "memcg_online": 24, "shrink_slab": 300},
            nodes=1,
            parameters={"share": 0.5},
            notes=["12 lines of the trace could not be used"],
        ),
        designs={
            "no_map": combine([make_run(wall_s, 988_800) for wall_s in (0.5, 0.52, 0.47)]),
            "davydov": combine([make_run(wall_s, 24_000, violations) for wall_s in (0.3, 0.31, 0.29)]),
        },
    )
