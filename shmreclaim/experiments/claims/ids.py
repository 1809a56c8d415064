"""H11 to H13 and H15: the start hint, the smallest id, retries, and an IDR against an IDA with an array."""

from shmreclaim.experiments.claims.claim import Claim

CLAIMS: tuple[Claim, ...] = ()
