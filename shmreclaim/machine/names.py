"""What segments are called, and where their files are."""

import os

PREFIX = "shmreclaim"
SHM = "/dev/shm"
NAME_BYTES = 255
"""A file's name has no more (NAME_MAX of limits.h)."""


def is_segment_name(name: str) -> bool:
    """Whether a name may be that of a segment of ours: a file in SHM, and in no other folder."""
    try:
        fits = len(os.fsencode(name)) <= NAME_BYTES
    except UnicodeEncodeError:  # half a surrogate pair, which no file's name has
        return False
    return fits and name.startswith(PREFIX + ".") and "/" not in name and "\0" not in name
