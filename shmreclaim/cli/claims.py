"""`shmreclaim claims`: the arguments of the thread, each as an experiment with a verdict."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from typer import Argument

from shmreclaim.cli.reporting import Json, produce


def claims(
    numbers: Annotated[
        list[str] | None,
        Argument(
            metavar="H1",
            help="The claims to try (default: all, under 5 minutes). docs/claims.md lists them.",
            show_default=False,
        ),
    ] = None,
    json: Json = None,
) -> int:
    """Try the claims of the mailing-list thread, and say of each whether it holds.

    Each claim is an experiment in true parallel, under the designs it is about and variants of them in which one line
    differs. Its verdict comes from a rule fixed before the run: holds, refuted, or cannot tell on this machine. A hang
    is caught, named and counts as a result.

    Exit codes: 0 every claim was tried, whatever the verdicts, 1 usage or environment, 5 a fault of shmreclaim.

    Example: shmreclaim claims H2 H17 --json claims.json
    """
    from shmreclaim.experiments.claims import run_claims
    from shmreclaim.report import claims as report

    produce(json, partial(run_claims, numbers or ()), report.render)
    return 0
