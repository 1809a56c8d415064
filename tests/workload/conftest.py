"""What the tests of workloads share: a tape to write traces on, and the rules that every stream must keep."""

import gzip
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from shmreclaim.workload import Op, Stream, Workload, load_trace

SUPER = "super_cache_scan+0x0/0x210"


class Tape:
    """A trace in the making: each method appends an event 10 microseconds after the one before."""

    def __init__(self) -> None:
        """Start empty, at second 100."""
        self.lines: list[str] = []
        self.now = 100_000_000

    def line(self, pid: int, event: str, comm: str = "sh") -> None:
        """Append any event."""
        self.now += 10
        time = f"{self.now // 1_000_000}.{self.now % 1_000_000:06d}"
        self.lines.append(f"  {comm}-{pid}   [001] d..1. {time}: {event}")

    def pause(self, ms: int) -> None:
        """Let time pass."""
        self.now += ms * 1000

    def mkdir(self, pid: int, cgroup: int, path: str | None = None, root: int = 1) -> None:
        """A task makes a memcg."""
        self.line(pid, f"cgroup_mkdir: root={root} id={cgroup} level=2 path={path or f'/ct/{cgroup}'}")

    def rmdir(self, pid: int, cgroup: int, root: int = 1) -> None:
        """A task removes a memcg."""
        self.line(pid, f"cgroup_rmdir: root={root} id={cgroup} level=2 path=/ct/{cgroup}")

    def mount(self, pid: int, dir_name: str = "0x7f00", flags: str = "0", result: str = "0x0") -> None:
        """A task mounts, or tries."""
        self.line(pid, f"sys_mount(dev_name: 0x1, dir_name: {dir_name}, type: 0x2, flags: {flags}, data: 0x3)")
        self.line(pid, f"sys_mount -> {result}")

    def umount(self, pid: int, name: str = "0x7e00", result: str = "0x0") -> None:
        """A task unmounts, or tries."""
        self.line(pid, f"sys_umount(name: {name}, flags: 2)")
        self.line(pid, f"sys_umount -> {result}")

    def start(self, pid: int, pointer: str, items: object, priority: object = 12, **how: object) -> None:
        """A shrinker is called; `how` may hold function, nid, comm."""
        function, nid = how.get("function", SUPER), how.get("nid", 0)
        called = f"mm_shrink_slab_start: {function} {pointer}: nid: {nid} objects to shrink 0 gfp_flags GFP_KERNEL"
        rest = f"cache items {items} delta 0 total_scan 0 priority {priority}"
        self.line(pid, f"{called} {rest}", comm=str(how.get("comm", "sh")))

    def end(self, pid: int, pointer: str, freed: object = 0, function: object = SUPER) -> None:
        """A shrinker returns."""
        counts = f"nid: 0 unused scan count 0 new scan count 0 total_scan 0 last shrinker return val {freed}"
        self.line(pid, f"mm_shrink_slab_end: {function} {pointer}: {counts}")

    def call(self, pid: int, pointer: str, items: object, priority: object = 12, **how: object) -> None:
        """A shrinker is called and returns; `how` may also hold freed."""
        self.start(pid, pointer, items, priority, **how)
        self.end(pid, pointer, how.get("freed", 0), how.get("function", SUPER))

    def text(self) -> str:
        """The whole trace."""
        return "# tracer: nop\n#\n" + "\n".join(self.lines) + "\n"


@pytest.fixture
def tape() -> Tape:
    """A new tape."""
    return Tape()


Loader = Callable[..., Workload]


@pytest.fixture
def load(tmp_path: Path) -> Loader:
    """Write a tape, text or bytes into a file and load it."""

    def load(content: Tape | str | bytes, name: str = "some.ftrace", cpus: int = 2, nodes: int = 1) -> Workload:
        text = content.text() if isinstance(content, Tape) else content
        data = text.encode() if isinstance(text, str) else text
        path = tmp_path / name
        path.write_bytes(gzip.compress(data, 1) if name.endswith(".gz") else data)
        return load_trace(path, cpus=cpus, nodes=nodes, seed=0)

    return load


Row = tuple[str, int, int, int, int, int]


@pytest.fixture(scope="session")
def rows_of() -> Callable[[Workload], list[Row]]:
    """All rows of a workload's streams by time, as (label, memcg, shrinker, nid, count, arg)."""

    def rows_of(workload: Workload) -> list[Row]:
        rows = sorted((row for stream in workload.streams for row in stream.tolist()), key=lambda row: row[0])
        return [(Op(row[1]).label, *row[2:7]) for row in rows]

    return rows_of


class _Step(NamedTuple):
    """One row of a stream, and who plays it; setup is played by CPU -1."""

    cpu: int
    when: int
    op: int
    memcg: int
    shrinker: int
    nid: int
    amount: int
    arg: int
    spare: int


