"""The first and the last line of a report: every parameter, the seed, the machine, and the verdict."""

from collections.abc import Mapping

from shmreclaim.report import units
from shmreclaim.result import Machine, Result

OPTIONS = ("trace", "scenario", "designs", "cpus", "nodes", "seed", "speed", "seconds", "repeat", "timeout")
"""In the order in which a reader wants them; other parameters follow."""


def first(result: Result) -> str:
    """What is about to be read, as a command that can be run again."""
    return f"shmreclaim {result.version}: {_what(result)}"


def last(result: Result) -> str:
    """The verdict, then the same again: whoever sees only the end of a log knows what it was."""
    broken = sum(len(design.invariants.violations) for design in result.designs.values())
    verdict = "FAILURE" if broken else "SUCCESS"
    return f"end, {verdict}, {units.plural(broken, 'invariant')} broken: {_what(result)}"


def _what(result: Result) -> str:
    return f"{_command(result)}; {_pace(result)}; {_machine(result)}"


def _command(result: Result) -> str:
    return command("compare", result.parameters)


def command(verb: str, parameters: Mapping[str, object]) -> str:
    """Write a command with all its options, those that were not given left out."""
    names = [*OPTIONS, *(name for name in parameters if name not in OPTIONS)]
    given = [(name, parameters.get(name)) for name in names]
    return " ".join(
        [verb, *(_option(name, value) for name, value in given if value is not None and value is not False)]
    )


def _option(name: str, value: object) -> str:
    return f"--{name}" if value is True else f"--{name} {_value(value)}"


def _value(value: object) -> str:
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _pace(result: Result) -> str:
    """Say what the options that were not given mean."""
    workload = f"{result.workload.kind} {result.workload.name}"
    return workload if result.parameters.get("speed") else f"{workload}, closed loop"


def _machine(result: Result) -> str:
    machine, cpus = result.machine, result.workload.cpus
    about = machine_line(machine)
    if cpus > machine.cores:
        about += f"; {cpus} CPUs on {units.plural(machine.cores, 'core')}: the scheduler is measured too"
    return about


def machine_line(machine: Machine) -> str:
    """Say where it was measured."""
    software = f"{machine.architecture}, Linux {machine.kernel}, Python {machine.python}"
    numba = machine.libraries.get("numba")
    return f"{units.plural(machine.cores, 'core')} of {machine.cpu} ({software}{f', numba {numba}' if numba else ''})"
