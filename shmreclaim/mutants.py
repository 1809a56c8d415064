"""Variants that are broken on purpose: what `stress --mutant` must find out. Plain data.

A mutant is a switch of a design (switches.py), or a change of the text of one of our files, which is then used in place
of it (plugins/mutation.py): `functions` are the out-of-line ones that callers elsewhere are led to. `by` says what
should catch it, before anybody tried. What no stress can see is marked for the checker, with the reason.
"""

from __future__ import annotations

from typing import NamedTuple

from shmreclaim.errors import UsageError


class Mutant(NamedTuple):
    """One broken variant."""

    name: str
    broken: str
    """What is broken, in words."""
    by: str
    """What should catch it."""
    design: str
    """What is run; with a switch, where that is what is broken."""
    file: str = ""
    """Of the package, where its text is changed."""
    functions: tuple[str, ...] = ()
    """Out-of-line functions of that file whose callers are led to the changed ones; a design's own are bound."""
    changes: tuple[tuple[str, str], ...] = ()
    """Texts that are in the file once, and what stands there instead."""
    checker: str = ""
    """Why it takes the model checker to find it for sure; empty where stress must."""
    scenario: str = "torture"
    boot_s: float = 1.0
    """How long a boot is: short where it shows only while a machine is young."""


_SOME = "some runs see it, most do not"
_LOCK_OF_V5_13 = "(mem, cpu, design + V5_13.shrinker_rwsem)\n"
_ONLINE_OF_V5_13 = "    done = maps_alloc_online(mem, cpu, memcg, read_once(mem, design + V5_13.nr_max), GFP_KERNEL)\n"

