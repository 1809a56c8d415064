"""`shmreclaim claims`: the arguments of the thread, each as an experiment with a verdict."""

from __future__ import annotations

import sys
from typing import Annotated

from typer import Argument, Option

from shmreclaim.cli import reporting


def claims(
    numbers: Annotated[
        list[str] | None,
        Argument(
            metavar="H1",
            help="The claims to try (default: all, under 5 minutes). docs/claims.md lists them.",
            show_default=False,
        ),
    ] = None,
    json: Annotated[
        str | None,
        Option(
            metavar="FILE",
            help="Write every claim with its verdict and figures to FILE as JSON; - is standard output, and the report "
            "then goes to standard error. Example: --json claims.json.",
        ),
    ] = None,
) -> int:
    """Try the claims of the mailing-list thread, and say of each whether it holds.

    Each claim is an experiment in true parallel, under the designs it is about and variants of them in which one line
    differs. Its verdict comes from a rule fixed before the run: holds, refuted, or cannot tell on this machine. A hang
    is caught, named and counts as a result.

    Exit codes: 0 every claim was tried, whatever the verdicts, 1 usage or environment, 5 a fault of shmreclaim.

    Example: shmreclaim claims H2 H17 --json claims.json
    """
    from shmreclaim.cli.progress import make_progress
    from shmreclaim.experiments.claims import run_claims
    from shmreclaim.report import claims as report

    reporting.check(json)
    with make_progress(sys.stderr) as progress:
        result = run_claims(numbers or (), progress)
    reporting.deliver(result, json, report.render)
    return 0
