"""Records: offsets, lines, sizes; and the number that two programs must share."""

import pytest

from shmreclaim.machine import layout
from shmreclaim.machine.cpu import CPU
from shmreclaim.machine.layout import HEADER, LAYOUTS, LINE, Field, layout_hash, record, round_up
from shmreclaim.sync.lockdep import LOCK


@pytest.fixture(autouse=True)
def _own_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Records declared here are forgotten."""
    monkeypatch.setattr(layout, "LAYOUTS", dict(LAYOUTS))


def test_fields_follow_each_other_and_lines_start_where_asked() -> None:
    """Sizes count, and the whole is made of whole lines."""
    made = record("R1", Field("a", "x"), Field("b", "x", 3), Field("c", "x", line=True), Field("d", "x"))
    assert (made.a, made.b, made.c, made.d, made.SIZE) == (0, 1, LINE, LINE + 1, 2 * LINE)


def test_a_record_that_is_not_aligned_has_just_its_words() -> None:
    """For records inside of records."""
    assert record("R2", Field("a", "x"), Field("b", "x", 2), aligned=False).SIZE == 3


def test_a_record_cannot_be_declared_twice() -> None:
    """Offsets would depend on who came last."""
    record("R3", Field("a", "x"))
    with pytest.raises(ValueError, match="R3 is declared twice"):
        record("R3", Field("a", "x"))


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_every_field_says_what_protects_it(name: str) -> None:
    """The whole locking design stands in the declarations."""
    declared = LAYOUTS[name]
    assert all(field.protection for field in declared.fields)
    ends = [offset + field.words for offset, field in zip(declared.offsets, declared.fields, strict=True)]
    assert all(end <= start for end, start in zip(ends[:-1], declared.offsets[1:], strict=True))
    assert ends[-1] <= declared.size


def test_hot_words_have_lines_of_their_own() -> None:
    """What grace periods look at, what waiters sleep on, what a lock is made of."""
    assert {offset % LINE for offset in (CPU.rcu, CPU.wake, HEADER.rcu_seq, HEADER.rcu_waiters, LOCK.wait_lock)} == {0}
    assert CPU.rcu // LINE != CPU.rcu_nesting // LINE
    assert LOCK.word // LINE != LOCK.wait_lock // LINE


def test_the_number_of_this_layout_is_positive_and_stable() -> None:
    """It fits a signed word and is never 0."""
    assert 0 < layout_hash() < 1 << 62
    assert layout_hash() == layout_hash()


@pytest.mark.parametrize(("words", "rounded"), [(0, 0), (1, 8), (8, 8), (9, 16)])
def test_rounding_up(words: int, rounded: int) -> None:
    """To the next multiple."""
    assert round_up(words, 8) == rounded
