"""The oracles at rest: what must hold over the whole segment when every CPU has stopped.

Plain Python over the words, sharing no algorithm with what it checks, only the layout. Each check says
which invariant it is (I1 to I10 of the kernel's designs, I11 and I12 of mm/) and counts; each violation
names its values. What CPUs found broken on line is told here as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from shmreclaim.executions.stall import Words
from shmreclaim.lib.radix_tree import IDR, IDR_NODE, NODE_SHIFT, NODE_SLOTS
from shmreclaim.machine.arena import Arena
from shmreclaim.machine.cpu import CPU, MAX_KEPT_VIOLATIONS, Violation
from shmreclaim.machine.layout import HEADER, LINE
from shmreclaim.mm.list_lru import (
    LIST_LRU,
    LISTS_ON_DEMAND,
    LRU_MEMCG,
    LRU_NODE,
    LRU_NODE_WORDS,
    LRU_ONE,
    OBJECT,
    OBJECT_ON_LRU,
)
from shmreclaim.mm.memcg import MEMCG, NODEINFO, NODEINFO_WORDS
from shmreclaim.mm.shrinker import SHRINKER, SHRINKER_MEMCG_AWARE
from shmreclaim.mm.shrinker_map import MAP, UNIT
from shmreclaim.mm.slab import BLOCK_WORDS, CHUNK, CHUNK_WORDS, HEAP, RUN
from shmreclaim.mm.state import LINES_PER_PAGE, MM, Event, MapKind
from shmreclaim.mm.superblock import SUPERBLOCK
from shmreclaim.mm.zone import ZONE
from shmreclaim.sync.lockdep import LOCK, LockClass

MAX_SHIFT = 5 * NODE_SHIFT
"""Of the top of an IDR whose ids have 31 bits."""

ON_LINE: dict[int, str] = {
    Violation.HELD_OVERFLOW: "lock {a} taken while {b} others are held: more than can be noted",
    Violation.LOCK_ORDER: "lock order: {class_b} (at {c}) was waited for inside {class_a}",
    Violation.NOT_HELD: "lock {a} released by a CPU that does not hold it (word {b})",
    Violation.EXCLUSION: "two CPUs inside lock {a} (seen {b}, {c})",
    Violation.DOUBLE_FREE: "object {a} freed while its state is {b:#x}: twice, or never isolated",
    Violation.LIST_CORRUPT: "object {a} on list {c} has state {b:#x}",
    Violation.ID_BEYOND_MAP: "I3: shrinker {a} has an object in memcg {c}, whose map has {b} bits",
    Violation.NEGATIVE_COUNT: "count of {a} fell to {b}",
    Violation.USE_AFTER_FREE: "I1: {a} was used after it was freed (found {b:#x})",
    Violation.RECLAIM_BLOCKED: "I9: reclaim blocked for {class_b} (at {a})",
    Violation.REF_UNDERFLOW: "references of {a} fell to {b}",
    Violation.ID_BOUND: "I4: shrinker id {a} published where {b} was found",
    Violation.RECURSION: "lock {a} taken again by a CPU that holds it (word {b})",
}


@dataclass
class _Check:
    """A walk over a segment that gathers what does not hold."""

    arena: Words
    slots: Sequence[int]
    checked: int = 0
    violations: list[str] = field(default_factory=list)

    def word(self, at: int) -> int:
        if at < 0:
            raise IndexError(f"word {at}")  # a memoryview would count from its end
        return self.arena.memory[at]

    @property
    def mm(self) -> int:
        return self.word(HEADER.kernel)

    @property
    def nodes(self) -> range:
        return range(self.word(self.mm + MM.nr_nodes))

    def that(self, holds: bool, message: str) -> None:
        self.checked += 1
        if not holds:
            self.violations.append(message)

    def entries(self, head: int) -> list[int]:
        """Entries of a list_head; a list that does not come back to its head is a violation."""
        found: list[int] = []
        entry = self.word(head)
        while entry != head:
            if len(found) > len(self.arena.memory) // LINE or not self.is_linked(entry):
                self.that(False, f"I12: list {head} is broken after {len(found)} entries, at {entry}")
                break
            found.append(entry)
            entry = self.word(entry)
        if entry == head and not found and self.word(head + 1) != head:
            self.that(False, f"I12: list {head} is empty, but its last entry is {self.word(head + 1)}")
        return found

    def is_linked(self, entry: int) -> bool:
        """Whether this is an entry whose next one knows it."""
        last = len(self.arena.memory) - 1
        return 0 < entry < last and 0 < self.word(entry) < last and self.word(self.word(entry) + 1) == entry

    def events(self, which: Event) -> int:
        return sum(self.word(slot + CPU.events + which) for slot in self.slots)


def check_at_rest(arena: Arena, slots: list[int]) -> tuple[int, list[str]]:
    """Check everything; how many checks were made, on line ones included, and what did not hold."""
    check = _Check(arena, slots)
    try:
        _check_all(check)
    except (IndexError, KeyError, ValueError) as error:
        check.that(False, f"I12: the segment is damaged, what is linked in it leads astray: {error!r}")
    return check.checked, check.violations


def check_at_quiet_point(arena: Arena, slots: list[int]) -> tuple[int, list[str]]:
    """Check everything while all CPUs rest; as at the end, but what they counted themselves is not counted again."""
    checked, found = check_at_rest(arena, slots)
    return checked - sum(arena.memory[slot + CPU.checks] for slot in slots), found


def _check_all(check: _Check) -> None:
    _on_line(check)
    _cpus(check)
    memcgs = [entry - MEMCG.list for entry in check.entries(check.mm + MM.memcgs)]
    superblocks = [entry - SUPERBLOCK.link for entry in check.entries(check.mm + MM.superblocks)]
    check.that(
        check.word(check.mm + MM.nr_memcgs) == len(memcgs),
        f"{check.word(check.mm + MM.nr_memcgs)} memcgs are said to be there, {len(memcgs)} are on the list",
    )
    charges = _objects(check, memcgs, superblocks)
    _ids(check, superblocks)
    _maps(check, memcgs)
    _memcgs(check, memcgs, charges)
    _budget(check, memcgs)


def found_on_line(arena: Words, slots: Sequence[int]) -> list[str]:
    """What CPUs found broken while they ran; also of a run that is not at rest."""
    check = _Check(arena, slots)
    _on_line(check)
    return check.violations


def _on_line(check: _Check) -> None:
    """What CPUs wrote down while they ran."""
    for slot in check.slots:
        check.checked += check.word(slot + CPU.checks)
        total = check.word(slot + CPU.nr_violations)
        for k in range(min(total, MAX_KEPT_VIOLATIONS)):
            kind, a, b, c = check.arena.view(slot + CPU.violations + 4 * k, 4).tolist()
            check.violations.append(f"CPU {check.word(slot + CPU.id) - 1}: {in_words(kind, a, b, c)}")
        if total > MAX_KEPT_VIOLATIONS:
            check.violations.append(f"CPU {check.word(slot + CPU.id) - 1}: {total - MAX_KEPT_VIOLATIONS} more")


def in_words(kind: int, a: int, b: int, c: int) -> str:
    """What a CPU wrote down."""
    text = ON_LINE.get(kind, f"invariant {kind} broken ({{a}}, {{b}}, {{c}})")
    return text.format(a=a, b=b, c=c, class_a=_class_name(a), class_b=_class_name(b))


def _class_name(klass: int) -> str:
    return LockClass(klass).name.lower() if klass in LockClass.__members__.values() else f"a lock of class {klass}"


def _cpus(check: _Check) -> None:
    """Nothing is held, waited for, read under RCU or pending."""
    for slot in check.slots:
        name = f"CPU {check.word(slot + CPU.id) - 1}"
        for at, what in (
            (CPU.held_depth, "locks held"),
            (CPU.wait_for, "wait not ended"),
            (CPU.rcu, "RCU read section not ended"),
            (CPU.srcu, "SRCU read section not ended"),
            (CPU.rcu_pending, "callbacks pending"),
            (CPU.flags, "task flags not restored"),
        ):
            check.that(check.word(slot + at) == 0, f"{name} at the end: {what} ({check.word(slot + at)})")
    for lock in (check.mm + MM.cgroup_mutex, check.mm + MM.list_lrus_mutex):
        check.that(check.word(lock + LOCK.word) == 0, f"lock {lock} is not free at the end")


def _objects(check: _Check, memcgs: list[int], superblocks: list[int]) -> dict[int, tuple[int, int]]:
    """I2, I12 and conservation: every list counted, every object's bit set. Charges (objects, lines) by memcg."""
    owners = {check.word(m + MEMCG.kmemcg_id): m for m in memcgs if check.word(m + MEMCG.effective) == m}
    charges: dict[int, tuple[int, int]] = {}
    remaining = 0
    for sb in superblocks:
        check.that(check.word(sb + SUPERBLOCK.s_umount + LOCK.word) == 0, f"s_umount of superblock {sb} is not free")
        for lru in (sb + SUPERBLOCK.dentries, sb + SUPERBLOCK.inodes):
            for nid in check.nodes:
                remaining += _lru_node(check, lru, nid, owners, charges)
    added, deleted, freed = (check.events(e) for e in (Event.OBJECTS_ADDED, Event.OBJECTS_DELETED, Event.OBJECTS_FREED))
    for memcg in charges.keys() - set(memcgs):
        check.that(False, f"{charges[memcg][0]} objects on lists belong to memcg {memcg}, which is gone")
    allocated = check.word(check.mm + MM.nr_objects)
    check.that(
        added - deleted - freed == remaining == allocated,
        f"objects are not conserved: {added} added - {deleted} deleted - {freed} freed = {added - deleted - freed}, "
        f"{remaining} on lists, {allocated} allocated",
    )
    return charges


