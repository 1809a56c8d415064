"""The Python face of `sync/`: locks for programs of any kind, between threads and between processes.

Model: threading.Lock for what calls mean; `sync/mutex.py` and `sync/rwsem.py` for how they work; robust mutexes of
POSIX for what happens when a holder dies.

Owners are threads (machine/tasks.py). An uncontended call is one builtin (sync/fastpath.py) with one atomic
instruction. Whatever is not that simple is left to a method of Side (sides.py); where that waits it gives the GIL
up, and returns when a signal came, so that Python's handlers run, and then waits for the rest of its time.

Limits: 53 threads at a time for each segment.
"""

from shmreclaim.locks.arenas import lock_arena, unlink
from shmreclaim.locks.counting import Completion, Semaphore
from shmreclaim.locks.mutex import Mutex
from shmreclaim.locks.rwlock import RwLock
from shmreclaim.locks.sides import OwnerDied

__all__ = ["Completion", "Mutex", "OwnerDied", "RwLock", "Semaphore", "lock_arena", "unlink"]
