"""Whether a user's file has the form of a design: everything that it lacks, in one message, before anything runs."""

from __future__ import annotations

import ast
import inspect
import signal
import sys
import traceback
import types
from collections.abc import Iterable, Sequence
from typing import Any

from shmreclaim.designs import FUNCTIONS
from shmreclaim.errors import UsageError
from shmreclaim.machine.compile import body_of, named_globals, own_functions, troubles
from shmreclaim.machine.upcall import ARGUMENTS
from shmreclaim.plugins.choice import Design
from shmreclaim.plugins.load import keep, load

ABOUT = "docs/writing-a-design.md tells how a design is written."
MAY_IMPORT = {"shmreclaim", "__future__"} | sys.stdlib_module_names
"""What stands in another file of the user's own would change without the machine code knowing."""


def unusable(design: Design, lines: Iterable[str], remedy: str = ABOUT) -> UsageError:
    """Make the error of a file that cannot be used; each line says where and why."""
    return UsageError("\n".join([f"{design.path} cannot be used as a design", *lines]), remedy=remedy)


def place(design: Design, line: int | None, function: str | None = None) -> str:
    """Name a place in the file, as compilers and editors do."""
    where = f"{design.path}:{line}" if line else design.path
    return f"{where}: {function}()" if function else where


def _place_of(design: Design, function: Any, name: str) -> str:
    """The place of a function that the file has under a name; no line where it was imported: that is another file's."""
    code = function.__code__
    return place(design, code.co_firstlineno if code.co_filename == design.file else None, name)


def open_design(design: Design) -> types.ModuleType:
    """Keep a user's file, load it here, and raise UsageError for all that it lacks."""
    foreign = _foreign_imports(design)
    if foreign:
        raise unusable(design, foreign, "A design is one file: copy into it what it needs.")
    keep(design)
    module = _load(design)
    lacks = [lack for name in FUNCTIONS if (lack := _lack(design, module, name))] + _unmarked(design, module)
    if lacks:
        what = f"A design has the functions {', '.join(FUNCTIONS)}: marked @compiled, of {ARGUMENTS} integers."
        called = "Functions that they call are marked, too: @compiled, or @out_of_line where they are slow paths."
        raise unusable(design, lacks, f"{what}\n{called}\n{ABOUT}")
    return module


def compile_design(design: Design) -> None:
    """Compile all functions of a user's file into the cache; raises UsageError for those that cannot be."""
    module = load(design.module)
    taken = [getattr(module, name) for name in FUNCTIONS]
    own = own_functions(module)
    found = troubles([*own, *(function for function in taken if function not in own)], taken)
    if found:
        remedy = f"Algorithms are written in a plain subset of Python: integers and calls.\n{ABOUT}"
        lines = [(t.line if t.file == design.file else None, t) for t in sorted(found)]
        raise unusable(design, [f"{place(design, line, t.function)}: {t.why}" for line, t in lines], remedy)


def _foreign_imports(design: Design) -> list[str]:
    found = []
    for node in ast.walk(_parse(design)):
        names: Sequence[str] = ()
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = ["." * node.level + (node.module or "")]
        for name in names:
            if name.partition(".")[0] not in MAY_IMPORT:
                where = place(design, getattr(node, "lineno", None))
                found.append(f"{where}: imports {name}; it may import shmreclaim and the standard library alone")
    return found


def _parse(design: Design) -> ast.Module:
    try:
        tree = ast.parse(design.source, design.file)
        compile(tree, design.file, "exec", dont_inherit=True)  # a `return` outside of a function can be parsed
        return tree
    except SyntaxError as error:
        why = f"{place(design, error.lineno)}: {error.msg}"
        if error.text:
            why += f": {error.text.strip()}"
        raise unusable(design, [why]) from None
    except (ValueError, RecursionError, MemoryError) as error:  # null bytes; brackets in brackets without end
        raise unusable(design, [f"{design.path}: {str(error) or 'it is nested too deeply'}"]) from None


def _load(design: Design) -> types.ModuleType:
    handlers = [getattr(signal.getsignal(number), "__code__", None) for number in signal.valid_signals()]
    try:
        return load(design.module)
    except (Exception, SystemExit) as error:
        last = [frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)][-1]
        if isinstance(error, SystemExit) and last in handlers:
            raise  # a signal came while the file ran: it is not the file that ends the command
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == design.file]
        if not frames:
            raise
        why = f"{type(error).__name__}: {error}".removesuffix(": ")
        raise unusable(design, [f"{place(design, frames[-1].lineno)}: {why}"]) from None


def _lack(design: Design, module: types.ModuleType, name: str) -> str:
    """What is wrong with one of the functions; nothing if it is as it should be."""
    function = getattr(module, name, None)
    if function is None:
        return f"{design.path}: {name}() is missing"
    body = body_of(function)
    if body is None:
        if isinstance(function, types.FunctionType):
            return f"{_place_of(design, function, name)} is not marked @compiled"
        return f"{place(design, None, name)} is {type(function).__name__}, not a function marked @compiled"
    taken = inspect.signature(body)
    kinds = {parameter.kind for parameter in taken.parameters.values()}
    if kinds == {inspect.Parameter.POSITIONAL_OR_KEYWORD} and len(taken.parameters) == ARGUMENTS:
        return ""
    has = ", ".join(map(str, taken.replace(return_annotation=taken.empty).parameters))
    must = f"it must take {ARGUMENTS}, mem and cpu first"
    return f"{_place_of(design, body, name)} takes {len(taken.parameters)} arguments ({has}); {must}"


def _unmarked(design: Design, module: types.ModuleType) -> list[str]:
    """Functions of the file that marked ones call, directly or through each other, and that are not marked."""
    callers = [body_of(function) for function in own_functions(module)]
    found: dict[str, str] = {}
    for caller in callers:  # it grows while it is gone through
        for name in sorted(named_globals(caller.__code__) - found.keys() - set(FUNCTIONS)):
            function = getattr(module, name, None)
            plain = isinstance(function, types.FunctionType) and body_of(function) is None
            if plain and function.__module__ == module.__name__:
                found[name] = f"{_place_of(design, function, name)} is not marked, and {caller.__name__}() calls it"
                callers.append(function)
    return list(found.values())
