"""Mutants: one of our own files with one line changed, in place of it in this process.

The changed text is run as a module of its own. What calls the file's out-of-line functions, through a pointer, is led
to the changed ones; a design's functions are bound by `kernel.bind_mutant`. So the code of ordinary runs pays nothing
and knows nothing of mutants, and only what a mutant touches is compiled. What is inlined elsewhere stays whole.
"""

from __future__ import annotations

import hashlib
import linecache
import sys
import types

from shmreclaim.designs import FUNCTIONS
from shmreclaim.errors import InternalError
from shmreclaim.machine.compile import c_address, link, relink, stamp_source
from shmreclaim.machine.sources import PACKAGE
from shmreclaim.machine.upcall import ARGUMENTS
from shmreclaim.mutants import MUTANTS, Mutant

ROOT = "shmreclaim_mutants"
"""The package that changed modules have in their names; there is no such folder."""


def changed_text(mutant: Mutant) -> str:
    """Give the text of a mutant's file with its line changed; InternalError if that is not there exactly once."""
    text = (PACKAGE / mutant.file).read_text("utf-8")
    for old, new in mutant.changes:
        if text.count(old) != 1:
            raise InternalError(
                f"mutant {mutant.name}: {old!r} is {text.count(old)} times in {mutant.file}, not once",
                cause="The file was changed since.",
                remedy="Adapt shmreclaim/mutants.py.",
            )
        text = text.replace(old, new)
    return text


def apply(name: str) -> types.ModuleType:
    """Put a mutant in place in this process; gives the changed module."""
    mutant = MUTANTS[name]
    module = _load(mutant)
    link(module.__name__ + ".")
    for function in mutant.functions:
        relink(f"shmreclaim.{_dotted(mutant)}.{function}", getattr(module, function))
    return module


def compile_mutant(name: str) -> None:
    """Compile what a mutant changes into the cache, for all workers to find."""
    mutant = MUTANTS[name]
    module = apply(name)
    for function in FUNCTIONS if mutant.file.startswith("designs/") else ():
        c_address(getattr(module, function), ARGUMENTS)


def _load(mutant: Mutant) -> types.ModuleType:
    text = changed_text(mutant)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    name = f"{ROOT}.{mutant.name.replace('-', '_')}.{_dotted(mutant).rpartition('.')[2]}"
    if name in sys.modules:
        return sys.modules[name]
    path = f"/mutant/{mutant.name}/{mutant.file}"
    stamp_source(path, f"mutants/{mutant.name}-{digest}")
    linecache.cache[path] = (len(text), None, text.splitlines(keepends=True), path)
    module = types.ModuleType(name)
    module.__file__ = path
    sys.modules[name] = module
    exec(compile(text, path, "exec", dont_inherit=True), vars(module))
    return module


def _dotted(mutant: Mutant) -> str:
    return mutant.file.removesuffix(".py").replace("/", ".")
