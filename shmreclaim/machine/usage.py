"""Whether any process has a segment mapped: a lock that the kernel keeps for as long as the mapping is there.

Model: open file description locks (fcntl(2), F_OFD_SETLK). Whoever maps a segment takes a read lock of its whole file
first. The lock belongs to what was opened, which the mapping holds open: it goes when the last process does that has
the mapping, in whatever way, and no pid is asked, which may be reused or of another pid namespace.

| lock | who has it | meaning |
|---|---|---|
| read | every process that has the segment mapped | it is in use |
| write | who removes the name of one that nobody has mapped | nobody begins to use it meanwhile |

Limits: Linux 3.15, 64-bit.
"""

import fcntl
import struct

_FLOCK = "hhqqi4x"
"""struct flock: type, whence, start, length (0: to the end), pid (0 for these locks)."""


def _whole_file(kind: int) -> bytes:
    return struct.pack(_FLOCK, kind, 0, 0, 0, 0)


def begin_use(fd: int) -> None:
    """Let others see that a segment is in use, from now until it is closed and unmapped; waits for who removes it."""
    fcntl.fcntl(fd, fcntl.F_OFD_SETLKW, _whole_file(fcntl.F_RDLCK))


def is_in_use(fd: int) -> bool:
    """Whether anybody has the file mapped, or is about to; takes nothing."""
    found = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _whole_file(fcntl.F_WRLCK))
    kind: int = struct.unpack(_FLOCK, found)[0]
    return kind != fcntl.F_UNLCK


def claim_unused(fd: int) -> bool:
    """Keep others from beginning to use a file, open for writing, until it is closed; whether nobody uses it."""
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _whole_file(fcntl.F_WRLCK))
    except BlockingIOError:
        return False
    return True
