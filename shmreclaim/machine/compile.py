"""The one decorator that turns a function of the plain subset into machine code, and its inverse.

`@compiled` marks every algorithm of this package. Its source runs in two ways:

- *compiled*: `mem` is the base address of a mapped segment, every argument and result a signed
  64-bit integer, every atomic one machine instruction;
- *plain*: `plain(function)` gives a twin that runs the same source in the interpreter, with every
  compiled function it calls replaced by its own twin. `mem` is then a list of ints (or anything
  indexable), and the bodies in `atomics.py` are what an atomic means.

Only `atomics.py`, `_intrinsics.py`, `futex.py` and `upcall.py` name numba beside this module; a test
walks the syntax trees to check it.

The compiled code is kept in a folder named after a hash of every source that can be compiled into it.
numba itself looks only at the file of the outermost function, and would answer an edit in a callee with
the stale machine code of its caller (numba documentation, developer/caching.rst).
"""

from __future__ import annotations

import ctypes
import dis
import functools
import hashlib
import inspect
import os
import shutil
import sys
import tempfile
import time
import types
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core import caching
from numba.core.errors import NumbaError
from numba.core.registry import CPUDispatcher
from numba.extending import overload

from shmreclaim.machine import _intrinsics as ll
from shmreclaim.machine.crash_points import with_points
from shmreclaim.machine.sources import COMPILED_LAYERS, JOURNALED, PACKAGE, build
from shmreclaim.machine.trouble import Trouble, line_in, reason

KEPT_FOLDERS = 10
"""How many generations of compiled code stay on disk: switching branches must not recompile."""

F = TypeVar("F", bound=Callable[..., int])


