"""Calls of a real do_shrink_slab against the formulas of one era: which figures match, and what had to be inferred.

The formulas are `mm.shrinker`'s, on their interpreted twins. Each is given the figures that the trace says went in:
delta the freeable objects and the priority; total_scan also the deferred count and the traced delta; carry the two and
what was scanned, total_scan less what was left of it. So a kernel that differs in one formula differs in one figure.

Inferred, because no tracepoint says it
S1  seeks. A shrinker keeps one value for life, so one value must fit the delta of all its calls. SEEKS are values that
    kernels use. Shrinkers of one function may differ: super_cache_scan serves proc and sysfs with 0, other file
    systems with 2. Where a shrinker's calls leave several values, it gets one that another one of its function needs.
S2  batch enters a delta only in 4.19. There it is inferred together with seeks, of BATCHES. The way in which
    total_scan shrinks could hint at it too, but a scan may report any nr_scanned, so that proves nothing.

What this proves: a delta of 2 * (f >> p) above 0 leaves one value of SEEKS, and a shrinker with one such call has no
freedom left. A delta of f / 2 at priority 0 leaves 0 and 8, which no call there can tell apart. A call whose delta is 0
(f below 2**p) fits most values and proves little. `Inferred` says what is left, and how many calls by themselves leave
no more than that.

The carry
K1  The counter is exchanged for 0 before the start is traced, and the traced "new scan count" is what it holds after
    the carry was added. With nobody else at it that is the carry itself.
K2  Others may have added meanwhile: then the excess is what the last of them left in the counter, the "new scan count"
    of its end. This call had taken all there was, so whoever else came to the same counter fetched 0, or what one of
    them had left, or had fetched before. The excess must be, exactly, what a call of another task in such a chain left;
    it is never taken on trust. SKEW allows for the few instructions between an atomic operation and its tracepoint.
K3  Since 5.13 each memcg has a counter of its own, and the trace does not say which. A chain in another memcg is
    accepted too if it ends in the same value, and a value that was fetched again still counts, because that may have
    been its equal in another memcg: this is what is not checked. Deferred counts that an offlined memcg hands to its
    parent during a call of the parent are not in the trace, and would show as a mismatch.

Limits: a pointer that is used again for a shrinker with other seeks counts as one shrinker, and shows as a mismatch.
"""

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from shmreclaim.machine.compile import plain
from shmreclaim.mm.shrinker import DEFAULT_SEEKS, SHRINK_BATCH, Arithmetic, scan_carry, scan_delta, scan_target
from shmreclaim.workload.ftrace_calls import ShrinkCall

SEEKS = (DEFAULT_SEEKS, 0, 1, 4, 8, 20, 16, 24, 32, 48, 64)
"""2 nearly all; 0 proc, sysfs, workingset, xfs inodegc; 1 dm-bufio; 4 bcache; 8 ashmem; 20 kvm; n times 8 raid5."""
BATCHES = (SHRINK_BATCH, 1024, 1, 16, 32, 64, 256, 512, 2048, 4096, 8192)
"""128 where none is set; 1024 superblocks; 4096 i915."""
SKEW = 10_000
"""ns."""
_MOST_ENDS = 4096
"""How many ends within one call are looked at, the last ones, so that no trace costs more than linear time."""

_delta, _target, _carry = plain(scan_delta), plain(scan_target), plain(scan_carry)


class Choice(NamedTuple):
    """Values of a shrinker that no tracepoint says."""

    seeks: int
    batch: int


class Wrong(NamedTuple):
    """A figure that the formula does not give."""

    call: ShrinkCall
    figure: str
    expected: int
    found: int


class Inference(NamedTuple):
    """Which choice each shrinker got, and which choices its calls left."""

    chosen: dict[str, Choice]
    left: dict[str, int]
    """As bits of `choices`; 0 where no choice fits all calls."""
    telling: Counter[str]
    """Calls of which each leaves no more than all of them together."""


class Others:
    """What concurrent calls left in a shrinker's counter: K2."""

    def __init__(self, calls: Iterable[ShrinkCall]) -> None:
        """Index `calls` by shrinker and node, in the order of their ends."""
        self._ends: dict[tuple[str, int], list[ShrinkCall]] = defaultdict(list)
        self._values: set[tuple[str, int, int]] = set()
        for call in calls:
            self._ends[call.pointer, call.nid].append(call)
            self._values.add((call.pointer, call.nid, call.owed))
        for ends in self._ends.values():
            ends.sort(key=_ended)

    def left(self, call: ShrinkCall, value: int) -> bool:
        """Tell whether other tasks can have left `value` in the counter during `call`."""
        if (call.pointer, call.nid, value) not in self._values:
            return False
        ends = self._ends[call.pointer, call.nid]
        first = bisect_left(ends, call.began - SKEW, key=_ended)
        last = bisect_right(ends, call.ended + SKEW, key=_ended)
        chain: set[int] = set()
        for other in ends[max(first, last - _MOST_ENDS) : last]:
            came_before = other.began <= call.began + SKEW
            if other.pid != call.pid and (came_before or other.deferred == 0 or other.deferred in chain):
                chain.add(other.owed)
        return value in chain


