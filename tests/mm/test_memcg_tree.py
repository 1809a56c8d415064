"""The tree of memcgs against plain objects: who is there, who is charged, what a walk finds, plain and compiled."""

from __future__ import annotations

from hypothesis import settings

from shmreclaim.machine.cpu import Violation
from shmreclaim.mm.memcg import (
    css_get_many,
    css_online,
    css_put_many,
    css_tryget,
    page_counter_try_charge,
    page_counter_uncharge,
)
from shmreclaim.mm.state import LINES_PER_PAGE
from tests.emulated import Emulated, mkdir, rmdir
from tests.mm.machines import SOME, MemcgMachine

TestMemcgTree = MemcgMachine.TestCase
TestMemcgTree.settings = settings(SOME, max_examples=25, stateful_step_count=50)


def test_a_charge_that_is_too_much_names_the_limit_that_it_hit(kernel: Emulated) -> None:
    """The lowest one that it is too much for; below and above nothing is charged."""
    kernel.play([mkdir(1, 0, 5), mkdir(2, 1, 0), mkdir(3, 2, 2)])
    top, leaf = kernel.memcg(1), kernel.memcg(3)
    assert kernel.call(page_counter_try_charge, leaf, 2 * LINES_PER_PAGE) == 0
    assert kernel.call(page_counter_try_charge, leaf, 1) == leaf
    assert kernel.call(page_counter_try_charge, kernel.memcg(2), 3 * LINES_PER_PAGE) == 0
    assert kernel.call(page_counter_try_charge, kernel.memcg(2), 1) == top
    assert [kernel.usage(kernel.memcg(k)) for k in (0, 1, 2, 3)] == [5, 5, 5, 2]
    kernel.call(page_counter_uncharge, leaf, 2 * LINES_PER_PAGE)
    kernel.call(page_counter_uncharge, kernel.memcg(2), 3 * LINES_PER_PAGE)
    assert kernel.oracles() == []


def test_a_memcg_whose_last_reference_is_gone_gives_no_new_one(kernel: Emulated) -> None:
    """It is off the list, and its memory stays for those who are just looking."""
    kernel.play([mkdir(1)])
    memcg = kernel.memcg(1)
    assert kernel.call(css_online, memcg) == 1
    kernel.play([rmdir(1)])
    assert kernel.call(css_tryget, memcg) == 0
    assert kernel.call(css_online, memcg) == 0


def test_giving_up_more_than_was_taken_is_found_on_line(kernel: Emulated) -> None:
    """The count and how many were too many."""
    kernel.play([mkdir(1)])
    kernel.call(css_put_many, kernel.cpus[0], kernel.memcg(1), 3)
    assert kernel.violations() == [Violation.REF_UNDERFLOW]
    kernel.call(css_get_many, kernel.memcg(1), 3)


def test_a_memcg_that_goes_while_it_is_charged_is_found_on_line(kernel: Emulated) -> None:
    """Somebody lost a reference or an uncharge."""
    kernel.play([mkdir(1)])
    kernel.call(page_counter_try_charge, kernel.memcg(1), 7)
    kernel.play([rmdir(1)])
    assert kernel.violations() == [Violation.NEGATIVE_COUNT]