def cache_home() -> Path:
    """Where compiled code of any version is kept; a private temporary folder where home is read-only."""
    base = os.environ.get("SHMRECLAIM_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = Path(base).expanduser() / "shmreclaim"
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        if os.access(home, os.W_OK | os.X_OK):
            return home
    except OSError:
        pass
    return _private_temporary_home()


def _private_temporary_home() -> Path:
    """Make or find `/tmp/shmreclaim-<uid>`; machine code is only ever loaded from a folder of our own."""
    home = Path(tempfile.gettempdir()) / f"shmreclaim-{os.getuid()}"
    home.mkdir(exist_ok=True, mode=0o700)
    status = home.lstat()
    if status.st_uid != os.getuid() or status.st_mode & 0o077 or home.is_symlink():
        return Path(tempfile.mkdtemp(prefix="shmreclaim-"))
    return home


def cache_folder() -> Path:
    """Make the folder of this very source; forget all but the newest few of the others."""
    return folder_of(build())


@functools.cache
def folder_of(name: str) -> Path:
    """Make the folder of a build (sources.py)."""
    home = cache_home()
    folder = home / name
    if not folder.exists():
        others = sorted((f for f in home.iterdir() if f.is_dir()), key=_last_used)
        for old in others[: -KEPT_FOLDERS + 1]:
            shutil.rmtree(old, ignore_errors=True)
    folder.mkdir(exist_ok=True, mode=0o700)
    os.utime(folder)  # newest means used last
    return folder


KEPT_DAYS = 7
"""How long what was compiled from one version of a user's file stays on disk after its last use."""


def forget_old(folder: Path) -> None:
    """Remove folders in `folder` that were not used for some days: every edit of a user's file leaves one."""
    oldest = time.time() - KEPT_DAYS * 86400
    for old in folder.iterdir() if folder.is_dir() else ():
        if _last_used(old) < oldest:
            shutil.rmtree(old, ignore_errors=True)


def _last_used(folder: Path) -> float:
    """When; long ago if it is not there any more: other commands forget what is old, too."""
    try:
        return folder.stat().st_mtime
    except OSError:
        return 0.0


_stamps: dict[str, str] = {}


def stamp_source(file: str, stamp: str) -> None:
    """Say what stands for the content of a file outside the package, as it was read: a path below the cache folder.

    For what is compiled from it after this call; nothing else of the file's folder may be compiled into that.
    """
    _stamps[file] = stamp


@functools.cache
def _folder_hash(folder: Path) -> str:
    """Hash the sources of a folder outside the layers: a function compiled there may call into its neighbours."""
    digest = hashlib.sha256()
    for source in sorted(folder.glob("*.py")):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()[:16]


class _Locator:
    """Tell numba where a function's machine code is kept: by content, never by time stamp."""

    def __init__(self, py_func: Any, py_file: str) -> None:
        self._line = py_func.__code__.co_firstlineno
        self._file = Path(py_file)
        if any(self._file.is_relative_to(PACKAGE / layer) for layer in COMPILED_LAYERS):
            self._stamp = "package"
        elif py_file in _stamps:
            self._stamp = _stamps[py_file]
        else:
            self._stamp = _folder_hash(self._file.parent)

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> _Locator:
        return cls(py_func, py_file)

    def ensure_cache_path(self) -> None:
        Path(self.get_cache_path()).mkdir(parents=True, exist_ok=True)

    def get_cache_path(self) -> str:
        return str(cache_folder() / self._stamp)

    def get_source_stamp(self) -> str:
        return self._stamp

    def get_disambiguator(self) -> str:
        return f"{self._file.stem}{self._line}"


class _DispatcherCacheImpl(caching.CompileResultCacheImpl):
    _locator_classes = [_Locator]  # noqa: RUF012 - numba reads it from the class, and declares it of instances


class _DispatcherCache(caching.FunctionCache):
    _impl_class = _DispatcherCacheImpl


class _WordDispatcher(CPUDispatcher):
    """A compiled function of words: one machine code each, whatever integers a caller passes.

    numba would compile it anew for every literal, boolean and enum member among the arguments.
    """

    def get_call_template(self, args: Any, kws: Any) -> Any:
        return super().get_call_template((numba.int64,) * len(args), kws)


def compiled(function: F) -> F:
    """Mark an algorithm: called, it runs as machine code; LLVM may inline it into its callers."""
    return cast(F, _dispatcher(function, nogil=False))


def compiled_nogil(function: F) -> F:
    """Mark an entry point that may wait: as `compiled`, but other Python threads run meanwhile."""
    return cast(F, _dispatcher(function, nogil=True))


def _dispatcher(function: Any, *, nogil: bool) -> Any:
    options = {"nopython": True, "nogil": nogil, "error_model": "numpy", "boundscheck": None}
    body = with_points(function) if JOURNALED else function
    dispatcher: Any = _WordDispatcher(py_func=body, locals={}, targetoptions=options)
    dispatcher._cache = _DispatcherCache(body)
    return dispatcher


_out_of_line: dict[str, Callable[[], None]] = {}
_cells: dict[str, Any] = {}
_kept: list[Any] = []


def out_of_line(function: F) -> F:
    """Mark a slow path or a large algorithm: compiled once, on its own, and called through a pointer.

    Callers stay small, so that their fast paths are inlined, and compile without it. A call costs about
    2 ns. The pointer first leads to a stub that compiles the function (or loads it from the cache) and
    replaces itself; `link()` does that for all at once, before time matters.
    """
    body: Any = function
    dispatcher = _dispatcher(function, nogil=False)
    symbol = f"{body.__module__}.{body.__qualname__}"
    parameters = list(inspect.signature(body).parameters)
    cell = ll.new_cell(symbol)

    def resolve() -> None:
        cell.value = c_address(dispatcher, len(parameters))

    def stub(*args: int) -> int:
        resolve()
        return cast(int, dispatcher(*args))

    prototype = ctypes.CFUNCTYPE(ctypes.c_int64, *(ctypes.c_int64,) * len(parameters))
    callback = prototype(stub)
    cell.value = ctypes.cast(callback, ctypes.c_void_p).value or 0
    _out_of_line[symbol] = resolve
    _cells[symbol] = cell
    _kept.extend((callback, cell))

    @functools.wraps(body)
    def call(*args: int) -> int:
        return cast(int, dispatcher(*args))

    names = ", ".join(parameters)
    scope = {"intrinsic": ll.call_cell(symbol, len(parameters))}
    scope["implementation"] = eval(f"lambda {names}: intrinsic({names})", scope)
    overload(call)(eval(f"lambda {names}: implementation", scope))
    call.dispatcher = dispatcher  # type: ignore[attr-defined]
    return cast(F, call)


def out_of_line_functions(*within: str) -> list[Callable[[], None]]:
    """Every out-of-line function imported so far, each as something that compiles or loads it.

    `within` limits them to modules whose names begin so.
    """
    return [resolve for symbol, resolve in _out_of_line.items() if symbol.startswith(within or "")]


def link(*within: str) -> None:
    """Compile, or load, every out-of-line function imported so far; `within`: of modules whose names begin so."""
    for resolve in out_of_line_functions(*within):
        resolve()


def relink(symbol: str, function: Callable[..., int]) -> None:
    """Let all callers of an out-of-line function, `module.name`, call another one in this process from now on."""
    _cells[symbol].value = c_address(function, len(inspect.signature(body_of(function)).parameters))


def entry_point(function: Callable[..., int], arguments: int) -> Callable[..., int]:
    """Compile `function` for that many integers and give the entry that skips the dispatcher.

    A call costs about 100 ns against the dispatcher's 250, but the caller answers for the types.
    """
    return cast(Callable[..., int], _compile(function, arguments).entry_point)


def c_address(function: Callable[..., int], arguments: int) -> int:
    """Compile `function` for that many integers and give its address, callable as C calls."""
    result = _compile(function, arguments)
    return cast(int, result.library.get_pointer_to_function(result.fndesc.llvm_cfunc_wrapper_name))


def _compile(function: Callable[..., int], arguments: int) -> Any:
    dispatcher: Any = getattr(function, "dispatcher", function)
    signature = (numba.int64,) * arguments
    dispatcher.compile(signature)
    return dispatcher.overloads[signature]


def own_functions(module: types.ModuleType) -> list[Callable[..., int]]:
    """The functions of a module that are marked here, not those that it imports; in the order of its lines."""
    found = {id(body): value for value in vars(module).values() if (body := body_of(value)) is not None}
    own = [value for value in found.values() if body_of(value).__module__ == module.__name__]
    return sorted(own, key=lambda value: body_of(value).__code__.co_firstlineno)


def body_of(function: Any) -> Any:
    """The Python function behind a marked one; None for anything else."""
    return getattr(getattr(function, "dispatcher", function), "py_func", None)


def named_globals(code: types.CodeType) -> set[str]:
    """The globals that a function names, in functions inside it too; names of attributes are not among them."""
    inside = (named_globals(each) for each in code.co_consts if isinstance(each, types.CodeType))
    return {each.argval for each in dis.get_instructions(code) if each.opname == "LOAD_GLOBAL"}.union(*inside)


def reached_from(functions: Iterable[Callable[..., int]]) -> list[Any]:
    """The Python functions behind marked ones and behind all marked ones that they name, directly or not."""
    found: dict[int, Any] = {}
    new = [body_of(function) for function in functions]
    while new:
        body = new.pop()
        if body is not None and id(body) not in found:
            found[id(body)] = body
            new += [body_of(body.__globals__.get(name)) for name in sorted(named_globals(body.__code__))]
    return list(found.values())


def troubles(functions: Sequence[Callable[..., int]], called: Collection[Callable[..., int]]) -> list[Trouble]:
    """Compile functions; of those that fail, tell the ones that fail by themselves, not by what they call.

    Functions that call each other, in a circle, all fail by themselves. `called` are those that are called through a
    pointer, beside the out-of-line ones: they must return a word, or their caller would read what is no result.
    """
    failed: dict[str, Trouble] = {}
    calls: dict[str, set[str]] = {}
    for function in functions:
        body = body_of(function)
        trouble = _trouble(function, body, by_pointer=function in called or hasattr(function, "dispatcher"))
        if trouble is not None:
            failed[body.__name__], calls[body.__name__] = trouble, named_globals(body.__code__)
    reached = {name: _reached(name, calls) for name in failed}
    return [trouble for name, trouble in failed.items() if all(name in reached[other] for other in reached[name])]


def _reached(name: str, calls: dict[str, set[str]]) -> set[str]:
    """What a function calls, and what that calls, of those that `calls` knows."""
    found: set[str] = set()
    new = {name}
    while new:
        new = {callee for each in new for callee in calls[each] if callee in calls} - found
        found |= new
    return found


def _trouble(function: Any, body: Any, *, by_pointer: bool) -> Trouble | None:
    first = body.__code__.co_firstlineno
    last = max((line for _, _, line in body.__code__.co_lines() if line), default=first)
    try:
        result = _compile(function, len(inspect.signature(body).parameters))
    except NumbaError as error:
        line = getattr(getattr(error, "loc", None), "line", 0)
        line = line if first <= line <= last else line_in(str(error), first, last)
        return Trouble(line, body.__name__, reason(str(error)), body.__code__.co_filename)
    except OSError:  # the cache could not be written: no fault of the function's
        raise
    except Exception as error:  # of code that it does not expect, the compiler makes errors of any kind
        why = f"the compiler gives up on it: {type(error).__name__}: {error}"
        return Trouble(first, body.__name__, why, body.__code__.co_filename)
    returned = numba.types.unliteral(result.signature.return_type)
    if not by_pointer or returned == numba.int64:
        return None
    lost = isinstance(returned, numba.types.Optional | numba.types.NoneType)
    why = "it must return a word on every way through it" if lost else f"it must return a word, not {returned}"
    return Trouble(first, body.__name__, why, body.__code__.co_filename)


_twins: dict[int, tuple[types.ModuleType, dict[str, Any]]] = {}


def plain(function: F) -> F:
    """Give the interpreted twin of `function`: the same source, every compiled callee a twin as well."""
    source = body_of(function)
    twin = _namespace(source).get(source.__name__)
    if twin is None or twin.__code__ is not source.__code__:
        twin = _twin(source)
    return cast(F, twin)


def _namespace(source: Any) -> dict[str, Any]:
    """Build, once a module, a copy of its globals in which compiled functions are twins."""
    module = sys.modules[source.__module__]
    if id(module) not in _twins:
        names = dict(vars(module))
        _twins[id(module)] = (module, names)
        for name, value in list(names.items()):
            inner = body_of(value)
            if inner is not None:
                names[name] = _twin(inner) if inner.__module__ == module.__name__ else plain(value)
    return _twins[id(module)][1]


def _twin(source: Any) -> Any:
    namespace = _namespace(source)
    twin = types.FunctionType(source.__code__, namespace, source.__name__, source.__defaults__, source.__closure__)
    return functools.wraps(source)(twin)
