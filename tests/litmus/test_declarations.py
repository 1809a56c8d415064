"""Every ordering pair is declared, has two ends and a litmus test that exists."""

import ast
import functools
import re
import tokenize
from collections import Counter
from pathlib import Path

import pytest

import shmreclaim

PACKAGE = Path(shmreclaim.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
PAIR = re.compile(r"\bP(\d+)\b")
DECLARATION = re.compile(r"^P(\d+)  ", re.MULTILINE)
LITMUS = re.compile(r"\b(test_P\d+_\w+)")
WITH_ITSELF = re.compile(r"\bP(\d+): pairs with itself\b")
TESTS = "\n".join(path.read_text() for path in Path(__file__).parent.parent.rglob("test_*.py"))


@functools.cache
def code_comments() -> Counter[int]:
    """How many comments in code name each pair."""
    count: Counter[int] = Counter()
    for source in SOURCES:
        with source.open("rb") as file:
            for token in tokenize.tokenize(file.readline):
                if token.type == tokenize.COMMENT:
                    count.update(sorted({int(number) for number in PAIR.findall(token.string)}))
                count.update(int(number) for number in WITH_ITSELF.findall(token.string))
    return count


@functools.cache
def docstrings() -> dict[str, str]:
    """The docstring of every module."""
    return {str(path.relative_to(PACKAGE)): ast.get_docstring(ast.parse(path.read_text())) or "" for path in SOURCES}


def declared() -> Counter[int]:
    """How many docstrings declare each pair."""
    return Counter(int(number) for text in docstrings().values() for number in DECLARATION.findall(text))


NUMBERS = sorted(code_comments() | declared())


def test_there_are_pairs_at_all() -> None:
    """P1 to P9 belong to the locks."""
    assert set(range(1, 10)) <= set(NUMBERS)


@pytest.mark.parametrize("number", NUMBERS)
def test_each_pair_is_declared_in_a_docstring(number: int) -> None:
    """Where its two sides and what it forbids are explained."""
    assert declared()[number] >= 1


@pytest.mark.parametrize("number", NUMBERS)
def test_each_pair_has_two_ends_in_the_code(number: int) -> None:
    """Half a pair is a bug."""
    assert code_comments()[number] >= 2


def test_every_litmus_test_that_a_docstring_names_exists() -> None:
    """By its very name."""
    missing = [name for text in docstrings().values() for name in LITMUS.findall(text) if f"def {name}(" not in TESTS]
    assert missing == []


@pytest.mark.parametrize("number", NUMBERS)
def test_each_pair_has_a_litmus_test(number: int) -> None:
    """Named after it."""
    assert f"def test_P{number}_" in TESTS


def test_every_full_barrier_names_its_partner() -> None:
    """Each call of smp_mb in the package stands beside a comment with its pair."""
    bare = [
        f"{source.relative_to(PACKAGE)}:{n}"
        for source in SOURCES
        for n, line in enumerate(source.read_text().splitlines(), start=1)
        if re.search(r"\bsmp_mb\(\)(?! ->)", line.partition("#")[0]) and not PAIR.search(line) and '"""' not in line
    ]
    assert [place for place in bare if not place.startswith("machine/")] == []