def _ended(call: ShrinkCall) -> int:
    return call.ended


class Checked:
    """All calls under the formulas of one era."""

    def __init__(self, era: Arithmetic, calls: Sequence[ShrinkCall], others: Others) -> None:
        """Infer, then check every call."""
        self.era, self.calls = era, calls
        self.choices = choices_of(era)
        self.inference = infer(era, calls)
        self.right: Counter[str] = Counter()
        self.wrong: list[Wrong] = []
        self.matched = 0
        for call in calls:
            wrong = list(self._wrong(call, others))
            self.matched += not wrong
            self.wrong += wrong

    def _wrong(self, call: ShrinkCall, others: Others) -> Iterator[Wrong]:
        choice = self.inference.chosen[call.pointer]
        scanned = call.total_scan - call.left
        delta = _delta(self.era, call.freeable, call.priority, *choice)
        target = _target(self.era, call.freeable, call.deferred, call.delta, call.priority)
        carry = _carry(self.era, call.freeable, call.deferred, call.delta, scanned)
        for figure, expected, found in (("delta", delta, call.delta), ("total_scan", target, call.total_scan)):
            if expected == found:
                self.right[figure] += 1
            else:
                yield Wrong(call, figure, expected, found)
        if carry == call.owed:
            self.right["carry"] += 1
        elif others.left(call, call.owed - carry):
            self.right.update(("carry", "carry_with_others"))
        else:
            yield Wrong(call, "carry", carry, call.owed)


def choices_of(era: Arithmetic) -> tuple[Choice, ...]:
    """Give what may be inferred: batch where delta depends on it, seeks of 0 where it does not divide by zero."""
    seeks = [each for each in SEEKS if each or era >= Arithmetic.V5_0]
    batches = BATCHES if era == Arithmetic.V4_19 else (SHRINK_BATCH,)
    return tuple(Choice(each, batch) for each in seeks for batch in batches)


@lru_cache(maxsize=1 << 16)
def _fitting(era: Arithmetic, freeable: int, priority: int, delta: int) -> int:
    """Choices that give this delta, as bits."""
    return sum(
        1 << bit for bit, choice in enumerate(choices_of(era)) if _delta(era, freeable, priority, *choice) == delta
    )


def infer(era: Arithmetic, calls: Iterable[ShrinkCall]) -> Inference:
    """Find for each shrinker one choice that fits all its calls, or failing that most: S1 and S2."""
    rows: dict[str, Counter[int]] = defaultdict(Counter)
    function: dict[str, str] = {}
    for call in calls:
        rows[call.pointer][_fitting(era, call.freeable, call.priority, call.delta)] += 1
        function[call.pointer] = call.function
    left = {pointer: _common(fits) for pointer, fits in rows.items()}
    telling = Counter({pointer: fits[left[pointer]] for pointer, fits in rows.items()})
    by_function: dict[str, list[str]] = defaultdict(list)
    for pointer, name in function.items():
        by_function[name].append(pointer)
    choices = choices_of(era)
    chosen: dict[str, Choice] = {}
    for pointers in by_function.values():
        wanted = _fewest([left[pointer] or _most(rows[pointer], len(choices)) for pointer in pointers], len(choices))
        chosen |= {pointer: choices[bit] for pointer, bit in zip(pointers, wanted, strict=True)}
    return Inference(chosen, left, telling)


def _common(fits: Iterable[int]) -> int:
    """Give the choices that are in all of `fits`."""
    common = -1
    for fit in fits:
        common &= fit
    return common


def _most(fits: Counter[int], choices: int) -> int:
    """Give the one choice that fits the most calls."""
    return 1 << max(range(choices), key=lambda bit: (sum(n for fit, n in fits.items() if fit >> bit & 1), -bit))


def _fewest(left: Sequence[int], choices: int) -> list[int]:
    """Choose a bit of each of `left` so that few different ones are used: those without alternative come first."""
    forced = Counter(fit.bit_length() - 1 for fit in left if fit.bit_count() == 1)
    used = [bit for bit, _ in forced.most_common()]
    chosen = []
    for fit in left:
        bit = next((bit for bit in used if fit >> bit & 1), None)
        if bit is None:
            bit = next(bit for bit in range(choices) if fit >> bit & 1)
            used.append(bit)
        chosen.append(bit)
    return chosen
