"""`conform` as a user runs it, and what it and `record` refuse."""

import json
import os
from importlib.resources import files
from pathlib import Path

import pytest

from tests.cli import runner

CONTAINERS = str(files("shmreclaim.workload") / "data" / "containers-24.ftrace.gz")


def test_conform_says_success_and_ends_with_0():
    """The last line is the verdict."""
    found = runner.run("conform", CONTAINERS)
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.splitlines()[-1] == "end, SUCCESS: 6,249 of 6,249 calls match v5.13+, which fits best"


def test_conform_writes_json_alone_on_stdout():
    """The keys that scripts rely on."""
    found = runner.run("conform", CONTAINERS, "--json", "-")
    tree = json.loads(found.stdout)
    assert next(iter(tree.items())) == ("schema_version", 1)
    assert (tree["rows"], tree["matched"], tree["era"], tree["mismatches"]) == (6249, 6249, "v5.13+", [])
    assert "SUCCESS" in found.stderr


def test_conform_ends_with_2_on_a_mismatch_and_shows_both_values(tmp_path):
    """A carry of 5 where 4 is due."""
    head = "sh-7 [000] ..... 100.00000"
    call = "super_cache_scan+0x0/0x210 aa: nid: 0"
    (tmp_path / "t").write_text(
        f"{head}1: mm_shrink_slab_start: {call} objects to shrink 0 gfp_flags GFP_KERNEL cache items 2 delta 4 "
        f"total_scan 4 priority 0\n{head}2: mm_shrink_slab_end: {call} unused scan count 0 new scan count 5 "
        "total_scan 4 last shrinker return val 0\n"
    )
    found = runner.run("conform", str(tmp_path / "t"))
    assert found.returncode == 2
    assert "super_cache_scan aa: carry is 5, expected 4 (freeable 2 priority 0 deferred 0" in found.stdout
    assert "these eras fit equally well" in found.stdout


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file"),
        ("", "holds no event"),
        ("sh-7 [0] 1.0: cgroup_mkdir: root=1 id=1 level=1 path=/a\n", "holds no pair of mm_shrink_slab_start"),
    ],
)
def test_conform_ends_with_1_where_there_is_nothing_to_check(content, message, tmp_path):
    """One message, no traceback, nothing on stdout."""
    path = tmp_path / "trace.txt"
    if content is not None:
        path.write_text(content)
    found = runner.run("conform", str(path))
    assert (found.returncode, found.stdout) == (1, "")
    assert message in found.stderr
    assert "trace.txt" in found.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("conform", "Missing argument 'FILE'"),
        (f"conform {CONTAINERS} --mismatches -1", "--mismatches -1 is out of range"),
        (f"conform {CONTAINERS} --json /", "--json / is a folder"),
        ("record", "Missing option '-o'"),
        ("record -o /nonesuch/a", "there is no folder /nonesuch"),
        ("record -o /", "-o / is a folder"),
        ("record -o a --seconds 0", "--seconds 0 is out of range"),
        ("record -o a --seconds nan", "--seconds nan is out of range"),
        ("record -o a --buffer 1", "--buffer 1 is out of range"),
        ("record -o a --buffer x", "'x' is not a whole number"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_is_done(arguments, message):
    """Exit code 1 and its name."""
    found = runner.run(*arguments.split())
    assert (found.returncode, found.stdout) == (1, "")
    assert message in found.stderr


@pytest.fixture
def odd(tmp_path):
    """A short trace whose name is no UTF-8."""
    call = "mm_shrink_slab_{}: super_cache_scan+0x0/0x1 aa: nid: 0 {}"
    start = call.format("start", "objects to shrink 0 gfp_flags 0 cache items 2 delta 0 total_scan 0 priority 12")
    end = call.format("end", "unused scan count 0 new scan count 0 total_scan 0 last shrinker return val 0")
    path = os.fsencode(tmp_path) + b"/odd\xff"
    Path(os.fsdecode(path)).write_text(f"sh-7 [000] 1.1: {start}\nsh-7 [000] 1.2: {end}\n")
    return path


def test_json_replaces_what_is_no_text_in_a_name(odd):
    """JSON is UTF-8; a reader must not meet half a character."""
    found = runner.run("conform", os.fsdecode(odd), "--json", "-")
    assert (found.returncode, json.loads(found.stdout)["trace"]) == (0, "odd\ufffd")


def test_a_report_prints_a_name_as_the_bytes_it_is(odd):
    """Wherever standard output takes text alone, as in most locales."""
    code = "import os, sys; from shmreclaim.cli import main; sys.stdout.reconfigure(errors='strict')"
    found = runner.probe(f"{code}; sys.exit(main(['conform', os.fsdecode({odd!r})]))", errors="surrogateescape")
    assert os.fsencode(found.stdout.splitlines()[0]).endswith(b"/odd\xff")
