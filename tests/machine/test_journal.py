"""The table of machine/journal.py, row by row: what a death leaves in doubt, and what its successor makes of it."""

from collections.abc import Iterator

import pytest

from shmreclaim.machine.arena import Arena
from shmreclaim.machine.cpu import CPU, make_cpus
from shmreclaim.machine.journal import (
    CHANGE,
    ENTRY_WORDS,
    JOURNAL,
    PARKED,
    STORE,
    Doubt,
    journal_words,
    make_journals,
    take_over,
)
from shmreclaim.machine.layout import HEADER, LINE

ROOM = 16


class Dead:
    """A CPU whose process died: it had logged three accesses."""

    def __init__(self, arena: Arena) -> None:
        """Nothing in doubt yet."""
        self.memory, self.arena = arena.memory, arena
        (self.slot,) = make_cpus(arena, 1)
        make_journals(arena, [self.slot], ROOM)
        self.journal = self.memory[self.slot + CPU.journal]
        self.word = arena.allocate(LINE)
        self.set(length=3, next=3)

    def set(self, **fields: int) -> None:
        """Write into its journal."""
        for name, value in fields.items():
            self.memory[self.journal + getattr(JOURNAL, name)] = value

    def get(self, field: str) -> int:
        """Read in it."""
        return self.memory[self.journal + getattr(JOURNAL, field)]

    def announce(self, kind: int, old: int, new: int) -> None:
        """Say which access is next."""
        self.set(pending_kind=kind, pending_at=self.word, pending_old=old, pending_new=new, pending_entry=3)

    def last_entry(self) -> tuple[int, int]:
        """Its tag and value."""
        at = self.journal + JOURNAL.entries + (self.get("length") - 1) * ENTRY_WORDS
        return self.memory[at], self.memory[at + 1]

    def take_stripe(self, *, parked: bool = False) -> int:
        """Die with the stripe of the word."""
        stripe = self.get("stripes") + 5 * LINE
        self.set(stripe=stripe)
        self.memory[stripe] = 1 | (PARKED if parked else 0)
        return stripe


@pytest.fixture
def dead() -> Iterator[Dead]:
    """One in a segment of its own."""
    with Arena.create(HEADER.SIZE + CPU.SIZE + journal_words(1, ROOM) + 8 * LINE) as arena:
        one = Dead(arena)
        yield one
        one.memory = one.arena.memory[:0]


def test_who_announced_nothing_leaves_nothing_in_doubt(dead: Dead) -> None:
    """The unit is repeated from its first entry on."""
    assert take_over(dead.arena, dead.slot) == Doubt("none", False)
    assert (dead.get("length"), dead.get("next"), dead.get("resuming")) == (3, 0, 1)


@pytest.mark.parametrize(("kind", "name", "logged"), [(STORE, "store", 8), (CHANGE, "change", 7)])
def test_an_access_that_was_made_is_logged_for_the_dead(dead: Dead, kind: int, name: str, logged: int) -> None:
    """A store with what it stored, a change with what it found."""
    dead.announce(kind, old=7, new=8)
    dead.memory[dead.word] = 8
    assert take_over(dead.arena, dead.slot) == Doubt(name, True)
    assert dead.get("length") == 4
    assert dead.last_entry() == (dead.word * 8 + kind, logged)
    assert dead.memory[dead.word] == 8


@pytest.mark.parametrize("kind", [STORE, CHANGE])
def test_an_access_that_was_not_made_is_left_to_be_made(dead: Dead, kind: int) -> None:
    """The successor comes to it when all is repeated."""
    dead.announce(kind, old=7, new=8)
    dead.memory[dead.word] = 7
    assert take_over(dead.arena, dead.slot).made is False
    assert dead.get("length") == 3
    assert dead.memory[dead.word] == 7


@pytest.mark.parametrize("kind", [STORE, CHANGE])
def test_doubt_is_settled_once_whatever_the_word_becomes_later(dead: Dead, kind: int) -> None:
    """Its lock may be free by the time that the successor dies as well, and others change it."""
    dead.announce(kind, old=7, new=8)
    dead.memory[dead.word] = 7
    take_over(dead.arena, dead.slot)
    dead.memory[dead.word] = 99
    assert take_over(dead.arena, dead.slot) == Doubt("none", False)
    assert dead.get("length") == 3


def test_what_was_logged_is_no_longer_in_doubt(dead: Dead) -> None:
    """Though it is still what was announced last."""
    dead.announce(CHANGE, old=7, new=8)
    dead.set(length=4, next=4)
    dead.memory[dead.word] = 9  # somebody else's, by now
    assert take_over(dead.arena, dead.slot) == Doubt("none", False)
    assert dead.get("length") == 4


def test_the_stripe_of_the_dead_is_free_and_nobody_elses(dead: Dead) -> None:
    """Who sleeps for it is woken: the word that it sleeps on has changed."""
    stripe = dead.take_stripe(parked=True)
    take_over(dead.arena, dead.slot)
    assert dead.memory[stripe] == 0
    stripe = dead.take_stripe()
    dead.memory[stripe] = 2
    take_over(dead.arena, dead.slot)
    assert dead.memory[stripe] == 2
    assert dead.get("stripe") == 0


def test_taking_over_twice_is_taking_over_once(dead: Dead) -> None:
    """A successor may die while it settles things."""
    dead.announce(CHANGE, old=7, new=8)
    dead.memory[dead.word] = 8
    dead.take_stripe()
    take_over(dead.arena, dead.slot)
    before = bytes(dead.arena.view(dead.journal, JOURNAL.deaths))
    take_over(dead.arena, dead.slot)
    assert bytes(dead.arena.view(dead.journal, JOURNAL.deaths)) == before
    assert dead.last_entry() == (dead.word * 8 + CHANGE, 7)


def test_a_store_that_changes_nothing_is_made_again(dead: Dead) -> None:
    """Nobody can tell whether it was, and it does not matter."""
    dead.announce(STORE, old=7, new=7)
    dead.memory[dead.word] = 7
    assert take_over(dead.arena, dead.slot).made is False
