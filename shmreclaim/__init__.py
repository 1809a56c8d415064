"""Compare the kernel's shrinker locking designs by replaying real workloads under each, in true parallel."""

__version__ = "0.1.0"
