"""Compare the kernel's shrinker locking designs by replaying real workloads under each, in true parallel.

The locks that the emulation stands on are for programs of any kind: `Mutex`, `RwLock`, `Semaphore`, `Completion`, and
`Arena` to put several into one segment. They are imported when first asked for, since numba takes half a second.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shmreclaim.locks import Completion, Mutex, OwnerDied, RwLock, Semaphore, lock_arena
    from shmreclaim.machine.arena import Arena

__version__ = "0.1.0"
__all__ = ["Arena", "Completion", "Mutex", "OwnerDied", "RwLock", "Semaphore", "lock_arena"]


def __getattr__(name: str) -> Any:
    """Import what is asked for by name."""
    if name == "Arena":
        from shmreclaim.machine.arena import Arena

        return Arena
    if name in __all__:
        from shmreclaim import locks

        return getattr(locks, name)
    raise AttributeError(f"module 'shmreclaim' has no attribute {name!r}")
