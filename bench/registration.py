"""What registering a shrinker costs: without growth of the maps, with it, and while other CPUs reclaim.

    python bench/registration.py [--json] [--quick] [--cpus NUM]

Figures are medians, ± what their 95 % confidence intervals reach; designs and sizes take turns.

Without growth: one CPU, a kernel booted in this process, compiled loops. "register" is register_shrinker and
unregister_shrinker of a superblock that is there already; "mount" is the whole way around it, memory and list_lrus
included. Read it against the claim: flat in the shrinkers that live. "Flat" is said of a cost that grows by less than
half over the whole range, "linear" of any other whose every point is within a third of its own value of the line
time = fixed + slope * size.

With growth: the 65th mount of a fresh kernel, which grows every memcg's maps from 64 to 128 bits in every design that
has maps; no_map beside, which has nothing to grow. "growth" is the time of the growth itself; "write sections" how
often that registration took shrinker_rwsem for write, growth and all, and "held" how long it had it then, in sum;
davydov's is for the nodes that its IDR needs for id 64, none of it for growth. "old maps" is freeing what the growth
replaced, after its grace period and outside the registration. tkhai_v1 takes a section for each memcg, the root
included, one for its array and one to publish the shrinker; davydov, v4_19 and v5_13 one for the id and one to
publish, the others none.

Contended: worker processes play CPUs through executions.native, closed loop, for a set time. `starvation`: one CPU in
eight (at least one) mounts and unmounts, the others run reclaim passes without end. `mailing-list`: half of the CPUs
mount and unmount while memory is full, the others keep it so and reclaim. Percentiles are of one run each, the median
is over runs. "lock waits" is how often the lock of registration, shrinker_rwsem or
shrinker_mutex, was waited for, as a part of the times it was taken;
"passes skipped" is reclaim that found a writer there, at work or asleep in the queue. So a writer that is not woken at
once, because something else has its core, makes the readers skip nearly all: these figures, and p99.9, need a quiet
machine. With more CPUs than cores they are the scheduler's.
"""

import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np
from measure import arguments, machine_line, prepare, say

from shmreclaim import kernel
from shmreclaim.designs import NAMES
from shmreclaim.executions import native
from shmreclaim.experiments.bench.emulated import Emulated
from shmreclaim.experiments.bench.turns import Figure, fit, settled, take_turns, turns
from shmreclaim.machine.atomics import clock_ns, read_once
from shmreclaim.machine.compile import compiled
from shmreclaim.machine.cpu import CPU, LOCKSTAT_WORDS, MAX_CPUS
from shmreclaim.machine.histogram import HISTOGRAM
from shmreclaim.machine.process import cores
from shmreclaim.machine.upcall import upcall
from shmreclaim.mm.state import GROWTH_HISTOGRAM, MM, Upcall, mm_state
from shmreclaim.sync.lockdep import LOCKSTAT, WRITE, LockClass
from shmreclaim.workload.ops import Op, Stream, Workload, make_stream
from shmreclaim.workload.scenario import load_scenario

LIVE = (10, 1000, 4000)
MEMCGS = (10, 100, 1000)
BEFORE_GROWTH = 64
"""Shrinkers that live when the next one makes both designs grow their maps by a word."""
SAMPLE_NS = 3_000_000.0
REPEATS, QUICK_REPEATS = 25, 3
RUNS, QUICK_RUNS = 11, 2
RUN_S, QUICK_RUN_S = 0.2, 0.1
SEED = 1

CONTENDED: dict[str, dict[str, object]] = {"starvation": {"objects": 1}, "mailing-list": {}}
"""Presets, and what is changed in them. One object on each list of the first: its passes free nothing, so that lists
keep their length and every pass does the same."""
OPS_OF_A_CPU = 2_000_000
"""More than a CPU plays in RUN_S, so that both sides are at work to its end."""

GROWING = NAMES[1:]
"""The designs that have maps."""
GROWTH_FIGURES = ("growth", "registration", "write sections", "held", "old maps")
RUN_FIGURES = ("p50", "p99", "p99.9", "register/s", "failed", "lock waits", "passes/s", "passes skipped")


# --- without growth --------------------------------------------------------------------------------


