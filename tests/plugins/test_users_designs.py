"""A user's own design, as users run it: real files, real commands."""

import json
import re
import signal
from pathlib import Path

import pytest

import shmreclaim.designs.davydov as davydov_module
from tests.executions.command import Command, compare

DAVYDOV = Path(str(davydov_module.__file__)).read_text()
EXAMPLE = Path(__file__).parents[2] / "docs/examples/ids_under_map_mutex.py"
QUICK = ("--scenario", "containers", "--repeat", "1")


@pytest.fixture(autouse=True)
def _compiled(compiled_once: None) -> None:
    """What is not the user's is compiled before."""


def write(folder: Path, old: str = "", new: str = "", name: str = "mine.py") -> Path:
    """A copy of davydov.py with one change."""
    assert old in DAVYDOV
    path = folder / name
    path.write_text(DAVYDOV.replace(old, new, 1) if old else DAVYDOV)
    return path


def line_of(path: Path, text: str) -> int:
    """The first line of a file that contains `text`."""
    return next(n for n, line in enumerate(path.read_text().splitlines(), 1) if text in line)


def refused(path: Path, *lines: str) -> str:
    """Run it; it must end with exit code 1, such lines and no traceback; gives stderr."""
    code, out, err = compare(*QUICK, "--designs", str(path))
    assert (code, out) == (1, ""), err
    assert f"{path} cannot be used as a design\n" in err
    for line in lines:
        assert line in err.splitlines(), err
    assert "Traceback" not in err
    return err


def test_a_copy_of_a_built_in_design_does_what_that_does(tmp_path: Path) -> None:
    """On one CPU, where nothing is left to chance; and the JSON says where it came from."""
    path, result = write(tmp_path), tmp_path / "result.json"
    code, out, err = compare(*QUICK, "--cpus", "1", "--designs", f"davydov,{path}", "--json", str(result))
    assert code == 0, err
    assert "mine: trying it out, interpreted\nmine: compiling it\n" in err
    found = json.loads(result.read_text())
    mine, davydov = found["designs"]["mine"], found["designs"]["davydov"]
    assert mine["objects"] == davydov["objects"]
    assert mine["reclaim"] == davydov["reclaim"]
    assert {op: run["count"] for op, run in mine["ops"].items()} == {op: r["count"] for op, r in davydov["ops"].items()}
    assert found["parameters"]["designs"] == ["davydov", str(path)]
    assert found["design_files"]["mine"]["path"] == str(path)
    assert re.fullmatch(r"[0-9a-f]{64}", found["design_files"]["mine"]["sha256"])
    assert f"--designs davydov,{path} " in out


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
        ("1 / 0", "ZeroDivisionError: division by zero"),
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


def test_a_function_that_may_return_nothing_is_refused(tmp_path: Path) -> None:
    """Its caller, in machine code, would read what is no result."""
    path = write(tmp_path, "    return maps_free(mem, cpu, memcg)\n", "    maps_free(mem, cpu, memcg)\n")
    at = line_of(path, "def memcg_free") - 1
    refused(path, f"{path}:{at}: memcg_free(): it must return a word on every way through it")


OUTSIDE = "    memcg = mem_cgroup_iter(mem, cpu, root_memcg(mem), 0)\n"


@pytest.mark.parametrize(
    ("index", "why"),
    [
        ("-8", "word -8 is outside of memory, 0 to "),
        ("1 << 40", "word 1099511627776 is outside of memory, 0 to "),
        ("SHRINKER.list", "word 4 is near NULL"),
    ],
    ids=["below", "above", "NULL"],
)
def test_a_word_out_of_bounds_is_found_by_the_tryout(index: str, why: str, tmp_path: Path) -> None:
    """With the line of the user's file, though the access is in a function that it calls."""
    path = write(tmp_path, OUTSIDE, f"{OUTSIDE}    write_once(mem, {index}, 1)\n")
    err = refused(path)
    if index == "SHRINKER.list":
        why = re.sub(r"word \d+", "", why)
    assert re.search(
        rf"^{path}:{line_of(path, f'write_once(mem, {index}, 1)')}: _grow_all\(\): .*{re.escape(why)}", err, re.M
    )
    assert "during: register, in write_once() of atomics.py." in err


