"""One source, two executions; and machine code that is kept, but never stale."""

import os
import shutil
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from shmreclaim.machine import upcall as upcalls
from shmreclaim.machine.builtin import BuiltinFactory
from shmreclaim.machine.compile import (
    KEPT_FOLDERS,
    c_address,
    entry_point,
    forget_old,
    link,
    out_of_line_functions,
    plain,
)
from shmreclaim.machine.sources import PACKAGE
from tests.both import KINDS, Memory
from tests.machine import programs

SLOT = 31


# --- twins, out-of-line functions, upcalls, builtins -----------------------------------------------------


def test_a_twin_is_interpreted_all_the_way_down() -> None:
    """What it calls is a twin as well, out-of-line functions included."""
    twin = plain(programs.near)
    inner = twin.__globals__["far"]
    assert inner.__code__ is programs.far.dispatcher.py_func.__code__
    assert twin([6], 7) == 43
    assert plain(programs.near) is twin


def test_an_out_of_line_function_gives_the_same_before_and_after_it_is_linked() -> None:
    """Called directly, through a compiled caller, plain."""
    memory = Memory("compiled", 8)
    memory.set_word(0, 6)
    found = [memory.call(programs.near, 7), memory.call(programs.far, 7)]
    link("tests.machine.")
    assert [*found, memory.call(programs.near, 7), plain(programs.far)([6], 7)] == [43, 42, 43, 42]


def test_linking_can_be_limited_to_some_modules() -> None:
    """Names decide."""
    assert len(out_of_line_functions("tests.machine.")) == 1
    assert out_of_line_functions("no.such.module") == []
    assert len(out_of_line_functions()) > 1


@pytest.mark.parametrize("kind", KINDS)
def test_an_upcall_runs_what_is_bound_now(kind: str) -> None:
    """All six arguments arrive in order; binding again changes it."""
    memory = Memory(kind, 8)
    memory.set_word(0, 1000)
    upcalls.bind(SLOT, programs.weigh)
    assert memory.call(programs.call_up, SLOT, 1, 2) == 1000 + 2 * 1 + 3 * 2 + 5 * 3 + 7 * 4 + 11 * 5
    upcalls.bind(SLOT, programs.weigh_otherwise)
    assert memory.call(programs.call_up, SLOT, 1, 2) == -1


def test_an_entry_point_and_a_c_address_run_the_same_code() -> None:
    """Both skip the dispatcher."""
    import ctypes

    memory = Memory("compiled", 8)
    memory.set_word(0, 6)
    assert entry_point(programs.near, 2)(memory.mem, 7) == 43
    assert (
        ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)(c_address(programs.near, 2))(memory.mem, 7)
        == 43
    )


def test_any_integer_like_argument_meets_one_machine_code() -> None:
    """Booleans, enum members and numpy integers make no copies."""
    import numpy as np

    memory = Memory("compiled", 8)
    memory.set_word(0, 6)
    assert memory.call(programs.near, 7) == programs.near(memory.mem, np.int64(7)) == 43
    assert len(programs.near.overloads) == 1  # type: ignore[attr-defined]


def test_a_builtin_answers_a_simple_call_and_passes_others_on() -> None:
    """Arguments and keywords arrive as they are; what the slow path raises comes out."""
    answer = object()

    def slow(*args: object, **names: object) -> object:
        if not names:
            raise KeyError(args)
        return args, names

    made = BuiltinFactory(programs.answer, "answer", "answer($self)\n--\n\nGive it.").bind(
        (id(answer), id(slow)), (answer, slow)
    )
    references = sys.getrefcount(answer)
    assert all(made() is answer for _ in range(100))
    assert sys.getrefcount(answer) == references
    assert made(1, b=2) == ((1,), {"b": 2})
    with pytest.raises(KeyError, match="5"):
        made(5)
    assert (made.__name__, made.__doc__) == ("answer", "Give it.")


def test_a_builtin_keeps_alive_what_it_returns() -> None:
    """It may be the only one that knows it."""

    def make() -> object:
        answer, slow = [1, 2, 3], len
        factory = BuiltinFactory(programs.answer, "answer", "answer($self)\n--\n\nGive it.")
        return factory.bind((id(answer), id(slow)), (answer, slow))

    assert make()() == [1, 2, 3]  # type: ignore[operator]


@pytest.mark.parametrize("kind", KINDS)
def test_a_thread_has_one_number(kind: str) -> None:
    """The one that threading gives it."""
    assert Memory(kind, 1).call(programs.me) == threading.get_ident()


# --- the cache, in processes of their own -----------------------------------------------------------------

INNER = """
from shmreclaim.machine.compile import compiled, out_of_line

@compiled
def inner(x):
    return x + {n}

@out_of_line
def far(x):
    return inner(x) * 100
"""
OUTER = """
from shmreclaim.machine.compile import compiled
from {module} import far, inner

@compiled
def outer(x):
    return inner(x) * 10

@compiled
def caller(x):
    return far(x) + 1
"""
RUN = """
from {module} import outer, caller, far
from shmreclaim.machine.compile import cache_folder
print(outer(1), caller(1), far(1), sum(f.stats.cache_hits.total() for f in (outer, caller, far.dispatcher)))
print(cache_folder())
"""


