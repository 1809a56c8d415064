"""The ordering pairs of the maps, in two real processes: the forbidden outcome never shows.

On x86 set_bit and clear_bit are full barriers by themselves, so the barriers of P20 cannot be missed here; that the
order of clearing and counting matters is what the mutant shows.
"""

from collections.abc import Callable
from typing import Any

import pytest

from shmreclaim.lib.bitmap import bitmap_fill
from shmreclaim.lib.bitmap import test_bit as bit_is_set  # by its own name pytest would take it for a test
from shmreclaim.machine.atomics import read_once, store_release, write_once
from shmreclaim.machine.compile import compiled, entry_point
from shmreclaim.machine.layout import HEADER
from shmreclaim.mm.memcg import MEMCG
from shmreclaim.mm.shrinker_map import MAP, map_clear_bit, map_of, map_publish, map_set_bit
from shmreclaim.mm.state import MM
from tests.litmus.programs import TABLE, await_word, count_seen, linger, meet
from tests.sync.crew import Crew

pytestmark = pytest.mark.stress
ROUNDS = 6_000
FEW = 200
NUMBER = 5
WORDS = 16
"""Words of a published map: two lines, so that it could be seen in part."""
COUNT_FIRST, CLEAR_FIRST = 0, 1


@pytest.fixture
def memcg(crew: Crew) -> int:
    """A memcg, and a map of one word for it, in a kernel that has nothing else."""
    crew.arena.memory[HEADER.kernel] = crew.arena.allocate(MM.SIZE)
    memcg = crew.arena.allocate(MEMCG.SIZE)
    block = crew.arena.allocate(MAP.bits + 1)
    crew.arena.memory[block + MAP.nr_bits] = 64
    crew.call(map_publish, memcg, 0, block)
    return memcg


def both(crew: Crew, left: Callable[..., int], right: Callable[..., int], args: tuple[int, ...]) -> int:
    """Run both sides in processes of their own; how often the forbidden outcome showed."""
    for side in (left, right):
        entry_point(side, 2 + len(args))
    crew.start(1, left, *args)
    crew.start(2, right, *args)
    return sum(crew.finish().values())


@compiled
def adder(mem: Any, cpu: int, table: int, memcg: int, rounds: int, order: int) -> int:
    """An object comes (x = k), then its bit is set. Forbidden after both: the bit is clear, the count missed it."""
    forbidden = 0
    for k in range(1, rounds + 1):
        meet(mem, table, 4 * k - 2)
        linger(k & 15)
        if order == COUNT_FIRST:
            await_word(mem, table + TABLE.y, k)
        write_once(mem, table + TABLE.x, k)
        map_set_bit(mem, cpu, memcg, 0, NUMBER)
        store_release(mem, table + TABLE.early, k)
        meet(mem, table, 4 * k)
        is_set = bit_is_set(mem, map_of(mem, memcg, 0) + MAP.bits, NUMBER)
        counted = read_once(mem, table + TABLE.right) == k
        if is_set == 0 and counted:
            count_seen(mem, table)
        forbidden += 1 if is_set == 0 and not counted else 0
    return forbidden


@compiled
def reclaimer(mem: Any, cpu: int, table: int, memcg: int, rounds: int, order: int) -> int:
    """The bit is cleared, then objects are counted; for the mutant counted, and cleared when the other came between."""
    for k in range(1, rounds + 1):
        meet(mem, table, 4 * k - 2)
        linger(k >> 4 & 31)
        if order == CLEAR_FIRST:
            map_clear_bit(mem, cpu, memcg, 0, NUMBER)
        write_once(mem, table + TABLE.right, read_once(mem, table + TABLE.x))
        if order == COUNT_FIRST:
            store_release(mem, table + TABLE.y, k)
            await_word(mem, table + TABLE.early, k)
            map_clear_bit(mem, cpu, memcg, 0, NUMBER)
        meet(mem, table, 4 * k)
    return 0


def test_P20_an_object_is_counted_or_its_bit_stays_set(crew: Crew, table: int, memcg: int) -> None:
    """Whichever comes first."""
    args = (table, memcg, ROUNDS, CLEAR_FIRST)
    assert both(crew, adder, reclaimer, args) == 0
    assert crew.word(table + TABLE.seen) > 0, "no bit was ever cleared after it was set: nothing was tried"


def test_P20_the_other_way_round_an_object_is_lost_whenever_it_comes_between(
    crew: Crew, table: int, memcg: int
) -> None:
    """The mutant counts, then clears, and the object comes between: the test above can see what it forbids."""
    assert both(crew, adder, reclaimer, (table, memcg, FEW, COUNT_FIRST)) == FEW


@compiled
def publisher(mem: Any, cpu: int, table: int, memcg: int, rounds: int, blocks: int) -> int:
    """Fill a map with k, publish it; there are two, used in turn."""
    for k in range(1, rounds + 1):
        meet(mem, table, 4 * k - 2)
        linger(k & 31)
        block = blocks + (k & 1) * WORDS
        bitmap_fill(mem, block, WORDS, k)
        map_publish(mem, memcg, 0, block)
        meet(mem, table, 4 * k)
    return 0


@compiled
def follower(mem: Any, cpu: int, table: int, memcg: int, rounds: int, blocks: int) -> int:
    """Load the pointer. Forbidden: it is new and a word of the map is older."""
    forbidden = 0
    for k in range(1, rounds + 1):
        meet(mem, table, 4 * k - 2)
        linger(k >> 5 & 63)
        block = map_of(mem, memcg, 0)
        if block == blocks + (k & 1) * WORDS:
            for i in range(WORDS):
                forbidden += 1 if read_once(mem, block + WORDS - 1 - i) != k else 0
            count_seen(mem, table)
        meet(mem, table, 4 * k)
    return forbidden


def test_P21_a_published_map_is_whole(crew: Crew, table: int, memcg: int) -> None:
    """To the last word, for whoever finds its pointer."""
    args = (table, memcg, ROUNDS, crew.arena.allocate(2 * WORDS))
    assert both(crew, publisher, follower, args) == 0
    assert crew.word(table + TABLE.seen) > 0, "the reader always came first: nothing was tried"
