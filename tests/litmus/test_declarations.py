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


ORDERED = re.compile(
    r"(?<![\w.])(smp_mb|load_acquire|store_release|xchg|xchg_release|cmpxchg|cmpxchg_acquire|cmpxchg_release"
    r"|fetch_add|fetch_add_acquire|fetch_add_release|fetch_or|fetch_and)\((?!.*->)"
)


def bare(text: str) -> list[int]:
    """Numbers of the lines with an ordered operation and no pair named beside or right above it."""
    lines = ["", *text.splitlines()]
    return [
        n
        for n, line in enumerate(lines)
        if ORDERED.search(line.partition("#")[0])
        and not line.lstrip().startswith(("def ", '"""'))
        and not PAIR.search(line.partition("#")[2])
        and not (lines[n - 1].lstrip().startswith("#") and PAIR.search(lines[n - 1]))
    ]


def test_every_ordered_operation_names_its_partner() -> None:
    """An order that pairs with nothing is either missing its partner or not needed."""
    found = [
        f"{source.relative_to(PACKAGE)}:{n}"
        for source in SOURCES
        if source.name not in ("atomics.py", "_intrinsics.py")
        for n in bare(source.read_text())
    ]
    assert found == []


def test_an_ordered_operation_without_a_partner_is_found() -> None:
    """The test above bites: on a barrier alone, and on one whose comment names no pair."""
    assert bare("a = load_acquire(mem, i)\nsmp_mb()  # to be safe\nstore_release(mem, i, 1)  # P1: pairs with x()") == [
        1,
        2,
    ]
    assert bare("# P6: pairs with itself\nreturn fetch_add(mem, ref, -1)\nfetch_add_relaxed(mem, i, 1)") == []
