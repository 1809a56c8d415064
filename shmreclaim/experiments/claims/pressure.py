"""H5 to H8: what registration can allocate when memory is full, and of what it may be full."""

from shmreclaim.experiments.claims.claim import Claim

CLAIMS: tuple[Claim, ...] = ()
