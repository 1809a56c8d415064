"""Where crash points are, what they are called, and that a function with them does what it did."""

import pytest

from shmreclaim.designs import NAMES
from shmreclaim.errors import UsageError
from shmreclaim.executions.crash_points import called, of_design
from shmreclaim.lib.list_head import list_add_rcu
from shmreclaim.machine import crash_points
from shmreclaim.machine.compile import body_of
from shmreclaim.machine.crash_points import CrashPoint, points_of, with_points
from shmreclaim.mm.memcg import root_memcg
from shmreclaim.sync.mutex import mutex_lock


def sample(mem: list[int], count: int) -> int:
    """Take some, by rules that mean nothing."""
    taken = 0
    for k in range(count):
        if mem[k] == 7:
            return taken
        elif mem[k] > 5:
            taken += mem[k]
        else:
            taken -= 1
            mem[k] = 0
    while taken > 9:
        taken -= 9
    return taken


def idle() -> None:
    """Have no statement at all."""


STATEMENTS = [
    "taken = 0",
    "for k in range(count):",
    "if mem[k] == 7:",
    "return taken",
    "elif mem[k] > 5:",
    "taken += mem[k]",
    "taken -= 1",
    "mem[k] = 0",
    "while taken > 9:",
    "taken -= 9",
    "return taken",
]


def test_before_each_statement_is_a_point_with_the_name_of_its_line() -> None:
    """Of branches and loops, too; a docstring is none."""
    points = points_of(sample)
    assert [point.statement for point in points] == STATEMENTS
    lines = [int(point.name.removeprefix("test_crash_points.sample:")) for point in points]
    begins = sample.__code__.co_firstlineno
    assert [line - begins for line in lines] == [2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13]


@pytest.mark.parametrize(
    ("mem", "passed"),
    [
        ([], [0, 1, 8, 10]),
        ([7, 1], [0, 1, 2, 3]),
        ([6, 1], [0, 1, 2, 4, 5, 2, 4, 6, 7, 8, 10]),
        ([6, 6], [0, 1, 2, 4, 5, 2, 4, 5, 8, 9, 10]),
    ],
)
def test_a_function_comes_by_its_points_and_does_what_it_did(
    mem: list[int], passed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the order of its statements, each time before one."""
    seen: list[int] = []
    made, before, after = with_points(sample), list(mem), list(mem)
    monkeypatch.setitem(made.__globals__, crash_points._LOOK, seen.append)
    assert made(after, len(mem)) == sample(before, len(mem))
    assert after == before
    numbers = [point.number for point in points_of(sample)]
    assert seen == [numbers[k] for k in passed]


def test_what_takes_part_in_a_step_of_its_caller_has_none() -> None:
    """A lock, which has tests of its own; what only returns something; what has no source."""
    assert points_of(body_of(list_add_rcu)) != []
    for body in (body_of(mutex_lock), body_of(root_memcg), idle, eval("lambda mem: mem")):
        assert points_of(body) == []
        assert with_points(body) is body


@pytest.mark.parametrize("design", NAMES)
def test_every_point_of_a_design_has_a_name_and_a_number_of_its_own(design: str) -> None:
    """Of the design itself and of what works for it; not of booting, which nobody is killed in."""
    points = of_design(design)
    assert len({point.name for point in points}) == len({point.number for point in points}) == len(points) > 1000
    functions = {point.name.partition(":")[0] for point in points}
    assert {f"{design}.register_shrinker", "list_lru.list_lru_add", "cgroup._take_offline"} <= functions
    assert f"{design}.init" not in functions


def point(name: str) -> CrashPoint:
    """One of that name."""
    return CrashPoint(name, 1, "")


POINTS = [point("list_lru.list_lru_add:57"), point("list_lru._isolate:80"), point("slab.kfree:9")]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("list_lru", POINTS[:2]),
        ("list_lru_add", POINTS[:1]),
        ("list_lru._isolate", POINTS[1:2]),
        ("slab.kfree:9", POINTS[2:]),
    ],
)
def test_points_are_called_by_line_by_function_or_by_file(name: str, found: list[CrashPoint]) -> None:
    """A name means all that it fits."""
    assert list(called([name], POINTS, "v4_19")) == found


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("list_lru_ad", "Did you mean list_lru_add"),
        ("slab.kfree:10", "Did you mean slab.kfree:9"),
        ("", "There are some in list_lru, slab."),
        ("zzz", "There are some in list_lru, slab."),
    ],
)
def test_a_name_that_means_none_is_refused_with_those_that_look_like_it(name: str, words: str) -> None:
    """And with the design that has none of that name."""
    with pytest.raises(UsageError, match="v4_19 comes by no crash point") as caught:
        called(["slab", name], POINTS, "v4_19")
    assert words in str(caught.value)


def test_looking_changes_nothing_where_nobody_is_killed() -> None:
    """Not a word, not an outcome: it is no more than a call."""
    assert crash_points.pass_point(5) == 0