def _lru_node(check: _Check, lru: int, nid: int, owners: dict[int, int], charges: dict[int, tuple[int, int]]) -> int:
    """All lists of one list_lru on one node; returns the objects on them."""
    node = lru + LIST_LRU.nodes + nid * LRU_NODE_WORDS
    aware = check.word(lru + LIST_LRU.memcg_aware)
    total = 0
    for number, one in _lists(check, lru, nid):
        items = [entry - OBJECT.link for entry in check.entries(one + LRU_ONE.head)]
        said = check.word(one + LRU_ONE.nr_items)
        check.that(said == len(items), f"I12: list {one} counts {said} objects and has {len(items)}")
        total += len(items)
        for item in items:
            _object(check, item, charges)
        if items and aware:
            check.that(number in owners, f"list {number} of list_lru {lru} has objects and no memcg")
            _bit(check, lru, nid, owners.get(number, 0), len(items))
            for item in items:
                effective = check.word(check.word(item + OBJECT.memcg) + MEMCG.effective)
                check.that(effective == owners.get(number), f"object {item} is on the list of another memcg")
    said = check.word(node + LRU_NODE.nr_items)
    check.that(said == total, f"I12: node {nid} of list_lru {lru} counts {said} objects and has {total}")
    check.that(check.word(node + LRU_NODE.lock) == 0, f"lock of list_lru {lru}, node {nid} is not free")
    return total


