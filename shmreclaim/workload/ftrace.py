"""A recording of a real kernel as a workload: `load_trace`.

Source: the tracepoints of KERNEL.md 14 in ftrace's text form (`ftrace_text`, `ftrace_events`), told as what the tasks did
(`ftrace_history`, rules H1 to H6), with superblocks named (`ftrace_identity`, rules M1 to M5).

Kept from the recording
    the order of each task's operations and their times (ns since the first event); who made and removed
    which memcg and which parent it has; who mounted and unmounted when (the planned start is when the system call began);
    every pass with its memcg, node and priority; how many objects each call found.

Inferred, because a trace does not say it
I1  Tasks are dealt to CPUs, the busiest first, each to the CPU with the fewest operations so far; tasks whose memcgs are
    parent and child share a CPU. A memcg is removed on the CPU that made it, whoever called rmdir.
I2  What a list holds before a pass is made so: objects are added, or deleted, up to the number that the call found. Between calls a list
    is taken to hold what was found less what was freed. Half of a superblock's objects are inodes, half (rounded up) dentries.
I3  A drop_caches leaves every list empty. It does not record memcgs: of a shrinker that it called, there were at least as many
    objects as one call found and as all calls freed. What the lists of all memcgs lack of that is the root's. A mounted
    superblock's objects belong to the memcg that mounted it.
I4  Shrinkers that existed before the recording are registered in `setup` and stay. Objects of one that is not memcg-aware are the root's.
I5  Reclaim from outside all memcgs at priorities above 0 is a pass over the root.

Not used
    page cache: what the page LRU gave (mm_vmscan_*_reclaim_end) is no op, because a pass in a stream reclaims slab only,
    so cached pages would pile up; deferred counts, delta and total_scan, which the design's own arithmetic gives; whether
    an object was busy: here every object can be freed, so a drop frees more than the kernel did.

Limits: MAX_FOUND objects a call, MAX_OBJECTS added in all. Memory is sized so that no allocation fails, even if no object is ever freed.
"""

from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import contextmanager
from collections.abc import Iterator
from importlib.resources import files
from io import BufferedReader, BytesIO
from pathlib import Path
