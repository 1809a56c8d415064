"""A lock's record, read: who holds it by its word, who waits by its queue, since when by their own notes."""

from __future__ import annotations

from typing import Protocol

from shmreclaim.executions.snapshot import Snapshot
from shmreclaim.executions.stall import MODES
from shmreclaim.inspection import LockLook, Use
from shmreclaim.machine.cpu import CPU, MAX_CPUS, READER_SHIFT
from shmreclaim.sync import mutex, rwsem_queue
from shmreclaim.sync.lockdep import LOCK, READ, WRITE, LockKind


class Look(Protocol):
    """What this must know of the look that it is part of."""

    words: Snapshot
    now: int
    slots: dict[str, int]
    by_number: dict[int, str]

    def lock_name(self, at: int) -> str:
        """What a lock is called."""

    def notes(self, slot: int) -> list[tuple[int, int, int]]:
        """What a CPU noted that it holds: lock, mode, since."""


def see_lock(look: Look, at: int) -> LockLook:
    """The lock at a place; raises ValueError if there is none."""
    words = look.words
    kind, word = LockKind(words[at + LOCK.kind]), words[at + LOCK.word]
    holders, handoff, died = _by_word(kind, word)
    return LockLook(
        name=look.lock_name(at),
        at=at,
        kind=kind.name.lower(),
        holders=[_holder(look, at, number, mode) for number, mode in holders],
        waiters=_waiters(look, at),
        handoff=handoff,
        died=died,
        count=word if kind == LockKind.COUNT else None,
    )


def _by_word(kind: LockKind, word: int) -> tuple[list[tuple[int, int]], bool, bool]:
    """Who holds a lock (number, mode), whether it is promised, whether a holder died: by the truth tables."""
    if kind == LockKind.MUTEX:
        owner = word & mutex.OWNER_MASK
        return ([(owner, WRITE)] if owner else []), bool(word & mutex.HANDOFF), bool(word & mutex.DIED)
    if kind == LockKind.COUNT:
        return [], False, False
    holders = [(n, READ) for n in range(1, MAX_CPUS + 1) if word >> (n + READER_SHIFT - 1) & 1]
    if word & rwsem_queue.WRITER:
        holders.insert(0, ((word & rwsem_queue.OWNER_MASK) >> rwsem_queue.OWNER_SHIFT, WRITE))
    return holders, bool(word & rwsem_queue.HANDOFF), bool(word & rwsem_queue.DIED)


def _holder(look: Look, at: int, number: int, mode: int) -> Use:
    name = look.by_number.get(number, f"CPU number {number}, which is not there")
    since = None
    if name in look.slots:
        since = next((s for lock, how, s in look.notes(look.slots[name]) if (lock, how) == (at, mode)), None)
    return Use(cpu=name, mode=MODES[mode], ns=None if since is None else max(0, look.now - since))


def _waiters(look: Look, at: int) -> list[Use]:
    """Those in the queue by their tickets, then those that are not in it yet, or spin."""
    words, queued = look.words, look.words[at + LOCK.waiters]
    waiting = []
    for number, name in look.by_number.items():
        slot = look.slots[name]
        in_queue = queued >> number & 1
        if not in_queue and words[slot + CPU.wait_for] != at:
            continue
        mode, since = words[slot + CPU.wait_mode] & 1, words[slot + CPU.wait_since]
        ticket = words[slot + CPU.ticket] if in_queue else 1 << 63
        waiting.append((ticket, Use(cpu=name, mode=MODES[mode], ns=max(0, look.now - since))))
    return [use for _, use in sorted(waiting, key=lambda each: each[0])]
