"""The models find mistakes: each is put into the plain bodies, and the machine has to notice."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from shmreclaim.lib.idr import idr_find
from shmreclaim.lib.list_head import (
    list_add_tail,
    list_add_tail_rcu,
    list_del_init,
    list_empty,
    list_next,
    list_next_rcu,
)
from shmreclaim.machine.compile import plain
from shmreclaim.machine.layout import HEADER
from shmreclaim.mm.cgroup import cgroup_mkdir
from shmreclaim.mm.list_lru import LIST_LRU, LRU_NODE, LRU_ONE, list_lru_add, list_lru_drain, list_lru_walk_one
from shmreclaim.mm.list_lru_memcg import memcg_list_lru_alloc
from shmreclaim.mm.memcg import MEMCG, mem_cgroup_iter, page_counter_try_charge
from shmreclaim.mm.reparent import memcg_offline_kmem
from shmreclaim.mm.slab import CHUNK, HEAP, kfree, slab_alloc
from shmreclaim.mm.state import MM
from tests.emulated import Emulated
from tests.mm.machines import ListLruMachine, ListsOnDemandMachine, MemcgMachine, SlabMachine

HUNT = settings(
    max_examples=200,
    stateful_step_count=40,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
RARE = settings(HUNT, max_examples=600)
"""For mistakes that one example of about a hundred shows: 200 missed them with one seed of nine."""


class Alone(Emulated):
    """A plain kernel that nobody is compared with."""

    def __init__(self, design: str) -> None:
        """Boot it."""
        super().__init__(design, "plain")


def account_the_list_only(mem: Any, node: int, one: int, change: int) -> int:
    """_account(), but the node's count stands still."""
    mem[one + LRU_ONE.nr_items] += change
    return int(mem[one + LRU_ONE.nr_items])


def account_the_node_only(mem: Any, node: int, one: int, change: int) -> int:
    """_account(), but the list's count stands still; what it returns is right."""
    mem[node + LRU_NODE.nr_items] += change
    head = entry = one + LRU_ONE.head
    length = 0
    while (entry := plain(list_next)(mem, entry)) != head:
        length += 1
    return length


def lists_of_its_own_alone(mem: Any, cpu: int, lru: int, memcg: int) -> int:
    """_highest_without() that forgets those above."""
    effective = mem[memcg + MEMCG.effective]
    number = mem[effective + MEMCG.kmemcg_id]
    return 0 if number < 0 or plain(idr_find)(mem, lru + LIST_LRU.xa, number) else int(effective)


def rotate_nothing(mem: Any, entry: int, head: int) -> int:
    """list_move_tail() that leaves an entry of its own list where it is; to another it goes."""
    at = entry
    while plain(list_next)(mem, at) != entry:
        at = plain(list_next)(mem, at)
        if at == head:
            return 0
    plain(list_del_init)(mem, entry)
    return plain(list_add_tail)(mem, entry, head)


def reparent_itself_alone(mem: Any, cpu: int, memcg: int) -> int:
    """memcg_reparent_effective() that forgets what came to it from below."""
    mem[memcg + MEMCG.effective] = mem[mem[memcg + MEMCG.parent] + MEMCG.effective]
    return int(mem[memcg + MEMCG.effective])


def splice_last_first(mem: Any, source: int, head: int) -> int:
    """list_splice_init() to the wrong end."""
    while not plain(list_empty)(mem, source):
        entry = plain(list_next)(mem, source)
        plain(list_del_init)(mem, entry)
        plain(list_add_tail)(mem, entry, head)
    return 0


def drain_nothing(mem: Any, cpu: int, lru: int, memcg: int, heir: int) -> int:
    """_drain() that leaves the objects."""
    return 0


