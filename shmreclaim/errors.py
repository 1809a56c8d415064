"""Every error a user can meet, with the exit code it ends a command with.

A message says what happened with values, the usual cause, and what to do next. The three
parts are arguments of their own so that no caller forgets one.
"""


class ShmreclaimError(Exception):
    """Base of all errors of this package; `exit_code` is what a command ends with."""

    exit_code = 5

    def __init__(self, what: str, *, cause: str = "", remedy: str = "") -> None:
        """Keep the three parts of the message: `what` happened, its usual `cause`, the `remedy`."""
        self.what, self.cause, self.remedy = what, cause, remedy
        super().__init__("\n".join(part for part in (what, cause, remedy) if part))

    def __reduce__(self) -> tuple[object, ...]:
        """Survive pickling, so that an error of a worker reaches the parent whole."""
        return _rebuild, (type(self), self.what, self.cause, self.remedy)


def _rebuild(cls: type[ShmreclaimError], what: str, cause: str, remedy: str) -> ShmreclaimError:
    return cls(what, cause=cause, remedy=remedy)


class UsageError(ShmreclaimError):
    """The caller named something that does not exist or is out of range (exit code 1)."""

    exit_code = 1


class SetupError(ShmreclaimError):
    """The machine refused something the run needs: shared memory, a process, a file (exit code 1)."""

    exit_code = 1


class ModelViolation(ShmreclaimError):
    """An invariant (I1 to I10, conservation, exclusion) broke: the design's fault (exit code 2)."""

    exit_code = 2


class Inconclusive(ShmreclaimError):
    """The run ended without a verdict: a hang, a timeout, a worker killed from outside (exit code 3)."""

    exit_code = 3


class ThresholdFailed(ShmreclaimError):
    """A figure was not as a --threshold wants it (exit code 4)."""

    exit_code = 4


class InternalError(ShmreclaimError):
    """Something that cannot happen did: a fault of this package (exit code 5)."""

    exit_code = 5
