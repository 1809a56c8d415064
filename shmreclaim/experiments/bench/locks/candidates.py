"""The locks that are compared: ours and the peers, each with how it is made and how another process gets it.

A candidate is made anew for each play, in the parent. What `make` gives is called by each player, which is forked:
it gives the ways in which the lock can be held, by mode. Peers are imported when they are made.
"""

from __future__ import annotations

import importlib
import importlib.util
import multiprocessing
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from shmreclaim.errors import UsageError
from shmreclaim.experiments.bench.locks import glibc
from shmreclaim.experiments.bench.locks.ground import SCENE, Ground
from shmreclaim.experiments.bench.locks.loops import Kind
from shmreclaim.experiments.bench.locks.python_loops import Way
from shmreclaim.experiments.bench.locks.troupe import FailedError
from shmreclaim.locks import Mutex, RwLock
from shmreclaim.locks.arenas import words_for
from shmreclaim.machine.arena import Arena
from shmreclaim.sync.mutex import mutex_init
from shmreclaim.sync.rwsem import rwsem_init

EXCLUSIVE = ("exclusive",)
SHARED = ("read", "write")

Ways = dict[str, Way | Kind]
Make = Callable[[Ground, Path], Callable[[], Ways]]
"""Make a lock with the help of a segment and a folder, both of this play alone; give what another process calls."""


@dataclass(frozen=True)
class Candidate:
    """One lock, called in one way."""

    name: str
    called: str
    modes: tuple[str, ...]
    make: Make
    package: str = ""
    """What has to be installed; nothing for what comes with Python or glibc."""

    @property
    def installed(self) -> bool:
        """Whether it can be made."""
        if self.family == "glibc":
            return "CS_GNU_LIBC_VERSION" in os.confstr_names
        return not self.package or importlib.util.find_spec(self.package) is not None

    @property
    def ours(self) -> bool:
        """Whether it is a lock of this package."""
        return self.name.startswith("shmreclaim.")

    @property
    def family(self) -> str:
        """The first word of its name: what `--peers` takes for all locks of a package."""
        return self.name.replace(".", " ").split()[0]


def _compiled(init: Callable[[Ground], object], **kinds: Kind) -> Make:
    def make(ground: Ground, _folder: Path) -> Callable[[], Ways]:
        init(ground)
        return lambda: dict(kinds)

    return make


def _address(ground: Ground) -> int:
    return int(ground.address + 8 * (ground.scene + SCENE.lock))


def _simple(make: Callable[[Path], Callable[[], Any]], acquire: str = "acquire", release: str = "release") -> Make:
    """A lock with one mode: `make` gives what another process calls to get it."""

    def make_it(_ground: Ground, folder: Path) -> Callable[[], Ways]:
        get = make(folder)

        def ways() -> Ways:
            lock = get()
            return {"exclusive": Way(getattr(lock, acquire), getattr(lock, release))}

        return ways

    return make_it


def _shared(make: Callable[[Path], Callable[[], Any]], read: tuple[str, str], write: tuple[str, str]) -> Make:
    """A lock with two modes, each by the names of its functions."""

    def make_it(_ground: Ground, folder: Path) -> Callable[[], Ways]:
        get = make(folder)

        def ways() -> Ways:
            lock = get()
            takes = {"read": Way(getattr(lock, read[0]), getattr(lock, read[1]), True)}
            return {**takes, "write": Way(getattr(lock, write[0]), getattr(lock, write[1]))}

        return ways

    return make_it


def _inherited(make: Callable[[], Any]) -> Callable[[Path], Callable[[], Any]]:
    """Another process has it by being forked."""

    def make_it(_folder: Path) -> Callable[[], Any]:
        lock = make()
        return lambda: lock

    return make_it


def _by_path(module: str, name: str) -> Callable[[Path], Callable[[], Any]]:
    """Another process opens the file of that name."""
    return lambda folder: lambda: getattr(importlib.import_module(module), name)(str(folder / "lock"))


def _our(kind: type[Mutex] | type[RwLock]) -> Callable[[], Any]:
    """One of our locks in a segment without a name: nothing is left, however this process ends."""
    return lambda: kind(Arena.inherited(words_for(1)))


def _semaphore() -> Any:
    posix_ipc = importlib.import_module("posix_ipc")
    lock = posix_ipc.Semaphore(None, posix_ipc.O_CREX, initial_value=1)
    lock.unlink()  # whoever has it open keeps it
    return lock


def _fork() -> Any:
    return multiprocessing.get_context("fork")


OURS = (
    Candidate(
        "shmreclaim.Mutex (compiled)",
        "compiled",
        EXCLUSIVE,
        _compiled(lambda g: mutex_init(g.address, g.scene + SCENE.lock, 0), exclusive=Kind.MUTEX),
    ),
    Candidate(
        "shmreclaim.RwLock (compiled)",
        "compiled",
        SHARED,
        _compiled(lambda g: rwsem_init(g.address, g.scene + SCENE.lock, 0), read=Kind.READ, write=Kind.WRITE),
    ),
    Candidate("shmreclaim.Mutex", "python", EXCLUSIVE, _simple(_inherited(_our(Mutex)))),
    Candidate(
        "shmreclaim.RwLock",
        "python",
        SHARED,
        _shared(_inherited(_our(RwLock)), ("acquire_read", "release_read"), ("acquire_write", "release_write")),
    ),
)