class _Player:
    """Plays streams symbolically and collects what breaks a rule."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self.problems: list[str] = []
        self.maker: dict[tuple[str, int], int] = {}
        self.gone: set[tuple[str, int]] = set()
        self.parent: dict[int, int] = {}
        self.children: dict[int, int] = defaultdict(int)
        self.changes: dict[tuple[int, ...], list[_Step]] = defaultdict(list)

    def play(self, cpu: int, stream: Stream) -> None:
        last = 0
        for row in stream.tolist():
            step = _Step(cpu, *row)
            self.expect(step.when >= last and step.spare == 0, step, "time runs backwards")
            self.expect(0 <= step.nid < self.workload.nodes, step, "node out of range")
            self.expect(0 <= step.memcg < self.workload.n_memcgs, step, "memcg handle out of range")
            last = step.when
            _RULES[Op(step.op)](self, step)

    def expect(self, holds: bool, step: _Step, rule: str) -> None:
        if not holds:
            self.problems.append(f"{Op(step.op).label} {step}: {rule}")

    def make(self, kind: str, handle: int, step: _Step) -> None:
        self.expect((kind, handle) not in self.maker, step, "the handle is made twice")
        self.maker[kind, handle] = step.cpu

    def end(self, kind: str, handle: int, step: _Step) -> None:
        self.expect(self.maker.get((kind, handle)) == step.cpu >= 0, step, "made by another CPU, or in setup")
        self.expect((kind, handle) not in self.gone, step, "ended twice")
        self.gone.add((kind, handle))

    def usable(self, kind: str, handle: int, step: _Step) -> bool:
        """Made by this CPU, or in setup, and not ended."""
        return self.maker.get((kind, handle)) in (step.cpu, -1) and (kind, handle) not in self.gone

    def memcg_usable(self, memcg: int, step: _Step) -> bool:
        return memcg == 0 or self.usable("memcg", memcg, step)

    def register(self, step: _Step) -> None:
        self.expect(0 <= step.shrinker < self.workload.n_shrinkers, step, "shrinker handle out of range")
        self.expect(self.memcg_usable(step.memcg, step), step, "the payer is not online here")
        self.make("shrinker", step.shrinker, step)

    def unregister(self, step: _Step) -> None:
        self.end("shrinker", step.shrinker, step)

    def memcg_online(self, step: _Step) -> None:
        self.expect(step.memcg > 0, step, "the root exists already")
        self.expect(self.memcg_usable(step.arg, step), step, "the parent is not online here")
        self.make("memcg", step.memcg, step)
        self.parent[step.memcg] = step.arg
        self.children[step.arg] += 1

    def memcg_offline(self, step: _Step) -> None:
        self.expect(not self.children[step.memcg], step, "it still has children")
        self.end("memcg", step.memcg, step)
        self.children[self.parent.get(step.memcg, 0)] -= 1

    def on_list(self, step: _Step) -> None:
        self.expect(self.usable("shrinker", step.shrinker, step), step, "the shrinker is not registered here")
        self.expect(self.memcg_usable(step.memcg, step), step, "the owner is not online here")
        self.expect(step.amount > 0 and step.arg in (0, 1), step, "count or kind out of range")
        self.changes[step.memcg, step.shrinker, step.nid, step.arg].append(step)

    def on_pages(self, step: _Step) -> None:
        self.expect(self.memcg_usable(step.memcg, step), step, "the memcg charged is not online here")
        self.expect(step.amount > 0 and 0 <= step.arg < 16, step, "pages or gfp out of range")

    def shrink_slab(self, step: _Step) -> None:
        self.expect(0 <= step.arg <= 12, step, "priority out of range")

    def always(self, step: _Step) -> None:
        self.expect(step.amount >= 0, step, "negative count")

    def deletions(self) -> None:
        """On no list is more deleted than was added, in the order of its one CPU or by time."""
        for steps in self.changes.values():
            one_cpu = len({step.cpu for step in steps if step.cpu >= 0}) == 1
            held = 0
            for step in steps if one_cpu else sorted(steps, key=lambda step: (step.when, step.op == Op.LRU_DEL)):
                held += {Op.LRU_ADD: step.amount, Op.LRU_DEL: -step.amount}.get(Op(step.op), 0)
                self.expect(held >= 0, step, "more is deleted than was ever there")


_RULES = {
    Op.REGISTER: _Player.register,
    Op.UNREGISTER: _Player.unregister,
    Op.MEMCG_ONLINE: _Player.memcg_online,
    Op.MEMCG_OFFLINE: _Player.memcg_offline,
    Op.LRU_ADD: _Player.on_list,
    Op.LRU_DEL: _Player.on_list,
    Op.TOUCH: _Player.on_list,
    Op.CACHE_PAGES: _Player.on_pages,
    Op.ALLOC: _Player.on_pages,
    Op.SHRINK_SLAB: _Player.shrink_slab,
    Op.DROP_CACHES: _Player.always,
    Op.IDLE: _Player.always,
}


@pytest.fixture(scope="session")
def problems_of() -> Callable[[Workload], list[str]]:
    """What breaks the rules of sound streams; an empty list if nothing does."""

    def problems_of(workload: Workload) -> list[str]:
        player = _Player(workload)
        for cpu, stream in enumerate((workload.setup, *workload.streams), start=-1):
            player.play(cpu, stream)
        player.deletions()
        return player.problems

    return problems_of
