"""Keep child processes running: start them in order, restart them with backoff, stop them in reverse order."""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from subprocess import Popen

from inboxd.console.exit_codes import EXIT_BAD_SETTINGS
from inboxd.console.up.child_process import has_ended, kill_group, reap
from inboxd.console.up.stop_signals import StopSignals
from inboxd.logs import events
from inboxd.logs.logger import get_logger
from inboxd.logs.text import describe_exit

BACKOFF_SECONDS = 0.5
BACKOFF_SECONDS_MAX = 30.0
STABLE_SECONDS = 60.0
"""A child that ran this long counts as stable: the backoff starts again at its minimum."""
STANDBY_SECONDS = 1.0
"""Interval between calls of ``Program.start`` while it returns None."""
StopSteps = tuple[tuple[signal.Signals, float], ...]
"""Signals that stop a program, each with the seconds to wait for its exit; SIGKILL to its group follows the last."""

logger = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Program:
    """A program to keep running.

    ``start`` returns the process, or None while another process does its work (the supervisor calls it again); it may
    raise OSError. ``stop`` is the normal way to end the process, ``quick_stop`` the way after a second stop signal.
    """

    name: str
    start: Callable[[], Popen[bytes] | None]
    stop: StopSteps = ((signal.SIGTERM, 10.0),)
    quick_stop: StopSteps = ()


class Child:
    """A program with its process while it runs, else with the cause of its last exit and the time of its next start."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.process: Popen[bytes] | None = None
        self.last_exit = ""
        self.restart_at = float("-inf")
        self.refuses_settings = False  # set at the first start only: later, the cause may pass, such as an unavailable folder
        self._started_at = float("-inf")
        self._failures = 0

    def check(self, now: float) -> None:
        """Reap the process if it has exited, and start it if that is due; ``now`` is the supervisor's clock."""
        if self.process is not None and has_ended(self.process):
            code, self.process = reap(self.process), None
            is_first_start = self._failures == 0 and now - self._started_at < STABLE_SECONDS
            self.refuses_settings = code == EXIT_BAD_SETTINGS and is_first_start
            self._back_off(now, describe_exit(code))
        if self.process is None and now >= self.restart_at and not self.refuses_settings:
            self._start(now)

    def _start(self, now: float) -> None:
        self._started_at = now
        try:
            self.process = self.program.start()
        except OSError as error:
            self._back_off(now, str(error))
            return
        if self.process is None:
            self.restart_at = now + STANDBY_SECONDS
        else:
            logger.info(events.CHILD_STARTED, child=self.program.name, pid=self.process.pid)

    def _back_off(self, now: float, cause: str) -> None:
        self._failures = 1 if now - self._started_at >= STABLE_SECONDS else self._failures + 1
        self.last_exit = cause
        self.restart_at = now + restart_delay(self._failures)
        if self.refuses_settings:
            logger.error(events.CHILD_MISCONFIGURED, child=self.program.name, why=cause, hint="correct the settings")
        else:
            logger.error(events.CHILD_DIED, child=self.program.name, why=cause, again_in_seconds=self.restart_at - now)


class Supervisor:
    """Starts, restarts and stops programs as children of this process; its methods run in the main thread."""

    def __init__(self, interrupts: StopSignals, clock: Callable[[], float] = time.monotonic) -> None:
        self._interrupts = interrupts
        self._clock = clock
        self._children: list[Child] = []

    def start(self, program: Program) -> Child:
        """Start a program, and register it for restarts."""
        child = Child(program)
        self._children.append(child)
        child.check(self._clock())
        return child

    def run(self) -> int:
        """Restart children that exit; return 0 after a stop signal, 2 if a child refuses its settings."""
        while not self._interrupts.count:
            now = self._clock()
            for child in self._children:
                child.check(now)
            if any(child.refuses_settings for child in self._children):
                return EXIT_BAD_SETTINGS
            restarts = [child.restart_at for child in self._children if child.process is None]
            self._interrupts.wait(max(0.0, min(restarts) - now) if restarts else None)
        return 0

    def stop(self) -> None:
        """Stop the children one by one, the newest first; after a second stop signal, kill those without a ``quick_stop``."""
        newest_first = self._children[::-1]
        for child in newest_first:
            self._stop_child(child, child.program.stop, lambda: self._interrupts.count > 1)
        remaining = [child.process for child in newest_first if child.process is not None and not child.program.quick_stop]
        for process in remaining:
            kill_group(process)
        for child in newest_first:
            self._stop_child(child, child.program.quick_stop, lambda: False)

    def _stop_child(self, child: Child, steps: StopSteps, is_cancelled: Callable[[], bool]) -> None:
        """Send each signal and wait for the exit, then kill the group; return early, without a kill, if cancelled."""
        process = child.process
        if process is None:
            return
        for signum, seconds in steps:
            if has_ended(process) or is_cancelled():
                break
            # not send_signal(): it may reap the process, and the pid could be reused before the kill
            os.kill(process.pid, signum)
            deadline = self._clock() + seconds
            while (seconds_left := deadline - self._clock()) > 0 and not has_ended(process) and not is_cancelled():
                self._interrupts.wait(seconds_left)
        if has_ended(process) or not is_cancelled():
            child.process = None
            logger.info(events.CHILD_STOPPED, child=child.program.name, why=describe_exit(reap(process)))


def restart_delay(failures: int) -> float:
    """Return the seconds before the next start after ``failures`` consecutive exits."""
    return min(BACKOFF_SECONDS * 2.0 ** min(failures - 1, 10), BACKOFF_SECONDS_MAX)
