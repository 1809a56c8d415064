"""Fuzz what reads of strangers: changed segments through attach, inspect and clean; traces and scenarios.

Whatever the bytes are, the answer must be one of ours, or an error of ours (ShmreclaimError), soon; nothing but the
file that was to be removed may be gone. All of it runs in this process, so a crash ends it. Prints counts by target.

    PYTHONPATH=. python bench/fuzz.py [--cases 9000] [--seed 1] [--only TARGET]

Segments are copies of real ones: of a run that is stopped in the middle, and of a program's locks. The words changed
are those that an untouched copy was read at, so that few changes go unnoticed.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path

from shmreclaim import Mutex, RwLock, Semaphore
from shmreclaim.errors import ShmreclaimError
from shmreclaim.executions import segments, snapshot
from shmreclaim.executions.inspect import inspect
from shmreclaim.locks import lock_arena
from shmreclaim.locks.arenas import tasks_in
from shmreclaim.machine.arena import Arena
from shmreclaim.machine.layout import HEADER
from shmreclaim.machine.process import start_time
from shmreclaim.report.inspect import render, render_top
from shmreclaim.report.segments import render_list
from shmreclaim.report.style import Style
from shmreclaim.workload import load_scenario, load_trace

SHM = Path("/dev/shm")
SLOW_S = 20.0
"""No case may take so long."""
SCENARIO = """
name = "small"
generator = "churn"
duration_ms = 60000
[memory]
pages_per_node = 1024
"""
Target = Callable[[random.Random], str]


def dead_process() -> tuple[int, int]:
    """Pid and start time of a process that is no more."""
    child = os.fork()
    if child == 0:
        signal.pause()
    started = start_time(child)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return child, started


class Copy:
    """A segment's bytes under a name of this process's own, to be changed and set right again."""

    def __init__(self, end: str, content: bytes) -> None:
        """Put them into shared memory."""
        self.path = SHM / f"shmreclaim.{os.getpid()}.{start_time(os.getpid())}.{end}"
        self.path.write_bytes(content)
        self.path.chmod(0o600)
        self.content = content
        self.words = memoryview(content).cast("q")
        self.read = self._what_is_read()

    def _what_is_read(self) -> list[int]:
        read: set[int] = set()
        word = snapshot.Snapshot.__getitem__

        def noting(self: snapshot.Snapshot, at: int) -> int:
            read.add(at)
            return word(self, at)

        snapshot.Snapshot.__getitem__ = noting  # type: ignore[method-assign]
        look = inspect(self.path.name)
        snapshot.Snapshot.__getitem__ = word  # type: ignore[method-assign]
        assert not look.damage, look.damage
        return sorted(read | set(range(HEADER.SIZE)))

    @contextlib.contextmanager
    def changed(self, chance: random.Random, places: list[int]) -> Iterator[None]:
        """Change a few words, now and then the size as well; set all right at the end."""
        fd = os.open(self.path, os.O_RDWR)
        chosen = [chance.choice(places) for _ in range(chance.choice((1, 1, 1, 2, 3, 8)))]
        try:
            for at in chosen:
                os.pwrite(fd, self._wild(chance, at).to_bytes(8, "little", signed=True), 8 * at)
            if chance.random() < 0.02:
                os.ftruncate(fd, chance.choice((0, 7, 8 * HEADER.SIZE, chance.randrange(len(self.content)))))
            yield
        finally:
            if os.fstat(fd).st_size != len(self.content):
                os.pwrite(fd, self.content, 0)
            for at in chosen:
                os.pwrite(fd, self.content[8 * at : 8 * at + 8], 8 * at)
            os.close(fd)

    def _wild(self, chance: random.Random, at: int) -> int:
        return (
            chance.choice(
                (
                    chance.getrandbits(64) - (1 << 63),
                    chance.randrange(-3, 70),
                    chance.randrange(len(self.words)),
                    chance.choice(self.read),
                    self.words[chance.choice(self.read)],
                    self.words[at] ^ (1 << chance.randrange(63)),
                    self.words[at] + chance.choice((-8, -1, 1, 8)),
                    len(self.words) - chance.randrange(300),
                )
            )
            if chance.random() < 0.97
            else chance.choice((-(1 << 63), (1 << 63) - 1, -1, 1 << 62))
        )


def content_of_a_run() -> bytes:
    """The segment of a run that was stopped in the middle of it."""
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(SCENARIO)
        file.flush()
        command = [sys.executable, "-m", "shmreclaim", "compare", "--scenario", file.name, "--designs", "v6_7"]
        options = ["--repeat", "1", "--cpus", "2", "--speed", "1"]
        with subprocess.Popen([*command, *options], stderr=subprocess.DEVNULL) as run:
            path = _segment_of(run)
            time.sleep(1)
            for pid in {cpu.pid for cpu in inspect(path.name).cpus}:
                os.kill(pid, signal.SIGSTOP)  # or lists would change while they are copied
            content = path.read_bytes()
            run.terminate()
    return content


def _segment_of(run: subprocess.Popen[bytes]) -> Path:
    """Where its segment is, once its CPUs play."""
    while run.poll() is None:
        time.sleep(0.2)
        for path in SHM.glob(f"shmreclaim.{run.pid}.*"):
            with contextlib.suppress(ShmreclaimError):
                found = inspect(path.name).kernel
                if found is not None and found.phase == "running":
                    return path
    raise RuntimeError("the run ended before it began")


def content_of_locks() -> bytes:
    """The segment of a program that holds some of its locks."""
    with lock_arena(4) as arena:
        mutex, rwlock, semaphore, free = Mutex(arena), RwLock(arena), Semaphore(3, arena=arena), Mutex(arena)
        with mutex, rwlock.read():
            content = bytes(arena.words.tobytes())
        del semaphore, free
    return content


def attaching(copy: Copy, places: list[int]) -> Target:
    """Map a changed segment, and take the slots of its tasks into use if it is a program's."""

    def case(chance: random.Random) -> str:
        with copy.changed(chance, places), Arena.attach(copy.path.name) as arena:
            if not arena.memory[HEADER.kernel] and arena.memory[HEADER.nr_cpus]:
                tasks_in(arena)
            return "attached"

    return case


