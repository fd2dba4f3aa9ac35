"""Keeping child processes running: started in order, restarted with back-off, stopped in the reverse order."""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from subprocess import Popen

from inboxd.console.up.child_process import describe_exit, has_ended, kill_group, reap
from inboxd.console.up.interrupts import StopSignals
from inboxd.logs import events
from inboxd.logs.setup import get_logger

BACKOFF_SECONDS = 0.5
BACKOFF_SECONDS_MAX = 30.0
STABLE_SECONDS = 60.0
"""A child that has lived so long has started well: its next death counts as its first."""
STANDBY_SECONDS = 1.0
EXIT_BAD_SETTINGS = 2
"""The exit code of a program that can't use its settings; no restart mends that."""

StopSteps = tuple[tuple[signal.Signals, float], ...]
"""How a program is asked to end: signals, each with the seconds that it is waited for. SIGKILL to its group is last."""

logger = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Program:
    """What to keep running.

    ``start`` returns the process, or None while somebody else does its job (it is asked again); raises OSError.
    ``stop`` is the patient way to end it; ``hurry`` is the way after a second signal.
    """

    name: str
    start: Callable[[], Popen[bytes] | None]
    stop: StopSteps = ((signal.SIGTERM, 10.0),)
    quick_stop: StopSteps = ()


class Child:
    """A program's process while it runs, else why it does not, and when it is ``due`` to start again."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.process: Popen[bytes] | None = None
        self.last_exit = ""
        self.restart_at = float("-inf")
        self.refuses_settings = (
            False  # at its first start: later on, what it can't use is weather, such as a folder that is away
        )
        self._started = float("-inf")
        self._deaths = 0

    def check(self, now: float) -> None:
        """Note a death, and start what is due; ``now`` is the supervisor's clock."""
        if self.process is not None and has_ended(self.process):
            code, self.process = reap(self.process), None
            self.refuses_settings = code == EXIT_BAD_SETTINGS and self._deaths == 0 and now - self._started < STABLE_SECONDS
            self._back_off(now, describe_exit(code))
        if self.process is None and now >= self.restart_at and not self.refuses_settings:
            self._start(now)

    def _start(self, now: float) -> None:
        self._started = now
        try:
            self.process = self.program.start()
        except OSError as error:
            self._back_off(now, str(error))
            return
        if self.process is None:
            self.restart_at = now + STANDBY_SECONDS
        else:
            logger.info(events.CHILD_STARTED, child=self.program.name, pid=self.process.pid)

    def _back_off(self, now: float, why: str) -> None:
        self._deaths = 1 if now - self._started >= STABLE_SECONDS else self._deaths + 1
        self.last_exit = why
        self.restart_at = now + restart_delay(self._deaths)
        if self.refuses_settings:
            logger.error(events.CHILD_MISCONFIGURED, child=self.program.name, why=why, hint="it can't use its settings")
        else:
            logger.error(events.CHILD_DIED, child=self.program.name, why=why, again_in_seconds=self.restart_at - now)


class Supervisor:
    """Runs programs as children of this process, from its main thread."""

    def __init__(self, interrupts: StopSignals, clock: Callable[[], float] = time.monotonic) -> None:
        self._interrupts = interrupts
        self._clock = clock
        self._children: list[Child] = []

    def start(self, program: Program) -> Child:
        """Start a program, and keep it running from now on."""
        child = Child(program)
        self._children.append(child)
        child.check(self._clock())
        return child

    def run(self) -> int:
        """Restart what dies; return 0 after a stop signal, 2 when a child can't use its settings."""
        while not self._interrupts.count:
            now = self._clock()
            for child in self._children:
                child.check(now)
            if any(child.refuses_settings for child in self._children):
                return EXIT_BAD_SETTINGS
            dues = [child.restart_at for child in self._children if child.process is None]
            self._interrupts.wait(max(0.0, min(dues) - now) if dues else None)
        return 0

    def stop(self) -> None:
        """End all children, the last started first, each waited for; after a second stop signal all at once."""
        newest_first = self._children[::-1]
        for child in newest_first:
            self._stop_child(child, child.program.stop, lambda: self._interrupts.count > 1)
        left = [child.process for child in newest_first if child.process is not None and not child.program.quick_stop]
        for process in left:
            kill_group(process)
        for child in newest_first:
            self._stop_child(child, child.program.quick_stop, lambda: False)

    def _stop_child(self, child: Child, steps: StopSteps, is_given_up: Callable[[], bool]) -> None:
        """Send each signal and wait for the end, then kill what is left; stop short when patience is given up."""
        process = child.process
        if process is None:
            return
        for signum, seconds in steps:
            if has_ended(process) or is_given_up():
                break
            # not send_signal(): it may bury the process, and its number could be another's by the time of the kill
            os.kill(process.pid, signum)
            deadline = self._clock() + seconds
            while (left := deadline - self._clock()) > 0 and not has_ended(process) and not is_given_up():
                self._interrupts.wait(left)
        if has_ended(process) or not is_given_up():
            child.process = None
            logger.info(events.CHILD_STOPPED, child=child.program.name, why=describe_exit(reap(process)))


def restart_delay(deaths: int) -> float:
    """Return the seconds before the next start, after so many deaths in a row."""
    return min(BACKOFF_SECONDS * 2.0 ** min(deaths - 1, 10), BACKOFF_SECONDS_MAX)
