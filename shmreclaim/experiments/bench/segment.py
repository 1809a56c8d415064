"""Shared memory for what is measured in this process alone."""

from shmreclaim.machine.arena import Arena
from shmreclaim.signals import held_signals


def nameless_segment(words: int) -> Arena:
    """Make a segment that loses its name at once: nothing is left in /dev/shm however the process ends."""
    with held_signals():
        arena = Arena.create(words)
        arena.remove()
    return arena
