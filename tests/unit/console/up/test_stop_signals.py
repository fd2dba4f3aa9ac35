"""Stop signals are counted, and end a wait."""

import os
import signal
import subprocess
import sys
import time

import pytest

from inboxd.console.up.stop_signals import StopSignals


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_before_the_wait_ends_it(signum: signal.Signals) -> None:
    with StopSignals() as interrupts:
        os.kill(os.getpid(), signum)
        started = time.monotonic()

        interrupts.wait(30)

        assert time.monotonic() - started < 10
        assert interrupts.count == 1


def test_signals_within_the_debounce_time_count_as_one() -> None:
    with StopSignals(debounce_seconds=30) as interrupts:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGHUP)

        assert interrupts.count == 1


def test_signals_after_the_debounce_time_are_counted() -> None:
    with StopSignals(debounce_seconds=0) as interrupts:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)

        assert interrupts.count == 2


def test_the_exit_of_a_child_ends_the_wait_and_is_not_counted() -> None:
    with StopSignals() as interrupts:
        process = subprocess.Popen([sys.executable, "-c", ""])
        started = time.monotonic()

        interrupts.wait(30)

        assert time.monotonic() - started < 20
        assert interrupts.count == 0
        process.wait()


def test_a_wait_ends_after_its_timeout() -> None:
    with StopSignals() as interrupts:
        interrupts.wait(0.01)

        assert interrupts.count == 0


def test_an_ignored_hangup_is_not_counted() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignals() as interrupts:
            os.kill(os.getpid(), signal.SIGHUP)

            assert interrupts.count == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_previous_handlers_are_restored() -> None:
    before = [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)]

    with StopSignals():
        pass

    assert [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)] == before