def _lists(check: _Check, lru: int, nid: int) -> list[tuple[int, int]]:
    """The lists of a list_lru on a node, by the number of their memcg; the root's is -1. Empty ones may be left out."""
    node = lru + LIST_LRU.nodes + nid * LRU_NODE_WORDS
    lists, aware = check.word(node + LRU_NODE.lists), check.word(lru + LIST_LRU.memcg_aware)
    found = [(-1, node + LRU_NODE.root)]
    if aware == LISTS_ON_DEMAND:
        blocks = _values(check, check.word(lru + LIST_LRU.xa + IDR.top))
        return found + [(k, block + LRU_MEMCG.lists + nid * LRU_ONE.SIZE) for k, block in blocks]
    return found + (_filled(check, lists) if lists else [])


def _filled(check: _Check, lists: int) -> list[tuple[int, int]]:
    """Of an array of lists, those that are anything but empty; the others are checked here, all at once.

    Empty is a head that points to itself, both ways, and a count of 0. There are millions of them in a run of
    thousands of memcgs and mounts, so numpy looks at them.
    """
    count = check.word(check.mm + MM.max_memcgs)
    records = check.arena.view(lists, count * LRU_ONE.SIZE).reshape(count, LRU_ONE.SIZE)
    heads = lists + np.arange(count) * LRU_ONE.SIZE + LRU_ONE.head
    links = records[:, LRU_ONE.head : LRU_ONE.head + 2]
    empty = (links == heads[:, np.newaxis]).all(axis=1) & (records[:, LRU_ONE.nr_items] == 0)
    check.checked += int(empty.sum())
    return [(k, lists + k * LRU_ONE.SIZE) for k in np.flatnonzero(~empty).tolist()]


