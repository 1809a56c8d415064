"""H4, H9 and H14: how often maps grow, for how long which lock is held then, and against whom."""

from shmreclaim.experiments.claims.claim import Claim

CLAIMS: tuple[Claim, ...] = ()
