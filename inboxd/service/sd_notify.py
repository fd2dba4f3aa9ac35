"""Words to the service manager: ready, alive, reloading, stopping, and what we are about. sd_notify(3) by hand."""

import socket
import time
from collections.abc import Callable, MutableMapping

from inboxd.logs import events
from inboxd.logs.setup import get_logger
from inboxd.logs.text import escape

SOCKET_VARIABLE, PERIOD, OWNER = "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"
SEND_SECONDS = 1.0
"""A service manager that does not read is not waited for longer: our work comes first."""
PINGS_PER_PERIOD = 4
STATUS_CHARS_MAX = 500

_log = get_logger(__name__)


class ServiceManager:
    """Tells the service manager, one datagram for each state; where there is none, nothing."""

    def __init__(self, address: str = "", watchdog_seconds: float | None = None) -> None:
        """``watchdog_seconds`` is how long it bears our silence; None if it does not watch over us."""
        self.watchdog_seconds = watchdog_seconds
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._status = ""
        self._last_ping = -float("inf")
        self._failed = False

    def notify_ready(self) -> None:
        """Say that the program does its work, or has taken up new settings, or refused them."""
        self._send("READY=1")

    def ping_watchdog(self, is_healthy: Callable[[], bool] = lambda: True) -> None:
        """Feed the watchdog: only on ``evidence``, and no more often than it asks for."""
        now = time.monotonic()
        hungry = self.watchdog_seconds is not None and now - self._last_ping >= self.watchdog_seconds / PINGS_PER_PERIOD
        if hungry and is_healthy():
            self._last_ping = now
            self._send("WATCHDOG=1")

    def extend_watchdog(self, seconds: float) -> None:
        """Have a watchdog that is less patient than that wait so long: a call to Redis may take what the settings allow."""
        if self.watchdog_seconds is not None and self.watchdog_seconds < seconds:
            self.watchdog_seconds = seconds
            self._send(f"WATCHDOG_USEC={round(seconds * 1e6)}")

    def notify_reloading(self) -> None:
        """Say that new settings are being read; ``ready`` must follow."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def notify_stopping(self) -> None:
        """Say that the end has begun."""
        self._send("STOPPING=1")

    def set_status(self, words: str) -> None:
        """Say what the program is about, in one line for people; repetitions are not sent."""
        words = escape(words)[:STATUS_CHARS_MAX]
        if words != self._status:
            self._status = words
            self._send(f"STATUS={words}")

    def _send(self, state: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
                manager.settimeout(SEND_SECONDS)
                manager.connect(self._address)
                manager.sendall(state.encode())
        except OSError as error:
            if not self._failed:
                remedy = "systemd: set NotifyAccess=main, and let the sandbox reach its notification socket"
                _log.warning(events.NOTIFY_FAILED, error=str(error), remedy=remedy)
            self._failed = True
        else:
            self._failed = False


def from_environment(environment: MutableMapping[str, str], pid: int) -> ServiceManager:
    """Read what a service manager has left in the environment of process ``pid``, and remove it: children are not to send."""
    address, period, owner = (environment.pop(name, "") for name in (SOCKET_VARIABLE, PERIOD, OWNER))
    if not address.startswith(("/", "@")):
        address = ""
    watched = address and period.isdigit() and int(period) > 0 and owner in ("", str(pid))
    return ServiceManager(address, int(period) / 1e6 if watched else None)
