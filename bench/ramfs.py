"""Mounting and unmounting in a loop while others reclaim: what SRCU cost (-88.8 %), and what references give back.

    python bench/ramfs.py [--json] [--quick] [--workers NUM] [--work-us NUM]

The test that had SRCU reverted, in shape: stress-ng's `ramfs` workers each mount and unmount a file system without
end (KERNEL.md 12, E13 and E14). `--workers` CPUs do here; between mount and unmount each sleeps --work-us, which
stands for the rest of what a mount costs, without costing a core, so that 2 cores carry them all. One more CPU runs
reclaim passes over memcgs with objects, without end.

A worker's cycle lasts c + g: c under rwsem, g what waiting for a grace period adds. E14 measured 0.697 ms with rwsem
and 3.20 ms with SRCU, 9 workers; the default --work-us makes c the same. Designs take turns; medians, ± what their
95 % confidence intervals reach. "ops/s" counts pairs of mount and unmount of all workers; "against" is v5_13, the
rwsem that SRCU replaced. "CPU" is the time that all workers ran while they played, in % of one core, from /proc: SRCU
waits more than it works. "passes skipped" are those whose trylock failed. srcu_gp_us=0 is SRCU with every grace period
expedited.
"""

import json
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from measure import arguments, machine_line, prepare, say

from shmreclaim.executions import native
from shmreclaim.experiments.bench.turns import Figure, turns
from shmreclaim.machine.cpu import MAX_CPUS
from shmreclaim.machine.process import cores
from shmreclaim.result import WorkerSpan
from shmreclaim.workload.ops import Memory, Op, Workload, make_stream

SUBJECTS = ("v4_19", "v5_13", "v6_4_srcu", "v6_4_srcu+srcu_gp_us=500", "v6_4_srcu+srcu_gp_us=0", "v6_7")
BASE = "v5_13"
WORKERS = 9
WORK_US = 600
REPEATS, QUICK_REPEATS = 7, 1
RUN_S = 1.0
MEMCGS, SUPERBLOCKS, OBJECTS = 16, 32, 8
CYCLES = 20_000
PASSES = 4_000_000
FIGURES = ("ops/s", "cycle", "unregister", "passes/s", "passes skipped", "CPU")
PUBLISHED = {
    "E13, ramfs, 96 threads": {"v5_13": 23_479.0, "v6_4_srcu": 2_619.0},
    "E14, ramfs, 9 workers": {"v5_13": 12_915.89, "v6_4_srcu": 2_811.08, "v6_4_srcu+srcu_gp_us=0": 11_834.18},
    "E16, refcount v2": {"v5_13": 12_253.05, "v6_7": 12_443.70},
}
"""ops/s that kernel developers measured (KERNEL.md 12); each row is one machine."""


