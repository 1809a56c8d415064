"""The arguments of the thread as experiments: each claim with what is run for it, and the rule of its verdict.

Source: linux-mm, March 2018 and the series that followed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime

from shmreclaim import __version__
from shmreclaim.errors import Inconclusive, SetupError, UsageError
from shmreclaim.experiments.claims import bits, deadlock, deferred, fairness, growth, ids, latency, pressure, trade
from shmreclaim.experiments.claims.claim import CANNOT_TELL, CannotTell, Claim, Finding
from shmreclaim.experiments.claims.lab import Lab, Progress
from shmreclaim.experiments.compare import describe_machine
from shmreclaim.result import ClaimResult, ClaimsResult

_MODULES = (deadlock, pressure, growth, ids, bits, latency, fairness, deferred, trade)

CLAIMS: dict[str, Claim] = {
    claim.number: claim
    for claim in sorted(
        (claim for module in _MODULES for claim in module.CLAIMS), key=lambda each: int(each.number[1:])
    )
}
"""Every claim that is run, by its number."""

NOT_RUN: dict[str, str] = {
    "H20": "none of the designs keeps ids per memcg in an IDA instead of maps",
    "H21": "shrinker calls are counted of all passes together, so that the root's share is not known",
    "H22": "how load on a lock's word moves takes more cores than claims are made for",
    "H27": "what a grace period costs is a curve, not a verdict; bench/ramfs.py draws it",
    "H29": "a bit lost in a window of a few instructions takes the model checker, not luck",
}
"""Numbers of the list that no experiment decides, with why."""


def choose(numbers: Sequence[str]) -> tuple[str, ...]:
    """Check numbers, `h1` as good as `H1`; all there are where none is given."""
    wanted = tuple(dict.fromkeys(number.upper() for number in numbers)) or tuple(CLAIMS)
    for number in wanted:
        if number in NOT_RUN:
            raise UsageError(f"{number} is not run here: {NOT_RUN[number]}", remedy=f"Run are: {', '.join(CLAIMS)}.")
        if number not in CLAIMS:
            raise UsageError(f"there is no claim {number!r}", remedy=f"There are: {', '.join(CLAIMS)}.")
    return tuple(sorted(wanted, key=lambda each: int(each[1:])))


def run_claims(numbers: Sequence[str], progress: Progress) -> ClaimsResult:
    """Try claims, all where none is named; whatever one of them comes to, the others are tried too."""
    from shmreclaim.executions import native

    started = datetime.now(UTC).isoformat(timespec="seconds")
    chosen = choose(numbers)
    native.prepare(progress.compiling)
    lab = Lab(progress)
    claims = {}
    for k, number in enumerate(chosen, start=1):
        progress.judging(number, k, len(chosen))
        claims[number] = _judge(CLAIMS[number], lab)
        progress.judged(number, claims[number].verdict, claims[number].seconds)
    return ClaimsResult(
        version=__version__,
        started=started,
        parameters={"claims": list(chosen)},
        machine=describe_machine(),
        claims=claims,
    )


def _judge(claim: Claim, lab: Lab) -> ClaimResult:
    began = time.monotonic()
    try:
        finding = claim.experiment(lab)
    except (CannotTell, Inconclusive, SetupError) as error:
        finding = Finding(CANNOT_TELL, str(error))
    return ClaimResult(
        claim=claim.says,
        by=claim.by,
        ran=claim.ran,
        rule=claim.rule,
        verdict=finding.verdict,
        why=finding.why,
        figures=finding.figures,
        seconds=round(time.monotonic() - began, 2),
    )
