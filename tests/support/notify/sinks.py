"""Servers that notifications are sent to: HTTP and SMTP, which can be stopped and started again; and one that hangs."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller
from support.free_port import free_port


class HttpSink:
    """An HTTP server that keeps what is sent to it; its port stays the same. ``status`` is its reply."""

    def __init__(self) -> None:
        self.port = free_port()
        self.status = 200
        self.messages: list[dict[str, Any]] = []
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        """The Apprise URL of the sink, with a password."""
        return f"json://user:the-password@127.0.0.1:{self.port}/the-secret-path"

    @property
    def bodies(self) -> list[str]:
        """The texts of the messages that were accepted."""
        return [str(message["message"]) for message in self.messages]

    def start(self) -> None:
        """Listen."""
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if sink.status < 300:
                    sink.messages.append(content)
                self.send_response(sink.status)
                self.end_headers()

            def log_message(self, *_arguments: object) -> None:
                """Log nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        """Refuse connections."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


class SmtpSink:
    """A mail server that keeps the mails that are sent to it; its port stays the same."""

    def __init__(self) -> None:
        self.port = free_port()
        self.mails: list[Any] = []
        self._controller: Controller | None = None

    @property
    def url(self) -> str:
        """The Apprise URL of the sink."""
        return f"mailto://127.0.0.1:{self.port}/?from=inboxd@example.org&to=admin@example.org"

    async def handle_DATA(self, _server: object, _session: object, envelope: Any) -> str:  # noqa: N802, ANN401 - aiosmtpd's name
        """Keep a mail."""
        self.mails.append(message_from_bytes(envelope.content, policy=default))
        return "250 accepted"

    def start(self) -> None:
        """Listen."""
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port)
        self._controller.start()

    def stop(self) -> None:
        """Refuse connections."""
        if self._controller is not None:
            self._controller.stop()
            self._controller = None


@contextmanager
def hung_server() -> Iterator[int]:
    """Yield the port of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=16) as server:
        yield server.getsockname()[1]
