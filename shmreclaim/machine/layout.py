"""Where every shared word is, and what protects it.

Memory is one array of 64-bit words; a pointer is an index into it and 0 is NULL. A record is declared
once, here or in the module that owns it, as a list of fields with a length in words and the rule that
protects it. `record()` gives a named tuple of offsets, which compiled code folds into constants:
`mem[sem + RWSEM.count]`. A field that starts a cache line of its own says so with `line=True`: hot lock
words must not share one with anything that others write.
"""

from __future__ import annotations

import sys
from collections import namedtuple
from typing import Any, NamedTuple

from shmreclaim.machine.sources import source_hash

LINE = 8
"""Words of a cache line: 64 bytes."""

NULL = 0


class Field(NamedTuple):
    """One field of a record: what protects it, how many words it has, whether it starts a line."""

    name: str
    protection: str
    words: int = 1
    line: bool = False


class Layout(NamedTuple):
    """A declared record, for people: `docs` and `inspect` print it."""

    name: str
    fields: tuple[Field, ...]
    offsets: tuple[int, ...]
    size: int


LAYOUTS: dict[str, Layout] = {}
"""Every record declared so far, by name; those of files outside the package by module and name."""


def record(name: str, *fields: Field, aligned: bool = True) -> Any:
    """Declare a record; give its offsets by name, and `SIZE` in words (whole lines if `aligned`)."""
    offsets, at = [], 0
    for field in fields:
        if field.line:
            at = round_up(at, LINE)
        offsets.append(at)
        at += field.words
    size = round_up(at, LINE) if aligned else at
    owner = sys._getframe(1).f_globals["__name__"]
    key = name if owner.partition(".")[0] == __package__.partition(".")[0] else f"{owner}.{name}"
    if key in LAYOUTS:
        raise ValueError(f"record {key} is declared twice")
    LAYOUTS[key] = Layout(name, fields, tuple(offsets), size)
    make: Any = namedtuple  # mypy wants to know the fields, which are known at run time
    return make(name, [f.name for f in fields] + ["SIZE"])(*offsets, size)


def forget(module: str) -> None:
    """Forget the records of a module outside the package that could not be loaded."""
    for key in [key for key in LAYOUTS if key.startswith(module + ".")]:
        del LAYOUTS[key]


def round_up(words: int, unit: int) -> int:
    """Smallest multiple of `unit` that is not below `words`."""
    return -(-words // unit) * unit


def layout_hash() -> int:
    """Number that changes whenever a record, or what is done with it, may: from the sources. 62 bits, never 0."""
    return int(source_hash(), 16) >> 2 | 1


HEADER = record(
    "HEADER",
    Field("magic", "read-only after create"),
    Field("version", "read-only after create"),
    Field("layout_hash", "read-only after create"),
    Field("boot_id", "read-only after create"),
    Field("owner_pid", "read-only after create"),
    Field("owner_start", "read-only after create; clock ticks since boot, so that a reused pid is told apart"),
    Field("nwords", "read-only after create"),
    Field("created", "read-only after create; seconds since 1970"),
    Field("brk", "the creator, before anyone attaches", line=True),
    Field("cpus", "read-only after boot; first CPU slot"),
    Field("nr_cpus", "read-only after boot"),
    Field("cpu_stride", "read-only after boot; words from one CPU slot to the next"),
    Field("kernel", "read-only after boot; the mm root record"),
    Field("locks", "the creator; the first of its chained locks, 0 for none"),
    Field("lives", "atomic; the tasks that have a life (machine/life.py), a bit each", line=True),
    Field("lives_seq", "atomic, futex; how often one began, or an end was announced"),
    Field("announced", "atomic; tasks whose end was announced, a bit each: while there are any, queues are repaired"),
    Field("phase", "atomic, futex: what the CPUs are to do", line=True),
    Field("ready", "atomic, futex: CPUs that wait for the start", line=True),
    Field("rcu_seq", "atomic", line=True),
    Field("rcu_waiters", "atomic", line=True),
    Field("srcu_seq", "atomic", line=True),
    Field("srcu_waiters", "atomic", line=True),
)

MAGIC = int.from_bytes(b"shmrclm1", "little")
VERSION = 1
