"""H10 and H16: simplicity by proxies, and the trade that the thread argued about."""

from shmreclaim.experiments.claims.claim import Claim

CLAIMS: tuple[Claim, ...] = ()
