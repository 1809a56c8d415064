"""Test-only: no_map, but a worker that imports it fails with an error that nobody expects."""

import multiprocess

from shmreclaim.designs.no_map import (
    init,
    memcg_free,
    memcg_offline,
    memcg_online,
    register_shrinker,
    set_shrinker_bit,
    shrink_slab,
    unregister_shrinker,
)

if multiprocess.parent_process() is not None:
    raise ZeroDivisionError("a test asked for it")

__all__ = [
    "init",
    "memcg_free",
    "memcg_offline",
    "memcg_online",
    "register_shrinker",
    "set_shrinker_bit",
    "shrink_slab",
    "unregister_shrinker",
]
