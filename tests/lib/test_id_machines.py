"""IDR and IDA against their obvious models, random operations, both executions; and proof that the models bite."""

from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from shmreclaim.lib.ida import ida_alloc_range, ida_free
from shmreclaim.lib.idr import IDR, IDR_NODE, POOL, idr_alloc, idr_get_next, idr_remove, idr_replace
from shmreclaim.lib.radix_tree import tree_next_free, tree_prune, tree_reach
from shmreclaim.machine.compile import plain
from tests.lib import strategies as some
from tests.lib.machines import IdaMachine, IdrMachine
from tests.lib.owner import ROOT, Owner, make_idr

Machine = type[IdrMachine] | type[IdaMachine]
QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
THOROUGH = settings(max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=QUIET)
HUNT = settings(
    THOROUGH, max_examples=300, derandomize=True, database=None, phases=[Phase.generate], report_multiple_bugs=False
)


def variant(machine: Machine, **attributes: Any) -> type[RuleBasedStateMachine]:
    """The machine with other class attributes."""
    return type(machine.__name__, (machine,), attributes)


def test_I6_an_idr_does_what_a_dict_with_smallest_free_ids_does(execution: str) -> None:
    """Any sequence of operations gives the model's results, and keeps I13, I14, I15 and every block."""
    run_state_machine_as_test(variant(IdrMachine, execution=execution), settings=THOROUGH)


def test_I6_an_ida_does_what_a_set_with_smallest_free_ids_does(execution: str) -> None:
    """Any sequence of operations gives the model's results, and keeps I13, I14 and every block."""
    run_state_machine_as_test(variant(IdaMachine, execution=execution), settings=THOROUGH)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("aaarxn"), some.values, some.ids), max_size=60))
def test_both_executions_leave_the_same_words(operations: list[tuple[str, int, int]]) -> None:
    """Interpreted and compiled, the same calls give the same results and the same memory, word for word."""
    both = make_idr("plain"), make_idr("compiled")
    for name, value, number in operations:
        first, second = (operate(owner, name, value, number) for owner in both)
        assert first == second
    assert both[0].memory.image() == both[1].memory.image()


def operate(owner: Owner, name: str, value: int, number: int) -> int:
    """Do one operation, by its letter."""
    if name == "a":
        return owner.ask(idr_alloc, value, number, 0)
    if name == "r":
        result = owner.call(idr_replace, ROOT, value, number)
    else:
        result = owner.call({"x": idr_remove, "n": idr_get_next}[name], ROOT, number)
    owner.take_retired()
    owner.grace_period()
    return result


# --- broken variants, as a mistake would make them -----------------------------------------------


def marks_only_the_leaf(mem: list[int], idr: int, leaf: int, offset: int) -> int:
    """tree_mark_free() that forgets the ancestors: ids under a node that was full are lost."""
    mem[leaf + IDR_NODE.free] |= (1 << offset) if offset < 63 else -(1 << 63)
    return 0


def marks_nothing_free(mem: list[int], idr: int, leaf: int, offset: int) -> int:
    """tree_mark_free() that does nothing: what was full stays full."""
    return 0


def never_marks_used(mem: list[int], idr: int, leaf: int, offset: int) -> int:
    """tree_mark_used() that does nothing: an id is given twice."""
    return 0


def searches_from_the_next(mem: list[int], idr: int, start: int) -> int:
    """tree_next_free() that takes the last id of a node for the end of the node."""
    return plain(tree_next_free)(mem, idr, start if start & 63 != 63 else start + 1)


def prunes_nothing(mem: list[int], idr: int, leaf: int) -> int:
    """tree_prune() that leaves empty nodes where they are: the tree never becomes empty."""
    return 0


def forgets_what_was_retired(mem: list[int], idr: int, leaf: int) -> int:
    """tree_prune() that loses the nodes that it unlinks."""
    kept = mem[idr + IDR.retired]
    plain(tree_prune)(mem, idr, leaf)
    mem[idr + IDR.retired] = kept
    return 0


def takes_before_it_knows(mem: list[int], idr: int, pool: int, index: int) -> int:
    """tree_reach() that fails half-way: a spare node is gone after -EAGAIN."""
    leaf = plain(tree_reach)(mem, idr, pool, index)
    if not leaf and mem[pool + POOL.nodes]:
        mem[pool + POOL.nodes] = mem[mem[pool + POOL.nodes]]
        mem[pool + POOL.nr_nodes] -= 1
    return leaf


VISIBLE: list[tuple[Machine, Callable[..., int], Callable[..., int]]] = [
    (IdrMachine, idr_remove, marks_only_the_leaf),
    (IdaMachine, ida_free, marks_nothing_free),
    (IdrMachine, idr_alloc, searches_from_the_next),
    (IdrMachine, idr_alloc, never_marks_used),
    (IdrMachine, idr_remove, prunes_nothing),
    (IdaMachine, ida_free, prunes_nothing),
    (IdrMachine, idr_alloc, takes_before_it_knows),
    (IdaMachine, ida_alloc_range, takes_before_it_knows),
]
HIDDEN: list[tuple[Machine, Callable[..., int], Callable[..., int]]] = [
    (IdrMachine, idr_remove, forgets_what_was_retired),
    (IdaMachine, ida_free, forgets_what_was_retired),
    (IdaMachine, ida_alloc_range, never_marks_used),
]
REPLACED = {
    marks_only_the_leaf: "tree_mark_free",
    marks_nothing_free: "tree_mark_free",
    never_marks_used: "tree_mark_used",
    searches_from_the_next: "tree_next_free",
    prunes_nothing: "tree_prune",
    forgets_what_was_retired: "tree_prune",
    takes_before_it_knows: "tree_reach",
}


def names(cell: object) -> str | None:
    """A readable id of a parameter."""
    return getattr(cell, "__name__", None)


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Give a function that puts a broken callee into the plain twin of `victim`."""

    def break_it(victim: Callable[..., int], mutant: Callable[..., int]) -> None:
        monkeypatch.setitem(plain(victim).__globals__, REPLACED[mutant], mutant)

    return break_it


@pytest.mark.parametrize(("machine", "victim", "mutant"), VISIBLE, ids=names)
def test_a_mistake_that_callers_can_see_is_found_by_the_model(
    machine: Machine, victim: Callable[..., int], mutant: Callable[..., int], broken: Callable[..., None]
) -> None:
    """Without looking inside, results that differ from the model's give it away."""
    broken(victim, mutant)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(variant(machine, structure=False), settings=HUNT)


@pytest.mark.parametrize(("machine", "victim", "mutant"), HIDDEN, ids=names)
def test_a_mistake_that_only_costs_memory_or_time_is_found_by_the_invariants(
    machine: Machine, victim: Callable[..., int], mutant: Callable[..., int], broken: Callable[..., None]
) -> None:
    """A leak, or a search that is longer than need be, shows in the structure."""
    broken(victim, mutant)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(variant(machine), settings=HUNT)
