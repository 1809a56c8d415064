"""H1 to H3: what may be allocated under shrinker_rwsem, and what reclaim does when it meets its own lock."""

from shmreclaim.experiments.claims.claim import Claim

CLAIMS: tuple[Claim, ...] = ()
