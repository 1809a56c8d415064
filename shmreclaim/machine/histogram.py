"""Latency histograms in shared memory: log-linear buckets, relative error below 3 %, one writer each.

A value below 64 has a bucket of its own; above, each power of two is cut into 32 equal buckets
(HdrHistogram with five significant bits). `result.Histogram` reads them by the same rule.
"""

from typing import Any

from shmreclaim.machine.atomics import floor_log2, read_once, write_once
from shmreclaim.machine.compile import compiled
from shmreclaim.machine.layout import Field, record

SUB_BITS = 5
N_BUCKETS = 1216

HISTOGRAM = record(
    "HISTOGRAM",
    Field("max", "one CPU"),
    Field("total", "one CPU"),
    Field("buckets", "one CPU", N_BUCKETS),
)


@compiled
def bucket_of(value: int) -> int:
    """Index of the bucket that counts `value` (>= 0)."""
    if value < 2 << SUB_BITS:
        return value
    shift = floor_log2(value) - SUB_BITS
    index = (shift << SUB_BITS) + (value >> shift)
    return index if index < N_BUCKETS else N_BUCKETS - 1


@compiled
def histogram_add(mem: Any, histogram: int, value: int) -> int:
    """Count one value; a negative one (clock set back between CPUs) counts as 0."""
    value = max(value, 0)
    at = histogram + HISTOGRAM.buckets + bucket_of(value)
    write_once(mem, at, read_once(mem, at) + 1)
    write_once(mem, histogram + HISTOGRAM.total, read_once(mem, histogram + HISTOGRAM.total) + value)
    if value > read_once(mem, histogram + HISTOGRAM.max):
        write_once(mem, histogram + HISTOGRAM.max, value)
    return 0