@compiled
def register_loop(mem: Any, cpu: int, handle: int, count: int) -> int:
    """Unregister a superblock's shrinker and register it again; ns for all, -1 if that failed."""
    sb = read_once(mem, read_once(mem, mm_state(mem) + MM.shrinker_table) + handle)
    failed = 0
    begin = clock_ns()
    for _ in range(count):
        upcall(Upcall.UNREGISTER_SHRINKER, mem, cpu, sb, 0, 0, 0)
        failed += upcall(Upcall.REGISTER_SHRINKER, mem, cpu, sb, 0, 0, 0)
        kernel.quiescent(mem, cpu)
    return clock_ns() - begin if failed == 0 else -1


@compiled
def mount_loop(mem: Any, cpu: int, handle: int, count: int) -> int:
    """Unmount a superblock and mount it again; ns for all, -1 if that failed."""
    failed = 0
    begin = clock_ns()
    for _ in range(count):
        failed += kernel.op_unregister(mem, cpu, handle)
        failed += kernel.op_register(mem, cpu, handle, 1, 0)
        kernel.quiescent(mem, cpu)
    return clock_ns() - begin if failed == 0 else -1


def pairs(booted: Emulated, loop: Callable[..., int], handle: int) -> Callable[[], float]:
    """Make a subject of one of these loops over a kernel; ns a pair."""

    def sample(count: int) -> float:
        booted.bind()
        took = loop(booted.mem, booted.cpu, handle, count)
        if took < 0:
            raise SystemExit(f"{booted.design}: {loop.__name__} failed to register")
        return float(took)

    return settled(sample, SAMPLE_NS)


def without_growth(repeats: int) -> dict[str, Any]:
    """Measure pairs of registering and unregistering among more and more live shrinkers."""
    with ExitStack() as stack:
        samples: dict[tuple[str, str, int], Callable[[], float]] = {}
        kernels = []
        for design in NAMES:
            say(f"booting {len(LIVE)} kernels of {design}")
            for live in LIVE:
                booted = stack.enter_context(Emulated(design, memcgs=1, mounts=live))
                kernels.append(booted)
                samples["register", design, live] = pairs(booted, register_loop, live - 1)
                samples["mount", design, live] = pairs(booted, mount_loop, live - 1)
        say(f"measuring {len(samples)} figures, {repeats} repeats")
        figures = take_turns(samples, repeats)
        for booted in kernels:
            booted.check()
    return by_size(figures, ("register", "mount"), NAMES)


def by_size(
    figures: Mapping[tuple[str, str, int], Figure], fitted: tuple[str, ...], designs: tuple[str, ...]
) -> dict[str, Any]:
    """Figures by what, design and size as plain data, with the lines through some of them."""
    lines = {
        (what, design): fit({size: f.median for (w, d, size), f in figures.items() if (w, d) == (what, design)})
        for what in fitted
        for design in designs
    }
    return {
        "figures": [
            {"what": what, "design": design, "size": size, **figure.plain()}
            for (what, design, size), figure in figures.items()
        ],
        "fits": [{"what": what, "design": design, **line._asdict()} for (what, design), line in lines.items()],
    }


# --- with growth -----------------------------------------------------------------------------------


@compiled
def mount_one(mem: Any, cpu: int, handle: int) -> int:
    """Mount a superblock; ns, -1 if that failed."""
    begin = clock_ns()
    outcome = kernel.op_register(mem, cpu, handle, 1, 0)
    return clock_ns() - begin if outcome == 0 else -1


@compiled
def free_replaced(mem: Any, cpu: int) -> int:
    """Free the maps that a growth replaced; ns."""
    begin = clock_ns()
    kernel.quiescent(mem, cpu)
    return clock_ns() - begin


def grow_once(design: str, memcgs: int, check: bool) -> dict[str, float]:
    """Boot a kernel, fill its maps, and mount once more; what that took, by GROWTH_FIGURES."""
    with Emulated(design, memcgs=memcgs, mounts=BEFORE_GROWTH, spare_mounts=1) as booted:
        memory, cpu = booted.arena.memory, booted.cpu
        growth = cpu + CPU.histograms + GROWTH_HISTOGRAM * HISTOGRAM.SIZE + HISTOGRAM.total
        rwsem = cpu + CPU.lockstats + (LockClass.SHRINKER_RWSEM * 2 + WRITE) * LOCKSTAT_WORDS
        taken, held = rwsem + LOCKSTAT.acquisitions, rwsem + LOCKSTAT.holdtime_total
        before = {at: memory[at] for at in (growth, taken, held)}
        took = mount_one(booted.mem, cpu, BEFORE_GROWTH)
        grown, sections, time = (memory[at] - value for at, value in before.items())
        freeing = free_replaced(booted.mem, cpu)
        booted.must(min(took, 0), "mounting")
        if check:
            booted.check()
    figures = (grown, took, sections, time, freeing)
    return dict(zip(GROWTH_FIGURES, map(float, figures), strict=True))