def storm(workers: int, work_ns: int) -> Workload:
    """Make the workload: memcgs with objects, `workers` CPUs that mount and unmount, one that reclaims."""
    setup = [(0, Op.MEMCG_ONLINE, 1 + k, 0, 0, 0, 0) for k in range(MEMCGS)]
    setup += [(0, Op.REGISTER, 0, k, 0, 0, 1) for k in range(SUPERBLOCKS)]
    setup += [(0, Op.LRU_ADD, 1 + k, sb, 0, OBJECTS, 0) for k in range(MEMCGS) for sb in range(SUPERBLOCKS)]
    streams = []
    for k in range(workers):
        mine = SUPERBLOCKS + k
        cycle = [(0, Op.REGISTER, 0, mine, 0, 0, 1), (0, Op.IDLE, 0, 0, 0, work_ns, 0)]
        streams.append(make_stream([*cycle, (0, Op.UNREGISTER, 0, mine, 0, 0, 0)] * CYCLES))
    passes = [(0, Op.SHRINK_SLAB, 1 + k % MEMCGS, 0, 0, 0, 12) for k in range(PASSES // 100)]
    streams.append(make_stream(passes * 100))
    return Workload(
        kind="scenario",
        name="ramfs",
        seed=1,
        nodes=1,
        memory=Memory(pages_per_node=32768, watermark_min=64, watermark_low=80, watermark_high=96),
        n_memcgs=1 + MEMCGS,
        n_shrinkers=SUPERBLOCKS + workers,
        setup=make_stream(setup),
        streams=tuple(streams),
    )


class CpuTime:
    """Watches for how long processes have run, in ns, while they are there.

    schedstat is of the main thread, the only one that a worker has; stat counts ticks, of 10 ms mostly.
    """

    def __init__(self) -> None:
        """Nothing was seen yet."""
        self.seen: dict[int, list[tuple[int, int]]] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "CpuTime":
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """End."""
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            for schedstat in Path("/proc").glob("[0-9]*/schedstat"):
                with suppress(OSError):
                    ran = int(schedstat.read_text().split()[0])
                    self.seen.setdefault(int(schedstat.parent.name), []).append((time.monotonic_ns(), ran))

    def share(self, worker: WorkerSpan) -> float:
        """Which part of its time a worker ran, from the first look at it after its start to the last before its end."""
        looks = [look for look in self.seen.get(worker.pid, []) if worker.started_ns <= look[0] <= worker.ended_ns]
        if len(looks) < 2:
            raise SystemExit(f"/proc/{worker.pid}/schedstat was seen {len(looks)} times: the kernel may not have it")
        (since, before), (until, after) = looks[0], looks[-1]
        return (after - before) / (until - since)


def run_once(design: str, work: Workload) -> dict[str, float]:
    """Play it for RUN_S; what it showed, by FIGURES."""
    with CpuTime() as cpu_time:
        record = native.run(work, design, native.RunSettings(seconds=RUN_S), lambda *_: None)
    if record.invariants.violations:
        raise SystemExit(f"{design}: invariants broken: " + "; ".join(record.invariants.violations))
    workers = record.workers[:-1]
    rate = record.ops["unregister"].count / record.wall_s
    figures = (
        rate,
        len(workers) / rate * 1e6,
        (record.ops["unregister"].latency.percentile(50) or 0) / 1e3,
        record.reclaim.passes / record.wall_s,
        100 * record.reclaim.trylock_failed / record.reclaim.passes,
        100 * sum(map(cpu_time.share, workers)),
    )
    return dict(zip(FIGURES, map(float, figures), strict=True))


def measure(work: Workload, repeats: int) -> dict[str, dict[str, Figure]]:
    """Let the designs take turns."""
    samples: dict[str, dict[str, list[float]]] = {design: {what: [] for what in FIGURES} for design in SUBJECTS}
    for design, counts in turns(SUBJECTS, repeats):
        for what, value in run_once(design, work).items():
            if counts:
                samples[design][what].append(value)
    return {design: {what: Figure.of(values) for what, values in each.items()} for design, each in samples.items()}


def show(result: dict[str, Any]) -> None:
    """Print the table, and the published one beside."""
    print(f"median ± its 95 % interval, of {result['repeats']} runs of {RUN_S:g} s; {result['machine']}")
    print(f"{result['workers']} workers mount and unmount, {result['work_us']} µs of other work each; one CPU reclaims")
    print(f"  {'':26}{'ops/s':>17}{'against':>9}{'cycle µs':>11}{'unregister p50 µs':>19}", end="")
    print(f"{'passes/s':>12}{'skipped':>10}{'CPU':>8}")
    base = result["designs"][BASE]["ops/s"]["median"]
    for design, row in result["designs"].items():
        rate = row["ops/s"]
        print(f"  {design:26}{rate['median']:9,.0f} ± {rate['within']:5,.0f}{rate['median'] / base - 1:+9.1%}", end="")
        print(f"{row['cycle']['median']:11,.0f}{row['unregister']['median']:19,.1f}", end="")
        print(f"{row['passes/s']['median']:12,.0f}{row['passes skipped']['median']:9.2f}%{row['CPU']['median']:7.0f}%")
    print("published, ops/s of kernels:")
    for name, row in PUBLISHED.items():
        told = ", ".join(f"{design} {rate:,.0f} ({rate / row[BASE] - 1:+.1%})" for design, rate in row.items())
        print(f"  {name}: {told}")


def main() -> None:
    """Parse, measure, print."""
    parser = arguments("Measure mounting and unmounting while others reclaim: rwsem, SRCU, references.")
    parser.add_argument("--workers", type=int, default=WORKERS, metavar="NUM", help=f"default: {WORKERS}")
    parser.add_argument("--work-us", type=int, default=WORK_US, metavar="NUM", help=f"default: {WORK_US}")
    options = parser.parse_args()
    if not 1 <= options.workers <= MAX_CPUS - 2 or options.work_us < 0:
        parser.error(f"--workers 1 to {MAX_CPUS - 2} and --work-us 0 or more are possible")
    repeats = QUICK_REPEATS if options.quick else REPEATS
    prepare()
    say(f"measuring {len(SUBJECTS)} subjects, {repeats} repeats")
    designs = measure(storm(options.workers, options.work_us * 1000), repeats)
    result = {
        "cores": len(cores()),
        "machine": machine_line(),
        "repeats": repeats,
        "workers": options.workers,
        "work_us": options.work_us,
        "designs": {name: {what: f.plain() for what, f in row.items()} for name, row in designs.items()},
        "published": PUBLISHED,
    }
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        show(result)


if __name__ == "__main__":
    main()
