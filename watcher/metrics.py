"""The Prometheus endpoint: a small HTTP server in a thread, whose errors and slow clients don't affect the watcher's loop."""

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
"""Seconds until an address that could not be bound is tried again."""
CLIENT_TIMEOUT_SECONDS = 5.0
"""Seconds without progress after which a client is disconnected, because the next one waits for it."""

_log = get_logger(__name__)


class _Server(socketserver.TCPServer):
    """Serves one request at a time, so that many clients occupy one thread only."""

    allow_reuse_address = True
    request_queue_size = 8

    def __init__(self, address: tuple[str, int], handler: type[MetricsHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Log nothing: the client has disconnected."""


class Handler(MetricsHandler):
    """Handles one request."""

    timeout = CLIENT_TIMEOUT_SECONDS
    server_version = "inboxd"
    sys_version = ""

    def do_GET(self) -> None:  # noqa: N802 - http.server's name
        """Reply to /metrics with the metrics, to every other path with 404."""
        if self.path.partition("?")[0] != "/metrics":
            self.send_error(HTTPStatus.NOT_FOUND, "only /metrics is served")
            return
        try:
            super().do_GET()
        except Exception as error:
            if isinstance(error, OSError):  # the client has disconnected
                raise
            _log.warning(events.METRICS_UNAVAILABLE, error=repr(error), remedy="none needed if the next scrape succeeds")
            self.send_error(HTTPStatus.INTERNAL_SERVER_ERROR, "the metrics could not be collected: see the log")


class MetricsServer:
    """Serves a collector's metrics on one address, from ``start`` to ``stop``."""

    def __init__(self, listen: str, collector: Collector) -> None:
        self._address = parse_address(listen)
        registry = CollectorRegistry()
        registry.register(collector)
        self._handler = Handler.factory(registry)
        self._stopped = threading.Event()
        self._server: _Server | None = None
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)

    @property
    def is_running(self) -> bool:
        """Whether the server's thread is alive."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start serving. If the address can't be bound, log that once and retry."""
        try:
            self._thread.start()
        except RuntimeError as error:  # the limit of the service's tasks: files matter more than metrics
            remedy = "raise TasksMax of the watcher's service, then restart it"
            _log.warning(events.METRICS_UNAVAILABLE, error=str(error), remedy=remedy)

    def stop(self) -> None:
        """Stop serving, without waiting for a scrape in progress."""
        self._stopped.set()
        if self._server is not None:
            threading.Thread(target=self._server.shutdown, daemon=True).start()  # blocks until the scrape ends

    def _run(self) -> None:
        is_logged = False
        while not self._stopped.is_set():
            try:
                with _Server(self._address, self._handler) as server:
                    self._server, is_logged = server, False
                    if self._stopped.is_set():
                        return
                    _log.info(events.METRICS_SERVED, host=self._address[0], port=self._address[1])
                    server.serve_forever()
            except OSError as error:
                if not is_logged:
                    remedy = "stop the program that listens there, or change metrics.listen; the watcher retries by itself"
                    _log.warning(events.METRICS_UNAVAILABLE, error=str(error), remedy=remedy)
                is_logged = True
            self._stopped.wait(BIND_RETRY_SECONDS)
