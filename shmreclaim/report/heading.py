"""The first and the last line of a report: every parameter, the seed, the machine, and the verdict."""

from shmreclaim.report import units
from shmreclaim.result import Result

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
    names = [*OPTIONS, *(name for name in result.parameters if name not in OPTIONS)]
    given = [(name, result.parameters.get(name)) for name in names]
    return " ".join(["compare", *(f"--{name} {_value(value)}" for name, value in given if value is not None)])


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
    software = f"{machine.architecture}, Linux {machine.kernel}, Python {machine.python}"
    numba = machine.libraries.get("numba")
    about = f"{units.plural(machine.cores, 'core')} of {machine.cpu} ({software}{f', numba {numba}' if numba else ''})"
    if cpus > machine.cores:
        about += f"; {cpus} CPUs on {units.plural(machine.cores, 'core')}: the scheduler is measured too"
    return about
