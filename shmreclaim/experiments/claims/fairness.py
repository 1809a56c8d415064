"""H23: whose shrinkers are asked when walks are cut short."""

from shmreclaim.experiments.claims.claim import Claim

CLAIMS: tuple[Claim, ...] = ()
