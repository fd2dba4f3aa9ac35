"""The Prometheus endpoint: a small HTTP server in a thread of the watcher's, which it can neither slow nor stop."""

import socket
import socketserver
import threading
from http import HTTPStatus

from prometheus_client import CollectorRegistry, MetricsHandler
from prometheus_client.registry import Collector

from inboxd.config.settings import parse_address
from inboxd.logs import events
from inboxd.logs.setup import get_logger

BIND_RETRY_SECONDS = 30.0
"""How soon an address that could not be had is tried again."""
CLIENT_TIMEOUT_SECONDS = 5.0
"""A client that sends or takes nothing for so long is cut off: the next one waits for it."""

_log = get_logger(__name__)


class _Server(socketserver.TCPServer):
    """One request at a time: whoever asks too often waits, and costs no more than one thread."""

    allow_reuse_address = True
    request_queue_size = 8

    def __init__(self, address: tuple[str, int], handler: type[MetricsHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that went away."""


class Handler(MetricsHandler):
    """Answers one request."""

    timeout = CLIENT_TIMEOUT_SECONDS
    server_version = "inboxd"
    sys_version = ""

    def do_GET(self) -> None:  # noqa: N802 - http.server's name
        """Answer /metrics with the figures, and all else with 404."""
        if self.path.partition("?")[0] != "/metrics":
            self.send_error(HTTPStatus.NOT_FOUND, "ask for /metrics")
            return
        try:
            super().do_GET()
        except Exception as error:
            if isinstance(error, OSError):  # the client has gone
                raise
            _log.warning(events.METRICS_UNAVAILABLE, error=repr(error), remedy="the next scrape may succeed")
            self.send_error(HTTPStatus.INTERNAL_SERVER_ERROR, "the figures could not be collected: see the log")


class MetricsServer:
    """Serves a collector's figures on one address, from ``start`` to ``stop``."""

    def __init__(self, listen: str, collector: Collector) -> None:
        self._address = parse_address(listen)
        registry = CollectorRegistry()
        registry.register(collector)
        self._handler = Handler.factory(registry)
        self._stopped = threading.Event()
        self._server: _Server | None = None
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)

    @property
    def running(self) -> bool:
        """Whether its thread lives."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin to serve; an address that can't be had is told, and tried again."""
        self._thread.start()

    def stop(self) -> None:
        """Stop serving. A scrape that is under way is not waited for."""
        self._stopped.set()
        if self._server is not None:
            threading.Thread(target=self._server.shutdown, daemon=True).start()  # it waits for the scrape, and we don't

    def _run(self) -> None:
        told = False
        while not self._stopped.is_set():
            try:
                with _Server(self._address, self._handler) as server:
                    self._server, told = server, False
                    if self._stopped.is_set():
                        return
                    _log.info(events.METRICS_SERVED, host=self._address[0], port=self._address[1])
                    server.serve_forever()
            except OSError as error:
                if not told:
                    remedy = "end what listens there, or change metrics.listen; it is tried again"
                    _log.warning(events.METRICS_UNAVAILABLE, error=str(error), remedy=remedy)
                told = True
            self._stopped.wait(BIND_RETRY_SECONDS)
