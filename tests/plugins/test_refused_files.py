"""Files that are no designs, and what their authors are told: real files, real commands."""

import re
import signal
from pathlib import Path

import pytest

from tests.executions.command import Command, compare
from tests.plugins.files import QUICK, line_of, refused, write


@pytest.fixture(autouse=True)
def _compiled(compiled_once: None) -> None:
    """What is not the user's is compiled before."""


def test_everything_that_a_file_lacks_is_said_at_once(tmp_path: Path) -> None:
    """A function, an argument, the mark: three lines, before anything is compiled or tried."""
    path = write(tmp_path, "def memcg_free(", "def memcg_gone(")
    text = path.read_text().replace("@compiled\ndef init", "def init")
    path.write_text(
        text.replace("def shrink_slab(mem: Any, cpu: int, memcg: int,", "def shrink_slab(mem: Any, cpu: int,")
    )
    shrink = line_of(path, "def shrink_slab") - 1
    err = refused(
        path,
        f"{path}: memcg_free() is missing",
        f"{path}:{line_of(path, 'def init')}: init() is not marked @compiled",
        f"{path}:{shrink}: shrink_slab() takes 5 arguments (mem, cpu, nid, gfp, priority); "
        "it must take 6, mem and cpu first",
    )
    assert "trying" not in err


def test_a_syntax_error_has_its_line(tmp_path: Path) -> None:
    """And the text that is not Python."""
    path = write(tmp_path, "    freed = 0\n", "    freed = = 0\n")
    refused(path, f"{path}:{line_of(path, 'freed = = 0')}: invalid syntax: freed = = 0")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("return 1", "'return' outside function: return 1"),
        ("break", "'break' outside loop: break"),
        ("def late(): shrinkers = 0; global shrinkers", "name 'shrinkers' is assigned to before global declaration"),
    ],
    ids=["return", "break", "global"],
)
def test_what_can_be_parsed_and_is_no_program_has_its_line_too(line: str, why: str, tmp_path: Path) -> None:
    """Python finds it after the syntax."""
    path = write(tmp_path, "PLACEHOLDER = -1\n", f"PLACEHOLDER = -1\n{line}\n")
    assert f"{path}:{line_of(path, line)}: {why}" in refused(path)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("raise SystemExit", "SystemExit\n"),
        ("__import__('sys').exit('no more')", "SystemExit: no more\n"),
        ("from shmreclaim.sync.mutex import mutex_look", "ImportError: cannot import name 'mutex_look'"),
        ("import helper", "imports helper; it may import shmreclaim and the standard library alone"),
        ("from . import helper", "imports .; it may import shmreclaim and the standard library alone"),
    ],
)
def test_what_fails_when_a_file_is_loaded_has_its_line(line: str, why: str, tmp_path: Path) -> None:
    """Also a module of the user's own: machine code would not notice that it changed."""
    (tmp_path / "helper.py").write_text("")
    path = write(tmp_path, "PLACEHOLDER = -1\n", f"PLACEHOLDER = -1\n{line}\n")
    assert f"{path}:{line_of(path, line)}: {why}" in refused(path)


def test_a_signal_while_a_file_is_loaded_ends_the_command(tmp_path: Path) -> None:
    """It is no error of the file's, though it is taken there."""
    waits = "import signal\nprint('waiting', flush=True)\nsignal.pause()\n"
    path = write(tmp_path, "PLACEHOLDER = -1\n", f"PLACEHOLDER = -1\n{waits}")
    with Command("compare", *QUICK, "--designs", str(path)) as command:
        command.await_line("waiting")
        command.process.send_signal(signal.SIGTERM)
        assert command.end() == (128 + signal.SIGTERM, "", "waiting\n")


def test_a_file_is_read_once(tmp_path: Path) -> None:
    """What is looked at is what is run."""
    path = write(tmp_path, "def memcg_free(", "def memcg_gone(")
    told = f"sys.stderr.write('opened\\n' * (event == 'open' and what[0] == {str(path)!r}))"
    _, _, err = compare("--designs", str(path), before=f"import sys\nsys.addaudithook(lambda event, what: {told})")
    assert err.count("opened\n") == 1, err


@pytest.mark.parametrize(
    ("new", "lack"),
    [
        ("from json import dumps as init", "init() is not marked @compiled"),
        ("init = list_next", "init() takes 2 arguments (mem, "),
        ("init = _state", "init() takes 1 arguments (mem); it must take 6, mem and cpu first"),
    ],
    ids=["unmarked", "imported", "own"],
)
def test_a_line_is_said_if_it_is_one_of_the_users_file(new: str, lack: str, tmp_path: Path) -> None:
    """Not that of the file which a function was imported from."""
    path = write(tmp_path, "# --- ids under", f"{new}\n\n# --- ids under")
    path.write_text(path.read_text().replace("def init(", "def _init("))
    place = f"{path}:{line_of(path, 'def _state') - 1}" if "_state" in new else path
    assert f"\n{place}: {lack}" in refused(path)


