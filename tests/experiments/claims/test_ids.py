"""H11, H12, H13 and H15: every verdict of their rules, and that what must differ differs."""

import pytest

from shmreclaim.experiments.claims.claim import CANNOT_TELL, HOLDS, REFUTED, CannotTell
from shmreclaim.experiments.claims.ids import (
    AS_POSTED,
    HANG_S,
    LOOKED_AT,
    WITH_HINT,
    WITHOUT,
    Choice,
    Searched,
    choice_rule,
    exhausted,
    hint_rule,
    mixed_churn,
    random_plan,
    retry_rule,
    small_ids_rule,
)
from shmreclaim.experiments.claims.loops import ROOM, Registry, Tree, find_in_array, find_in_idr
from shmreclaim.machine.compile import link
from tests.experiments.claims.silent import lab

FAST, SLOW, WIDE = Searched([0, 1], [1, 2]), Searched([0, 1], [3, 4]), Searched([0, 1], [1, 4])
SMALL, LARGE = (9, 10), (10, 10)


def test_H11_is_judged_by_every_repeat_at_half_of_the_occupancies() -> None:
    """Times of different ids are not compared."""
    assert hint_rule({0: (FAST, SLOW), 50: (WIDE, SLOW)}).verdict == HOLDS
    assert hint_rule({0: (SLOW, FAST), 50: (WIDE, SLOW)}).verdict == REFUTED
    assert hint_rule({0: (FAST, SLOW), 50: (WIDE, SLOW), 99: (SLOW, FAST)}).verdict == CANNOT_TELL
    assert hint_rule({0: (FAST, Searched([0, 2], [3, 4]))}).verdict == CANNOT_TELL


def test_H12_is_judged_by_the_highest_id_and_its_control() -> None:
    """One id beyond the most that lived refutes; a control that stays small tells nothing."""
    assert small_ids_rule({"v4_19": SMALL}, {"v4_19+cyclic_ids": LARGE}).verdict == HOLDS
    assert small_ids_rule({"v4_19": LARGE}, {"v4_19+cyclic_ids": LARGE}).verdict == REFUTED
    assert small_ids_rule({"v4_19": SMALL}, {"v4_19+cyclic_ids": SMALL}).verdict == CANNOT_TELL


def test_H13_is_judged_by_who_retries_without_end() -> None:
    """A hang of another kind tells nothing, nor does memory that sufficed."""
    assert retry_rule([None], [3], {1: 0.0}).verdict == HOLDS
    assert retry_rule([["CPU 0, in register"]], [3], {1: 0.0}).verdict == REFUTED
    assert retry_rule([[]], [3], {1: 0.0}).verdict == CANNOT_TELL
    assert retry_rule([["CPU 0, in register"]], [0], {1: 0.0}).verdict == CANNOT_TELL
    assert retry_rule([["CPU 0, in register"]], [None], {1: 0.0}).verdict == CANNOT_TELL


def choice(ns: float, words: int, sections: int) -> Choice:
    """What one choice costs."""
    return Choice({10: [ns, ns], 100: [ns, ns], 1000: [ns, ns]}, [words] * 1000, sections)


def test_H15_is_judged_by_two_of_three() -> None:
    """Equal ones count for neither."""
    assert choice_rule(choice(9, 1, 0), choice(1, 2, 1)).verdict == HOLDS
    assert choice_rule(choice(9, 2, 0), choice(1, 1, 1)).verdict == REFUTED
    assert choice_rule(choice(9, 1, 1), choice(1, 2, 1)).verdict == CANNOT_TELL


def test_the_hint_changes_no_id_and_each_is_the_smallest_free() -> None:
    """Against a set of the ids in use."""
    link()
    away, plan = random_plan(50, 300)
    given = []
    for variant in (WITH_HINT, WITHOUT):
        registry = Registry(variant, away, plan)
        registry.play(0, 300)
        given.append(registry.ids(300))
        registry.arena.close()
    of_handle = {handle: handle for handle in range(ROOM) if handle not in away}  # mounted in order, so given in order
    smallest = []
    for comes, goes in plan:
        of_handle[comes] = min(set(range(ROOM)) - set(of_handle.values()))
        smallest.append(of_handle[comes])
        del of_handle[goes]
    assert given == [smallest, smallest]


def test_a_registry_whose_mounts_do_not_fit_is_refused() -> None:
    """Its figures would be of fewer ids."""
    link()
    with pytest.raises(CannotTell, match="did not fit"):
        Registry(WITH_HINT, [], [(0, 0)], pages=64)


def test_an_idr_and_an_array_take_the_memory_of_their_blocks() -> None:
    """A node of 72 words for 64 ids, with a top above two; a leaf, a bitmap and a slot an id, by powers of two."""
    idr, array = Tree(ida=False), Tree(ida=True)
    words = [(idr.add(), array.add()) for _ in range(65)]
    assert words[0] == (72, 72 + 16 + 8)
    assert words[63] == (72, 72 + 16 + 64)
    assert words[64] == (3 * 72, 72 + 16 + 128)


def test_lookups_of_what_is_not_there_are_noticed() -> None:
    """So no loop measures misses."""
    link()
    for ida, loop in ((False, find_in_idr), (True, find_in_array)):
        tree = Tree(ida)
        for _ in range(10):
            tree.add()
        assert loop(tree.mem, 10, 100) >= 0
        assert loop(tree.mem, 100, 100) == -1


@pytest.mark.parametrize("variant", ["davydov", "v4_19", "v6_7"])
def test_only_ids_in_turn_leave_the_range_of_those_that_lived(variant: str) -> None:
    """I6, and the control of H12."""
    work = mixed_churn(2, 20, 200)
    (small,), (large,) = lab().run(variant, work), lab().run(f"{variant}+cyclic_ids", work)
    assert small.record is not None
    assert large.record is not None
    assert small.broken == ()
    assert small.record.ids.max_id < small.record.ids.peak_live
    assert large.record.ids.max_id >= large.record.ids.peak_live
    assert any("I6" in text for text in large.broken)


def test_a_preload_that_nobody_looks_at_is_retried_without_end() -> None:
    """Where it is looked at, the mount fails and the run ends."""
    (posted,) = lab().run(AS_POSTED, exhausted(), timeout=HANG_S)
    assert posted.hung
    assert ["in register" in line for line in posted.livelock] == [True]
    (looked_at,) = lab().run(LOOKED_AT, exhausted(), timeout=HANG_S)
    assert looked_at.record is not None
    assert looked_at.broken == ()
    assert looked_at.record.ops["register"].failed["ENOMEM"] > 0
