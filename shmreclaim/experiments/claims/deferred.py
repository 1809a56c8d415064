"""H26 and H30: who pays for what a shrinker could not scan."""

from shmreclaim.experiments.claims.claim import Claim

CLAIMS: tuple[Claim, ...] = ()
