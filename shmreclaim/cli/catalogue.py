"""`shmreclaim designs` and `shmreclaim scenarios`: what there is to choose from."""

from collections.abc import Mapping

from shmreclaim.cli import output


def designs() -> None:
    """List the locking designs that can be compared, one a line.

    Use it to find the names for: shmreclaim compare --designs
    """
    from shmreclaim.experiments.catalogue import list_designs

    _say_list(list_designs())


def scenarios() -> None:
    """List the scenarios that come with shmreclaim, one a line.

    Use it to find the names for: shmreclaim compare --scenario
    """
    from shmreclaim.experiments.catalogue import list_scenarios

    _say_list(list_scenarios())


def _say_list(lines: Mapping[str, str]) -> None:
    width = max(map(len, lines), default=0)
    output.say("".join(f"{name:<{width}}  {about}\n" for name, about in lines.items()))