def looking(copy: Copy, places: list[int]) -> Target:
    """Inspect a changed segment and print all of it."""

    def case(chance: random.Random) -> str:
        with copy.changed(chance, places):
            look = inspect(copy.path.name)
        assert render(look, Style())
        assert render_top(look, look, Style())
        return "damage told" if look.damage else "shown"

    return case


def cleaning(copy: Copy, places: list[int]) -> Target:
    """List and remove a changed segment of a dead process, and nothing else."""
    pid, started = dead_process()

    def case(chance: random.Random) -> str:
        name = chance.choice([f"shmreclaim.{pid}.{started}.{chance.randrange(1000)}"] * 3 + strange_names(chance))
        path = SHM / name
        words = memoryview(bytearray(copy.content[: 8 * HEADER.SIZE])).cast("q")
        for _ in range(chance.randrange(5)):
            words[chance.randrange(HEADER.SIZE)] = copy._wild(chance, chance.choice(places))
        path.write_bytes(words.tobytes()[: chance.choice((None, None, None, chance.randrange(8 * len(words))))])
        folder = os.open(SHM, os.O_RDONLY)
        try:
            return list_and_clean(folder, path)
        finally:
            os.close(folder)
            path.unlink(missing_ok=True)
            assert copy.path.exists()

    return case


def strange_names(chance: random.Random) -> list[str]:
    """A name that shmreclaim gives to nothing (unless by chance), and one of a named lock."""
    junk = "".join(chance.choice("0123456789.-x\x1b\n\udcff") for _ in range(8))
    return [f"shmreclaim.{junk}{os.getpid()}", f"shmreclaim.lock.fuzz-{os.getpid()}-{chance.randrange(1000)}"]


def list_and_clean(folder: int, path: Path) -> str:
    """Of one file: it must go if, and only if, its name says that a dead process made it."""
    found = segments._look(folder, path.name)
    assert found is not None
    assert render_list(segments.Segments(version="", segments=[found[0]]), Style())
    done = segments._clean(folder, *found, dry_run=False, named=False)
    given = segments.MADE_BY.fullmatch(path.name) is not None
    assert done.removed == given, (path.name, done)
    assert path.exists() != given
    return "removed" if done.removed else "left"


def naming(chance: random.Random) -> str:
    """Attach to, and inspect, a random name."""
    letters = "shmreclaim./\\\0\n\x1b-_ \ud800\udc80é" + "0123456789"
    tail = "".join(chance.choice(letters) for _ in range(chance.randrange(300)))
    name = tail if chance.random() < 0.3 else "shmreclaim." + tail
    for each in (Arena.attach, inspect):
        with contextlib.suppress(ShmreclaimError):
            each(name)
            raise AssertionError(f"{name!r} was found")
    return "refused twice"


