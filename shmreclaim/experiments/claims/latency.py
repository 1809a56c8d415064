"""H24, H25 and H28: who waits for a scan that sleeps."""

from shmreclaim.experiments.claims.claim import Claim

CLAIMS: tuple[Claim, ...] = ()
