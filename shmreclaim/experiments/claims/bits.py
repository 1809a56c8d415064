"""H17 to H19: what keeps a bit from being lost, and a map from being used after it was freed."""

from shmreclaim.experiments.claims.claim import Claim

CLAIMS: tuple[Claim, ...] = ()
