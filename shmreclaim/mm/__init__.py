"""The emulated memory management: budget, memcgs, objects on list_lrus, reclaim, and the maps of designs."""
