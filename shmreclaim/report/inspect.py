"""The reports of `inspect` and `top`: who holds and waits, memory, memcgs, shrinkers; with rates between two looks."""

from collections import Counter
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from shmreclaim.inspection import CpuLook, Held, Inspection, KernelLook, LockLook, Map, MemcgLook, Use
from shmreclaim.report import units
from shmreclaim.report.segments import age, size
from shmreclaim.report.style import Style, figures, line, paint

MOST_BITS = 12
"""Ranges of set bits that a line has."""
COLOURS = {"dead": "red", "stopped": "yellow"}
RATES = {
    "reclaim_passes": "reclaim passes",
    "trylock_failed": "trylocks failed",
    "shrinker_calls": "shrinker calls",
    "objects_freed": "objects freed",
    "direct_reclaims": "direct reclaims",
}


def render(look: Inspection, style: Style) -> str:
    """Give all of a look as text."""

    def draw(console: Console) -> None:
        _head(console, look)
        console.print(_cpus(look.cpus))
        console.print()
        console.print(_locks(look.locks))
        if look.kernel is not None:
            _kernel(console, look.kernel)
        _findings(console, look)

    return paint(style, draw)


def render_top(look: Inspection, before: Inspection | None, style: Style) -> str:
    """Give what changes from one look to the next; rates since `before`."""

    def draw(console: Console) -> None:
        _head(console, look)
        console.print(_cpus(look.cpus, _rates(look, before)))
        console.print()
        console.print(_locks(look.locks))
        if look.kernel is not None:
            console.print()
            _memory(console, look.kernel)
            console.print(_events(look, before))
        _findings(console, look)

    return paint(style, draw)


def _head(console: Console, look: Inspection) -> None:
    of = look.segment
    phase = f", {look.kernel.phase}" if look.kernel else ""
    about = f"{of.kind} of {of.owner}, {of.state}, {age(of.age_s)} old, {size(of.size)}{phase}"
    line(console, f"{of.name}: {about}", "bold")
    console.print()


def _cpus(cpus: list[CpuLook], rates: dict[str, float] | None = None) -> Table:
    table = figures("CPUs", ("pid", "state", "op", "since", "done", *(["a second"] if rates is not None else [])), 10)
    table.add_column(Text("holds and waits for"), overflow="fold")
    for cpu in cpus:
        state = cpu.state if cpu.process == "alive" or cpu.state == "done" else cpu.process
        cells: list[str | Text] = [str(cpu.pid), Text(state, style=COLOURS.get(state, "")), cpu.op or units.NONE]
        cells += [units.duration(cpu.op_ns) if cpu.op else units.NONE, units.count(cpu.ops_done)]
        cells += [units.rate(rates[cpu.name]) if cpu.name in rates else units.NONE] if rates is not None else []
        table.add_row(Text("  " + cpu.name), *cells, Text(_does(cpu)))
    if not cpus:
        table.add_row(Text("  nobody has a slot"))
    return table


def _does(cpu: CpuLook) -> str:
    parts = [f"holds {_held(each)}" for each in cpu.holds]
    parts += [f"waits for {_held(cpu.waits)}"] if cpu.waits else []
    inside = {"in RCU": cpu.in_rcu, "in SRCU": cpu.in_srcu, "reclaims": cpu.reclaiming}
    return ", ".join(parts + [what for what, holds in inside.items() if holds])


def _held(held: Held) -> str:
    since = "" if held.ns is None else f" for {units.duration(held.ns)}"
    return f"{held.lock} ({held.mode}){since}"


def _locks(locks: list[LockLook]) -> Table:
    """Those that somebody has to do with, then the free ones, by name."""
    table = figures("locks", (), 28)
    for title in ("held by", "waited for by"):
        table.add_column(Text(title), overflow="fold")
    busy = [lock for lock in locks if lock.holders or lock.waiters or lock.died or lock.count is not None]
    for lock in busy:
        flags = [what for what, holds in (("promised", lock.handoff), ("a holder died", lock.died)) if holds]
        flags += [] if lock.count is None else [f"count {lock.count}"]
        held = ", ".join([_uses(lock.holders) or units.NONE, *flags])
        table.add_row(Text("  " + lock.name), Text(held), Text(_uses(lock.waiters) or units.NONE))
    free = Counter(lock.name.partition(" at ")[0] for lock in locks if lock not in busy)
    for name, count in free.items():
        table.add_row(Text(f"  {name}" + (f", {count} of them" if count > 1 else "")), Text("free"))
    if not locks:
        table.add_row(Text("  none"))
    return table


