"""A look into a segment: what it shows of a live one, and that nothing in one can lead it astray."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shmreclaim import Mutex, RwLock, Semaphore
from shmreclaim import kernel as ops
from shmreclaim.errors import SetupError, ShmreclaimError
from shmreclaim.executions import native, snapshot
from shmreclaim.executions.inspect import inspect
from shmreclaim.inspection import Inspection, LockLook
from shmreclaim.locks import lock_arena
from shmreclaim.machine.arena import Arena
from shmreclaim.machine.cpu import CPU, CpuState
from shmreclaim.machine.layout import HEADER
from shmreclaim.machine.process import start_time
from shmreclaim.mm.boot import boot, init_design
from shmreclaim.mm.memcg import MEMCG
from shmreclaim.mm.state import MM
from shmreclaim.report.inspect import render, render_top
from shmreclaim.report.style import Style
from shmreclaim.switches import parse_variant
from shmreclaim.sync.lockdep import LOCK, READ, WRITE
from shmreclaim.workload.ops import Op
from tests.executions.workloads import by_hand, idle

SHM = Path("/dev/shm")


@pytest.fixture(scope="module")
def booted() -> Iterator[Arena]:
    """A kernel under v5_13, two CPUs and a kswapd, that nobody runs."""
    machine = native.machine_for(by_hand([idle(1)], [idle(1)]))
    with Arena.create(machine.words()) as arena:
        slots = boot(arena, machine)
        ops.bind_design("v5_13", compiled=False)
        init_design(arena, parse_variant("v5_13"), slots[0])
        yield arena


@pytest.fixture
def kernel(booted: Arena) -> Iterator[Arena]:
    """The same, as it was, for each test."""
    before = booted.words.copy()
    yield booted
    booted.words[:] = before


def slots_of(arena: Arena) -> list[int]:
    """Its CPU slots."""
    first, count, stride = (arena.memory[at] for at in (HEADER.cpus, HEADER.nr_cpus, HEADER.cpu_stride))
    return [first + k * stride for k in range(count)]


def put(arena: Arena, slot: int, **fields: int) -> None:
    """Write into a slot."""
    for name, value in fields.items():
        arena.memory[slot + getattr(CPU, name)] = value


def the_lock(look: Inspection, name: str) -> LockLook:
    """The one whose name begins so."""
    (found,) = [lock for lock in look.locks if lock.name.startswith(name)]
    return found


def text_of(look: Inspection) -> str:
    """The report of it."""
    return render(look, Style(width=200))


def test_it_shows_who_holds_a_lock_in_which_mode_since_when_and_who_waits(kernel: Arena) -> None:
    """By the lock's word and queue; since when by the CPUs' own notes."""
    first, second, kswapd = slots_of(kernel)
    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    rwsem = the_lock(inspect(kernel.name), "shrinker_rwsem").at
    put(kernel, first, state=CpuState.RUNNING, pid=os.getpid(), start_time=start_time(os.getpid()), op=Op.REGISTER)
    put(kernel, first, op_since=now - 3 * 10**9, held_depth=1, held=rwsem * 2 + READ)
    kernel.memory[first + CPU.held + 1] = now - 2 * 10**9
    for slot, ticket, mode in ((second, 2, READ), (kswapd, 1, WRITE)):
        put(kernel, slot, state=CpuState.RUNNING, pid=1 << 30, wait_for=rwsem, wait_mode=mode, ticket=ticket)
        put(kernel, slot, wait_since=now - 10**9)
    kernel.memory[rwsem + LOCK.word] = kernel.memory[first + CPU.bit] | 2
    kernel.memory[rwsem + LOCK.waiters] = 0b1100
    look = inspect(kernel.name)
    lock = the_lock(look, "shrinker_rwsem")
    assert [(use.cpu, use.mode) for use in lock.holders] == [("CPU 0", "read")]
    assert [(use.cpu, use.mode) for use in lock.waiters] == [("kswapd0", "write"), ("CPU 1", "read")]
    assert lock.holders[0].ns is not None
    assert 2e9 <= lock.holders[0].ns < 60e9
    assert [(cpu.name, cpu.process, cpu.op) for cpu in look.cpus] == [
        ("CPU 0", "alive", "register"),
        ("CPU 1", "dead", ""),
        ("kswapd0", "dead", ""),
    ]
    assert f"holds shrinker_rwsem at {rwsem} (read) for 2." in text_of(look)
    assert look.damage == []


def test_it_shows_memory_memcgs_maps_and_ids(kernel: Arena) -> None:
    """As the workload asked for them."""
    found = inspect(kernel.name).kernel
    assert found is not None
    assert (len(found.nodes), found.phase, found.map_kind) == (1, "starting", "with_deferred")
    assert found.nodes[0].pages > found.nodes[0].free > found.nodes[0].high
    (root,) = found.memcgs
    assert (root.handle, root.parent, root.online, root.limit) == (0, None, True, None)
    assert (found.ids.live, found.ids.highest, found.shrinkers) == (0, -1, [])


def test_it_tells_a_stopped_process_from_a_running_one(kernel: Arena) -> None:
    """It is alive and goes nowhere."""
    child = os.fork()
    if child == 0:
        signal.pause()
    put(kernel, slots_of(kernel)[0], state=CpuState.RUNNING, pid=child, start_time=start_time(child))
    os.kill(child, signal.SIGSTOP)
    os.waitpid(child, os.WUNTRACED)
    look = inspect(kernel.name)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert look.cpus[0].process == "stopped"
    assert "stopped" in text_of(look)


def test_it_shows_the_locks_of_a_program() -> None:
    """By kind and place; nobody notes since when these are held."""
    with lock_arena(3) as arena:
        mutex, rwlock, semaphore = Mutex(arena), RwLock(arena), Semaphore(3, arena=arena)
        with mutex, rwlock.read():
            semaphore.acquire()
            look = inspect(arena.name)
        assert [(lock.kind, [(use.cpu, use.mode) for use in lock.holders], lock.count) for lock in look.locks] == [
            ("mutex", [("task 1", "write")], None),
            ("rwsem", [("task 1", "read")], None),
            ("count", [], 2),
        ]
        assert [(held.mode, held.ns) for held in look.cpus[0].holds] == [("write", None), ("read", None)]
        assert (look.kernel, look.violations, look.damage) == (None, [], [])
        assert f"mutex at {look.locks[0].at}" in text_of(look)


def test_two_looks_give_rates(kernel: Arena) -> None:
    """`top` is that."""
    slot = slots_of(kernel)[0]
    put(kernel, slot, state=CpuState.RUNNING, pid=os.getpid(), start_time=start_time(os.getpid()), ops_done=100)
    before = inspect(kernel.name)
    put(kernel, slot, ops_done=100 + 10**9)
    text = render_top(inspect(kernel.name), before, Style(width=200))
    (line,) = [line for line in text.splitlines() if line.startswith("  CPU 0")]
    assert int(line.split()[-1].replace(",", "")) > 10**6


def test_another_version_is_refused_with_both_values() -> None:
    """Its words mean something else."""
    with Arena.create(1024) as arena:
        arena.memory[HEADER.layout_hash] += 1
        with pytest.raises(SetupError, match=r"has layout_hash \d+, this program has \d+\nUsually .* another version"):
            inspect(arena.name)


@pytest.mark.parametrize("name", ["../../etc/passwd", "x", "shmreclaim.\0", "shmreclaim./x", "shmreclaim." + 250 * "x"])
def test_what_is_no_name_is_refused_unopened(name: str) -> None:
    """No path leads out of the folder."""
    with pytest.raises(SetupError, match="is not the name of a segment"):
        inspect(name)


def test_a_link_in_shared_memory_is_not_followed(kernel: Arena) -> None:
    """Not even to a segment."""
    link = SHM / f"shmreclaim.link.{os.getpid()}"
    link.symlink_to(SHM / kernel.name)
    try:
        with pytest.raises(SetupError, match=r"cannot look at segment .*: it is a symbolic link"):
            inspect(link.name)
        with pytest.raises(SetupError, match="cannot open the shared-memory segment"):
            Arena.attach(link.name)
    finally:
        link.unlink()


def test_a_segment_that_is_truncated_under_the_look_is_an_error_with_both_sizes(kernel: Arena) -> None:
    """A mapping would be a SIGBUS."""
    size = len(kernel.words) * 8
    copy = SHM / f"shmreclaim.{os.getpid()}.{start_time(os.getpid())}.copy"
    copy.write_bytes(kernel.words.tobytes())
    try:
        with snapshot.open_snapshot(copy.name) as words:
            assert words[HEADER.nwords] == size // 8
            os.truncate(copy, 8192)
            with pytest.raises(SetupError, match=f"had {size} bytes and has 8192\nSomebody truncated it"):
                words[size // 8 - 1]
    finally:
        copy.unlink()


def test_a_list_that_leads_astray_is_told_and_the_rest_is_shown(kernel: Arena) -> None:
    """As far as it goes."""
    root = kernel.memory[kernel.memory[HEADER.kernel] + MM.root_memcg]
    kernel.memory[root + MEMCG.list] = root + MEMCG.list
    look = inspect(kernel.name)
    assert look.damage == ["memcgs: the list is broken, or changed under the look, after 1 entries"]
    assert len(look.locks) == 3
    assert "damage: memcgs: the list is broken" in text_of(look)


def test_a_look_has_an_end_whatever_is_linked(kernel: Arena, monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads so many words and no more."""
    monkeypatch.setattr(snapshot, "MOST_READS", 60)
    look = inspect(kernel.name)
    assert any("what is linked has no end" in line for line in look.damage)


