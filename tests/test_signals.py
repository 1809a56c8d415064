"""Handlers that wait: signals come, and are served when it was said they would be."""

import signal
import threading

import pytest

from shmreclaim.signals import ENDING, held_signals, interrupt_is_asked


class Stopped(BaseException):
    """What the handlers here raise, as those of the command raise SystemExit."""


@pytest.fixture
def served():
    """Numbers of the signals whose handlers ran; SIGHUP's raises. The session's handlers are put back."""
    numbers = []

    def serve(number, _frame):
        numbers.append(number)
        if number == signal.SIGHUP:
            raise Stopped

    before = {number: signal.signal(number, serve) for number in ENDING}
    yield numbers
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", ENDING[:2], ids=str)
def test_a_signal_that_another_thread_takes_waits_until_the_end(served, number):
    """Python runs its handler in the main thread all the same."""
    go = threading.Event()
    thread = threading.Thread(target=lambda: go.wait() and signal.pthread_kill(threading.get_ident(), number))
    thread.start()
    with held_signals():
        go.set()
        thread.join()
        assert served == []
    assert served == [number]


def test_signals_are_served_in_their_order_when_it_is_said(served):
    """By calling what the block gives; those to come wait again."""
    with held_signals() as take:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        take()
        assert served == [signal.SIGTERM, signal.SIGINT]
        signal.raise_signal(signal.SIGTERM)
        assert len(served) == 2
    assert len(served) == 3


def test_between_two_steps_signals_are_let_through(served):
    """At once where they come there, before the first line of it where they came earlier."""
    with held_signals() as held:
        signal.raise_signal(signal.SIGTERM)
        with held.let_through():
            assert served == [signal.SIGTERM]
            signal.raise_signal(signal.SIGINT)
            assert served == [signal.SIGTERM, signal.SIGINT]
        signal.raise_signal(signal.SIGINT)
        assert len(served) == 2
    assert len(served) == 3


def test_a_handler_that_raises_leaves_the_rest_held(served):
    """What must be undone on the way out is not disturbed by the next signal."""

    def work():
        with held_signals() as held:
            try:
                with held.let_through():
                    signal.raise_signal(signal.SIGHUP)
            finally:
                signal.raise_signal(signal.SIGTERM)
                assert served == [signal.SIGHUP]

    with pytest.raises(Stopped):
        work()
    assert served == [signal.SIGHUP, signal.SIGTERM]


def test_blocks_in_blocks_wait_for_the_outermost(served):
    """A library that holds signals may be called by one that does."""
    with held_signals():
        with held_signals():
            signal.raise_signal(signal.SIGINT)
        assert served == []
    assert served == [signal.SIGINT]


def test_a_handler_that_was_changed_meanwhile_stays_changed(served):
    """The command ignores signals once the first has come."""
    with held_signals():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN


@pytest.mark.parametrize("handler", [signal.SIG_IGN, signal.SIG_DFL], ids=str)
def test_a_handler_that_is_not_pythons_stays_what_it_is(served, handler):
    """Ignored stays ignored (nohup), and what ends the process at once still does."""
    signal.signal(signal.SIGHUP, handler)
    with held_signals():
        assert signal.getsignal(signal.SIGHUP) == handler


def test_outside_the_main_thread_nothing_is_held(served):
    """Handlers do not run there, and may not be changed there."""
    seen = []

    def hold():
        with held_signals() as held, held.let_through():
            seen.append(signal.getsignal(signal.SIGINT) == before)

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=hold)
    thread.start()
    thread.join()
    assert seen == [True]


def test_ctrl_c_can_be_asked_for_instead(served):
    """Only that; afterwards it is served as before."""
    with interrupt_is_asked() as came:
        assert not came()
        signal.raise_signal(signal.SIGTERM)
        assert not came()
        signal.raise_signal(signal.SIGINT)
        assert came()
    signal.raise_signal(signal.SIGINT)
    assert served == [signal.SIGTERM, signal.SIGINT]