def with_growth(repeats: int) -> dict[str, Any]:
    """Measure one growth against the number of memcgs."""
    say(f"measuring growth of {MEMCGS[0]} to {MEMCGS[-1]} memcgs' maps, {repeats} repeats")
    samples: dict[tuple[str, str, int], list[float]] = {}
    for (design, memcgs), counts in turns([(design, memcgs) for design in NAMES for memcgs in MEMCGS], repeats):
        for what, value in grow_once(design, memcgs, check=not counts).items():
            if counts:
                samples.setdefault((what, design, memcgs), []).append(value)
    figures = {key: Figure.of(values) for key, values in samples.items()}
    return by_size(figures, ("growth",), GROWING)


# --- contended -------------------------------------------------------------------------------------


def contended(cpus: int, runs: int, seconds: float) -> list[dict[str, Any]]:
    """Measure registration while other CPUs reclaim, in worker processes."""
    found = []
    for name, parameters in CONTENDED.items():
        say(f"measuring {name}, {cpus} CPUs: {runs} runs of {seconds:g} s of each design")
        workload = load_scenario(name, cpus=cpus, nodes=1, seed=SEED, parameters=parameters)
        workload = replace(workload, streams=tuple(endless(stream) for stream in workload.streams))
        samples: dict[tuple[str, str], list[float]] = {}
        for design, _ in turns(NAMES, runs, warm_up=0):
            for what, value in run_once(workload, design, seconds).items():
                samples.setdefault((what, design), []).append(value)
        found += [
            {"scenario": name, "what": what, "design": design, **Figure.of(values).plain()}
            for (what, design), values in samples.items()
        ]
    return found


