"""The sentences at the end: what the figures come to, said only where they say it."""

from shmreclaim.report import units
from shmreclaim.result import DesignResult, Result

Named = tuple[str, DesignResult]


def sentences(result: Result) -> list[str]:
    """Compare the designs that were not refused; nothing where fewer than two are left."""
    designs = [(name, design) for name, design in result.designs.items() if not design.refused]
    if len(designs) < 2:
        return []
    lines = [_calls(designs), _registering(designs), _skipping(designs)]
    found = [line for line in lines if line]
    return ["Summary", *(f"  {line}" for line in found), ""] if found else []


def _calls(designs: list[Named]) -> str:
    """Compare shrinker calls for what they freed: the point of the per-memcg maps."""
    used = sorted((each for each in designs if each[1].reclaim.shrinker_calls), key=_shrinker_calls)
    if len(used) < 2:
        return ""
    (few, least), (many, most) = used[0], used[-1]
    factor = _shrinker_calls(used[-1]) / _shrinker_calls(used[0])
    if factor < 1.05:
        return ""
    freed, more = least.reclaim.objects_freed, most.reclaim.objects_freed
    same = f"for the same {units.count(freed)} objects freed"
    apart = f"and freed {units.count(more)} objects, {few} {units.count(freed)}"
    told = same if freed == more else apart
    return f"{many} made {units.ratio(factor)} times as many shrinker calls as {few} {told}"


def _shrinker_calls(named: Named) -> int:
    return named[1].reclaim.shrinker_calls


def _registering(designs: list[Named]) -> str:
    """Compare rates of registration, where the runs of the two designs do not overlap."""
    able = [(name, design.ops["register"].rate_per_s) for name, design in designs if "register" in design.ops]
    able = sorted((each for each in able if each[1].median > 0), key=lambda each: each[1].median)
    if len(able) < 2:
        return ""
    (slow, slowest), (fast, fastest) = able[0], able[-1]
    if fastest.min <= slowest.max:
        return "the rates of registering do not differ by more than their spread"
    factor = units.ratio(fastest.median / slowest.median)
    return f"{fast} registered {factor} times as many shrinkers a second as {slow}"


def _skipping(designs: list[Named]) -> str:
    """Say how much of reclaim was skipped because the lock could not be had, where any was."""
    shares = [
        (name, design.reclaim.trylock_failed / design.reclaim.passes)
        for name, design in designs
        if design.reclaim.passes
    ]
    if not any(share for _, share in shares):
        return ""
    told = ", ".join(f"{name} {share:.3%}" for name, share in shares)
    return f"reclaim passes skipped because the trylock failed: {told}"