_LOCKS = (
    Mutant(
        "mutex-does-nothing", "whoever finds a mutex taken goes in all the same", "on line: released, not held",
        "v6_7", "sync/mutex.py", ("_mutex_lock_slowpath",),
        (("    if not _spin(mem, cpu, mutex):\n        outcome = _wait_in_queue(mem, cpu, mutex, deadline, state)\n", ""),),
    ),
    Mutant(
        "mutex-wakes-nobody", "a mutex is given up and its first waiter is not woken", "hang",
        "v6_7", "sync/mutex.py", ("_mutex_unlock_slowpath",),
        (("mutex + LOCK.wait_lock)\n    return wake_cpus(mem, woken)\n", "mutex + LOCK.wait_lock)\n    return woken * 0\n"),),
    ),
    Mutant(
        "mutex-forgets-its-queue", "WAITERS is cleared while somebody waits: the next unlock wakes nobody", "hang",
        "v6_7", "sync/mutex.py", ("_mutex_unlock_slowpath",),
        (("    kept = word & (WAITERS | DIED)\n", "    kept = word & DIED\n"),),
    ),
    Mutant(
        "mutex-ignores-handoff", "a mutex that was promised is given up to anybody", "starvation",
        "v6_7", "sync/mutex.py", ("_mutex_unlock_slowpath",),
        (("    if heir and word & HANDOFF:\n", "    if heir and word & HANDOFF and seen_never(word):\n"),
         ("@out_of_line\ndef _mutex_unlock_slowpath", "@compiled\ndef seen_never(word: int) -> int:\n    return word & 0\n\n\n@out_of_line\ndef _mutex_unlock_slowpath")),
        "no invariant breaks: a waiter is overtaken more than once, and when that is too often no clock can say",
    ),
    Mutant(
        "mutex-unlock-relaxed", "a contended mutex is given up without release", "-",
        "v6_7", "sync/mutex.py", ("_mutex_unlock_slowpath",),
        (("    xchg_release(mem, mutex + LOCK.word, kept)  # P3", "    xchg_relaxed(mem, mutex + LOCK.word, kept)  # P3"),
         ("    xchg_release,\n", "    xchg_relaxed,\n    xchg_release,\n")),
        "weak memory: on x86-64 it is the same instruction",
    ),
    Mutant(
        "rwsem-write-does-nothing", "a writer that finds an rwsem taken goes in all the same", "on line: released, not held",
        "v5_13", "sync/rwsem.py", ("_down_write_slowpath",),
        (("    if not _steal(mem, cpu, sem):\n        outcome = _wait_as_writer(mem, cpu, sem, deadline, state)\n", ""),),
    ),
    Mutant(
        "rwsem-writer-beside-readers", "a writer takes an rwsem that readers have", "I1: use after free",
        "v5_13", "sync/rwsem.py", ("_down_write_slowpath",),
        (("        if word & (TAKEN | HANDOFF) == 0:\n", "        if word & (WRITER | HANDOFF) == 0:\n"),),
    ),
    Mutant(
        "rwsem-wakes-nobody", "whoever leaves an rwsem last wakes nobody", "hang",
        "v5_13", "sync/rwsem.py", ("_wake",),
        (("    rwsem_lock_queue(mem, cpu, sem)\n    woken = mark_wake(mem, sem)\n", "    rwsem_lock_queue(mem, cpu, sem)\n    woken = mark_wake(mem, sem) * 0\n"),),
    ),
    Mutant(
        "trylock-always-succeeds", "a scan goes on though its try of s_umount failed", "on line: released, not held",
        "v6_7", "mm/superblock.py", ("super_cache_scan",),
        (("    if scan_ns < 0 or not down_read_trylock(mem, cpu, sb + SUPERBLOCK.s_umount):\n        return SHRINK_STOP\n",
          "    down_read_trylock(mem, cpu, sb + SUPERBLOCK.s_umount)\n"),),
    ),
    Mutant(
        "spinlock-does-nothing", "whoever finds a list's lock taken goes in all the same", "on line: released, not held",
        "v4_19", "sync/spinlock.py", ("_spin_lock_slowpath",),
        (("    for _ in range(SPINS):\n", "    if me:\n        return 0\n    for _ in range(SPINS):\n"),),
    ),
    Mutant(
        "spinlock-forgets-sleepers", "who slept for a spinlock takes it as if nobody else did", "hang",
        "v4_19", "sync/spinlock.py", ("_spin_lock_slowpath",),
        (("        seen = cmpxchg_acquire(mem, lock, 0, me | PARKED)  # P1\n", "        seen = cmpxchg_acquire(mem, lock, 0, me)  # P1\n"),),
    ),
    Mutant(
        "list-walk-without-lock", "objects are isolated without the lock of their lists", "I12: lists and counts",
        "v4_19", "mm/list_lru.py", ("list_lru_walk_one",),
        (("    isolated = 0\n    spin_lock(mem, cpu, node + LRU_NODE.lock)\n", "    isolated = 0\n"),
         ("    spin_unlock(mem, cpu, node + LRU_NODE.lock)\n    return isolated\n", "    return isolated\n")),
    ),
)  # fmt: skip

