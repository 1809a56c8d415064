"""Which designs a user means: names of built-in ones, and paths of files. Nothing heavy is imported for that."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shmreclaim import designs
from shmreclaim.errors import UsageError
from shmreclaim.result import DesignFile
from shmreclaim.switches import parse_variant

PACKAGE = "shmreclaim_plugins"
"""The package that modules made from users' files have in their names; there is no such folder."""

MOST_BYTES = 1 << 20


@dataclass(frozen=True)
class Design:
    """One design to run."""

    name: str
    """What reports call it: a built-in one's name (a variant's, with its switches), a file's stem."""
    module: str
    """What a process binds: `kernel.bind_design(design.module)`."""
    path: str = ""
    """Of a user's file, as it was given; empty for a built-in design."""
    source: bytes = b""
    """What was in the file when it was read."""

    @property
    def given(self) -> str:
        """What `--designs` calls it."""
        return self.path or self.name

    @property
    def file(self) -> str:
        """The file's name in code made from it: absolute."""
        return str(Path(self.path).absolute())

    @property
    def sha256(self) -> str:
        """Of what was read."""
        return hashlib.sha256(self.source).hexdigest()


def is_plugin(module: str) -> bool:
    """Whether the name of a module is that of one made from a user's file."""
    return module.startswith(PACKAGE + ".")


def choose(texts: Sequence[str]) -> tuple[Design, ...]:
    """Give the designs that `--designs` names, all built-in ones if none; files are read here.

    What contains a `/` or ends in `.py` is a file. Raises UsageError for what is not there, or twice.
    """
    chosen = tuple(_choose(text) for text in texts or designs.NAMES)
    _all_different(chosen)
    return chosen


def design_files(chosen: Sequence[Design]) -> dict[str, DesignFile]:
    """Say, for a result, which files users' designs came from."""
    return {design.name: DesignFile(path=design.file, sha256=design.sha256) for design in chosen if design.path}


def _choose(text: str) -> Design:
    file, ending, switches = text.partition(".py+")
    if ending and not Path(text).exists():
        raise UsageError(
            f"{text!r}: a file of your own has no switch {switches!r}",
            cause="Switches are of built-in designs.",
            remedy=f"Change the line in a copy of {file}.py.",
        )
    return _read(text) if _is_path(text) else _built_in(text)


def _is_path(text: str) -> bool:
    return "/" in text or text.endswith(".py")


def _built_in(name: str) -> Design:
    if parse_variant(name).design in designs.NAMES:
        return Design(name, name)
    remedy = f"The designs are: {', '.join(designs.NAMES)}."
    if Path(f"{name}.py").is_file():
        remedy += f" A file of your own is named with its ending: {name}.py."
    raise UsageError(f"there is no design {name!r}", remedy=remedy)


def _read(text: str) -> Design:
    path = Path(text)
    try:
        if not path.is_file():
            what = "is not a file" if path.exists() else "is not there"
            raise UsageError(f"the design {text} {what}", remedy="Name a Python file, or a built-in design.")
        with path.open("rb") as file:
            source = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        raise UsageError(f"the design {text} cannot be read: {getattr(error, 'strerror', error)}") from None
    if len(source) > MOST_BYTES:
        raise UsageError(f"the design {text} is larger than {MOST_BYTES >> 20} MiB", cause="It is hardly a design.")
    if not path.stem.isprintable():
        raise UsageError(f"the design {text!r} has a name that cannot be printed", remedy="Give the file another name.")
    digest = hashlib.sha256(str(path.absolute()).encode("utf-8", "surrogateescape") + b"\0" + source).hexdigest()[:16]
    return Design(path.stem, f"{PACKAGE}.{re.sub(r'[^0-9A-Za-z_]', '_', path.stem)}_{digest}", text, source)


def _all_different(chosen: tuple[Design, ...]) -> None:
    """Refuse a name that two would have in the report; and that of a built-in design, which would mislead."""
    seen: dict[str, Design] = {
        name: Design(name, name) for name in designs.NAMES if name not in (d.module for d in chosen)
    }
    for design in chosen:
        other = seen.setdefault(design.name, design)
        if other is design:
            continue
        if other == design:
            raise UsageError(f"--designs names a design twice: {design.given}", remedy="Name each once.")
        raise UsageError(
            f"{_who(other)} and {_who(design)} would both be called {design.name!r} in the report",
            remedy="Give the file another name.",
        )


def _who(design: Design) -> str:
    return design.path or f"the built-in {design.name}"
