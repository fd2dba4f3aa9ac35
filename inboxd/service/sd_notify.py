"""Notify the service manager of readiness, liveness, reloads, stops and status, as sd_notify(3) specifies."""

import socket
import time
from collections.abc import Callable, MutableMapping

from inboxd.logs import events
from inboxd.logs.logger import get_logger
from inboxd.logs.text import escape

SOCKET_VARIABLE, PERIOD_VARIABLE, PID_VARIABLE = "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"
SEND_SECONDS = 1.0
"""Timeout of one notification, in seconds: short, since the program does no work meanwhile."""
PINGS_PER_PERIOD = 4
STATUS_CHARS_MAX = 500

_log = get_logger(__name__)


class ServiceNotifier:
    """Connection to the service manager: one datagram for each state. With an empty address, methods do nothing."""

    def __init__(self, address: str = "", watchdog_seconds: float | None = None) -> None:
        """``address`` is a socket path, or @NAME in the abstract namespace; ``watchdog_seconds`` None: no watchdog."""
        self.watchdog_seconds = watchdog_seconds
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._status = ""
        self._last_ping = -float("inf")
        self._failed = False

    def notify_ready(self) -> None:
        """Report that the start, or a reload, successful or not, is finished."""
        self._send("READY=1")

    def ping_watchdog(self, is_healthy: Callable[[], bool] = lambda: True) -> None:
        """Ping the watchdog, at most four times per timeout, if ``is_healthy`` returns True; it is called only when due."""
        now = time.monotonic()
        ping_due = self.watchdog_seconds is not None and now - self._last_ping >= self.watchdog_seconds / PINGS_PER_PERIOD
        if ping_due and is_healthy():
            self._last_ping = now
            self._send("WATCHDOG=1")

    def extend_watchdog(self, seconds: float) -> None:
        """Raise the watchdog timeout to at least ``seconds``: calls to Redis may block as long as the settings allow."""
        if self.watchdog_seconds is not None and self.watchdog_seconds < seconds:
            self.watchdog_seconds = seconds
            self._send(f"WATCHDOG_USEC={round(seconds * 1e6)}")

    def notify_reloading(self) -> None:
        """Report that a reload has begun; ``notify_ready`` must follow."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def notify_stopping(self) -> None:
        """Report that the program is stopping."""
        self._send("STOPPING=1")

    def set_status(self, status: str) -> None:
        """Report a status line for people, escaped and truncated; an unchanged status is not sent again."""
        status = escape(status)[:STATUS_CHARS_MAX]
        if status != self._status:
            self._status = status
            self._send(f"STATUS={status}")

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
                remedy = "set NotifyAccess=main in the unit, and let its sandbox reach the notification socket"
                _log.warning(events.NOTIFY_FAILED, error=str(error), remedy=remedy)
            self._failed = True
        else:
            self._failed = False


def from_environment(environment: MutableMapping[str, str], pid: int) -> ServiceNotifier:
    """Return the manager that ``environment`` names for process ``pid``; remove its variables, so children don't notify."""
    address, period, watched_pid = (environment.pop(name, "") for name in (SOCKET_VARIABLE, PERIOD_VARIABLE, PID_VARIABLE))
    if not address.startswith(("/", "@")):
        address = ""
    is_watched = address and period.isdigit() and int(period) > 0 and watched_pid in ("", str(pid))
    return ServiceNotifier(address, int(period) / 1e6 if is_watched else None)
