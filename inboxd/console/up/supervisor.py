"""Keeping child processes running: started in order, restarted with back-off, stopped in the reverse order."""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from subprocess import Popen

from inboxd.console.up.child_process import bury, describe, has_ended, kill
from inboxd.console.up.interrupts import Interrupts
from inboxd.logs import events
from inboxd.logs.setup import get_logger

BACKOFF_SECONDS = 0.5
BACKOFF_SECONDS_MAX = 30.0
STEADY_SECONDS = 60.0
"""A child that has lived so long has started well: its next death counts as its first."""
STANDBY_SECONDS = 1.0
BAD_SETTINGS = 2
"""The exit code of a program that can't use its settings; no restart mends that."""

Steps = tuple[tuple[signal.Signals, float], ...]
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
    stop: Steps = ((signal.SIGTERM, 10.0),)
    hurry: Steps = ()


class Child:
    """A program's process while it runs, else why it does not, and when it is ``due`` to start again."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.process: Popen[bytes] | None = None
        self.why = ""
        self.due = float("-inf")
        self.refuses = False  # at its first start: later on, what it can't use is weather, such as a folder that is away
        self._started = float("-inf")
        self._deaths = 0

    def tend(self, now: float) -> None:
        """Note a death, and start what is due; ``now`` is the supervisor's clock."""
        if self.process is not None and has_ended(self.process):
            code, self.process = bury(self.process), None
            self.refuses = code == BAD_SETTINGS and self._deaths == 0 and now - self._started < STEADY_SECONDS
            self._back_off(now, describe(code))
        if self.process is None and now >= self.due and not self.refuses:
            self._start(now)

    def _start(self, now: float) -> None:
        self._started = now
        try:
            self.process = self.program.start()
        except OSError as error:
            self._back_off(now, str(error))
            return
        if self.process is None:
            self.due = now + STANDBY_SECONDS
        else:
            logger.info(events.CHILD_STARTED, child=self.program.name, pid=self.process.pid)

    def _back_off(self, now: float, why: str) -> None:
        self._deaths = 1 if now - self._started >= STEADY_SECONDS else self._deaths + 1
        self.why = why
        self.due = now + pause_after(self._deaths)
        if self.refuses:
            logger.error(events.CHILD_REFUSED, child=self.program.name, why=why, hint="it can't use its settings")
        else:
            logger.error(events.CHILD_DIED, child=self.program.name, why=why, again_in_seconds=self.due - now)


class Supervisor:
    """Runs programs as children of this process, from its main thread."""

    def __init__(self, interrupts: Interrupts, clock: Callable[[], float] = time.monotonic) -> None:
        self._interrupts = interrupts
        self._clock = clock
        self._children: list[Child] = []

    def start(self, program: Program) -> Child:
        """Start a program, and keep it running from now on."""
        child = Child(program)
        self._children.append(child)
        child.tend(self._clock())
        return child

    def run(self) -> int:
        """Restart what dies; return 0 after a stop signal, 2 when a child can't use its settings."""
        while not self._interrupts.stops:
            now = self._clock()
            for child in self._children:
                child.tend(now)
            if any(child.refuses for child in self._children):
                return BAD_SETTINGS
            dues = [child.due for child in self._children if child.process is None]
            self._interrupts.wait(max(0.0, min(dues) - now) if dues else None)
        return 0

    def stop(self) -> None:
        """End all children, the last started first, each waited for; after a second stop signal all at once."""
        newest_first = self._children[::-1]
        for child in newest_first:
            self._walk(child, child.program.stop, lambda: self._interrupts.stops > 1)
        left = [child.process for child in newest_first if child.process is not None and not child.program.hurry]
        for process in left:
            kill(process)
        for child in newest_first:
            self._walk(child, child.program.hurry, lambda: False)

    def _walk(self, child: Child, steps: Steps, is_given_up: Callable[[], bool]) -> None:
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
            logger.info(events.CHILD_STOPPED, child=child.program.name, why=describe(bury(process)))


def pause_after(deaths: int) -> float:
    """Return the seconds before the next start, after so many deaths in a row."""
    return min(BACKOFF_SECONDS * 2.0 ** min(deaths - 1, 10), BACKOFF_SECONDS_MAX)