def test_a_line_of_another_file_is_not_said_to_be_one_of_the_users(tmp_path: Path) -> None:
    """Code may say itself where it is from."""
    path = write(tmp_path)
    made = "@compiled\ndef init(mem, cpu, a, b, c, d):\n    return mem[4000] * 0 + _init(mem, cpu, a, b, c, d)\n"
    text = path.read_text().replace("def init(", "def _init(")
    path.write_text(f"{text}\n\nexec(compile({made!r}, {str(tmp_path / 'other.py')!r}, 'exec'))\n")
    assert f"\n{path}: init(): words of memory are used through read_once(mem, i)" in refused(path)


def test_functions_without_a_mark_that_marked_ones_call_are_named(tmp_path: Path) -> None:
    """Also those that such a one calls; the compiler would say it in pages."""
    path = write(
        tmp_path,
        "    capacity = bits_for(number)\n",
        "    capacity = twice(number)\n",
    )
    plain = "def twice(number):\n    return half(4 * bits_for(number))\n\n\ndef half(bits):\n    return bits // 2\n"
    unused = "\n\ndef unused(bits):\n    return bits\n"
    path.write_text(f"{path.read_text()}\n\n{plain}{unused}")
    err = refused(
        path,
        f"{path}:{line_of(path, 'def twice')}: twice() is not marked, and _grow() calls it",
        f"{path}:{line_of(path, 'def half')}: half() is not marked, and twice() calls it",
        "Functions that they call are marked, too: @compiled, or @out_of_line where they are slow paths.",
    )
    assert "unused" not in err


def test_what_cannot_be_compiled_names_the_inner_function(tmp_path: Path) -> None:
    """Not the one that calls it, and not what the compiler went through."""
    path = write(
        tmp_path,
        "    head = _state(mem) + DAVYDOV.shrinker_list\n",
        "    head = _state(mem) + mem[4000] * 0 + DAVYDOV.shrinker_list\n",
    )
    why = "words of memory are used through read_once(mem, i), write_once(mem, i, value) and the like, not mem[i]"
    err = refused(path, f"{path}:{line_of(path, 'mem[4000]')}: _shrink_list(): {why}")
    assert "shrink_slab()" not in err
    assert "mine: compiling it\n" in err


CIRCLE = """

@compiled
def ping(mem: Any, n: int) -> int:
    return pong(mem, n - 1) if n else 0


@compiled
def pong(mem: Any, n: int) -> int:
    return ping(mem, n - 1) + mem[4000] if n else 0


@compiled
def play(mem: Any, n: int) -> int:
    return ping(mem, n)
"""


def test_functions_that_call_each_other_do_not_hide_each_others_faults(tmp_path: Path) -> None:
    """All of the circle are named, and not who calls into it."""
    path = write(tmp_path)
    path.write_text(path.read_text() + CIRCLE)
    err = refused(path)
    assert re.search(rf"^{path}:\d+: ping\(\): ", err, re.M)
    assert f"{path}:{line_of(path, '+ mem[4000]')}: pong(): words of memory are used through" in err
    assert "play()" not in err


TINY_FILES = """PLACEHOLDER = -1
import resource, traceback
if any(frame.name == "try_out" for frame in traceback.extract_stack()):
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, 1))
"""


def test_a_cache_that_cannot_be_written_is_no_fault_of_the_files(tmp_path: Path) -> None:
    """It is the machine that refuses."""
    path = write(tmp_path, "PLACEHOLDER = -1\n", TINY_FILES)
    code, out, err = compare(*QUICK, "--designs", str(path))
    assert (code, out) == (1, "")
    assert "\nshmreclaim: the machine refused what examining a design takes: [Errno 27] File too large\n" in err
    assert "cannot be used" not in err
    assert "Traceback" not in err


def test_a_function_that_may_return_nothing_is_refused(tmp_path: Path) -> None:
    """Its caller, in machine code, would read what is no result."""
    path = write(tmp_path, "    return maps_free(mem, cpu, memcg)\n", "    maps_free(mem, cpu, memcg)\n")
    at = line_of(path, "def memcg_free") - 1
    refused(path, f"{path}:{at}: memcg_free(): it must return a word on every way through it")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("davydov.py", "would both be called 'davydov' in the report"),
        ("missing.py", "missing.py is not there"),
        ("", "is not a file"),
        ("mine.py+copy_bits", "mine.py+copy_bits': a file of your own has no switch 'copy_bits'"),
    ],
)
def test_a_file_that_cannot_be_chosen_is_refused(name: str, said: str, tmp_path: Path) -> None:
    """A name that would mislead, one that is not there, a folder."""
    path = tmp_path / name
    if name == "davydov.py":
        write(tmp_path, name=name)
    code, out, err = compare(*QUICK, "--designs", f"{path}/" if not name else str(path))
    assert (code, out) == (1, "")
    assert said in err


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    """Nobody could tell them apart in the table."""
    (tmp_path / "other").mkdir()
    both = f"{write(tmp_path)},{write(tmp_path / 'other')}"
    code, out, err = compare(*QUICK, "--designs", both)
    assert (code, out) == (1, "")
    assert "would both be called 'mine' in the report" in err
