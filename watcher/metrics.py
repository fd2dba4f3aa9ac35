"""The Prometheus endpoint: an HTTP server in threads, whose slow clients delay neither each other nor the watcher's loop."""

import contextlib
import socket
import socketserver
import threading
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from prometheus_client import CollectorRegistry, Metric, MetricsHandler
from prometheus_client.registry import Collector

from inboxd.config.values import parse_address
from inboxd.logs import events
from inboxd.logs.logger import get_logger

BIND_RETRY_SECONDS = 30.0
"""Seconds until an address that could not be bound is tried again."""
REQUEST_SECONDS = 10.0
"""Seconds after which a client is disconnected, however much it still sends or reads."""
CLIENTS_MAX = 4
"""Number of requests that are served at the same time."""
SLOT_SECONDS = 2.0
"""Seconds that a further client waits for one of these to end; then it is disconnected."""

_log = get_logger(__name__)


class _Server(socketserver.ThreadingTCPServer):
    """Serves each request in a thread, a few at a time and each for a bounded time."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 8

    def __init__(self, address: tuple[str, int], handler: type[MetricsHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._slots = threading.Semaphore(CLIENTS_MAX)
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - socketserver's own signature
        """Start a thread for a request, unless too many are served."""
        if not self._slots.acquire(timeout=SLOT_SECONDS):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # the limit of the service's tasks
            self._slots.release()
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        """Serve a request in its thread; disconnect the client when its time is over."""
        deadline = threading.Timer(REQUEST_SECONDS, _disconnect, (request,))
        deadline.daemon = True
        try:
            deadline.start()
            super().process_request_thread(request, client_address)
        finally:
            deadline.cancel()
            self._slots.release()

    def handle_error(self, request: object, client_address: object) -> None:
        """Log nothing: the client has disconnected."""


def _disconnect(client: socket.socket) -> None:
    with contextlib.suppress(OSError):
        client.shutdown(socket.SHUT_RDWR)


class _Serialized:
    """A collector that is asked by one thread at a time."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector
        self._lock = threading.Lock()

    def collect(self) -> Iterable[Metric]:
        """Return the metrics."""
        with self._lock:
            return list(self._collector.collect())


class Handler(MetricsHandler):
    """Handles one request."""

    timeout = REQUEST_SECONDS
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
        registry.register(_Serialized(collector))
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
