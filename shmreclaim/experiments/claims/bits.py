"""H17 to H19: what keeps a bit from being lost, and a map from being used after it was freed.

Races of real processes: they show that something breaks, never that it cannot. What leaving out a barrier would do
cannot be seen on x86, where the atomic operations on bits are barriers themselves.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from shmreclaim.experiments.claims.claim import CANNOT_TELL, HOLDS, REFUTED, CannotTell, Claim, Finding, worded
from shmreclaim.experiments.claims.lab import Lab, Outcome
from shmreclaim.experiments.claims.workloads import SEED, Row, add, by_rows, delete, mkdir, mount, rmdir, shrink, touch
from shmreclaim.workload.ops import Workload

RACE_S = 1.0


def _lost(outcomes: Sequence[Outcome]) -> int:
    """Lists with objects whose bit is clear at the end: no later object would set it."""
    return sum(text.startswith("I2") for outcome in outcomes for text in outcome.broken)


def lost_rule(lost: Mapping[str, int], probes: Mapping[str, int]) -> Finding:
    """Holds if lists lost their bits under every variant, and none did under the design as it is.

    `lost` by variant, the design itself under "as it is"; `probes` are the times that a shrinker was found empty, so
    that its bit was cleared. Refuted if the design loses bits too. If one of the variants lost none, or a run cleared
    none, the race was not seen and nothing can be told; that says nothing about the others.
    """
    figures: dict[str, object] = {
        "races": {name: {"bits lost": lost[name], "found empty": probes[name]} for name in lost}
    }
    shown = ", ".join(f"{name} {n:,}" for name, n in lost.items())
    if lost["as it is"]:
        return Finding(REFUTED, f"bits lost: {shown}", figures)
    seen = all(n for name, n in lost.items() if name != "as it is") and all(probes.values())
    return Finding(HOLDS if seen else CANNOT_TELL, f"bits lost: {shown}", figures)


# --- H17 ---------------------------------------------------------------------------------------------

LISTS, ROUNDS, RACES = 128, 400, 6
VARIANTS = ("no_recount", "count_first", "bit_first")


def _adding_against_passes(seed: int) -> Workload:
    """One object after the other, to lists that another CPU's passes empty as fast as they can."""
    rng = random.Random(seed)
    adds: list[Row] = []
    for sb in range(LISTS):
        for _ in range(ROUNDS):
            adds += [add(1, sb), *[touch(0, 0)] * rng.randrange(10)]
    setup = [mkdir(1), *(mount(sb) for sb in range(LISTS))]
    return by_rows("adding against passes", setup, adds, [shrink(1)] * 400_000, pages=32768)


def race(lab: Lab, variant: str, seeds: range = range(SEED, SEED + RACES)) -> tuple[int, int]:
    """Let a design or variant race: bits lost, and how often a shrinker was found empty."""
    works = map(_adding_against_passes, seeds)
    return bits_lost([outcome for work in works for outcome in lab.run(variant, work, seconds=RACE_S)])


def _all_ended(outcomes: Sequence[Outcome]) -> None:
    """Refuse a run that hung: what it would have broken is not known."""
    for outcome in outcomes:
        if outcome.hung:
            raise CannotTell(f"a run of {outcome.design} hung: {'; '.join(map(str, outcome.standings))}")


def bits_lost(outcomes: Sequence[Outcome]) -> tuple[int, int]:
    """How many bits were lost, and how often a shrinker was found empty; raises CannotTell of a run that hung."""
    _all_ended(outcomes)
    return _lost(outcomes), sum(outcome.record.events["empty_probes"] for outcome in outcomes if outcome.record)


def _h17(lab: Lab) -> Finding:
    found = {"as it is": race(lab, "v6_7"), **{name: race(lab, f"v6_7+{name}") for name in VARIANTS}}
    return lost_rule({name: both[0] for name, both in found.items()}, {name: both[1] for name, both in found.items()})


# --- H18 ---------------------------------------------------------------------------------------------

GROUPS, OBJECTS = 300, 40