WILD = st.one_of(st.integers(-(1 << 63), (1 << 63) - 1), st.integers(-3, 64), st.integers(0, 500_000), st.just(1 << 62))
VITAL = 9
"""Words of the header that are read-only after create: one that is wrong there is refused, which has its own test."""


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_no_words_make_a_look_fail(booted: Arena, data: st.DataObject) -> None:
    """Whatever was written wherever: an inspection, with what was damaged, or an error of ours; in a bounded time."""
    mm = booted.memory[HEADER.kernel]
    ends = [*slots_of(booted), mm, mm + MM.SIZE, booted.memory[mm + MM.design], booted.memory[mm + MM.root_memcg]]
    places = st.one_of(
        st.integers(VITAL, HEADER.SIZE - 1),
        st.builds(lambda base, at: base + at, st.sampled_from(ends), st.integers(0, 160)),
        st.integers(VITAL, booted.memory[HEADER.brk]),
    )
    changes = data.draw(st.dictionaries(places, WILD, min_size=1, max_size=12))
    before = {at: booted.memory[at] for at in changes if at < len(booted.words)}
    try:
        for at in before:
            booted.memory[at] = changes[at]
        try:
            look = inspect(booted.name)
        except ShmreclaimError:
            return
        assert text_of(look)
        assert render_top(look, look, Style())
    finally:
        for at, value in before.items():
            booted.memory[at] = value


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 1 << 32), kept=st.sampled_from([VITAL, HEADER.SIZE, HEADER.SIZE + 64]))
def test_random_words_behind_a_right_header_are_looked_at(seed: int, kept: int) -> None:
    """Filled with noise up to its end."""
    with Arena.create(4096) as arena:
        noise = np.random.default_rng(seed).integers(-(1 << 63), (1 << 63) - 1, len(arena.words), np.int64)
        arena.words[kept:] = noise[kept:]
        if kept > VITAL:
            arena.words[VITAL:kept] = noise[VITAL:kept] % len(arena.words)
        with contextlib.suppress(ShmreclaimError):
            assert text_of(inspect(arena.name))
