"""A web server in a test: it keeps each request, and answers as it was told."""

import contextlib
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass(frozen=True)
class Request:
    """One request: its path, headers by lower-case name, body, and the client's port."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    port: int


@dataclass(frozen=True)
class Answer:
    """What the server says. ``closes`` ends the connection instead of an answer; ``waits`` seconds pass before it."""

    status: int = 204
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    closes: bool = False
    waits: float = 0.0


class WebhookServer:
    """The server; ``answer`` is asked for each request, and by default says that all went well."""

    def __init__(self, certificate: Path | None = None, port: int = 0) -> None:
        self.requests: list[Request] = []
        self.answer: Callable[[Request], Answer] = lambda _request: Answer()
        self.stopped = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self._server.daemon_threads = True
        self.scheme = "https" if certificate else "http"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    @property
    def port(self) -> int:
        """The port on which the server listens."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """The URL of a path of the server."""
        host = "localhost" if self.scheme == "https" else "127.0.0.1"  # a certificate's name; without one, no look-up
        return f"{self.scheme}://{host}:{self.port}/incoming"

    def close(self) -> None:
        """End listening."""
        self._server.server_close()

    def answers(self, *answers: Answer) -> None:
        """Give these answers one after the other, and the last one from then on."""
        queue = list(answers)
        self.answer = lambda _request: queue.pop(0) if len(queue) > 1 else queue[0]

    @contextlib.contextmanager
    def running(self) -> Iterator["WebhookServer"]:
        """Serve in a thread for a with block."""
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield self
        self.stopped.set()
        self._server.shutdown()
        self.close()
        thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"  # keeps connections
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                request = Request(self.path, headers, body, self.client_address[1])
                server.requests.append(request)
                answer = server.answer(request)
                server.stopped.wait(answer.waits)
                if answer.closes:
                    self.close_connection = True
                    return
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Print nothing."""

        return Handler
