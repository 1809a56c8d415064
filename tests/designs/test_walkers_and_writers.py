"""Real processes, one interleaving each: a walker stands still in a scan while somebody registers or unregisters."""

import contextlib
from collections.abc import Callable, Iterator
from importlib import import_module

import pytest

from shmreclaim.machine.compile import plain
from shmreclaim.machine.cpu import CPU
from shmreclaim.mm.list_lru import LIST_LRU, LRU_NODE
from shmreclaim.mm.mount import mount as mount_superblock
from shmreclaim.mm.mount import unmount
from shmreclaim.mm.shrinker import SHRINKER
from shmreclaim.mm.state import GFP_KERNEL, Event
from shmreclaim.mm.superblock import SUPERBLOCK, superblock_lru
from shmreclaim.mm.vmscan import shrink_slab
from shmreclaim.sync.lockdep import LOCK
from shmreclaim.sync.rwsem import down_write, up_write
from shmreclaim.sync.spinlock import spin_lock, spin_unlock
from tests.emulated import Emulated, Hands, add, mkdir, mount, shrink, touch
from tests.sync.crew import until

MOUNTS = 6
WALKER, WRITER, TEST = 1, 2, 4
"""CPUs of the processes, and the one that the test itself plays."""


@contextlib.contextmanager
def populated(design: str) -> Iterator[Emulated]:
    """Memcg 1 has objects on every superblock; compiled, for processes."""
    with Emulated(design, "compiled") as kernel:
        kernel.play([mkdir(1), *(mount(k) for k in range(MOUNTS)), *(add(1, k, 5) for k in range(MOUNTS))])
        yield kernel


@pytest.fixture
def kernel(design_with_rwsem: str) -> Iterator[Emulated]:
    """A populated kernel whose walks hold shrinker_rwsem."""
    with populated(design_with_rwsem) as kernel:
        yield kernel


@pytest.fixture
def hands(kernel: Emulated) -> Iterator[Hands]:
    """Processes for it."""
    with Hands(kernel) as hands:
        yield hands


def stand_still(kernel: Emulated, hands: Hands, priority: int = 0) -> Callable[[], int]:
    """Start a walker that comes to stand in its first scan, shrinker_rwsem held for read; what lets it go on."""
    lock = plain(superblock_lru)(kernel.sb(0), 0) + LIST_LRU.nodes + LRU_NODE.lock
    kernel.call(spin_lock, kernel.cpus[TEST - 1], lock)
    hands.start(WALKER, shrink_slab, kernel.memcg(1), 0, GFP_KERNEL, priority)
    mine = kernel.word(kernel.cpus[WALKER - 1] + CPU.bit)
    until(lambda: bool(kernel.word(kernel.sb(0) + SUPERBLOCK.s_umount + LOCK.word) & mine), "the walker in its scan")
    return lambda: kernel.call(spin_unlock, kernel.cpus[TEST - 1], lock)


@pytest.fixture
def let_go(kernel: Emulated, hands: Hands) -> Callable[[], int]:
    """A walker stands still until this is called."""
    return stand_still(kernel, hands)


def test_a_walk_is_left_when_a_writer_waits(kernel: Emulated, hands: Hands, let_go: Callable[[], int]) -> None:
    """After the shrinker it is at, telling that it freed something; the writer has the lock then."""
    sem = kernel.field_of_design("shrinker_rwsem")
    hands.start(WRITER, down_write, sem)
    hands.until_queued(sem, WRITER)
    let_go()
    assert hands.result(WALKER) == 5
    hands.result(WRITER)
    assert (kernel.event(Event.BAILED_OUT), kernel.event(Event.SHRINKER_CALLS)) == (1, 1)
    kernel.call(up_write, kernel.cpus[WRITER - 1], sem)
    assert kernel.oracles() == []


def test_a_walk_that_is_left_before_it_freed_anything_claims_one(kernel: Emulated, hands: Hands) -> None:
    """So that drop_caches does not take it for the end: its objects were all used, so the first scan frees none."""
    sem = kernel.field_of_design("shrinker_rwsem")
    kernel.play([add(1, 0, 5), touch(1, 0, 10)])
    let_go = stand_still(kernel, hands, priority=1)
    hands.start(WRITER, down_write, sem)
    hands.until_queued(sem, WRITER)
    let_go()
    assert hands.result(WALKER) == 1
    hands.result(WRITER)
    kernel.call(up_write, kernel.cpus[WRITER - 1], sem)
    assert kernel.event(Event.OBJECTS_FREED) == 0
    assert kernel.oracles() == []


def test_while_a_writer_waits_reclaim_gives_up(kernel: Emulated, hands: Hands, let_go: Callable[[], int]) -> None:
    """I9: it fails at once instead of queueing behind it."""
    sem = kernel.field_of_design("shrinker_rwsem")
    hands.start(WRITER, down_write, sem)
    hands.until_queued(sem, WRITER)
    before = kernel.event(Event.SHRINKER_CALLS)
    kernel.play([shrink(1)], cpu=2)
    assert kernel.event(Event.SHRINKER_CALLS) == before
    assert kernel.event(Event.TRYLOCK_FAILED) == 1
    let_go()
    hands.finish()
    kernel.call(up_write, kernel.cpus[WRITER - 1], sem)


