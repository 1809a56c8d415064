"""What reclaim costs: a pass by set bits, by registered shrinkers and by memcgs; a cluster of pages; each by itself.

One CPU, no contention, on kernels booted in this process, in compiled loops; designs and sizes take turns. A pass is
one call of shrink_slab for one memcg, at priority 12 over lists of one object each: every shrinker is asked for its
count and nothing is freed. What is compared is the walk, so every design computes as 4.16 here: 4.19 would scan so
small a list whole. Set bits are spread over all ids, the worst case for a map.

The claim under test: a pass is linear in the bits that are set for the memcg, and flat in the registered shrinkers and
in the other memcgs; without a map it is linear in the shrinkers, whatever is set. What still grows in a flat row is the
map itself, a word for 64 ids, and memory: more superblocks than fit into a cache cost its misses.
"""

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple

from shmreclaim.bench_result import Axis, Cost, Growth, ReclaimResult
from shmreclaim.designs import NAMES
from shmreclaim.errors import InternalError
from shmreclaim.executions import native
from shmreclaim.executions.collect import event
from shmreclaim.experiments.bench import Progress, about
from shmreclaim.experiments.bench import reclaim_loops as loops
from shmreclaim.experiments.bench.emulated import Emulated
from shmreclaim.experiments.bench.processes import PROCESSES, Tell, measure
from shmreclaim.experiments.bench.turns import Figure, fit, sample_in_turns, settled
from shmreclaim.kernel import OP
from shmreclaim.machine.compile import link
from shmreclaim.machine.layout import HEADER
from shmreclaim.mm.shrinker import Arithmetic
from shmreclaim.mm.state import MM, Event

SET_BITS = (1, 8, 64, 512)
REGISTERED = (16, 128, 1024)
MEMCGS = (8, 64, 512)
MOST = REGISTERED[-1]
BESIDE_MEMCGS = REGISTERED[1]
"""Shrinkers that are registered while memcgs are varied."""
FEW_BITS = 8
FREED_LISTS, FREED_ON_EACH = 64, 64
SAMPLE_NS = 500_000.0
"""Short beside what a scheduler gives at a time: most samples are not interrupted, and the median is one of those."""
REPEATS = 11
"""Samples in each process."""

BITS_MEMCGS = {bits: handle for handle, bits in enumerate(SET_BITS, start=1)}
"""Handle of the memcg that has so many bits set."""
SETTING_MEMCG, FREEING_MEMCG = len(SET_BITS) + 1, len(SET_BITS) + 2
FEW_BITS_MEMCG, CACHE_MEMCG = 1, 2

Key = tuple[str, str, int]
"""What is measured, the design, and the size."""
Subjects = dict[Key, Callable[[], float]]

AXES = {
    "set bits": (f"a pass, by set bits, {MOST:,} shrinkers registered", "bit"),
    "shrinkers": (f"a pass, by registered shrinkers, {FEW_BITS} bits set", "shrinker"),
    "memcgs, one": (
        f"a pass over one memcg, by memcgs, {FEW_BITS} bits set for each, {BESIDE_MEMCGS} shrinkers",
        "memcg",
    ),
    "memcgs, all": ("passes over the whole tree, by memcgs, the same set and registered", "memcg"),
    "cluster, memcg": (
        "direct reclaim of 32 cached pages from their memcg, by registered shrinkers",
        "shrinker",
    ),
    "cluster, root": ("the same from the root, over itself and two memcgs", "shrinker"),
}
"""What is measured against sizes: in words, and what there is more and more of."""
FREE, SET = "free an object", "set a bit"


def bench_reclaim(*, quick: bool, progress: Progress) -> ReclaimResult:
    """Measure every part; raises ModelViolation if an invariant broke, for then no figure means anything."""
    said = about({"quick": quick})
    native.prepare(progress.compiling)
    figures = measure(sample, quick=quick, tell=progress.doing)
    return ReclaimResult(
        **said,
        processes=1 if quick else PROCESSES,
        axes={what: _axis(what, figures) for what in AXES},
        each={
            what: {design: Cost(**figures[what, design, MOST].named("ns")) for design in NAMES} for what in (FREE, SET)
        },
    )


def _axis(what: str, figures: dict[Key, Figure]) -> Axis:
    title, unit = AXES[what]
    designs = {}
    for design in NAMES:
        row = {size: figure for (w, d, size), figure in figures.items() if (w, d) == (what, design)}
        line = fit({size: figure.median for size, figure in row.items()})
        designs[design] = Growth(
            costs={size: Cost(**figure.named("ns")) for size, figure in row.items()},
            fixed_ns=line.fixed,
            each_ns=line.each,
            off=line.off,
            growth=line.growth,
            verdict=line.verdict,
        )
    return Axis(title=title, unit=unit, designs=designs)


def sample(tell: Tell) -> dict[Key, list[float]]:
    """Sample all parts, one after the other, in this process."""
    link()
    samples: dict[Key, list[float]] = {}
    for name, part in PARTS.items():
        samples |= _sample(name, part, tell)
    return samples


# --- parts: kernels that take turns ------------------------------------------------------------------


class Part(NamedTuple):
    """What is measured at once: on kernels of these sizes, of memcgs and mounts; and the subjects on each."""

    kernels: tuple[tuple[int, int], ...]
    subjects: Callable[[Emulated, int, int], Subjects]


