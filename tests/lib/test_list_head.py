"""Linked lists against Python's lists, and their two directions against each other."""

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from shmreclaim.lib.list_head import (
    list_add,
    list_add_rcu,
    list_add_tail,
    list_add_tail_rcu,
    list_del_init,
    list_del_rcu,
    list_empty,
    list_init,
    list_move_tail,
    list_next,
    list_next_rcu,
    list_prev,
    list_splice_init,
)
from tests.both import Memory

HEADS = (8, 16)
ENTRIES = tuple(range(24, 24 + 6 * 8, 8))

heads = st.sampled_from(HEADS)
entries = st.sampled_from(ENTRIES)


class ListMachine(RuleBasedStateMachine):
    """Two lists and six entries beside two Python lists."""

    execution = "plain"

    def __init__(self) -> None:
        """All empty, nobody on a list."""
        super().__init__()
        self.memory = Memory(self.execution, 128)
        self.model: dict[int, list[int]] = {head: [] for head in HEADS}
        for at in (*HEADS, *ENTRIES):
            self.memory.call(list_init, at)

    def free(self, entry: int) -> bool:
        """Whether an entry is on no list."""
        return not any(entry in on for on in self.model.values())

    def forget(self, entry: int) -> None:
        """Take an entry off the model's lists."""
        for on in self.model.values():
            if entry in on:
                on.remove(entry)

    @rule(entry=entries, head=heads, tail=st.booleans(), rcu=st.booleans())
    def add(self, entry: int, head: int, tail: bool, rcu: bool) -> None:
        """First or last, for readers with or without a lock."""
        if self.free(entry):
            function = {
                (False, False): list_add,
                (False, True): list_add_rcu,
                (True, False): list_add_tail,
                (True, True): list_add_tail_rcu,
            }[tail, rcu]
            self.memory.call(function, entry, head)
            self.model[head].insert(len(self.model[head]) if tail else 0, entry)

    @rule(entry=entries)
    def delete(self, entry: int) -> None:
        """Off its list; also one that is on none."""
        self.memory.call(list_del_init, entry)
        self.forget(entry)
        assert self.memory.call(list_empty, entry)

    @rule(entry=entries)
    def delete_rcu(self, entry: int) -> None:
        """Off its list, while a reader who stands on it still finds its way on."""
        if not self.free(entry):
            after = self.memory.call(list_next, entry)
            self.memory.call(list_del_rcu, entry)
            assert self.memory.call(list_next_rcu, entry) == after
            self.memory.call(list_init, entry)
            self.forget(entry)

    @rule(entry=entries, head=heads)
    def move_tail(self, entry: int, head: int) -> None:
        """To the end of either list."""
        self.memory.call(list_move_tail, entry, head)
        self.forget(entry)
        self.model[head].append(entry)

    @rule(source=heads)
    def splice(self, source: int) -> None:
        """All of one to the front of the other."""
        target = HEADS[1 - HEADS.index(source)]
        self.memory.call(list_splice_init, source, target)
        self.model[target][:0] = self.model[source]
        self.model[source].clear()

    @invariant()
    def both_directions_agree_with_the_model(self) -> None:
        """Forwards as the model, backwards its reverse; empty when it is."""
        for head, expected in self.model.items():
            assert self.walk(head, list_next) == expected
            assert self.walk(head, list_next_rcu) == expected
            assert self.walk(head, list_prev) == expected[::-1]
            assert self.memory.call(list_empty, head) == (not expected)

    def walk(self, head: int, step: object) -> list[int]:
        """The entries from a head on."""
        found: list[int] = []
        at = self.memory.call(step, head)  # type: ignore[arg-type]
        while at != head and len(found) <= len(ENTRIES):
            found.append(at)
            at = self.memory.call(step, at)  # type: ignore[arg-type]
        return found


def test_a_list_does_what_a_python_list_does(execution: str) -> None:
    """Any sequence of additions, deletions, moves and splices."""
    machine = type("ListMachine", (ListMachine,), {"execution": execution})
    run_state_machine_as_test(machine, settings=settings(max_examples=40, stateful_step_count=40, deadline=None))


@pytest.mark.parametrize("add", [list_add, list_add_rcu], ids=["list_add", "list_add_rcu"])
def test_adding_first_makes_a_stack(add: object, execution: str) -> None:
    """The entry added last comes first."""
    memory = Memory(execution, 128)
    memory.call(list_init, HEADS[0])
    for entry in ENTRIES:
        memory.call(add, entry, HEADS[0])  # type: ignore[arg-type]
    assert memory.call(list_next, HEADS[0]) == ENTRIES[-1]
    assert memory.call(list_prev, HEADS[0]) == ENTRIES[0]