def _uses(uses: Iterable[Use]) -> str:
    told = (f"{use.cpu} ({use.mode}){'' if use.ns is None else ' ' + units.duration(use.ns)}" for use in uses)
    return ", ".join(told)


def _kernel(console: Console, kernel: KernelLook) -> None:
    console.print()
    _memory(console, kernel)
    ids = kernel.ids
    line(console, f"ids: {ids.live} live, {ids.peak} at most, the highest {ids.highest}; maps of {kernel.map_kind}")
    line(console, f"objects: {units.count(kernel.objects)}")
    console.print()
    console.print(_memcgs(kernel.memcgs))
    console.print()
    console.print(_shrinkers(kernel))


def _memory(console: Console, kernel: KernelLook) -> None:
    table = figures("pages", ("total", "free", "min", "low", "high", "kswapd", "heap chunks used"), 10)
    for nid, node in enumerate(kernel.nodes):
        pages = (node.pages, node.free, node.min, node.low, node.high)
        used = f"{units.count(node.heap_used)} of {units.count(node.heap_chunks)}"
        table.add_row(Text(f"  node {nid}"), *map(units.count, pages), "works" if node.kswapd_runs else "sleeps", used)
    console.print(table)


def _memcgs(memcgs: list[MemcgLook]) -> Table:
    table = figures("memcgs", ("parent", "pages", "limit", "cache", "references"), 10)
    table.add_column(Text("map: bits set, of how many; by node"), overflow="fold")
    for memcg in memcgs:
        name = f"  {memcg.handle}" + ("" if memcg.online else " (offline)")
        cells = [units.NONE if memcg.parent is None else str(memcg.parent), units.count(memcg.usage)]
        cells += [units.NONE if memcg.limit is None else units.count(memcg.limit), units.count(sum(memcg.cache_pages))]
        maps = "; ".join(map(_map, memcg.maps))
        table.add_row(Text(name), *cells, units.count(memcg.references), Text(maps))
    return table


def _map(found: Map | None) -> str:
    return units.NONE if found is None else f"{_ranges(found.set)} of {found.bits}"


def _ranges(numbers: list[int]) -> str:
    """Numbers that ascend, as ranges: `0-3, 7`."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    told = [str(low) if low == high else f"{low}-{high}" for low, high in ranges]
    return ", ".join([*told[:MOST_BITS], *(["..."] if len(told) > MOST_BITS else [])]) or "none"


def _shrinkers(kernel: KernelLook) -> Table:
    table = figures("shrinkers", ("id", "dentries", "inodes", "scans"), 10)
    for each in kernel.shrinkers:
        cells = (sum(each.dentries), sum(each.inodes), each.scans)
        table.add_row(Text(f"  {each.handle}"), str(each.id), *map(units.count, cells))
    return table


def _rates(look: Inspection, before: Inspection | None) -> dict[str, float]:
    """Operations a second of each CPU."""
    if before is None:
        return {}
    done = {cpu.name: cpu.ops_done for cpu in before.cpus}
    return {cpu.name: (cpu.ops_done - done.get(cpu.name, 0)) / _seconds(look, before) for cpu in look.cpus}


def _seconds(look: Inspection, before: Inspection) -> float:
    return max(1, look.seen_at_ns - before.seen_at_ns) / 1e9


def _events(look: Inspection, before: Inspection | None) -> Table:
    table = figures("counted", ("in all", "a second"), 28)
    assert look.kernel is not None
    earlier = before.kernel.events if before is not None and before.kernel is not None else None
    for name, told in RATES.items():
        now = look.kernel.events[name]
        rate = units.NONE
        if earlier is not None and before is not None:
            rate = units.rate((now - earlier[name]) / _seconds(look, before))
        table.add_row(Text("  " + told), units.count(now), rate)
    return table


def _findings(console: Console, look: Inspection) -> None:
    for title, lines in (("broken", look.violations), ("damage", look.damage)):
        for each in lines:
            line(console, f"{title}: {each}", "bold red")