def _adding_against_offline() -> Workload:
    """Objects come to memcgs, in turn, that another CPU takes offline one after the other."""
    groups = range(1, GROUPS + 1)
    rows = [row for g in groups for k in range(OBJECTS) for row in (add(g, k % 4), delete(g, k % 4))]
    setup = [*map(mkdir, groups), *(mount(sb) for sb in range(4))]
    return by_rows("adding against offline", setup, rows, [*map(rmdir, groups)])


def offline_rule(touched: Mapping[str, int]) -> Finding:
    """Holds if maps freed at offline are looked for, or into, by those who set bits, and maps that stay are not.

    `touched` counts bits to be set through a map that is gone, or was freed, by design. Refuted if it happens though
    maps stay until the memcg goes; where it does not happen with maps freed at offline, the race was not seen.
    """
    early = {design: n for design, n in touched.items() if "free_maps_offline" in design}
    late = {design: n for design, n in touched.items() if design not in early}
    why = (
        f"maps used after they went: {sum(early.values()):,} where offline frees them, {sum(late.values()):,} where not"
    )
    figures: dict[str, object] = {"maps used after they went": dict(touched)}
    if any(late.values()):
        return Finding(REFUTED, why, figures)
    return Finding(HOLDS if any(early.values()) else CANNOT_TELL, why, figures)


def maps_used(outcomes: Sequence[Outcome]) -> int:
    """Bits to be set through a map that is gone, or was freed; raises CannotTell of a run that hung."""
    _all_ended(outcomes)
    gone = sum(outcome.record.events["null_maps"] for outcome in outcomes if outcome.record)
    return gone + sum("I1:" in text for outcome in outcomes for text in outcome.broken)


def used_after_offline(lab: Lab, variant: str) -> int:
    """Let a design or variant be raced by offline: how many maps were used after they went."""
    return maps_used(lab.run(variant, _adding_against_offline(), repeat=4))


def _h18(lab: Lab) -> Finding:
    early = ("tkhai_v1+free_maps_offline", "v4_19+free_maps_offline")
    return offline_rule({design: used_after_offline(lab, design) for design in ("tkhai_v1", "v4_19", *early)})


# --- H19 ---------------------------------------------------------------------------------------------

GROWN = 40 * 64


def _adding_against_growth() -> Workload:
    """Objects come to lists that passes empty, while another CPU makes maps grow."""
    rows = [row for k in range(4000) for row in (*(add(1, sb) for sb in range(32)), shrink(1), shrink(1))]
    setup = [mkdir(1), *(mount(sb) for sb in range(64))]
    return by_rows("adding against growth", setup, rows, [mount(64 + k) for k in range(GROWN)], pages=32768)


def _h19(lab: Lab) -> Finding:
    work = _adding_against_growth()
    variants = {"as it is": "v4_19", "copy_bits": "v4_19+copy_bits"}
    found = {name: bits_lost(lab.run(v, work, repeat=RACES, seconds=RACE_S)) for name, v in variants.items()}
    return lost_rule({name: both[0] for name, both in found.items()}, {name: both[1] for name, both in found.items()})


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "H17",
        "Kirill Tkhai, patch 10 of the series, 2018",
        "the second count after clearing a bit is needed, and the order of clearing and counting, adding and setting",
        f"Objects come to {LISTS} lists that another CPU's passes empty: v6_7 as it is, without the second count, with "
        "it before the bit is cleared, and with the bit set before the object is there.",
        worded(lost_rule),
        _h17,
    ),
    Claim(
        "H18",
        "the review of patches 03 and 08, 2018",
        "maps must not be freed in css_offline: setters may still come; in css_free they do not",
        f"Objects come to {GROUPS} memcgs that another CPU takes offline, with maps freed there and with the memcg.",
        worded(offline_rule),
        _h18,
    ),
    Claim(
        "H19",
        "Kirill Tkhai, in the series' comments, 2018",
        "copying the old bits on growth instead of setting all of them loses bits",
        f"Objects come and go in one memcg while {GROWN // 64} growths replace its map: v4_19 as it is, and copying.",
        worded(lost_rule),
        _h19,
    ),
)
