"""Switches: how a run may differ from its design, so that an argument about one line needs no copy of a file.

A variant is written `design+switch+...`, a parameter `name=value` among them: `v4_19+copy_bits`,
`tkhai_v1+no_start_hint`, `v6_4_srcu+srcu_gp_us=0`. A switch acts wherever the code it names is run; a design that has
no such code refuses it. Plain data: compiled code reads the bits from MM.switches where a decision is made.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import NamedTuple

from shmreclaim.errors import UsageError


class Switch(enum.IntEnum):
    """One departure from a design each, a bit; the name in lower case is what a variant is written with."""

    BLOCKING_RECLAIM = 1 << 0
    """Reclaim waits for shrinker_rwsem instead of trying it."""
    NESTED_WRITE = 1 << 1
    """Growth takes shrinker_rwsem for write for each map, though registration may hold it already."""
    NO_MAP_MUTEX = 1 << 2
    """Nothing orders memcg_online against growth of the maps."""
    NO_START_HINT = 1 << 3
    """The search for a free id begins at 0."""
    CYCLIC_IDS = 1 << 4
    """Ids are given out in turn, not the smallest first."""
    COPY_BITS = 1 << 5
    """Growth copies the old bits instead of setting all of them."""
    NO_RECOUNT = 1 << 6
    """A shrinker that was empty is not asked once more after its bit was cleared."""
    COUNT_FIRST = 1 << 7
    """The second count is made before the bit is cleared."""
    BIT_FIRST = 1 << 8
    """The bit is set before the object is on its list."""
    IDS_NOWAIT = 1 << 9
    """Memory for an id is allocated with GFP_NOWAIT: no reclaim at all."""
    IGNORE_PRELOAD = 1 << 10
    """Whether memory was preloaded for an id is not looked at."""
    NO_GRACE_PERIOD = 1 << 11
    """A replaced map is freed at once."""
    FREE_MAPS_OFFLINE = 1 << 12
    """A memcg's maps are freed when it goes offline."""


class Parameter(NamedTuple):
    """What else a variant may set."""

    field: str
    """Of the root record."""
    unit: int = 1
    """How many of the field's units one of the name's is."""
    most: int = 10**9


PARAMETERS = {
    "srcu_gp_us": Parameter("srcu_gp_ns", 1000),
    "lists_on_demand": Parameter("lists_on_demand", most=1),
}
"""By the name that a variant is written with."""

_MAPPED = (Switch.NO_RECOUNT, Switch.COUNT_FIRST, Switch.BIT_FIRST, Switch.NO_GRACE_PERIOD, Switch.FREE_MAPS_OFFLINE)
_RWSEM = (*_MAPPED, Switch.COPY_BITS, Switch.BLOCKING_RECLAIM)
_LISTS = "lists_on_demand"
_IDR = (Switch.CYCLIC_IDS, Switch.IDS_NOWAIT)

KNOWN: dict[str, tuple[Switch | str, ...]] = {
    "no_map": (Switch.BLOCKING_RECLAIM, _LISTS),
    "tkhai_v1": (*_RWSEM, _LISTS, Switch.NO_START_HINT, Switch.IGNORE_PRELOAD),
    "davydov": (*_RWSEM, *_IDR, _LISTS, Switch.NO_MAP_MUTEX),
    "v4_19": (*_RWSEM, *_IDR, _LISTS, Switch.NO_MAP_MUTEX, Switch.NESTED_WRITE),
    "v5_13": (*_RWSEM, *_IDR, _LISTS),
    "v6_4_srcu": (*_MAPPED, *_IDR, _LISTS, Switch.COPY_BITS, "srcu_gp_us"),
    "v6_7": (*_MAPPED, *_IDR, _LISTS),
}
"""Which switches and parameters mean something to a built-in design."""


@dataclass(frozen=True)
class Variant:
    """A design, and how this run of it differs."""

    design: str
    switches: int = 0
    """Switch bits."""
    words: dict[str, int] = field(default_factory=dict)
    """Fields of the root record with the values they are to have instead of the design's."""


def parse_variant(text: str) -> Variant:
    """Take `design+switch+name=value` apart; raises UsageError for what that design does not know."""
    design, *rest = text.split("+")
    if rest and design not in KNOWN:
        raise UsageError(f"{text!r}: there is no design {design!r} to vary", remedy=f"There are: {', '.join(KNOWN)}.")
    switches, words = 0, {}
    for part in rest:
        name, equals, value = part.partition("=")
        known = {_name(each): each for each in KNOWN[design]}.get(name)
        if isinstance(known, Switch) and not equals:
            switches |= known
        elif isinstance(known, str) and equals:
            words[PARAMETERS[name].field] = _whole(text, name, value) * PARAMETERS[name].unit
        else:
            has = ", ".join(_name(each) + ("=NUM" if each in PARAMETERS else "") for each in KNOWN[design])
            raise UsageError(f"{text!r}: {design} has no switch {part!r}", remedy=f"It has: {has}.")
    return Variant(design, switches, words)


def _name(known: Switch | str) -> str:
    return known.name.lower() if isinstance(known, Switch) else known


def _whole(text: str, name: str, value: str) -> int:
    most = PARAMETERS[name].most
    if not value.isdecimal() or int(value) > most:
        raise UsageError(f"{text!r}: {value!r} is no value for {name}", remedy=f"Give a whole number, 0 to {most}.")
    return int(value)
