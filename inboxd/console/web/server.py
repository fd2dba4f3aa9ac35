"""Runs the page until SIGTERM or SIGINT: threads, socket, uvicorn, and the service manager's notifications."""

import contextlib
import logging
import os
import signal
import socket
from pathlib import Path
from types import FrameType

import uvicorn

from inboxd.config.settings import Settings
from inboxd.console.web.access import Access
from inboxd.console.web.app import make_app
from inboxd.console.web.failed_index import FailedIndex
from inboxd.console.web.listening import open_socket
from inboxd.console.web.poller import Poller
from inboxd.console.web.retry_job import RetryJobs
from inboxd.console.web.site import Site
from inboxd.fs.syscalls import ignore_lease_breaks
from inboxd.logs import events
from inboxd.logs.logger import get_logger
from inboxd.logs.setup import configure_logging
from inboxd.service import sd_notify

STOP_SECONDS = 5
"""Time for replies in progress at a stop, in seconds."""
CONNECTIONS_MAX = 200
NICE = 5
"""Files that are processed come before the page and its threads."""

_log = get_logger(__name__)


class _Server(uvicorn.Server):
    """Reports to the service manager when the page is served, and when it stops."""

    manager: sd_notify.ServiceNotifier
    address: str

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        _log.info(events.WEB_SERVED, address=self.address)
        self.manager.notify_ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.manager.notify_stopping()
        super().handle_exit(sig, frame)


def make_site(settings: Settings, file: Path) -> Site:
    """Return a site whose threads are not started. Raises SettingsError if the password file can't be used."""
    access = Access(settings.web)
    if error := access.find_error():
        raise error
    index = FailedIndex(settings)
    return Site(settings, file, access, index, Poller(settings, file, index), RetryJobs(settings, index))


def serve(settings: Settings, file: Path) -> None:
    """Serve the page until a signal. Raises SettingsError if the address or the password file can't be used."""
    configure_logging(settings.log, program="web", environment=os.environ)
    with contextlib.suppress(PermissionError):  # the unit's sandbox forbids it, and has Nice= instead
        os.nice(NICE)
    ignore_lease_breaks()
    site = make_site(settings, file)
    listener = open_socket(settings.web)
    config = uvicorn.Config(
        make_app(site), log_config=None, access_log=False, server_header=False, lifespan="off", ws="none", loop="asyncio",
        http="h11", proxy_headers=False, limit_concurrency=CONNECTIONS_MAX, timeout_graceful_shutdown=STOP_SECONDS,
        timeout_keep_alive=15,
    )  # fmt: skip
    server = _Server(config)
    server.manager = sd_notify.from_environment(os.environ, os.getpid())
    server.address = settings.web.listen
    site.is_stopping = lambda: server.should_exit
    for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises the signal again at its end: a requested stop is no failure
        signal.signal(number, lambda _number, _frame: None)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)  # its start and stop are our own events
    site.index.start()
    site.poller.start()
    try:
        server.run(sockets=[listener])
    finally:
        site.poller.stop()
        site.jobs.stop()
        site.index.stop()
        if settings.web.socket:
            Path(settings.web.socket).unlink(missing_ok=True)
