"""A user's own design, as users run it: real files, real commands."""

import json
import re
import signal
from pathlib import Path

import pytest

from tests.executions.command import Command, compare
from tests.plugins.files import DAVYDOV, EXAMPLE, QUICK, line_of, refused, write


@pytest.fixture(autouse=True)
def _compiled(compiled_once: None) -> None:
    """What is not the user's is compiled before."""


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


def test_what_a_file_prints_is_not_in_the_result(tmp_path: Path) -> None:
    """It goes to stderr, from every process: when the file is loaded, interpreted, and compiled."""
    path = write(tmp_path, "PLACEHOLDER = -1\n", "PLACEHOLDER = -1\nprint('here I am')\n")
    growth = "        capacity = bits_for(number)\n"
    path.write_text(path.read_text().replace(growth, f"{growth}        print(4711)\n"))
    code, out, err = compare(*QUICK, "--cpus", "1", "--designs", str(path), "--json", "-")
    assert code == 0, err
    assert list(json.loads(out)["designs"]) == ["mine"]
    assert err.startswith("here I am\n")
    tryout, run = err.split("run 1 of 1, mine: started\n")
    assert "\n4711\n" in tryout
    assert "4711\n" in run


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


def test_numbers_that_fill_the_memory_are_found_by_the_tryout(tmp_path: Path) -> None:
    """Words have 64 bits; interpreted, they would go on growing."""
    path = write(tmp_path, OUTSIDE, f"{OUTSIDE}    memcg += (1 << (1 << 40)) * 0\n")
    refused(path, f"{path}:{line_of(path, '1 << 40')}: _grow_all(): it takes more memory than the machine has")


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
    assert "\nmine: repeating it, interpreted, to find the line\n" in err
    assert "Traceback" not in err


ENDS_ITS_AUTOPSY = """PLACEHOLDER = -1
import os, traceback
if any(frame.name == "repeat" for frame in traceback.extract_stack()):
    os._exit(3)
"""


def test_a_crash_stays_the_designs_fault_where_the_line_cannot_be_looked_for(tmp_path: Path) -> None:
    """What kept the repetition from its end is not what the user has to know."""
    path = write(
        tmp_path, BEYOND_THE_TRYOUT, f"    if number >= 170:\n        write_once(mem, 1 << 40, 1)\n{BEYOND_THE_TRYOUT}"
    )
    path.write_text(path.read_text().replace("PLACEHOLDER = -1\n", ENDS_ITS_AUTOPSY))
    code, out, err = compare(*QUICK, "--designs", str(path))
    assert (code, out) == (2, ""), err
    assert "used memory that is not there: CPU" in err
    assert "the same workload does not show it" in err


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
