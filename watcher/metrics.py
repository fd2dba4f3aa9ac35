"""The Prometheus endpoint: a small HTTP server in a thread of the watcher's, which it can neither slow nor stop."""

import socket
import socketserver
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler

from inboxd.config.settings import parse_address
from inboxd.logs import events
from inboxd.logs.setup import get_logger
from inboxd.monitoring.exposition import CONTENT_TYPE, Metric, render

BIND_RETRY_SECONDS = 30.0
"""How soon an address that could not be had is tried again."""
CLIENT_TIMEOUT_SECONDS = 5.0
"""A client that sends or takes nothing for so long is cut off: the next one waits for it."""

_log = get_logger(__name__)


class _Server(socketserver.TCPServer):
    """One request at a time: whoever asks too often waits, and costs no more than one thread."""

    allow_reuse_address = True
    request_queue_size = 8

    def __init__(self, address: tuple[str, int], page: Callable[[], str]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.page = page
        super().__init__(address, _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that went away."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = CLIENT_TIMEOUT_SECONDS
    server_version = "inboxd"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer /metrics with the page, and all else with 404."""
        if self.path.partition("?")[0] != "/metrics":
            self._answer(HTTPStatus.NOT_FOUND, "ask for /metrics\n")
            return
        try:
            page = self.server.page()
        except Exception as error:  # noqa: BLE001 - whatever it is, the watcher goes on, and the next scrape may succeed
            _log.warning(events.METRICS_AWAY, error=repr(error), remedy="the next scrape may succeed")
            self._answer(HTTPStatus.INTERNAL_SERVER_ERROR, "the figures could not be had: see the log\n")
            return
        self._answer(HTTPStatus.OK, page)

    def _answer(self, status: HTTPStatus, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", CONTENT_TYPE)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Keep scrapes out of the log."""


class MetricsServer:
    """Serves the figures on one address, from ``start`` to ``stop``."""

    def __init__(self, listen: str, metrics: Callable[[], list[Metric]]) -> None:
        self._address = parse_address(listen)
        self._metrics = metrics
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
                with _Server(self._address, lambda: render(self._metrics())) as server:
                    self._server, told = server, False
                    if self._stopped.is_set():
                        return
                    _log.info(events.METRICS_SERVED, host=self._address[0], port=self._address[1])
                    server.serve_forever()
            except OSError as error:
                if not told:
                    remedy = "end what listens there, or change metrics.listen; it is tried again"
                    _log.warning(events.METRICS_AWAY, error=str(error), remedy=remedy)
                told = True
            self._stopped.wait(BIND_RETRY_SECONDS)