_GRACE = (
    Mutant(
        "grace-period-ends-at-once", "what waits for a grace period is freed under its readers", "I1: use after free",
        "v6_7", "sync/rcu.py", ("rcu_is_over",),
        (("        if _sees_older(mem, word, number):\n            return 0\n", ""),),
    ),
    Mutant(
        "memcg-freed-at-once", "a memcg is freed without a grace period", "I1, references, or a crash",
        "v4_19", "mm/memcg.py", ("_css_free",),
        (("    kfree_rcu(mem, cpu, memcg)\n", "    kfree(mem, cpu, memcg)\n"),
         ("from shmreclaim.mm.slab import kfree_rcu\n", "from shmreclaim.mm.slab import kfree\n")),
    ),
    Mutant(
        "srcu-does-not-wait", "unregister waits for no walker", "I1: use after free",
        "v6_4_srcu", "sync/srcu.py", ("synchronize_srcu",),
        (("    if read_once(mem, srcu + SRCU.completed) < wanted:\n        _run_grace_period(mem, cpu, srcu)\n", ""),),
    ),
    Mutant(
        "unregister-does-not-wait", "a shrinker is freed while it is asked", "I1: use after free",
        "v6_7", "designs/v6_7.py", (),
        (("    wait_for_completion(mem, cpu, shrinker + SHRINKER.done, 0, UNINTERRUPTIBLE)\n", ""),),
    ),
    Mutant(
        "user-takes-no-reference", "who walks uses a shrinker without a reference, and gives one up", "I1, references, or a hang",
        "v6_7", "designs/v6_7.py", (),
        (("    return refcount_inc_not_zero_acquire(mem, shrinker + SHRINKER.refcount)\n", "    return 1 if read_once(mem, shrinker + SHRINKER.refcount) else 0\n"),),
    ),
    Mutant(
        "map-freed-at-once", "a map that was replaced is freed without a grace period", "I1: use after free",
        "v5_13+no_grace_period", checker=f"a setter has the old map for a few instructions; {_SOME}", scenario="growth", boot_s=0.3,
    ),
    Mutant("maps-freed-at-offline", "a memcg's maps go when it goes offline, though objects may still come", "I2, or I1", "v5_13+free_maps_offline"),
)  # fmt: skip

_MAPS = (
    Mutant("no-recount", "a bit is cleared, and what came meanwhile is not looked for", "I2", "v4_19+no_recount"),
    Mutant("count-first", "the second count is made before the bit is cleared", "I2", "v4_19+count_first"),
    Mutant(
        "bit-first", "a bit is set before its object is on the list", "I2", "v5_13+bit_first",
        checker=f"the next object of the list heals it; {_SOME}", scenario="growth",
    ),
    Mutant(
        "copied-bits", "growth copies bits that are set meanwhile", "I2", "v5_13+copy_bits",
        checker=f"maps grow for the first moments of a boot only; {_SOME}", scenario="growth", boot_s=0.3,
    ),
    Mutant("no-map-mutex", "nothing orders online against growth", "I3", "v4_19+no_map_mutex"),
    Mutant("cyclic-ids", "ids are given out in turn", "I6", "v4_19+cyclic_ids"),
    Mutant(
        "bit-without-barrier", "a bit is set without the full barrier before it", "-",
        "v4_19", "mm/shrinker_map.py", ("map_set_bit",),
        (("    smp_mb()  # P20: pairs with map_clear_bit(); before", "    # before"),),
        "weak memory: on x86-64 the list's unlock is a full barrier already",
    ),
    Mutant(
        "online-without-the-lock", "a memcg gets its maps without the lock that growth holds", "I3",
        "v5_13", "designs/v5_13.py", (),
        ((f"    down_write{_LOCK_OF_V5_13}{_ONLINE_OF_V5_13}    up_write{_LOCK_OF_V5_13}", _ONLINE_OF_V5_13),),
        scenario="growth", boot_s=0.3,
    ),
    Mutant(
        "id-before-growth", "an id is used before the maps have grown for it", "I3, on line",
        "davydov", "designs/davydov.py", (),
        (("    _lock_maps(mem, cpu)\n    done = 1\n    if number >= read_once(mem, design + DAVYDOV.capacity):\n",
          ("    if number < read_once(mem, design + DAVYDOV.capacity):\n        return 1\n"
           "    write_once(mem, design + DAVYDOV.capacity, bits_for(number))\n"
           "    _lock_maps(mem, cpu)\n    done = 1\n    if number >= 0:\n")),),
        scenario="growth", boot_s=0.3,
    ),
    Mutant(
        "id-not-given-back", "unregister keeps the id", "I7, or I1",
        "v5_13", "designs/v5_13.py", (),
        (("        expose_shrinker_id(mem, shrinker, -1)\n        _unregister_memcg_shrinker(mem, cpu, number)\n", "        expose_shrinker_id(mem, shrinker, -1)\n"),),
    ),
    Mutant(
        "reparent-without-bit", "objects go to the parent's lists and its bits are not set", "I2",
        "v4_19", "mm/list_lru.py", ("list_lru_drain",),
        (("    return 0 if before and", "    return 0 if before >= 0 or"),),
    ),
)  # fmt: skip

