"""Samples from several processes: what they give, and how they end."""

import os
import signal

import pytest

from shmreclaim.errors import Inconclusive, InternalError, ModelViolation
from shmreclaim.experiments.bench.processes import PROCESSES, Tell, measure
from shmreclaim.experiments.bench.turns import Figure


def quiet(_what: str, _done: int, _total: int) -> None:
    """Tell nobody."""


def pids(tell: Tell) -> dict[str, list[float]]:
    """Three samples, whose median is the process's id."""
    tell("sampling", 1, 1)
    return {"pid": [0.0, float(os.getpid()), 1e12]}


def broken(_tell: Tell) -> dict[str, list[float]]:
    """What finds an invariant broken."""
    raise ModelViolation("it broke", cause="a cause", remedy="a remedy")


def failing(_tell: Tell) -> dict[str, list[float]]:
    """What has a fault."""
    raise ZeroDivisionError


def killed(_tell: Tell) -> dict[str, list[float]]:
    """What somebody kills."""
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def test_each_process_gives_one_sample_the_median_of_its_own() -> None:
    """Different processes, none of them this one; told one by one."""
    told: list[tuple[str, int, int]] = []
    (figure,) = measure(pids, quick=False, tell=lambda *said: told.append(said)).values()
    assert figure.samples == PROCESSES
    assert 0 < figure.low < figure.high < 1e12
    assert told == [("measuring in process", k + 1, PROCESSES) for k in range(PROCESSES)]


def test_quick_samples_in_this_process() -> None:
    """And its figure is of all samples."""
    told: list[tuple[str, int, int]] = []
    found = measure(pids, quick=True, tell=lambda *said: told.append(said))
    assert found == {"pid": Figure(float(os.getpid()), 0.0, 1e12, 3)}
    assert told == [("sampling", 1, 1)]


def test_an_error_in_a_process_is_raised_whole() -> None:
    """With its cause and its remedy."""
    with pytest.raises(ModelViolation, match="it broke") as raised:
        measure(broken, quick=False, tell=quiet)
    assert (raised.value.cause, raised.value.remedy) == ("a cause", "a remedy")


def test_a_fault_in_a_process_is_ours(capfd: pytest.CaptureFixture[str]) -> None:
    """Its traceback is above."""
    with pytest.raises(InternalError, match="ended early"):
        measure(failing, quick=False, tell=quiet)
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_a_process_that_somebody_killed_is_no_verdict() -> None:
    """By which signal is said."""
    with pytest.raises(Inconclusive, match="was killed by SIGKILL"):
        measure(killed, quick=False, tell=quiet)


def test_a_signal_waits_for_the_end_of_what_is_done() -> None:
    """Of what is compiled, say: there a library may swallow the exception. The next thing is not begun."""
    done: list[str] = []

    def interrupted(tell: Tell) -> dict[str, list[float]]:
        tell("first", 1, 2)
        os.kill(os.getpid(), signal.SIGTERM)
        done.append("first")
        tell("second", 2, 2)
        done.append("second")
        return {}

    def end(number: int, _frame: object) -> None:
        raise SystemExit(number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        with pytest.raises(SystemExit):
            measure(interrupted, quick=True, tell=quiet)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert done == ["first"]
