"""Test-only: no_map, but a worker that imports it is refused with an error of ours."""

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
from shmreclaim.errors import SetupError

if multiprocess.parent_process() is not None:
    raise SetupError("the worker was refused", cause="A test asked for it.", remedy="Nothing to do.")

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