_RECLAIM = (
    Mutant("blocking-reclaim", "reclaim waits for shrinker_rwsem", "I9", "v4_19+blocking_reclaim"),
    Mutant("nested-write", "growth takes shrinker_rwsem, which registration has", "on line: recursion", "v4_19+nested_write"),
)  # fmt: skip

_OBJECTS = (
    Mutant(
        "objects-lost-at-reparent", "offline forgets the objects of a memcg", "conservation of objects",
        "v5_13", "mm/list_lru.py", ("list_lru_drain",),
        (("        list_splice_init(mem, old + LRU_ONE.head, new + LRU_ONE.head)\n", "        list_init(mem, old + LRU_ONE.head)\n"),),
    ),
    Mutant(
        "count-not-updated", "an object leaves its list, and the count stays", "I12: lists and counts",
        "v4_19", "mm/list_lru.py", ("list_lru_walk_one", "list_lru_evict"),
        (("    n = _account(mem, node, one, -1)\n", "    n = read_once(mem, one + LRU_ONE.nr_items)\n"),),
    ),
    Mutant(
        "object-freed-twice", "an object is freed twice", "on line: freed twice",
        "v4_19", "mm/superblock.py", ("dispose_list",),
        (("        object_free(mem, cpu, item)\n", "        object_free(mem, cpu, item)\n        object_free(mem, cpu, item)\n"),),
    ),
    Mutant(
        "charge-dropped", "an object is freed and stays charged", "charges",
        "v4_19", "mm/superblock.py", ("dispose_list",),
        (("    page_counter_uncharge(mem, memcg, block_lines(read_once(mem, item + OBJECT.words)))\n", ""),),
    ),
    Mutant(
        "reference-kept", "an object is freed and keeps its reference to the memcg", "references",
        "v4_19", "mm/superblock.py", ("dispose_list",),
        (("    fetch_add_relaxed(mem, mm_state(mem) + MM.nr_objects, -1)\n    return css_put(mem, cpu, memcg)\n", "    return fetch_add_relaxed(mem, mm_state(mem) + MM.nr_objects, -1)\n"),),
    ),
    Mutant(
        "reference-not-taken", "an object takes no reference to its memcg", "references",
        "v4_19", "mm/page_alloc.py", ("object_alloc",),
        (("    css_get_many(mem, memcg, 1)\n", ""),),
    ),
    Mutant(
        "walk-keeps-references", "a walk over memcgs gives up none of the references that it took", "references",
        "v4_19", "mm/memcg.py", ("mem_cgroup_iter",),
        (("    if previous:\n        css_put(mem, cpu, previous)\n", ""),),
    ),
    Mutant(
        "pages-not-given-back", "pages are freed and the budget does not get them back", "I11",
        "v4_19", "mm/page_alloc.py", ("free_pages",),
        (("    zone_give(mem, cpu, nid, pages * LINES_PER_PAGE)\n    return css_put_many", "    return css_put_many"),),
    ),
)  # fmt: skip

MUTANTS: dict[str, Mutant] = {mutant.name: mutant for mutant in (*_LOCKS, *_GRACE, *_MAPS, *_RECLAIM, *_OBJECTS)}
"""By name."""


def chosen_mutants(name: str) -> list[Mutant]:
    """The mutant of a name, or `all`; raises UsageError where there is none."""
    if name == "all":
        return list(MUTANTS.values())
    if name not in MUTANTS:
        raise UsageError(
            f"there is no mutant {name!r}", remedy=f"There are: {', '.join(MUTANTS)}, or all of them: all."
        )
    return [MUTANTS[name]]