def _glibc_mutex(name: str, *, robust: bool) -> Candidate:
    make = _compiled(lambda g: glibc.init_mutex(_address(g), robust=robust), exclusive=Kind.GLIBC_MUTEX)
    return Candidate(name, "compiled", EXCLUSIVE, make)


def _glibc_rwlock(name: str, kind: int) -> Candidate:
    def init(ground: Ground) -> None:
        glibc.init_rwlock(_address(ground), kind=kind)

    return Candidate(name, "compiled", SHARED, _compiled(init, read=Kind.GLIBC_READ, write=Kind.GLIBC_WRITE))


PEERS = (
    _glibc_mutex("glibc mutex", robust=False),
    _glibc_mutex("glibc robust mutex", robust=True),
    _glibc_rwlock("glibc rwlock", glibc.PREFER_READER),
    _glibc_rwlock("glibc rwlock (prefers writers)", glibc.PREFER_WRITER_NONRECURSIVE),
    Candidate("multiprocessing.Lock", "python", EXCLUSIVE, _simple(_inherited(lambda: _fork().Lock()))),
    Candidate("multiprocessing.RLock", "python", EXCLUSIVE, _simple(_inherited(lambda: _fork().RLock()))),
    Candidate("posix_ipc.Semaphore", "python", EXCLUSIVE, _simple(_inherited(_semaphore)), "posix_ipc"),
    Candidate(
        "prwlock.RWLock",
        "python",
        SHARED,
        _shared(
            _inherited(lambda: importlib.import_module("prwlock").RWLock()),
            ("acquire_read", "release"),
            ("acquire_write", "release"),
        ),
        "prwlock",
    ),
    Candidate(
        "fasteners.InterProcessLock",
        "python",
        EXCLUSIVE,
        _simple(_by_path("fasteners", "InterProcessLock")),
        "fasteners",
    ),
    Candidate(
        "fasteners.InterProcessReaderWriterLock",
        "python",
        SHARED,
        _shared(
            _by_path("fasteners", "InterProcessReaderWriterLock"),
            ("acquire_read_lock", "release_read_lock"),
            ("acquire_write_lock", "release_write_lock"),
        ),
        "fasteners",
    ),
    Candidate("filelock.FileLock", "python", EXCLUSIVE, _simple(_by_path("filelock", "FileLock")), "filelock"),
    Candidate(
        "filelock.ReadWriteLock",
        "python",
        SHARED,
        _shared(_by_path("filelock", "ReadWriteLock"), ("acquire_read", "release"), ("acquire_write", "release")),
        "filelock",
    ),
)


def made(candidate: Candidate, ground: Ground, folder: str) -> Callable[[], Ways]:
    """Make a lock; raises FailedError if that fails, whatever the reason."""
    try:
        return candidate.make(ground, Path(folder))
    except Exception as error:
        raise FailedError(f"it cannot be made: {type(error).__name__}: {error}") from error


BUSTED = Candidate("busted", "compiled", EXCLUSIVE, _compiled(lambda _: None, exclusive=Kind.BUSTED))
"""Lets everybody in; never among `all`. Named, it shows that the bench notices (locktorture's lock_busted)."""


def choose(peers: str) -> list[Candidate]:
    """Ours, then the peers that `--peers` asks for: all, none, or names and families of locks, separated by commas."""
    if peers == "none":
        return list(OURS)
    if peers == "all":
        return [*OURS, *PEERS]
    asked = [name.strip() for name in peers.split(",")]
    known = (*PEERS, BUSTED)
    for name in asked:
        if not any(name in (each.name, each.family) for each in known):
            _refuse(name, known)
    return [*OURS, *(each for each in known if each.name in asked or each.family in asked)]


def _refuse(name: str, known: Sequence[Candidate]) -> None:
    families = ", ".join(dict.fromkeys(each.family for each in known))
    raise UsageError(
        f"--peers {name}: there is no such peer",
        cause=f"Packages are: {families}.",
        remedy=f"Locks are: {', '.join(each.name for each in known)}; or say all, or none.",
    )


def versions(candidates: Sequence[Candidate]) -> dict[str, str]:
    """Versions of the packages that are measured beside ours; glibc's where its locks are."""
    packages = dict.fromkeys(each.package for each in candidates if each.package and each.installed)
    found = {package: metadata.version(package.replace("_", "-")) for package in packages}
    return {**_glibc_version(candidates), **found}


def _glibc_version(candidates: Sequence[Candidate]) -> dict[str, str]:
    if not any(each.family == "glibc" and each.installed for each in candidates):
        return {}
    return {"glibc": (os.confstr("CS_GNU_LIBC_VERSION") or "glibc unknown").split()[-1]}
