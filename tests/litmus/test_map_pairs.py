"""The ordering pairs of shrinker maps, in two real processes: their forbidden outcomes never show."""

import pytest

from shmreclaim.machine.compile import link
from shmreclaim.mm.memcg import MEMCG
from shmreclaim.mm.shrinker_map import MAP, map_publish
from tests.litmus import map_programs
from tests.litmus.programs import TABLE
from tests.litmus.test_pairs import ROUNDS, both
from tests.sync.crew import Crew

pytestmark = pytest.mark.stress


@pytest.fixture
def memcg(crew: Crew) -> int:
    """A record that is a memcg as far as its map goes."""
    link("shmreclaim.mm.shrinker_map.")
    return crew.arena.allocate(MEMCG.SIZE)


def test_P20_an_object_is_counted_or_its_bit_stays_set(crew: Crew, table: int, memcg: int) -> None:
    """Whoever comes second sees the other."""
    block = crew.arena.allocate(MAP.bits + 1)
    crew.arena.memory[block + MAP.nr_bits] = 64
    crew.call(map_publish, memcg, 0, block)
    args = (table, ROUNDS, memcg)
    assert both(crew, map_programs.adder, args, map_programs.reclaimer, args) == 0
    assert crew.word(table + TABLE.seen) > 0, "the object was counted every time: nothing was tried"


def test_P21_a_published_map_is_whole(crew: Crew, table: int, memcg: int) -> None:
    """Its length and its bits are those of one moment."""
    maps = crew.arena.allocate(2 * (MAP.bits + 1))
    right = (table, ROUNDS, memcg)
    assert both(crew, map_programs.publisher, (*right, maps), map_programs.follower, right) == 0
    assert crew.word(table + TABLE.seen) > 0, "no map was ever seen: nothing was tried"