def _values(
    check: _Check, node: int, prefix: int = 0, shifts: Sequence[int] = range(0, MAX_SHIFT + 1, NODE_SHIFT)
) -> list[tuple[int, int]]:
    """Every id with its value below a node of an IDR; `shifts` are those that the node may have."""
    if not node:
        return []
    shift = check.word(node + IDR_NODE.shift)
    if shift not in shifts:
        raise ValueError(f"node {node} of an IDR has shift {shift}, not {', '.join(map(str, shifts))}")
    slots = [(prefix + (k << shift), check.word(node + IDR_NODE.slots + k)) for k in range(NODE_SLOTS)]
    if shift == 0:
        return [(number, value) for number, value in slots if value]
    below = (shift - NODE_SHIFT,)  # one and no other: a node that is below itself would have no end
    return [found for number, child in slots if child for found in _values(check, child, number, below)]


def _object(check: _Check, item: int, charges: dict[int, tuple[int, int]]) -> None:
    state = check.word(item + OBJECT.state)
    check.that(state == OBJECT_ON_LRU, f"object {item} on a list has state {state:#x}")
    memcg = check.word(item + OBJECT.memcg)
    objects, lines = charges.get(memcg, (0, 0))
    charges[memcg] = (objects + 1, lines + check.word(item + OBJECT.words) // LINE)


def _bit(check: _Check, lru: int, nid: int, memcg: int, n: int) -> None:
    """I2: a memcg that has a map has the bit of a shrinker with objects."""
    number = check.word(lru + LIST_LRU.shrinker_id)
    block = check.word(memcg + MEMCG.nodeinfo + nid * NODEINFO_WORDS + NODEINFO.map) if memcg else 0
    kind = check.word(check.mm + MM.map_kind)
    if number < 0 or block == 0 or (kind != MapKind.BITS and check.word(memcg + MEMCG.parent) == 0):
        return  # since 5.13 the root has a map too, but only for what is owed
    word = block + MAP.bits + number // 64
    if number < check.word(block + MAP.nr_bits) and kind == MapKind.UNITS:
        word = check.word(word) + UNIT.bits
    isset = number < check.word(block + MAP.nr_bits) and check.word(word) >> (number % 64) & 1
    handle = check.word(memcg + MEMCG.handle)
    check.that(
        bool(isset), f"I2: memcg {handle} holds {n} objects of shrinker {number} on node {nid}, its bit is clear"
    )


def _ids(check: _Check, superblocks: list[int]) -> None:
    """I6 and I7: ids stay small, and live ids are those of registered shrinkers, each once."""
    live, peak, highest = (check.word(check.mm + at) for at in (MM.live_ids, MM.peak_ids, MM.max_id))
    check.that(highest + 1 <= peak, f"I6: id {highest} was given with at most {peak} shrinkers at a time")
    if peak == 0:
        return
    aware = [sb for sb in superblocks if check.word(sb + SHRINKER.flags) & SHRINKER_MEMCG_AWARE]
    numbers = [check.word(sb + SHRINKER.id) for sb in aware]
    check.that(live == len(aware), f"I7: {live} ids are taken, {len(aware)} memcg-aware shrinkers are registered")
    check.that(len(set(numbers)) == len(numbers) and -1 not in numbers, f"ids are not distinct: {sorted(numbers)}")


def _maps(check: _Check, memcgs: list[int]) -> None:
    """I3 and I10: every map reaches every live id, and a parent's map reaches its children's."""
    highest = _highest_live_id(check)
    for memcg in memcgs:
        for nid in check.nodes:
            bits = _map_bits(check, memcg, nid)
            above = _map_bits(check, check.word(memcg + MEMCG.parent), nid)
            if bits is None:
                continue
            handle = check.word(memcg + MEMCG.handle)
            if above is not None:
                check.that(above >= bits, f"I10: memcg {handle} has a map of {bits} bits, its parent of {above}")
            if check.word(check.mm + MM.live_ids) and check.word(memcg + MEMCG.online):
                check.that(highest < bits, f"I3: memcg {handle} has a map of {bits} bits, id {highest} is live")


def _highest_live_id(check: _Check) -> int:
    heads = check.entries(check.mm + MM.superblocks)
    return max((check.word(entry - SUPERBLOCK.link + SHRINKER.id) for entry in heads), default=-1)


def _map_bits(check: _Check, memcg: int, nid: int) -> int | None:
    block = check.word(memcg + MEMCG.nodeinfo + nid * NODEINFO_WORDS + NODEINFO.map) if memcg else 0
    return check.word(block + MAP.nr_bits) if block else None


def _memcgs(check: _Check, memcgs: list[int], charges: dict[int, tuple[int, int]]) -> None:
    """Charges and references: each memcg's usage is what it and those below it have, and nothing more refers to it."""
    own, references = {}, {}
    for memcg in memcgs:
        pages = sum(
            check.word(memcg + MEMCG.nodeinfo + nid * NODEINFO_WORDS + NODEINFO.cache_pages) for nid in check.nodes
        )
        objects, lines = charges.get(memcg, (0, 0))
        own[memcg] = lines + pages * LINES_PER_PAGE
        references[memcg] = objects + pages + check.word(memcg + MEMCG.online)
    usage = dict.fromkeys(memcgs, 0)
    for memcg in memcgs:
        parent = check.word(memcg + MEMCG.parent)
        if parent in references:
            references[parent] += 1
        above = memcg
        for _ in memcgs:
            if above not in usage:
                break
            usage[above] += own[memcg]
            above = check.word(above + MEMCG.parent)
        check.that(above == 0, f"memcg {check.word(memcg + MEMCG.handle)} is there, memcg {above} above it is gone")
        if above == 0:
            _effective(check, memcg)
    for memcg in memcgs:
        handle = check.word(memcg + MEMCG.handle)
        said, held = check.word(memcg + MEMCG.usage), check.word(memcg + MEMCG.refcount)
        check.that(said == usage[memcg], f"memcg {handle} is charged {said} lines, {usage[memcg]} are allocated")
        check.that(held == references[memcg], f"memcg {handle} has {held} references, {references[memcg]} are known")


def _effective(check: _Check, memcg: int) -> None:
    """Objects of a memcg are on the lists of the nearest one that is online, itself or above."""
    heir = memcg
    while heir and not check.word(heir + MEMCG.online):
        heir = check.word(heir + MEMCG.parent)
    said, handle = check.word(memcg + MEMCG.effective), check.word(memcg + MEMCG.handle)
    check.that(said == heir, f"memcg {handle} was not reparented: its objects are on lists of {said}, not of {heir}")


def _budget(check: _Check, memcgs: list[int]) -> None:
    """I11: what each node's budget lacks is what its heap and its page cache have."""
    for nid in check.nodes:
        zone = check.word(check.mm + MM.zones) + nid * ZONE.SIZE
        taken = check.word(zone + ZONE.size) - check.word(zone + ZONE.free)
        pages = sum(
            check.word(memcg + MEMCG.nodeinfo + nid * NODEINFO_WORDS + NODEINFO.cache_pages) for memcg in memcgs
        )
        blocks = _heap_lines(check, check.word(check.mm + MM.heaps) + nid * HEAP.SIZE)
        check.that(
            taken == blocks + pages * LINES_PER_PAGE,
            f"I11: node {nid} lacks {taken} lines, its heap has {blocks} and its page cache {pages * LINES_PER_PAGE}",
        )


def _heap_lines(check: _Check, heap: int) -> int:
    """Lines in blocks that are given out."""
    lines, k = 0, 0
    used, chunks = check.word(heap + HEAP.used), check.word(heap + HEAP.chunks)
    while k < check.word(heap + HEAP.nr_chunks):
        chunk = chunks + k * CHUNK.SIZE
        size, inuse = check.word(chunk + CHUNK.size), check.word(chunk + CHUNK.inuse)
        if not check.word(used + k // 64) >> (k % 64) & 1:
            k += 1
        elif size == RUN:
            lines += inuse * (CHUNK_WORDS // LINE)
            k += max(inuse, 1)
        else:
            lines += inuse * (BLOCK_WORDS[size] // LINE)
            k += 1
    return lines
