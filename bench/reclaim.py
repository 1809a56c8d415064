"""What reclaim costs: a pass over a memcg's shrinkers, setting a bit, freeing an object, reclaiming a cluster of pages.

    python bench/reclaim.py [--json] [--quick]

One CPU, no contention, on a kernel booted in this process, in compiled loops; designs and sizes take turns. Times are
medians with their median absolute deviation (MAD). A pass is one call of shrink_slab for one memcg, at priority 12 over
lists of one object each: every shrinker is asked for its count and nothing is freed. What is compared is the walk, so
every design computes as 4.16 here: 4.19 would scan so small a list whole.

Read the first two tables against the claim they test: a pass is linear in the bits that are set for the memcg and flat
in the registered shrinkers; without a map (no_map) it is the other way round. "Flat" is said of a cost that grows by
less than half over the whole range, "linear" of any other whose every point is within a third of its own value of the
line time = fixed + slope * size. Set bits are spread over all ids, the worst case for a map. What still grows in a
flat column is the map itself, a word for 64 ids, and memory: more superblocks than fit into a cache cost its misses.

The third table is what an object costs that reclaim frees (a pass at priority 0 less one at priority 12 over the same
lists, by the objects), and setting a bit through the design's upcall (no_map: the upcall alone). The last is direct
reclaim of a cluster (32 pages of page cache, found at the first priority) from the memcg that holds it, and from the
root over root and two memcgs, whose passes over shrinkers come with it. From the root davydov and all later designs
are linear as well: the root's pass walks the list of all shrinkers, as kernels since 4.19 do.
"""

import json
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from measure import arguments, machine_line, prepare, say

from shmreclaim import kernel
from shmreclaim.designs import NAMES
from shmreclaim.executions.collect import event
from shmreclaim.experiments.bench.emulated import Emulated
from shmreclaim.experiments.bench.turns import Figure, fit, settled, take_turns
from shmreclaim.kernel import OP
from shmreclaim.machine.atomics import clock_ns, write_once
from shmreclaim.machine.compile import compiled
from shmreclaim.machine.cpu import CPU
from shmreclaim.machine.layout import HEADER
from shmreclaim.machine.process import cores
from shmreclaim.machine.upcall import upcall
from shmreclaim.mm.shrinker import Arithmetic
from shmreclaim.mm.state import DEF_PRIORITY, GFP_KERNEL, LINES_PER_PAGE, MM, SWAP_CLUSTER_MAX, Event, Upcall
from shmreclaim.mm.vmscan import memalloc_save, shrink_slab, try_to_free_pages

SET_BITS = (1, 8, 64, 512)
REGISTERED = (16, 128, 1024)
MOST = REGISTERED[-1]
FEW_BITS = 8
FREED_LISTS, FREED_ON_EACH = 64, 64
SAMPLE_NS = 3_000_000.0
REPEATS, QUICK_REPEATS = 25, 3

BITS_MEMCGS = {bits: handle for handle, bits in enumerate(SET_BITS, start=1)}
"""Handle of the memcg that has so many bits set."""
SETTING_MEMCG, FREEING_MEMCG = len(SET_BITS) + 1, len(SET_BITS) + 2
FEW_BITS_MEMCG, CACHE_MEMCG = 1, 2

Samples = dict[tuple[str, str, int], Callable[[], float]]
"""Subjects by what is measured, design and size."""


