"""Stop signals are counted, and end a wait."""

import os
import signal
import subprocess
import sys
import time

import pytest

from inboxd.console.up.interrupts import StopSignals


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_comes_before_the_wait_still_ends_it(signum: signal.Signals) -> None:
    with StopSignals() as interrupts:
        os.kill(os.getpid(), signum)
        started = time.monotonic()

        interrupts.wait(30)

        assert time.monotonic() - started < 10
        assert interrupts.count == 1


def test_signals_that_come_close_together_are_one() -> None:
    with StopSignals(apart_seconds=30) as interrupts:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGHUP)

        assert interrupts.count == 1


def test_signals_that_come_apart_are_two() -> None:
    with StopSignals(apart_seconds=0) as interrupts:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)

        assert interrupts.count == 2


def test_the_death_of_a_child_ends_the_wait_and_is_no_stop() -> None:
    with StopSignals() as interrupts:
        process = subprocess.Popen([sys.executable, "-c", ""])
        started = time.monotonic()

        interrupts.wait(30)

        assert time.monotonic() - started < 20
        assert interrupts.count == 0
        process.wait()


def test_a_wait_ends_by_itself() -> None:
    with StopSignals() as interrupts:
        interrupts.wait(0.01)

        assert interrupts.count == 0


def test_who_was_started_with_nohup_does_not_hear_a_hangup() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignals() as interrupts:
            os.kill(os.getpid(), signal.SIGHUP)

            assert interrupts.count == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_handlers_are_put_back() -> None:
    before = [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)]

    with StopSignals():
        pass

    assert [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)] == before
