"""Imported by the fork server, for what the import does: it loads all compiled code, once.

Each worker is forked from that process and so starts with everything in memory.
"""

from shmreclaim.workers.units import load_all

load_all()
