"""Crash points: named places to be killed at, before each statement of what does the kernel's work.

In the build for workers that are killed (machine/journal.py) every function of PLACES, and of a user's design, is
compiled with a look before each of its statements: is this where somebody is to die? Before a statement is after
the one before it, so each step of an operation is between two points. The sources know nothing of that, and other
builds are not changed. What only returns something has none: it is a part of its caller's step. A death may also come
inside a statement, at any access to memory; those have no names.
"""

from __future__ import annotations

import ast
import copy
import functools
import linecache
import types
import zlib
from pathlib import Path
from typing import Any, NamedTuple

from shmreclaim.machine import _intrinsics as ll
from shmreclaim.machine.atomics import operation
from shmreclaim.machine.sources import PACKAGE

PLACES = ("designs", "mm", "lib", "sync/rcu.py", "sync/srcu.py")
"""Files and folders whose functions have crash points. Locks have none: they are tried at every instruction."""

_LOOK = "__crash_point__"


class CrashPoint(NamedTuple):
    """A place before a statement."""

    name: str
    """`file.function:line`, as in `list_lru.list_lru_add:57`; the file without its folder and ending."""
    number: int
    """What stands for it in a segment; not 0."""
    statement: str
    """Its first line."""

    def is_called(self, name: str) -> bool:
        """Whether that is its name, or its function's, or its file's."""
        place = self.name.partition(":")[0]
        return name in (self.name, place, *place.split("."))


@operation(ll.nothing, ll.journaled("pass_point", 1))
def pass_point(_number: int) -> int:
    """Come by a crash point: nothing, but where workers are killed."""
    return 0


def points_of(body: Any) -> list[CrashPoint]:
    """The crash points of a Python function; none if it is in none of the places, or has no source."""
    definition = _definition(body.__code__)
    if definition is None:
        return []
    lines = linecache.getlines(body.__code__.co_filename)
    found = {each.lineno: lines[each.lineno - 1].strip() for block in _blocks(definition) for each in block}
    return [CrashPoint(_name(body, line), _number(body, line), text) for line, text in sorted(found.items())]


def with_points(body: Any) -> Any:
    """The function, with a look before each statement; itself, if it has no crash points."""
    definition = copy.deepcopy(_definition(body.__code__))
    if definition is None:
        return body
    for block in _blocks(definition):
        block[:] = [each for before in block for each in (_look(_number(body, before.lineno), before), before)]
    definition.decorator_list = []
    module = compile(ast.Module([definition], []), body.__code__.co_filename, "exec", dont_inherit=True)
    code = next(each for each in module.co_consts if getattr(each, "co_name", "") == body.__name__)
    body.__globals__[_LOOK] = pass_point
    made = types.FunctionType(code, body.__globals__, body.__name__, body.__defaults__)
    return functools.wraps(body)(made)


def _look(number: int, before: ast.stmt) -> ast.stmt:
    call = ast.Call(ast.Name(_LOOK, ast.Load()), [ast.Constant(number)], [])
    return ast.fix_missing_locations(ast.copy_location(ast.Expr(call), before))


def _blocks(definition: ast.FunctionDef) -> list[list[ast.stmt]]:
    """Every list of statements in a function."""
    nodes = [(node, field) for node in ast.walk(definition) for field in ("body", "orelse")]
    return [block for node, field in nodes if isinstance(block := getattr(node, field, None), list)]


def _name(body: Any, line: int) -> str:
    return f"{Path(body.__code__.co_filename).stem}.{body.__name__}:{line}"


def _number(body: Any, line: int) -> int:
    return 1 + zlib.crc32(f"{body.__module__}.{body.__name__}:{line}".encode())


def _definition(code: types.CodeType) -> ast.FunctionDef | None:
    return _definitions(code.co_filename).get(code.co_firstlineno) if _is_place(Path(code.co_filename)) else None


def _is_place(file: Path) -> bool:
    return not file.is_relative_to(PACKAGE) or any(file.is_relative_to(PACKAGE / place) for place in PLACES)


@functools.cache
def _definitions(file: str) -> dict[int, ast.FunctionDef]:
    """The functions of a file that have steps, by the line that they begin in, decorators included; no docstrings."""
    statements = ast.parse("".join(linecache.getlines(file))).body
    functions = [each for each in statements if isinstance(each, ast.FunctionDef)]
    for each in functions:
        each.body = each.body[ast.get_docstring(each) is not None :]
    steps = [each for each in functions if each.body and not isinstance(each.body[0], ast.Return)]
    return {min([each.lineno, *(mark.lineno for mark in each.decorator_list)]): each for each in steps}
