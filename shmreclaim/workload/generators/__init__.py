"""The generators that a scenario picks from: what each takes in [parameters], and what writes its streams."""

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from shmreclaim.workload.generators import churn, containers, mailing_list, starvation, torture
from shmreclaim.workload.generators.script import Stage


class Generator(NamedTuple):
    """One generator; `generate` takes an instance of its own `parameters`, which a table cannot say in types."""

    parameters: type[msgspec.Struct]
    generate: Callable[[Any, Stage], None]


GENERATORS = {
    "churn": Generator(churn.Parameters, churn.generate),
    "containers": Generator(containers.Parameters, containers.generate),
    "mailing-list": Generator(mailing_list.Parameters, mailing_list.generate),
    "starvation": Generator(starvation.Parameters, starvation.generate),
    "torture": Generator(torture.Parameters, torture.generate),
}
