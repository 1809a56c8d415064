"""What a user's design goes through before it is run: its form, a first try, and the compiler.

    admit(choose(("davydov", "mine.py")), progress)

Trying and compiling happen in a process of its own, forked from the fork server: a loop without end, or memory
without end, can be ended there, and so can Ctrl-C end it at once. A design that fails is refused with a UsageError that
names function and line.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

from shmreclaim.errors import InternalError, SetupError, ShmreclaimError, UsageError
from shmreclaim.executions.crew import POLL_S, context, death
from shmreclaim.executions.interpreted import DesignError, limited
from shmreclaim.executions.tryout import LIMITS, try_out
from shmreclaim.plugins import Design
from shmreclaim.plugins.form import ABOUT, compile_design, open_design, unusable
from shmreclaim.signals import held_signals
from shmreclaim.workers.lifeline import follow_parent, start


class Progress(Protocol):
    """Who is told what a user's design goes through."""

    def admitting(self, design: str, what: str) -> None:
        """`what` is done with the file of `design` now."""


def look_at(designs: Sequence[Design]) -> None:
    """Raise UsageError for what can be said of users' files before anything is compiled or run."""
    for design in designs:
        if design.path:
            open_design(design)


def admit(designs: Sequence[Design], progress: Progress) -> None:
    """Try out and compile users' files, which `look_at` let pass; raises UsageError for one that fails."""
    for design in designs:
        if design.path:
            answer_of(_examine, (design,), functools.partial(progress.admitting, design.name))


def _examine(design: Design, tell: Callable[[str], None]) -> None:
    tell("trying it out, interpreted")
    try:
        with limited(LIMITS):
            try_out(design)
    except DesignError as fault:
        raise _refused(design, fault) from None
    tell("compiling it")
    compile_design(design)


def _refused(design: Design, fault: DesignError) -> UsageError:
    where = fault.where or f"{design.path}: none of its functions was running, but what they left behind was used"
    cause = f"Found by interpreting it on a small machine, during: {fault.during}."
    return unusable(design, [f"{where}: {fault.why}"], f"{cause}\n{ABOUT}")


def answer_of(target: Callable[..., Any], arguments: tuple[Any, ...], tell: Callable[[str], None]) -> Any:
    """Call `target(*arguments, tell)` in a process of its own; gives what it returns, raises what it raises."""
    with held_signals() as take_signals:
        receiver, sender = context().Pipe(duplex=False)
        process = context().Process(target=_answer, args=(target, arguments, sender), daemon=True)
        with receiver:
            try:
                with sender:
                    _start(process)
                return _listen(receiver, process, tell, take_signals)
            finally:
                with suppress(AttributeError, ValueError):  # it was never started
                    process.kill()
                    process.join()


def _start(process: Any) -> None:
    try:
        start(process)
    except (OSError, EOFError) as error:
        raise SetupError(
            f"cannot start a process that examines a design: {str(error) or 'the fork server ended'}",
            cause="Usually the limit of processes or open files is reached (ulimit -u, ulimit -n).",
        ) from None


def _listen(receiver: Any, process: Any, tell: Callable[[str], None], take_signals: Callable[[], None]) -> Any:
    while True:
        take_signals()
        if not receiver.poll(POLL_S):
            continue
        try:
            kind, news = receiver.recv()
        except (EOFError, OSError):  # an OSError if it ended in the middle of a message
            process.join()
            code = process.exitcode
            how = death(code) if code < 0 else "ended early; its message is above"
            raise InternalError(f"the process that examines a design {how}") from None
        if kind == "told":
            tell(news)
        elif kind == "error":
            raise news
        else:
            return news


def _answer(target: Callable[..., Any], arguments: tuple[Any, ...], sender: Any) -> None:
    follow_parent()
    try:
        answer = target(*arguments, lambda what: sender.send(("told", what)))
    except ShmreclaimError as error:
        sender.send(("error", error))
    except OSError as error:
        what = f"the machine refused what examining a design takes: {error}"
        sender.send(("error", SetupError(what, cause="Usually the disk that has the cache is full.")))
    else:
        sender.send(("answer", answer))
