"""Let the main thread wait for stop signals and for the exit of child processes."""

import select
import signal
import socket
import time
from types import FrameType
from typing import Self

DEBOUNCE_SECONDS = 0.5
"""Stop signals within this time count as one: `uv run` forwards a Ctrl-C, a closing session sends TERM and HUP."""


class StopSignals:
    """A context that counts SIGINT, SIGTERM and SIGHUP in ``count``; these and SIGCHLD end a ``wait``.

    Entering it in another thread than the main thread raises ValueError, as signal handlers do.
    """

    def __init__(self, debounce_seconds: float = DEBOUNCE_SECONDS) -> None:
        self.count = 0
        self._debounce_seconds = debounce_seconds
        self._counted_at = float("-inf")

    def __enter__(self) -> Self:
        self._reader, self._writer = socket.socketpair()
        for end in (self._reader, self._writer):
            end.settimeout(0)  # neither the interpreter's write nor the read in wait() may block
        # the interpreter writes a byte here for each signal, so one that arrives just before the wait still ends it
        self._previous_wakeup_fd = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._previous_handlers = {signum: signal.signal(signum, self._count) for signum in _stop_signals()}
        self._previous_handlers[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._previous_handlers.items():
            signal.signal(signum, handler)
        signal.set_wakeup_fd(self._previous_wakeup_fd)
        self._reader.close()
        self._writer.close()

    def wait(self, seconds: float | None = None) -> None:
        """Return after a stop signal, the exit of a child, or ``seconds`` (None: no timeout)."""
        readable, _, _ = select.select([self._reader], [], [], seconds)
        if readable:
            self._reader.recv(4096)

    def _count(self, _signum: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if now - self._counted_at >= self._debounce_seconds:
            self.count += 1
            self._counted_at = now


def _stop_signals() -> list[signal.Signals]:
    """Return the signals that request a stop: SIGHUP only if it is not ignored, as nohup makes it."""
    is_hangup_ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [signal.SIGINT, signal.SIGTERM, *([] if is_hangup_ignored else [signal.SIGHUP])]
