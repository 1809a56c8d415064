"""Circular doubly linked lists: two words, next and prev, inside a record or as a head.

Model: include/linux/list.h. Callers serialise; every pointer is the offset of a `next` word, and an entry
that is on no list points to itself. Limits: none; nothing is allocated.

P11  list_add_rcu() releases the entry to whoever reaches it with list_next_rcu().
     (litmus: test_P11_an_entry_found_on_a_list_is_whole)
"""

from typing import Any

from shmreclaim.machine.atomics import load_acquire, read_once, store_release, write_once
from shmreclaim.machine.compile import compiled

LIST_HEAD_WORDS = 2


@compiled
def list_init(mem: Any, head: int) -> int:
    """Make an empty list, or an entry that is on none."""
    write_once(mem, head, head)
    return write_once(mem, head + 1, head)


@compiled
def list_next(mem: Any, entry: int) -> int:
    """The entry after this one; the head after the last."""
    return read_once(mem, entry)


@compiled
def list_prev(mem: Any, entry: int) -> int:
    """The entry before this one; the head before the first."""
    return read_once(mem, entry + 1)


@compiled
def list_empty(mem: Any, head: int) -> int:
    """Whether a list has no entry, or an entry is on no list."""
    return 1 if read_once(mem, head) == head else 0


@compiled
def list_link(mem: Any, entry: int, before: int, after: int) -> int:
    """Put an entry between two neighbours."""
    write_once(mem, after + 1, entry)
    write_once(mem, entry, after)
    write_once(mem, entry + 1, before)
    return write_once(mem, before, entry)


@compiled
def list_add(mem: Any, entry: int, head: int) -> int:
    """Put an entry first."""
    return list_link(mem, entry, head, read_once(mem, head))


@compiled
def list_add_tail(mem: Any, entry: int, head: int) -> int:
    """Put an entry last."""
    return list_link(mem, entry, read_once(mem, head + 1), head)


@compiled
def list_del_init(mem: Any, entry: int) -> int:
    """Take an entry off its list; twice is harmless."""
    before = read_once(mem, entry + 1)
    after = read_once(mem, entry)
    write_once(mem, after + 1, before)
    write_once(mem, before, after)
    return list_init(mem, entry)


@compiled
def list_move_tail(mem: Any, entry: int, head: int) -> int:
    """Take an entry off its list and put it last on another."""
    list_del_init(mem, entry)
    return list_add_tail(mem, entry, head)


@compiled
def list_splice_init(mem: Any, source: int, head: int) -> int:
    """Move all entries of `source` to the front of `head`, in order; `source` is empty after."""
    if list_empty(mem, source):
        return 0
    first = read_once(mem, source)
    last = read_once(mem, source + 1)
    after = read_once(mem, head)
    write_once(mem, first + 1, head)
    write_once(mem, head, first)
    write_once(mem, last, after)
    write_once(mem, after + 1, last)
    return list_init(mem, source)


# --- lists that are read without a lock, under RCU (include/linux/rculist.h) -----------------------


@compiled
def list_add_rcu(mem: Any, entry: int, head: int) -> int:
    """Put an entry first; a reader sees it whole or not at all."""
    after = read_once(mem, head)
    write_once(mem, entry, after)
    write_once(mem, entry + 1, head)
    store_release(mem, head, entry)  # P11: pairs with list_next_rcu()
    return write_once(mem, after + 1, entry)


@compiled
def list_add_tail_rcu(mem: Any, entry: int, head: int) -> int:
    """Put an entry last; a reader sees it whole or not at all."""
    return list_add_rcu(mem, entry, read_once(mem, head + 1))


@compiled
def list_del_rcu(mem: Any, entry: int) -> int:
    """Take an entry off its list; a reader that stands on it still finds its way, so it keeps its `next`."""
    before = read_once(mem, entry + 1)
    after = read_once(mem, entry)
    write_once(mem, after + 1, before)
    return write_once(mem, before, after)


@compiled
def list_next_rcu(mem: Any, entry: int) -> int:
    """The entry after this one, or the head; what it points to is whole."""
    return load_acquire(mem, entry)  # P11: pairs with list_add_rcu()
