"""Stop signals and the deaths of children, as something that the main thread can wait for."""

import select
import signal
import socket
import time
from types import FrameType
from typing import Self

DEBOUNCE_SECONDS = 0.5
"""Stop signals that come closer together are one: `uv run` passes a Ctrl-C on, a closing session sends TERM and HUP."""


class StopSignals:
    """A context in which SIGINT, SIGTERM and SIGHUP are counted in ``stops``, and end a ``wait`` as a child's death does.

    Signal handlers belong to the main thread: entering it elsewhere raises ValueError.
    """

    def __init__(self, apart_seconds: float = DEBOUNCE_SECONDS) -> None:
        self.count = 0
        self._apart_seconds = apart_seconds
        self._latest = float("-inf")

    def __enter__(self) -> Self:
        self._reader, self._writer = socket.socketpair()
        for end in (self._reader, self._writer):
            end.settimeout(0)  # neither the interpreter nor we may ever block on it
        # the interpreter writes a byte here for each signal, so one that comes just before the wait still ends it
        self._wakeup_before = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._before = {signum: signal.signal(signum, self._count) for signum in _stop_signals()}
        self._before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
        signal.set_wakeup_fd(self._wakeup_before)
        self._reader.close()
        self._writer.close()

    def wait(self, seconds: float | None = None) -> None:
        """Return after so many seconds (None: only then), after a signal, or when a child has ended."""
        ready, _, _ = select.select([self._reader], [], [], seconds)
        if ready:
            self._reader.recv(4096)

    def _count(self, _signum: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if now - self._latest >= self._apart_seconds:
            self.count += 1
            self._latest = now


def _stop_signals() -> list[signal.Signals]:
    """Return the signals that ask for a stop; who was started with nohup does not hear SIGHUP."""
    nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [signal.SIGINT, signal.SIGTERM, *([] if nohup else [signal.SIGHUP])]
