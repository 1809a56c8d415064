"""The report of a run that went wrong, as text: what broke, who held what, what was done last, how to do it again."""

from shmreclaim.result import Evidence


def render(evidence: Evidence, design: str, again: str) -> str:
    """Give the whole report."""
    parts = [
        f"shmreclaim stress: {design} failed: {evidence.failed}",
        f"again:   {again}",
        "         (the same seed asks for the same; whether the CPUs meet the same way is up to the machine)",
        f"segment: /dev/shm/{evidence.segment} (kept: shmreclaim inspect looks at it, shmreclaim clean removes it)",
        _section("What broke", [*evidence.what.splitlines(), *evidence.violations]),
        _section("Who held what and who waited for what", evidence.standings),
        _section("What every CPU did last, in order of time", evidence.recent),
    ]
    return "\n".join(parts) + "\n"


def _section(title: str, lines: list[str]) -> str:
    return "\n".join(["", title, "-" * len(title), *(lines or ["nothing"])])