def test_I1_unmounting_waits_for_a_running_scan(kernel: Emulated, hands: Hands, let_go: Callable[[], int]) -> None:
    """Of the same superblock; when it returns the scan has ended, and the rest is evicted."""
    s_umount = kernel.sb(0) + SUPERBLOCK.s_umount
    hands.start(WRITER, unmount, kernel.sb(0))
    hands.until_queued(s_umount, WRITER)
    let_go()
    hands.finish()
    kernel.set_word(kernel.mm("shrinker_table"), 0)
    assert kernel.oracles() == []
    assert kernel.event(Event.OBJECTS_FREED) + kernel.event(Event.OBJECTS_DELETED) >= 5


def test_I5_unregistering_waits_for_every_walker(kernel: Emulated, hands: Hands, let_go: Callable[[], int]) -> None:
    """Also for one that is at another shrinker: its own could be next."""
    sem = kernel.field_of_design("shrinker_rwsem")
    hands.start(WRITER, unmount, kernel.sb(3))
    hands.until_queued(sem, WRITER)
    let_go()
    hands.finish()
    kernel.set_word(kernel.mm("shrinker_table") + 3, 0)
    assert kernel.event(Event.BAILED_OUT) == 1
    assert kernel.oracles() == []


def test_registering_waits_for_a_walker_too(kernel: Emulated, hands: Hands, let_go: Callable[[], int]) -> None:
    """Registration may block on reclaim; it is complete when the walker has left."""
    sem = kernel.field_of_design("shrinker_rwsem")
    hands.start(WRITER, mount_superblock, MOUNTS, 1, 0)
    hands.until_queued(sem, WRITER)
    let_go()
    hands.result(WALKER)
    sb = hands.result(WRITER)
    assert sb > 0
    kernel.set_word(kernel.mm("shrinker_table") + MOUNTS, sb)
    kernel.play([add(1, MOUNTS, 3), shrink(1)])
    assert kernel.mm("nr_objects") == 0
    assert kernel.oracles() == []


# --- the same without a lock ---------------------------------------------------------------------------


def test_I1_under_srcu_unregistering_waits_for_every_walker(compiled_once: None) -> None:
    """Also for one that is at another shrinker, and that makes way as soon as it has done with it."""
    with populated("v6_4_srcu") as kernel, Hands(kernel) as hands:
        let_go = stand_still(kernel, hands)
        hands.start(WRITER, unmount, kernel.sb(3))
        awaited = kernel.cpus[WRITER - 1] + CPU.wait_for
        until(lambda: kernel.word(awaited) == kernel.cpus[WALKER - 1] + CPU.srcu, "the writer to wait for the walker")
        let_go()
        assert hands.result(WALKER) == 5 * (MOUNTS - 1)
        hands.finish()
        kernel.set_word(kernel.mm("shrinker_table") + 3, 0)
        assert kernel.event(Event.BAILED_OUT) == 0  # it went on where it was
        assert kernel.oracles() == []


def test_I1_with_references_unregistering_waits_for_nobody_elses_users(compiled_once: None) -> None:
    """A walker stands in the scan of one shrinker, another is unmounted meanwhile."""
    with populated("v6_7") as kernel, Hands(kernel) as hands:
        let_go = stand_still(kernel, hands)
        hands.start(WRITER, unmount, kernel.sb(3))
        assert hands.result(WRITER) == 0
        kernel.set_word(kernel.mm("shrinker_table") + 3, 0)
        let_go()
        assert hands.result(WALKER) == 5 * (MOUNTS - 1)
        assert kernel.word(kernel.sb(0) + SHRINKER.refcount) == 1  # the walker's was given back
        assert kernel.oracles() == []


def test_registering_waits_for_no_walker(design_without_lock: str, compiled_once: None) -> None:
    """Nor do walkers for it."""
    with populated(design_without_lock) as kernel, Hands(kernel) as hands:
        let_go = stand_still(kernel, hands)
        hands.start(WRITER, mount_superblock, MOUNTS, 1, 0)
        sb = hands.result(WRITER)
        assert sb > 0
        kernel.set_word(kernel.mm("shrinker_table") + MOUNTS, sb)
        let_go()
        assert hands.result(WALKER) == 5 * MOUNTS
        kernel.play([add(1, MOUNTS, 3), shrink(1)])
        assert kernel.mm("nr_objects") == 0
        assert kernel.oracles() == []


def test_I1_unregistering_waits_for_a_scan_of_its_shrinker(design: str, compiled_once: None) -> None:
    """By whatever a design waits with: the scan is over when it returns."""
    unregister = import_module(f"shmreclaim.designs.{design}").unregister_shrinker
    with populated(design) as kernel, Hands(kernel) as hands:
        let_go = stand_still(kernel, hands)
        hands.start(WRITER, unregister, kernel.sb(0), 0, 0, 0)
        until(lambda: kernel.word(kernel.cpus[WRITER - 1] + CPU.wait_for) != 0, "the writer to wait for the scan")
        let_go()
        assert hands.result(WALKER) >= 5
        assert hands.result(WRITER) == 0
        assert kernel.violations(WALKER - 1) == []