def mutate(chance: random.Random, content: bytes) -> bytes:
    """Change bytes: flips, cuts, repeats, long runs, numbers beyond reason."""
    found = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        at = chance.randrange(len(found) + 1)
        kind = chance.randrange(7)
        if kind == 0 and found:
            found[at % len(found)] = chance.randrange(256)
        elif kind == 1:
            del found[at : at + chance.choice((1, 5, 200))]
        elif kind == 2:
            piece = found[at : at + chance.choice((3, 80, 500))]
            found[at:at] = piece * chance.choice((1, 2, 5))
        elif kind == 3:
            found[at:at] = chance.choice(
                (b"9" * 30, b"-1", b"9" * 5000, b"1e999", b"0x" + b"f" * 5000, b"a." * 50_000, b"nan", b"inf")
            )
        elif kind == 4:
            found[at:at] = chance.choice((b"[", b"{", b'"', b"=", b"\n", b"\0", b"\xff")) * chance.choice((1, 3, 2000))
        elif kind == 5:
            found[at:at] = b"a" * chance.choice((100, 9000, 300_000))
        else:
            digits = [k for k, each in enumerate(found) if 48 <= each <= 57] or [0]
            found[(k := chance.choice(digits)) : k + 1] = chance.choice((b"", b"0", b"9" * 20, b"-"))
    return bytes(found)


def reading_traces(path: Path, pack: bool) -> Target:
    """Load a mutated recording, plain or as .gz of which the packed bytes are mutated half of the time."""
    whole = gzip.decompress((files("shmreclaim.workload") / "data" / "containers-24.ftrace.gz").read_bytes())
    lines = whole.split(b"\n")[11:]

    def case(chance: random.Random) -> str:
        first = chance.randrange(len(lines) - 60)
        text = mutate(chance, b"\n".join(lines[first : first + 60]))
        if pack:
            if chance.random() < 0.02:
                text += b"\0" * (64 << 20)  # packs to some 64 KiB
            text = gzip.compress(text, 1)
            text = mutate(chance, text) if chance.random() < 0.5 else text
        path.write_bytes(text)
        load_trace(path, cpus=2, nodes=2, seed=0)
        return "read"

    return case


def reading_scenarios(path: Path) -> Target:
    """Load a mutated scenario."""
    folder = files("shmreclaim.workload") / "presets"
    presets = [entry.read_bytes() for entry in folder.iterdir() if entry.name.endswith(".toml")]

    def case(chance: random.Random) -> str:
        path.write_bytes(mutate(chance, chance.choice(presets)))
        load_scenario(str(path), cpus=2, nodes=1, seed=0)
        return "read"

    return case


def targets(folder: Path, run: Copy, locks: Copy) -> dict[str, tuple[float, Target]]:
    """What is fuzzed, and with what share of the cases."""
    header = list(range(HEADER.SIZE))
    return {
        "attach, header": (4, attaching(locks, header)),
        "attach, records": (4, attaching(locks, locks.read)),
        "inspect, header": (0.5, looking(locks, header)),
        "inspect, records of locks": (1, looking(locks, locks.read)),
        "inspect, records of a run": (0.25, looking(run, run.read)),
        "list and clean": (1.5, cleaning(locks, header)),
        "names": (1, naming),
        "ftrace, plain": (0.5, reading_traces(folder / "trace", pack=False)),
        "ftrace, .gz": (0.5, reading_traces(folder / "trace.gz", pack=True)),
        "scenario": (0.5, reading_scenarios(folder / "scenario.toml")),
    }


def fuzz(name: str, case: Target, cases: int, seed: int) -> None:
    """Run one target and print its counts; what is no error of ours ends all, with the line that repeats it."""
    counts: Counter[str] = Counter()
    slowest, began = (0.0, seed), time.monotonic()
    for k in range(cases):
        chance = random.Random(f"{name} {seed + k}")
        since = time.monotonic()
        try:
            counts[case(chance)] += 1
        except ShmreclaimError:
            counts["refused"] += 1
        except BaseException:
            print(f"{name}: case {k} failed; to repeat it: --only {name!r} --cases 1 --seed {seed + k}", flush=True)
            raise
        took = time.monotonic() - since
        slowest = max(slowest, (took, seed + k))
        assert took < SLOW_S, f"{name}: case {k} took {took:.1f} s (seed {seed + k})"
    told = ", ".join(f"{what} {count:,}" for what, count in sorted(counts.items()))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(
        f"{name:<28}{cases:>9,} cases  {time.monotonic() - began:7.1f} s  slowest {slowest[0] * 1e3:7.1f} ms "
        f"(seed {slowest[1]})  "
        f"peak {peak:>4} MiB  {told}",
        flush=True,
    )


def main() -> None:
    """Fuzz each target in turn."""
    parser = argparse.ArgumentParser(description="Fuzz what reads of strangers.")
    parser.add_argument("--cases", type=int, default=9_000, help="cases of each segment target; others a share of it")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="one target, by its name")
    options = parser.parse_args()
    run, locks = Copy("fuzz-run", content_of_a_run()), Copy("fuzz-locks", content_of_locks())
    try:
        with tempfile.TemporaryDirectory() as folder:
            for name, (share, case) in targets(Path(folder), run, locks).items():
                if options.only in ("", name):
                    fuzz(name, case, max(1, int(options.cases * share)), options.seed)
    finally:
        for copy in (run, locks):
            copy.path.unlink()


if __name__ == "__main__":
    main()
