"""The words of a segment as a stranger reads them: copied out, each when it is asked for, none of them trusted.

A mapping would not do: where its file is truncated meanwhile, a read of it kills the process (SIGBUS). A copy by
pread(2) ends early instead. The parts of a look may be of different moments; whoever uses the segment is not disturbed.

Limits: what a look may cost is bounded, whatever the words say: MOST_PAGES are kept, MOST_READS are answered.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from shmreclaim.errors import SetupError
from shmreclaim.executions.segments import READ
from shmreclaim.machine.arena import check_header, refuse_strangers
from shmreclaim.machine.layout import HEADER
from shmreclaim.machine.names import SHM, is_segment_name

PAGE_WORDS = 512
MOST_PAGES = 4096
MOST_READS = 4_000_000
"""Of words, a second or two; a run of 4,000 memcgs on 4 nodes takes a fifth of it."""


class Snapshot:
    """A segment that is read word by word; `memory` and `view` are as an Arena's, but read only."""

    def __init__(self, name: str, fd: int, words: int) -> None:
        """Read `words` words of what is open; use `open_snapshot`."""
        self.name = name
        self.memory = self
        self._fd = fd
        self._words = words
        self._pages: dict[int, NDArray[np.int64]] = {}
        self._reads = 0

    def __len__(self) -> int:
        """Words of the segment."""
        return self._words

    def __getitem__(self, at: int) -> int:
        """The word at `at`; raises IndexError outside the segment, and where a look comes to no end."""
        if not 0 <= at < self._words:
            raise IndexError(f"word {at} is outside a segment of {self._words}")
        self._count(1)
        return int(self._page(at // PAGE_WORDS)[at % PAGE_WORDS])

    def view(self, at: int, words: int) -> NDArray[np.int64]:
        """Copy `words` words from offset `at`; raises IndexError as for one word."""
        if not 0 <= at <= at + words <= self._words:
            raise IndexError(f"words {at}..{at + words} are outside a segment of {self._words}")
        self._count(1 + words // 8)
        return np.frombuffer(self._read(at, words), np.int64)

    def _count(self, reads: int) -> None:
        self._reads += reads
        if self._reads > MOST_READS:
            raise IndexError(f"more than {MOST_READS:,} words were followed: what is linked has no end")

    def _page(self, number: int) -> NDArray[np.int64]:
        page = self._pages.get(number)
        if page is None:
            if len(self._pages) >= MOST_PAGES:
                self._pages.clear()
            at = number * PAGE_WORDS
            page = np.frombuffer(self._read(at, min(PAGE_WORDS, self._words - at)), np.int64)
            self._pages[number] = page
        return page

    def _read(self, at: int, words: int) -> bytes:
        found = os.pread(self._fd, words * 8, at * 8)
        if len(found) < words * 8:
            raise SetupError(
                f"segment {self.name} had {self._words * 8} bytes and has {os.fstat(self._fd).st_size}",
                cause="Somebody truncated it while it was looked at.",
            )
        return found


@contextlib.contextmanager
def open_snapshot(name: str) -> Iterator[Snapshot]:
    """Open a segment of this user's, and of this very layout, to read it; raises SetupError for any other."""
    if not is_segment_name(name):
        raise SetupError(f"{name!r} is not the name of a segment of shmreclaim", remedy="See: shmreclaim list")
    try:
        fd = os.open(f"{SHM}/{name}", READ)
    except OSError as error:
        why = "it is a symbolic link" if error.errno == errno.ELOOP else error.strerror
        raise SetupError(f"cannot look at segment {name}: {why}", remedy="See: shmreclaim list") from None
    try:
        status = os.fstat(fd)
        refuse_strangers(name, fd)
        check_header(name, status.st_size, os.pread(fd, HEADER.SIZE * 8, 0))
        yield Snapshot(name, fd, status.st_size // 8)
    finally:
        os.close(fd)
