"""Rows that several tests play."""

from tests.emulated import Row, add, delete, mkdir, mount, rmdir, shrink, touch, umount

LIFE: list[Row] = [
    *(mount(k) for k in range(12)),
    mkdir(1),
    mkdir(2, 1),
    *(add(2, k, 3) for k in range(12)),
    *(umount(k) for k in range(12)),
    rmdir(2),
    rmdir(1),
]
"""All that comes goes again: after it, a kernel has what it had before, but for what the first one made for good."""

MIXED: list[Row] = [
    *(mount(k) for k in range(20)),
    mount(20, 0),
    *(mkdir(k) for k in range(1, 5)),
    *(mkdir(k, k - 4) for k in range(5, 9)),
    *(add(k % 9, k % 21, 7 + k, k % 2, k % 3 % 2) for k in range(60)),
    *(touch(k % 9, k, 3, k % 2) for k in range(21)),
    *(shrink(k, 2, k % 2) for k in range(9)),
    rmdir(5),
    rmdir(2),
    *(delete(k % 9, k % 21, 4) for k in range(40)),
    *(umount(k) for k in range(3, 9)),
    mount(30),
    add(1, 30, 50),
    *(shrink(k, 1) for k in range(9)),
    *(shrink(k, 0, 1) for k in range(9)),
    rmdir(6),
    shrink(0),
    add(3, 10, 9),
]
"""A bit of everything, on two nodes, with memcgs that die while they have objects."""
