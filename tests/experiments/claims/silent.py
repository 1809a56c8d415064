"""A lab that tells nobody how far it is, and what its runs show on a machine that is late."""

from collections.abc import Callable

from shmreclaim.experiments.claims.claim import CannotTell
from shmreclaim.experiments.claims.lab import Lab

PATIENCE = 8


class Silent:
    """A Progress to whom nothing matters."""

    def compiling(self, done: int, total: int) -> None:
        """Nothing."""

    def judging(self, number: str, k: int, of: int) -> None:
        """Nothing."""

    def running(self, design: str) -> None:
        """Nothing."""

    def advanced(self, done: int, total: int) -> None:
        """Nothing."""

    def judged(self, number: str, verdict: str, seconds: float) -> None:
        """Nothing."""


def lab() -> Lab:
    """A lab of real runs."""
    return Lab(Silent())


def shown(look: Callable[[], bool]) -> bool:
    """Whether one of eight runs shows it: a machine that is late hides it now and then, a fault hides it always."""
    for _ in range(PATIENCE):
        try:
            if look():
                return True
        except CannotTell:
            continue
    return False