class Tree:
    """A copy of the machine with two more modules, and a cache of its own."""

    def __init__(self, root: Path, inner: str = "shmreclaim.lib.inner", outer: str = "shmreclaim.mm.outer") -> None:
        """Make it; the modules are in the package, or beside it if their names have no dot."""
        self.root, self.inner, self.outer = root, inner, outer
        package = root / "shmreclaim"
        shutil.copytree(PACKAGE / "machine", package / "machine", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(PACKAGE / "errors.py", package)
        for name in ("", "lib", "mm"):
            (package / name).mkdir(exist_ok=True)
            (package / name / "__init__.py").touch()
        self.write(1)
        self.path(outer).write_text(OUTER.format(module=inner))

    def path(self, module: str) -> Path:
        """The file of a module."""
        return self.root / (module.replace(".", "/") + ".py")

    def write(self, n: int) -> None:
        """Edit the callee, and make the file look old: time stamps must not matter."""
        self.path(self.inner).write_text(INNER.format(n=n))
        os.utime(self.path(self.inner), (1, 1))

    def run(self, **environment: str) -> tuple[list[int], Path]:
        """Call all functions in a new process; their results and how many came from the cache, and its folder."""
        variables = {
            **os.environ, "PYTHONPATH": str(self.root), "SHMRECLAIM_CACHE_DIR": str(self.root / "cache"),
            "PYTHONDONTWRITEBYTECODE": "1", **environment,
        }  # fmt: skip
        args = [sys.executable, "-c", RUN.format(module=self.outer)]
        run = subprocess.run(
            args, capture_output=True, text=True, timeout=120, check=False, env=variables, cwd=self.root
        )
        assert run.returncode == 0, run.stderr
        numbers, folder = run.stdout.splitlines()
        return [int(number) for number in numbers.split()], Path(folder)


def test_an_edit_in_a_callee_of_another_file_is_never_answered_from_a_stale_cache(tmp_path: Path) -> None:
    """The second process finds all in the cache; after the edit nothing; the old source finds its own again."""
    tree = Tree(tmp_path)
    assert tree.run()[0] == [20, 201, 200, 0]
    assert tree.run()[0] == [20, 201, 200, 3]
    tree.write(2)
    assert tree.run()[0] == [30, 301, 300, 0]
    tree.write(1)
    assert tree.run()[0] == [20, 201, 200, 3]


def test_outside_of_the_package_an_edit_in_a_neighbour_is_noticed_too(tmp_path: Path) -> None:
    """A design of one's own may have its helpers beside it."""
    tree = Tree(tmp_path, "helper", "own_design")
    assert tree.run()[0] == [20, 201, 200, 0]
    tree.write(2)
    assert tree.run()[0] == [30, 301, 300, 0]


def test_a_cache_home_that_cannot_be_had_is_replaced_by_a_private_one(tmp_path: Path) -> None:
    """In the temporary folder, for this user alone; it is found again."""
    tree = Tree(tmp_path / "tree")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    nowhere = {"SHMRECLAIM_CACHE_DIR": "/proc/nowhere", "TMPDIR": str(temporary)}
    found, folder = tree.run(**nowhere)
    home = temporary / f"shmreclaim-{os.getuid()}"
    assert (found, folder.parent) == ([20, 201, 200, 0], home)
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert tree.run(**nowhere)[0] == [20, 201, 200, 3]
    home.chmod(0o777)
    found, folder = tree.run(**nowhere)
    assert found == [20, 201, 200, 0]
    assert folder.parent != home


def test_only_the_generations_used_last_stay_in_the_cache(tmp_path: Path) -> None:
    """Switching branches must not recompile; a year of edits must not fill the disk."""
    tree = Tree(tmp_path)
    home = tmp_path / "cache" / "shmreclaim"
    home.mkdir(parents=True)
    for k in range(KEPT_FOLDERS + 3):
        (home / f"old{k}").mkdir()
        os.utime(home / f"old{k}", (k, k))
    _, folder = tree.run()
    kept = {path.name for path in home.iterdir()}
    assert kept == {folder.name, *(f"old{k}" for k in range(4, KEPT_FOLDERS + 3))}


def test_what_another_command_forgets_at_the_same_time_is_passed_over(tmp_path: Path) -> None:
    """It is there when one looks, and gone when one looks closer, as a link to nothing is."""
    for name in ("a", "c", "new"):
        (tmp_path / name).mkdir()
    for name in ("a", "c"):
        os.utime(tmp_path / name, (1, 1))
    (tmp_path / "b").symlink_to(tmp_path / "gone")
    forget_old(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"b", "new"}
