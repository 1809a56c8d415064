"""What is expected of a design where designs differ on purpose: a row for each, so that a new one has to say.

A design without a row stops every test of designs where they are collected. Tests ask for a kind, never for a name,
but where they look into one design's own records.
"""

from itertools import groupby
from typing import NamedTuple

from shmreclaim.designs import NAMES
from shmreclaim.mm.shrinker import Arithmetic


class Expected(NamedTuple):
    """How a design differs from others."""

    arithmetic: Arithmetic
    """Designs of one arithmetic free the same objects for the same rows."""
    lengths: tuple[int, ...]
    """How long its maps become, one growth after the other; none: it has no maps, and no ids."""
    rwsem: bool = False
    """Walks hold shrinker_rwsem for read; else they hold no lock, and registering takes shrinker_mutex."""
    root_has_a_map: bool = False
    unaware_pass: str = "root"
    """In whose pass a shrinker that knows no memcg is asked: of `none`, or of the `root`."""
    owes_by_memcg: bool = False
    """What a shrinker owes is kept for each memcg (5.13), not for all of them together."""
    growth_sets_bits: bool = True
    """Else a unit of bits stays where it is when a map grows."""
    rounds_end_at: int = 10
    """drop_caches starts another round if the last one freed more."""

    @property
    def mapped(self) -> bool:
        """Whether it has maps, and ids."""
        return bool(self.lengths)

    def growths(self, mounts: int) -> int:
        """How often its maps grow to hold so many."""
        return self.mapped + sum(length < mounts for length in self.lengths)


DOUBLING, BY_WORDS = (8, 16, 32, 64, 128, 256), (64, 128, 192)
V4_16, V4_19, V5_13 = Arithmetic.V4_16, Arithmetic.V4_19, Arithmetic.V5_13
EXPECTED = {
    "no_map": Expected(V4_16, (), rwsem=True, unaware_pass="none"),
    "tkhai_v1": Expected(V4_16, DOUBLING, rwsem=True, root_has_a_map=True, unaware_pass="none"),
    "davydov": Expected(V4_16, BY_WORDS, rwsem=True),
    "v4_19": Expected(V4_19, BY_WORDS, rwsem=True),
    "v5_13": Expected(V5_13, BY_WORDS, rwsem=True, root_has_a_map=True, owes_by_memcg=True),
    "v6_4_srcu": Expected(V5_13, BY_WORDS, root_has_a_map=True, owes_by_memcg=True, rounds_end_at=1),
    "v6_7": Expected(V5_13, BY_WORDS, root_has_a_map=True, owes_by_memcg=True, growth_sets_bits=False, rounds_end_at=1),
}

MAPPED = tuple(name for name in NAMES if EXPECTED[name].mapped)
WITH_RWSEM = tuple(name for name in NAMES if EXPECTED[name].rwsem)
WITHOUT_LOCK = tuple(name for name in NAMES if not EXPECTED[name].rwsem)
OWING_BY_MEMCG = tuple(name for name in NAMES if EXPECTED[name].owes_by_memcg)
ERAS = tuple(tuple(names) for _, names in groupby(NAMES, lambda name: EXPECTED[name].arithmetic))
"""Designs of one arithmetic; they follow each other in history."""