@pytest.mark.parametrize(
    ("old", "new", "function"),
    [
        ("memcg, nid, number + 1)", "memcg, nid, number)", "_shrink_map"),
        (
            "    nodes = read_once(mem, mm_state(mem) + MM.nr_nodes)\n    deferred",
            "    nodes = 1\n    while nodes:\n        nodes += 1\n    deferred",
            "register_shrinker",
        ),
    ],
    ids=["over memory", "without memory"],
)
def test_a_loop_without_end_is_ended(old: str, new: str, function: str, tmp_path: Path) -> None:
    """It is said where it was."""
    err = refused(write(tmp_path, old, new))
    assert re.search(r"mine\.py:\d+: \w+\(\): it does not end: ", err)
    assert re.search(rf"on the way: .*{function}\(\) line \d+", err)


BEYOND_THE_TRYOUT = "    if number >= 0:\n        note_id_taken(mem, number)\n"


def test_a_crash_that_the_tryout_does_not_reach_has_its_line_too(tmp_path: Path) -> None:
    """The workload is repeated, interpreted; it is the design's fault (exit code 2), not ours."""
    path = write(
        tmp_path, BEYOND_THE_TRYOUT, f"    if number >= 170:\n        write_once(mem, 1 << 40, 1)\n{BEYOND_THE_TRYOUT}"
    )
    code, out, err = compare(*QUICK, "--designs", str(path))
    assert (code, out) == (2, ""), err
    assert re.search(
        rf"shmreclaim: {path} used memory that is not there: CPU \d \(pid \d+\) was killed by SIGSEGV:\n", err
    )
    at = line_of(path, "1 << 40")
    assert f"{path}:{at}: _alloc_shrinker_id(): word 1099511627776 is outside of memory" in err
    assert "Traceback" not in err


def test_a_broken_invariant_of_a_users_design_is_a_verdict(tmp_path: Path) -> None:
    """As for a built-in one: refused in the table, exit code 2."""
    path = write(tmp_path, "    return map_set_bit(mem, cpu, memcg, nid, number)\n", "    return 0\n")
    code, out, err = compare(*QUICK, "--designs", str(path))
    assert code == 2, err
    assert "mine is refused: " in out
    assert re.search(r"I2: memcg \d+ holds \d+ objects", out)


def test_an_edit_is_seen_by_the_next_run(tmp_path: Path) -> None:
    """Of an inner function, whose callers were compiled before."""
    path, result = write(tmp_path), tmp_path / "result.json"
    growths = []
    for times in (1, 4):
        path.write_text(DAVYDOV.replace("capacity = bits_for(number)", f"capacity = bits_for(number) * {times}"))
        assert compare(*QUICK, "--cpus", "1", "--designs", str(path), "--json", str(result))[0] == 0
        growths.append(json.loads(result.read_text())["designs"]["mine"]["growth"]["count"])
    assert growths[0] > growths[1] > 0


def test_an_edit_during_a_comparison_changes_nothing_of_it(tmp_path: Path) -> None:
    """All runs are of the text that was read first."""
    path, result = write(tmp_path), tmp_path / "result.json"
    arguments = ("--cpus", "1", "--scenario", "containers", "--repeat", "3", "--json", str(result))
    with Command("compare", *arguments, "--designs", str(path)) as command:
        command.await_line("mine: trying")
        path.write_text("this is not Python")
        code, _, err = command.end()
        command.assert_nothing_is_left()
    assert code == 0, err
    runs = json.loads(result.read_text())["designs"]["mine"]["per_run"]
    assert len({json.dumps(run["ops"]) for run in runs}) == 1


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("davydov.py", "would both be called 'davydov' in the report"),
        ("missing.py", "missing.py is not there"),
        ("", "is not a file"),
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


@pytest.mark.stress
def test_ctrl_c_during_the_tryout_leaves_nothing(tmp_path: Path) -> None:
    """Not even where it would never end by itself."""
    path = write(tmp_path, "memcg, nid, number + 1)", "memcg, nid, number)")
    with Command("compare", *QUICK, "--designs", str(path)) as command:
        command.await_line("mine: trying")
        command.process.send_signal(signal.SIGINT)
        code, out, err = command.end()
        command.assert_nothing_is_left()
    assert (code, out) == (130, "")
    assert "Traceback" not in err


def test_the_example_of_the_documentation_breaks_nothing() -> None:
    """Beside the design that it changes."""
    code, out, err = compare("--repeat", "2", "--cpus", "4", "--designs", f"davydov,{EXAMPLE}")
    assert code == 0, out + err
    assert "ids_under_map_mutex" in out
