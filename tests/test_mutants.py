"""The table of mutants: each is what it says, without running any."""

import ast
import importlib
import inspect

import pytest

from shmreclaim.errors import InternalError, UsageError
from shmreclaim.machine.compile import body_of
from shmreclaim.mutants import MUTANTS, Mutant, chosen_mutants
from shmreclaim.plugins import mutation
from shmreclaim.switches import parse_variant

CHANGED = [mutant for mutant in MUTANTS.values() if mutant.file]


def by_name(mutant: Mutant) -> str:
    """For the names of tests."""
    return mutant.name


def test_there_are_at_least_twenty_and_hardly_any_that_only_the_checker_sees() -> None:
    """Those have a reason."""
    checker = [mutant for mutant in MUTANTS.values() if mutant.checker]
    assert len(MUTANTS) - len(checker) >= 20
    assert len(checker) <= 6


@pytest.mark.parametrize("mutant", CHANGED, ids=by_name)
def test_the_text_that_a_mutant_changes_is_in_its_file(mutant: Mutant) -> None:
    """Once; and what comes of it is Python still."""
    ast.parse(mutation.changed_text(mutant))


@pytest.mark.parametrize("mutant", CHANGED, ids=by_name)
def test_the_functions_of_a_mutant_are_out_of_line_and_changed(mutant: Mutant) -> None:
    """Others are inlined into their callers, which would not notice."""
    module = importlib.import_module(f"shmreclaim.{mutant.file.removesuffix('.py').replace('/', '.')}")
    assert bool(mutant.functions) != mutant.file.startswith("designs/")
    for name in mutant.functions:
        assert hasattr(getattr(module, name), "dispatcher"), f"{name} is inlined"
    called = [function for _, function in inspect.getmembers(module, lambda each: body_of(each) is not None)]
    assert called


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=by_name)
def test_a_mutant_is_of_a_design_that_there_is(mutant: Mutant) -> None:
    """A switch is known, and there is either a switch or a text."""
    variant = parse_variant(mutant.design)
    assert bool(variant.switches) != bool(mutant.file)


def test_a_text_that_is_not_there_any_more_is_our_own_fault() -> None:
    """Who changes a file hears which mutant was about it."""
    stale = CHANGED[0]._replace(changes=(("no such line", ""),))
    with pytest.raises(InternalError, match=f"mutant {stale.name}: 'no such line' is 0 times in {stale.file}"):
        mutation.changed_text(stale)


def test_a_name_that_is_unknown_is_answered_with_those_there_are() -> None:
    """And `all` is all."""
    assert chosen_mutants("all") == [*MUTANTS.values()]
    assert chosen_mutants("no-recount") == [MUTANTS["no-recount"]]
    with pytest.raises(UsageError, match="there is no mutant 'nonsense'") as caught:
        chosen_mutants("nonsense")
    assert "no-recount" in caught.value.remedy