def link_last(mem: Any, cpu: int, memcg: int, parent: int) -> int:
    """memcg_link() that puts a child at the end of the list."""
    mm = mem[HEADER.kernel]
    mem[mm + MM.nr_memcgs] += 1
    return plain(list_add_tail_rcu)(mem, memcg + MEMCG.list, mm + MM.memcgs)


def put_nothing(mem: Any, cpu: int, memcg: int) -> int:
    """css_put() that keeps the reference."""
    return 0


def uncharge_nothing(mem: Any, memcg: int, end: int, lines: int) -> int:
    """_uncharge_below() that leaves the charges below the limit that was hit."""
    return 0


def next_of_the_list(mem: Any, memcg: int, top: int) -> int:
    """memcg_next() that does not see where the subtree ends."""
    entry = plain(list_next_rcu)(mem, memcg + MEMCG.list)
    return 0 if entry == mem[HEADER.kernel] + MM.memcgs else entry - MEMCG.list


def cheaper(mem: Any, block: int) -> int:
    """allocated_lines() of the smallest size, whatever it is."""
    return 1


def first_chunk_only(mem: Any, cpu: int, heap: int, count: int) -> int:
    """_take_run() that marks one chunk of a run as used."""
    used, k = mem[heap + HEAP.used], 0
    while mem[used + k // 64] >> k % 64 & 1:
        k += 1
    mem[used + k // 64] |= 1 << k % 64 if k % 64 < 63 else -(1 << 63)
    return int(mem[heap + HEAP.chunks]) + k * CHUNK.SIZE


def keep_in_use(mem: Any, cpu: int, cache: int, chunk: int, block: int) -> int:
    """_push_block() that gives the block to the next, and does not count that it came back."""
    mem[block] = mem[chunk + CHUNK.free]
    mem[chunk + CHUNK.free] = block
    return 0


MISTAKES = [
    (ListLruMachine, list_lru_add, "_account", account_the_list_only),
    (ListLruMachine, list_lru_add, "_account", account_the_node_only),
    (ListsOnDemandMachine, list_lru_add, "_account", account_the_node_only),
    (ListsOnDemandMachine, memcg_list_lru_alloc, "_highest_without", lists_of_its_own_alone),
    (ListLruMachine, list_lru_walk_one, "list_move_tail", rotate_nothing),
    (ListLruMachine, memcg_offline_kmem, "memcg_reparent_effective", reparent_itself_alone),
    (ListLruMachine, memcg_offline_kmem, "_drain", drain_nothing),
    (ListLruMachine, list_lru_drain, "list_splice_init", splice_last_first),
    (MemcgMachine, cgroup_mkdir, "memcg_link", link_last),
    (MemcgMachine, memcg_offline_kmem, "memcg_reparent_effective", reparent_itself_alone),
    (MemcgMachine, mem_cgroup_iter, "css_put", put_nothing),
    (MemcgMachine, mem_cgroup_iter, "memcg_next", next_of_the_list),
    (MemcgMachine, page_counter_try_charge, "_uncharge_below", uncharge_nothing),
    (SlabMachine, kfree, "allocated_lines", cheaper),
    (SlabMachine, slab_alloc, "_take_run", first_chunk_only),
    (SlabMachine, slab_alloc, "_push_block", keep_in_use),
]


@pytest.mark.parametrize(
    ("machine", "victim", "name", "mistake"), MISTAKES, ids=[f"{m[0].__name__}-{m[3].__name__}" for m in MISTAKES]
)
def test_a_mistake_is_found_by_the_model(
    machine: type[RuleBasedStateMachine],
    victim: Callable[..., int],
    name: str,
    mistake: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Within a bounded number of random steps."""
    assert name in plain(victim).__globals__
    monkeypatch.setitem(plain(victim).__globals__, name, mistake)
    effort = RARE if mistake in (rotate_nothing, reparent_itself_alone) else HUNT
    with pytest.raises(AssertionError):
        run_state_machine_as_test(type(machine.__name__, (machine,), {"emulate": Alone}), settings=effort)