def _sample(name: str, part: Part, tell: Tell) -> dict[Key, list[float]]:
    """Boot a kernel for each design and size, let all take turns, and see that nothing broke."""
    with ExitStack() as stack:
        kernels: list[Emulated] = []
        subjects: Subjects = {}
        for design in NAMES:
            for memcgs, mounts in part.kernels:
                tell(f"{name}: booting", len(kernels) + 1, len(NAMES) * len(part.kernels))
                booted = stack.enter_context(Emulated(design, memcgs=memcgs, mounts=mounts))
                booted.arena.memory[booted.arena.memory[HEADER.kernel] + MM.arithmetic] = Arithmetic.V4_16
                kernels.append(booted)
                subjects |= part.subjects(booted, memcgs, mounts)
        samples = sample_in_turns(subjects, REPEATS, partial(tell, f"{name}: measuring"))
        for booted in kernels:
            booted.check()
    return samples


def _by_bits(booted: Emulated, _memcgs: int, mounts: int) -> Subjects:
    """Passes over more and more set bits, setting bits, and freeing, with all shrinkers registered."""
    subjects: Subjects = {}
    for bits, handle in BITS_MEMCGS.items():
        put_objects(booted, handle, mounts, bits, 1)
        subjects["set bits", booted.design, bits] = _timed(booted, loops.pass_loop, booted.memcg(handle))
    subjects[SET, booted.design, mounts] = _timed(booted, loops.set_bit_loop, booted.memcg(SETTING_MEMCG), mounts)
    subjects[FREE, booted.design, mounts] = partial(free_all, booted, mounts)
    return subjects


def _by_shrinkers(booted: Emulated, _memcgs: int, mounts: int) -> Subjects:
    """A pass over a few set bits, and direct reclaim, among so many registered shrinkers."""
    put_objects(booted, FEW_BITS_MEMCG, mounts, FEW_BITS, 1)
    few, cache, root = booted.memcg(FEW_BITS_MEMCG), booted.memcg(CACHE_MEMCG), booted.memcg(0)
    return {
        ("shrinkers", booted.design, mounts): _timed(booted, loops.pass_loop, few),
        ("cluster, memcg", booted.design, mounts): _timed(booted, loops.cluster_loop, CACHE_MEMCG, cache),
        ("cluster, root", booted.design, mounts): _timed(booted, loops.cluster_loop, CACHE_MEMCG, root),
    }


def _by_memcgs(booted: Emulated, memcgs: int, mounts: int) -> Subjects:
    """A pass over one memcg among so many, and over all of them."""
    for handle in range(1, memcgs + 1):
        put_objects(booted, handle, mounts, FEW_BITS, 1)
    one, root = booted.memcg(FEW_BITS_MEMCG), booted.memcg(0)
    return {
        ("memcgs, one", booted.design, memcgs): _timed(booted, loops.pass_loop, one),
        ("memcgs, all", booted.design, memcgs): _timed(booted, loops.tree_loop, root),
    }


PARTS = {
    "set bits": Part(((FREEING_MEMCG, MOST),), _by_bits),
    "shrinkers": Part(tuple((CACHE_MEMCG, mounts) for mounts in REGISTERED), _by_shrinkers),
    "memcgs": Part(tuple((memcgs, BESIDE_MEMCGS) for memcgs in MEMCGS), _by_memcgs),
}


# --- subjects ------------------------------------------------------------------------------------------


def put_objects(booted: Emulated, handle: int, mounts: int, lists: int, each: int) -> None:
    """Put `each` dentries of a memcg on `lists` superblocks of `mounts`."""
    booted.bind()
    memory = booted.arena.memory
    for field, value in ((OP.memcg, handle), (OP.nid, 0), (OP.count, each), (OP.arg, 0)):
        memory[booted.op + field] = value
    booted.must(loops.add_objects(booted.mem, booted.cpu, booted.op, mounts, lists), "adding objects")


def _timed(booted: Emulated, loop: Callable[..., int], *where: int) -> Callable[[], float]:
    """Make a subject of a compiled loop over a kernel; ns a turn, after one that fills the caches."""

    def sample(count: int) -> float:
        booted.bind()
        loop(booted.mem, booted.cpu, *where, 1)
        took = loop(booted.mem, booted.cpu, *where, count)
        if took < 0:
            raise InternalError(f"{booted.design}: {loop.__name__} did not free what it should")
        return float(took)

    return settled(sample, SAMPLE_NS)


def free_all(booted: Emulated, mounts: int) -> float:
    """Add objects and free them in one pass; ns an object, beyond what a pass costs that frees nothing."""
    objects = FREED_LISTS * FREED_ON_EACH
    put_objects(booted, FREEING_MEMCG, mounts, FREED_LISTS, FREED_ON_EACH)
    freed = event(booted.arena, [booted.cpu], Event.OBJECTS_FREED)
    took = loops.free_pass(booted.mem, booted.cpu, booted.memcg(FREEING_MEMCG))
    if event(booted.arena, [booted.cpu], Event.OBJECTS_FREED) - freed != objects:
        raise InternalError(f"{booted.design}: a pass at priority 0 left objects behind")
    return took / objects
