"""Rules of the house that can be read off the syntax trees."""

import ast
from pathlib import Path

import pytest

from shmreclaim.machine.sources import PACKAGE

SOURCES = [path for path in sorted(PACKAGE.rglob("*.py")) if "__pycache__" not in path.parts]
IDS = [str(path.relative_to(PACKAGE)) for path in SOURCES]
MAY_IMPORT_NUMBA = {f"machine/{name}.py" for name in ("compile", "atomics", "_intrinsics", "futex", "upcall")}
EACH = pytest.mark.parametrize("source", SOURCES, ids=IDS)


def imported(tree: ast.AST) -> set[str]:
    """Top-level packages that a module imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add((node.module or "").partition(".")[0])
    return names


@EACH
def test_only_the_machine_names_numba(source: Path) -> None:
    """One decorator decides how everything else runs."""
    found = imported(ast.parse(source.read_text())) & {"numba", "llvmlite"}
    assert not found or str(source.relative_to(PACKAGE)) in MAY_IMPORT_NUMBA


@EACH
def test_shared_memory_is_subscripted_in_the_machine_only(source: Path) -> None:
    """A plain load may be kept in a register; everybody else says which order he wants."""
    subscripts = [
        node.lineno
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == "mem"
    ]
    assert not subscripts or source.is_relative_to(PACKAGE / "machine")


@EACH
def test_compiled_functions_are_plain_module_functions(source: Path) -> None:
    """A closure would be compiled anew in every process."""
    tree = ast.parse(source.read_text())
    top = {id(node) for node in tree.body}
    nested = [
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and id(node) not in top
        for decorator in node.decorator_list
        if isinstance(decorator, ast.Name) and decorator.id in {"compiled", "compiled_nogil", "out_of_line"}
    ]
    assert nested == []
