"""Locks as builtins: acquire and release for Python, uncontended, with the GIL held and without a frame.

Each function here becomes a builtin (machine/builtin.py), once for every lock. The simple call, by a task that
the process's table knows, of a lock that is there to be had, ends here. All else is left to the slow
path, a Python method: arguments, waiting, wrong use, a task's first call.

Words bound to a builtin, in this order: the segment, the lock, the table; how many arguments the simple call
has; whom to ask else; what to return if it was done, and if not (0: ask).
"""

from typing import Any

from shmreclaim.machine.atomics import read_once
from shmreclaim.machine.builtin import WORDS, new_reference, python_call, thread_self
from shmreclaim.machine.compile import compiled
from shmreclaim.machine.cpu import CPU
from shmreclaim.machine.tasks import find_slot
from shmreclaim.sync.lockdep import LOCK
from shmreclaim.sync.mutex import OWNER_MASK, mutex_trylock, mutex_unlock
from shmreclaim.sync.robust import look_for_the_dead
from shmreclaim.sync.rwsem import down_read_trylock, down_write_trylock, up_read, up_write
from shmreclaim.sync.rwsem_queue import DIED, WRITER, write_hold
from shmreclaim.sync.rwsem_queue import OWNER_MASK as WRITER_MASK

MEM, AT, TABLE, NARGS, SLOW, YES, NO = range(WORDS, WORDS + 7)


@compiled
def _my_slot(bound: Any, nargs: int, names: int) -> int:
    """The slot of the calling thread; 0 if that is not known yet, or the call is not the simple one."""
    if nargs != read_once(bound, NARGS) or names != 0:
        return 0
    return find_slot(read_once(bound, TABLE), thread_self())


@compiled
def _not_taken(bound: Any, slot: int, args: int, nargs: int, names: int) -> int:
    """A try that failed says no, unless somebody died, perhaps with the lock; all else is the slow path's business."""
    if slot != 0 and read_once(bound, NO):
        mem = read_once(bound, MEM)
        news = read_once(mem, read_once(bound, AT) + LOCK.word) & DIED  # only rwsems are tried
        if not news and not look_for_the_dead(mem):
            return new_reference(read_once(bound, NO))
    return python_call(read_once(bound, SLOW), args, nargs, names)


@compiled
def acquire_mutex(bound: Any, args: int, nargs: int, names: int) -> int:
    """Take a mutex."""
    slot, mem = _my_slot(bound, nargs, names), read_once(bound, MEM)
    if slot != 0 and mutex_trylock(mem, slot, read_once(bound, AT)):
        return new_reference(read_once(bound, YES))
    return _not_taken(bound, slot, args, nargs, names)


@compiled
def acquire_read(bound: Any, args: int, nargs: int, names: int) -> int:
    """Take a read share of an rwsem."""
    slot, mem = _my_slot(bound, nargs, names), read_once(bound, MEM)
    at = read_once(bound, AT)
    if slot != 0 and not reads(mem, slot, at) and down_read_trylock(mem, slot, at):
        return new_reference(read_once(bound, YES))
    return _not_taken(bound, slot, args, nargs, names)


@compiled
def acquire_write(bound: Any, args: int, nargs: int, names: int) -> int:
    """Take an rwsem for write."""
    slot, mem = _my_slot(bound, nargs, names), read_once(bound, MEM)
    if slot != 0 and down_write_trylock(mem, slot, read_once(bound, AT)):
        return new_reference(read_once(bound, YES))
    return _not_taken(bound, slot, args, nargs, names)


@compiled
def owns(mem: Any, slot: int, at: int) -> int:
    """Whether the task of a slot owns a mutex."""
    return 1 if read_once(mem, at + LOCK.word) & OWNER_MASK == read_once(mem, slot + CPU.id) else 0


@compiled
def reads(mem: Any, slot: int, at: int) -> int:
    """Whether the task of a slot has a read share of an rwsem."""
    return 1 if read_once(mem, at + LOCK.word) & read_once(mem, slot + CPU.bit) else 0


@compiled
def writes(mem: Any, slot: int, at: int) -> int:
    """Whether the task of a slot holds an rwsem for write."""
    return 1 if read_once(mem, at + LOCK.word) & (WRITER | WRITER_MASK) == write_hold(mem, slot) else 0


@compiled
def release_mutex(bound: Any, args: int, nargs: int, names: int) -> int:
    """Give a mutex up."""
    slot, mem = _my_slot(bound, nargs, names), read_once(bound, MEM)
    if slot == 0 or not owns(mem, slot, read_once(bound, AT)):
        return python_call(read_once(bound, SLOW), args, nargs, names)
    mutex_unlock(mem, slot, read_once(bound, AT))
    return new_reference(read_once(bound, YES))


@compiled
def release_read(bound: Any, args: int, nargs: int, names: int) -> int:
    """Give a read share up."""
    slot, mem = _my_slot(bound, nargs, names), read_once(bound, MEM)
    if slot == 0 or not reads(mem, slot, read_once(bound, AT)):
        return python_call(read_once(bound, SLOW), args, nargs, names)
    up_read(mem, slot, read_once(bound, AT))
    return new_reference(read_once(bound, YES))


@compiled
def release_write(bound: Any, args: int, nargs: int, names: int) -> int:
    """Give a write hold up."""
    slot, mem = _my_slot(bound, nargs, names), read_once(bound, MEM)
    if slot == 0 or not writes(mem, slot, read_once(bound, AT)):
        return python_call(read_once(bound, SLOW), args, nargs, names)
    up_write(mem, slot, read_once(bound, AT))
    return new_reference(read_once(bound, YES))
