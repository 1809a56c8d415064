"""The form of a design file, which is what makes two of them readable side by side."""

import ast
import re
from pathlib import Path

import pytest

import shmreclaim.designs
from shmreclaim.designs import FUNCTIONS, NAMES
from shmreclaim.machine.upcall import ARGUMENTS
from shmreclaim.mm.state import Upcall

FOLDER = Path(shmreclaim.designs.__file__).parent


def tree_of(name: str) -> ast.Module:
    """The syntax tree of a design file."""
    return ast.parse((FOLDER / f"{name}.py").read_text())


def public_functions(name: str) -> list[ast.FunctionDef]:
    """What it defines without an underscore."""
    return [n for n in tree_of(name).body if isinstance(n, ast.FunctionDef) and not n.name.startswith("_")]


def docstring(name: str) -> str:
    """Its docstring."""
    return ast.get_docstring(tree_of(name)) or ""


def test_every_file_is_a_design_and_every_design_has_a_file() -> None:
    """NAMES is complete."""
    assert {path.stem for path in FOLDER.glob("*.py")} - {"__init__"} == set(NAMES)


def test_the_upcall_table_is_in_the_order_of_the_functions() -> None:
    """bind_design() counts on it."""
    assert [slot.name.lower() for slot in Upcall] == list(FUNCTIONS)


@pytest.mark.parametrize("name", NAMES)
def test_a_design_defines_exactly_the_functions_in_order(name: str) -> None:
    """`init` may stand first, where it is read first."""
    names = [function.name for function in public_functions(name)]
    assert sorted(names) == sorted(FUNCTIONS)
    assert [n for n in names if n != "init"] == [n for n in FUNCTIONS if n != "init"]


@pytest.mark.parametrize("name", NAMES)
def test_every_function_takes_mem_cpu_and_four_more(name: str) -> None:
    """What the upcall table passes."""
    for function in public_functions(name):
        arguments = [a.arg for a in function.args.args]
        assert arguments[:2] == ["mem", "cpu"], function.name
        assert len(arguments) == ARGUMENTS, function.name


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("section", ["Source:", "Lock order:", "Allocated:", "Which operation excludes which"])
def test_the_docstring_has_the_section(name: str, section: str) -> None:
    """Where it comes from, its lock order, what is allocated under which lock, who excludes whom."""
    assert re.search(rf"^{section} *\S", docstring(name), re.MULTILINE)


@pytest.mark.parametrize("name", NAMES)
def test_the_matrix_is_a_table_whose_rows_are_its_columns(name: str) -> None:
    """Each row names an operation of the head, and has a cell for each."""
    rows = [line.strip().strip("|").split("|") for line in docstring(name).splitlines() if line.startswith("|")]
    head, ruler, *body = rows
    columns = [cell.strip() for cell in head[1:]]
    assert all(set(cell.strip()) == {"-"} for cell in ruler)
    assert {"register", "unregister", "shrink_slab", "lru_add", "online", "offline"} <= set(columns)
    for row in body:
        assert row[0].strip() in columns
        assert len(row) == len(head)


@pytest.mark.parametrize("name", NAMES)
def test_no_design_imports_another(name: str) -> None:
    """They are alternatives."""
    imported = {node.module for node in ast.walk(tree_of(name)) if isinstance(node, ast.ImportFrom)}
    assert not {module for module in imported if module and module.startswith("shmreclaim.designs")}
