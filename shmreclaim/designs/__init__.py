"""The locking designs: one file each, the same functions in the same order, none imports another.

Reading two of them side by side is reading the kernel's patch between them. `NAMES` is in the order of
history. Importing this package is cheap; a design is compiled when it is bound.
"""

NAMES = ("no_map", "tkhai_v1", "davydov", "v4_19", "v5_13", "v6_4_srcu", "v6_7")
"""Every built-in design, oldest first."""

FUNCTIONS = (
    "register_shrinker",
    "unregister_shrinker",
    "memcg_online",
    "memcg_offline",
    "memcg_free",
    "set_shrinker_bit",
    "shrink_slab",
    "init",
)
"""What each design file defines, in the order of the upcall table; six integers each, `mem` and `cpu` first."""