def endless(stream: Stream) -> Stream:
    """Make a stream long enough: over and over again, each time unmounting at its end what is mounted then."""
    mounted, unmounted = (stream["shrinker"][stream["op"] == op] for op in (Op.REGISTER, Op.UNREGISTER))
    left = np.setdiff1d(mounted, unmounted)
    once = np.concatenate([stream, make_stream([(0, Op.UNREGISTER, 0, sb, 0, 0, 0) for sb in left.tolist()])])
    return np.tile(once, -(-OPS_OF_A_CPU // len(once)))


def run_once(workload: Workload, design: str, seconds: float) -> dict[str, float]:
    """Play a workload for a time; what a run showed, by RUN_FIGURES."""
    record = native.run(workload, design, native.RunSettings(seconds=seconds), lambda *_: None)
    if record.invariants.violations:
        raise SystemExit(f"{design}: invariants broken: " + "; ".join(record.invariants.violations))
    if any(worker.ops == len(stream) for worker, stream in zip(record.workers, workload.streams, strict=True)):
        raise SystemExit(f"{design}: a CPU had nothing left to do before {seconds:g} s were over")
    registered = record.ops["register"]
    lock = (record.locks.get("shrinker_rwsem") or record.locks["shrinker_mutex"])["write"]
    percentiles = (registered.latency.percentile(p) or 0 for p in (50, 99, 99.9))
    failed = sum(registered.failed.values())
    figures = (
        *percentiles,
        registered.count / record.wall_s,
        100 * failed / (registered.count + failed),
        100 * lock.contentions / lock.acquisitions,
        record.reclaim.passes / record.wall_s,
        100 * record.reclaim.trylock_failed / max(record.reclaim.passes, 1),  # none where the CPU got no core
    )
    return dict(zip(RUN_FIGURES, map(float, figures), strict=True))


# --- tables ----------------------------------------------------------------------------------------


def show(result: dict[str, Any]) -> None:
    """Print the tables."""
    print(f"median ± its 95 % interval, of {result['repeats']} repeats; {result['machine']}")
    print("one CPU used where nothing else is said")
    show_pairs(result["without_growth"])
    show_growth(result["with_growth"])
    show_contended(result)


def show_pairs(part: dict[str, Any]) -> None:
    """Print what a pair costs, by live shrinkers."""
    for what, title in (("register", "unregister + register"), ("mount", "unmount + mount")):
        print(f"\n{title}, ns a pair, no growth, by live shrinkers")
        print(f"  {'':11}" + "".join(f"{live:>17,}" for live in LIVE))
        cells = {(f["design"], f["size"]): f for f in part["figures"] if f["what"] == what}
        for line in (line for line in part["fits"] if line["what"] == what):
            row = [cells[line["design"], live] for live in LIVE]
            text = "".join(f"{figure['median']:10,.0f} ± {figure['within']:4,.0f}" for figure in row)
            print(f"  {line['design']:11}{text}  {line['verdict']}: ×{line['growth']:.3g} over ×{LIVE[-1] // LIVE[0]}")


def show_growth(part: dict[str, Any]) -> None:
    """Print what a growth costs, by memcgs."""
    cells = {(f["what"], f["design"], f["size"]): f for f in part["figures"]}
    print(f"\na mount that grows maps from {BEFORE_GROWTH} bits to {2 * BEFORE_GROWTH}, µs, by memcgs")
    print(f"  {'':11}{'memcgs':>8}{'growth':>18}{'mount':>18}{'write sections':>16}{'held':>16}{'old maps':>16}")
    for design in NAMES:
        for memcgs in MEMCGS:
            growth, mount, held, freeing = (
                us(cells[what, design, memcgs]) for what in ("growth", "registration", "held", "old maps")
            )
            sections = cells["write sections", design, memcgs]["median"]
            growth, freeing = (growth, freeing) if design in GROWING else ("-", "-")
            print(f"  {design:11}{memcgs:>8,}{growth:>18}{mount:>18}{sections:>16,.0f}{held:>16}{freeing:>16}")
    for line in part["fits"]:
        slope = f"{line['fixed']:,.0f} ns + {line['each']:.1f} ns a memcg"
        print(f"  growth, {line['design']}: {slope}, {line['verdict']}, worst point {line['off']:.0%} off")


def us(figure: Mapping[str, float]) -> str:
    """A time in µs with its spread."""
    return f"{figure['median'] / 1000:,.2f} ± {figure['within'] / 1000:.2f}"


def show_contended(result: dict[str, Any]) -> None:
    """Print registration among CPUs that reclaim."""
    cpus, runs, seconds = result["cpus"], result["runs"], result["run_s"]
    for name in CONTENDED:
        print(f"\n{name}: registration while others reclaim, {cpus} CPUs, {runs} runs of {seconds:g} s")
        print(f"  {'':11}{'p50 µs':>14}{'p99 µs':>15}{'p99.9 µs':>19}{'register/s':>12}{'failed':>9}", end="")
        print(f"{'lock waits':>13}{'passes/s':>11}{'passes skipped':>16}")
        for design in NAMES:
            row = {f["what"]: f for f in result["contended"] if (f["scenario"], f["design"]) == (name, design)}
            print(f"  {design:11}{us(row['p50']):>14}{us(row['p99']):>15}{us(row['p99.9']):>19}", end="")
            print(f"{row['register/s']['median']:12,.0f}{row['failed']['median']:8.2f}%", end="")
            print(f"{row['lock waits']['median']:12.2f}%{row['passes/s']['median']:11,.0f}", end="")
            print(f"{row['passes skipped']['median']:15.2f}%")


def main() -> None:
    """Parse, measure, print."""
    parser = arguments("Measure what registering a shrinker costs: without growth, with it, and contended.")
    default = max(2, len(cores()))
    parser.add_argument(
        "--cpus", type=int, default=default, metavar="NUM", help=f"CPUs of the contended runs (default: {default})"
    )
    options = parser.parse_args()
    if not 2 <= options.cpus <= MAX_CPUS - 1:
        parser.error(f"--cpus {options.cpus}: contention takes 2 CPUs at least, and {MAX_CPUS - 1} are possible")
    repeats, runs, seconds = (QUICK_REPEATS, QUICK_RUNS, QUICK_RUN_S) if options.quick else (REPEATS, RUNS, RUN_S)
    prepare()
    result = {
        "cores": len(cores()),
        "machine": machine_line(),
        "repeats": repeats,
        "without_growth": without_growth(repeats),
        "with_growth": with_growth(repeats),
        "cpus": options.cpus,
        "runs": runs,
        "run_s": seconds,
        "contended": contended(options.cpus, runs, seconds),
    }
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        show(result)


if __name__ == "__main__":
    main()
