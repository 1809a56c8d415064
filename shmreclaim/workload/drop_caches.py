"""The patch series' own benchmark as a workload: N memcgs, N mounts, a few objects each, then drop_caches.

Source: KERNEL.md 12, E1 to E3: every container is a memcg with a tmpfs mount of its own, in which it made some files.
The containers are the setup; the one CPU then does nothing but drop caches, so a pass is measured by itself. Nothing
is random. One node, and memory for everything, so that nobody reclaims before the first pass.
"""

from __future__ import annotations

from shmreclaim.ranges import expect_whole
from shmreclaim.workload.ops import Memory, Op, Workload, make_stream

MAX_CONTAINERS = 60_000
MAX_OBJECTS, MAX_PASSES = 1000, 1000
PAGE = 4096
LIST_BYTES = 32
"""A list of a memcg in a list_lru; an array of them for every mount's dentries, and one for its inodes."""
OWED_BYTES = 8
"""What a memcg's map keeps for every shrinker since 5.13, beside the bit; twice while maps grow."""
CONTAINER_BYTES = 16 * 1024
"""What one container takes of its own: superblock, memcg, chunks that its arrays and its map do not fill."""
OBJECT_BYTES = 704
"""An inode, the larger of the two kinds."""
SPARE_PAGES = 4096
"""For the design's record, ids, maps that wait for a grace period; above all watermarks."""


def drop_caches(containers: int, objects: int, passes: int) -> Workload:
    """Make the workload: `objects` dentries and as many inodes in each container, and `passes` drops."""
    expect_in_range(containers, objects, passes)
    setup = [row for k in range(containers) for row in _container(k, objects)]
    return Workload(
        kind="scenario",
        name="drop-caches",
        seed=0,
        nodes=1,
        memory=_memory(containers, objects),
        n_memcgs=containers + 1,
        n_shrinkers=containers,
        setup=make_stream(setup),
        streams=(make_stream([(0, Op.DROP_CACHES, 0, 0, 0, 0, 0)] * passes),),
        parameters={"containers": containers, "objects": objects, "passes": passes},
    )


def expect_in_range(containers: int, objects: int, passes: int) -> None:
    """Raise UsageError for what no workload can be made of."""
    expect_whole("containers", containers, most=MAX_CONTAINERS)
    expect_whole("objects", objects, most=MAX_OBJECTS)
    expect_whole("passes", passes, most=MAX_PASSES)


def _container(number: int, objects: int) -> list[tuple[int, ...]]:
    """A memcg, its mount, its objects, in the order in which the script of the series makes them."""
    memcg = number + 1
    return [
        (0, Op.MEMCG_ONLINE, memcg, 0, 0, 0, 0),
        (0, Op.REGISTER, memcg, number, 0, 0, 1),
        (0, Op.LRU_ADD, memcg, number, 0, objects, 0),
        (0, Op.LRU_ADD, memcg, number, 0, objects, 1),
    ]


def _memory(containers: int, objects: int) -> Memory:
    """Pages for the lists of every memcg in every mount, twice, and all else; the same for every design."""
    own = CONTAINER_BYTES + 2 * objects * OBJECT_BYTES
    size = containers * (containers * (2 * LIST_BYTES + 2 * OWED_BYTES) + own)
    return Memory(size // PAGE + SPARE_PAGES, watermark_min=16, watermark_low=20, watermark_high=24)