@compiled
def add_objects(mem: Any, cpu: int, op: int, mounts: int, lists: int) -> int:
    """Play the operation at `op`, an lru_add, on `lists` superblocks spread over `mounts`; 0, or what went wrong.

    Not at a constant distance: it would be a power of two, and all of them in the same few sets of a cache.
    """
    outcome = 0
    for k in range(lists):
        write_once(mem, op + OP.shrinker, k * mounts // lists + k * 5 % (mounts // lists))
        if outcome == 0:
            outcome = kernel.op_lru_add(mem, cpu, op)
    return outcome


@compiled
def pass_loop(mem: Any, cpu: int, memcg: int, count: int) -> int:
    """Run passes that free nothing; ns for all, -1 if one freed something."""
    flags = memalloc_save(mem, cpu)
    freed = 0
    begin = clock_ns()
    for _ in range(count):
        freed += shrink_slab(mem, cpu, memcg, 0, GFP_KERNEL, DEF_PRIORITY)
    took = clock_ns() - begin
    write_once(mem, cpu + CPU.flags, flags)
    return took if freed == 0 else -1


@compiled
def free_pass(mem: Any, cpu: int, memcg: int) -> int:
    """Free all objects of a memcg in one pass; ns beyond those of a pass that frees nothing.

    Below 0 if it is the latter that was disturbed.
    """
    flags = memalloc_save(mem, cpu)
    begin = clock_ns()
    shrink_slab(mem, cpu, memcg, 0, GFP_KERNEL, DEF_PRIORITY)
    middle = clock_ns()
    shrink_slab(mem, cpu, memcg, 0, GFP_KERNEL, 0)
    took = clock_ns() - middle - (middle - begin)
    write_once(mem, cpu + CPU.flags, flags)
    return took


@compiled
def set_bit_loop(mem: Any, cpu: int, memcg: int, mounts: int, count: int) -> int:
    """Set one bit after the other; ns for all."""
    number = 0
    begin = clock_ns()
    for _ in range(count):
        upcall(Upcall.SET_SHRINKER_BIT, mem, cpu, memcg, 0, number, 0)
        number = number + 1 if number + 1 < mounts else 0
    return clock_ns() - begin


@compiled
def cluster_loop(mem: Any, cpu: int, handle: int, top: int, count: int) -> int:
    """Cache a cluster of pages for a memcg and reclaim it below `top`; ns of all reclaims, -1 if one failed."""
    took = 0
    freed = 0
    for _ in range(count):
        kernel.op_cache_pages(mem, cpu, handle, 0, SWAP_CLUSTER_MAX, GFP_KERNEL)
        begin = clock_ns()
        freed += try_to_free_pages(mem, cpu, top, GFP_KERNEL)
        took += clock_ns() - begin
    return took if freed == count * SWAP_CLUSTER_MAX * LINES_PER_PAGE else -1


def put_objects(booted: Emulated, handle: int, mounts: int, lists: int, each: int) -> None:
    """Put `each` dentries of a memcg on `lists` superblocks of `mounts`."""
    booted.bind()
    memory = booted.arena.memory
    for field, value in ((OP.memcg, handle), (OP.nid, 0), (OP.count, each), (OP.arg, 0)):
        memory[booted.op + field] = value
    booted.must(add_objects(booted.mem, booted.cpu, booted.op, mounts, lists), "adding objects")


def timed(booted: Emulated, loop: Callable[..., int], *where: int) -> Callable[[], float]:
    """Make a subject of a compiled loop over a kernel; ns a turn."""

    def sample(count: int) -> float:
        booted.bind()
        took = loop(booted.mem, booted.cpu, *where, count)
        if took < 0:
            raise SystemExit(f"{booted.design}: {loop.__name__} did not free what it should")
        return float(took)

    return settled(sample, SAMPLE_NS)


def set_bits_samples(design: str, booted: Emulated) -> Samples:
    """Passes over more and more set bits, setting bits, and freeing, with all shrinkers registered."""
    samples: Samples = {}
    for bits, handle in BITS_MEMCGS.items():
        put_objects(booted, handle, MOST, bits, 1)
        samples["set bits", design, bits] = timed(booted, pass_loop, booted.memcg(handle))
    samples["set bit", design, MOST] = timed(booted, set_bit_loop, booted.memcg(SETTING_MEMCG), MOST)

    def free() -> float:
        objects = FREED_LISTS * FREED_ON_EACH
        put_objects(booted, FREEING_MEMCG, MOST, FREED_LISTS, FREED_ON_EACH)
        freed = event(booted.arena, [booted.cpu], Event.OBJECTS_FREED)
        took = free_pass(booted.mem, booted.cpu, booted.memcg(FREEING_MEMCG))
        if event(booted.arena, [booted.cpu], Event.OBJECTS_FREED) - freed != objects:
            raise SystemExit(f"{design}: a pass at priority 0 left objects behind")
        return took / objects

    samples["free", design, MOST] = free
    return samples


def registered_samples(design: str, booted: Emulated, mounts: int) -> Samples:
    """A pass over a few set bits, and direct reclaim, among so many registered shrinkers."""
    put_objects(booted, FEW_BITS_MEMCG, mounts, FEW_BITS, 1)
    return {
        ("registered", design, mounts): timed(booted, pass_loop, booted.memcg(FEW_BITS_MEMCG)),
        ("cluster, memcg", design, mounts): timed(booted, cluster_loop, CACHE_MEMCG, booted.memcg(CACHE_MEMCG)),
        ("cluster, root", design, mounts): timed(booted, cluster_loop, CACHE_MEMCG, booted.memcg(0)),
    }


def run(repeats: int) -> dict[str, Any]:
    """Boot a kernel for each design and size, let all take turns; figures in ns."""
    prepare()
    with ExitStack() as stack:
        kernels: list[Emulated] = []

        def boot(design: str, memcgs: int, mounts: int) -> Emulated:
            booted = stack.enter_context(Emulated(design, memcgs=memcgs, mounts=mounts))
            booted.arena.memory[booted.arena.memory[HEADER.kernel] + MM.arithmetic] = Arithmetic.V4_16
            kernels.append(booted)
            return booted

        samples: Samples = {}
        for design in NAMES:
            say(f"booting {len(REGISTERED) + 1} kernels of {design}")
            samples |= set_bits_samples(design, boot(design, FREEING_MEMCG, MOST))
            for mounts in REGISTERED:
                samples |= registered_samples(design, boot(design, CACHE_MEMCG, mounts), mounts)
        say(f"measuring {len(samples)} figures, {repeats} repeats")
        figures = take_turns(samples, repeats)
        for booted in kernels:
            booted.check()
    return summary(repeats, figures)


def summary(repeats: int, figures: dict[tuple[str, str, int], Figure]) -> dict[str, Any]:
    """Make of the figures what `--json` prints."""
    fits = {
        (what, design): fit({size: f.median for (w, d, size), f in figures.items() if (w, d) == (what, design)})
        for what in ("set bits", "registered", "cluster, memcg", "cluster, root")
        for design in NAMES
    }
    return {
        "cores": len(cores()),
        "machine": machine_line(),
        "repeats": repeats,
        "figures": [
            {"what": what, "design": design, "size": size, "ns": figure.median, "mad": figure.within}
            for (what, design, size), figure in figures.items()
        ],
        "fits": [{"what": what, "design": design, **line._asdict()} for (what, design), line in fits.items()],
    }


# --- tables ----------------------------------------------------------------------------------------


def show(result: dict[str, Any]) -> None:
    """Print the tables."""
    print(f"ns: median ± MAD of {result['repeats']} repeats; {result['machine']}, one used")
    show_growth(result, f"a pass, by set bits, {MOST} shrinkers registered", "set bits", "bit")
    show_growth(result, f"a pass, by registered shrinkers, {FEW_BITS} bits set", "registered", "shrinker")
    show_each(result)
    show_growth(result, "a cluster of page cache from its memcg, by registered shrinkers", "cluster, memcg", "shrinker")
    show_growth(result, "the same from the root", "cluster, root", "shrinker")


def show_growth(result: dict[str, Any], title: str, what: str, unit: str) -> None:
    """Print a table of costs by size, the line through them, and what that says."""
    rows = [figure for figure in result["figures"] if figure["what"] == what]
    sizes = sorted({figure["size"] for figure in rows})
    print(f"\n{title}")
    print(f"  {'':10}" + "".join(f"{size:>17,}" for size in sizes) + f"{'fixed':>9}  {'ns a ' + unit:>13}")
    for line in (line for line in result["fits"] if line["what"] == what):
        of_design = sorted((f for f in rows if f["design"] == line["design"]), key=lambda figure: figure["size"])
        cells = "".join(f"{figure['ns']:10,.0f} ± {figure['mad']:4,.0f}" for figure in of_design)
        growth = f"×{line['growth']:.3g} over ×{sizes[-1] // sizes[0]}"
        print(f"  {line['design']:10}{cells}{line['fixed']:9,.0f}  {line['each']:13.3f}  {line['verdict']}: {growth}")


def show_each(result: dict[str, Any]) -> None:
    """Print what freeing an object and setting a bit cost."""
    cells = {(figure["what"], figure["design"]): figure for figure in result["figures"]}
    print(f"\nby itself, {MOST} shrinkers registered")
    print(f"  {'':10}{'free an object':>20}{'set a bit':>17}")
    for design in NAMES:
        free, setting = cells["free", design], cells["set bit", design]
        print(f"  {design:10}{free['ns']:13.1f} ± {free['mad']:4.1f}{setting['ns']:10.1f} ± {setting['mad']:4.1f}")


def main() -> None:
    """Parse, measure, print."""
    options = arguments("Measure what reclaim costs by set bits and by registered shrinkers.").parse_args()
    result = run(QUICK_REPEATS if options.quick else REPEATS)
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        show(result)


if __name__ == "__main__":
    main()
