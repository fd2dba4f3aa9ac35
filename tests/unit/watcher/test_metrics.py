"""The metrics endpoint: its replies, and slow, hasty and failing clients or collectors."""

import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from pydantic import ValidationError
from structlog.testing import capture_logs
from support.free_port import free_port
from support.waiting import eventually

from inboxd.config.tables import Metrics
from inboxd.watcher import metrics
from inboxd.watcher.metrics import MetricsServer


class FakeCollector(Collector):
    """Yields one metric, or raises ``error`` if that is set."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    def collect(self) -> Iterator[Metric]:
        if self.error:
            raise self.error
        yield GaugeMetricFamily("inboxd_x", "Help.", 1)


@contextmanager
def serve(port: int, collector: Collector | None = None) -> Iterator[MetricsServer]:
    endpoint = MetricsServer(f"127.0.0.1:{port}", collector or FakeCollector())
    endpoint.start()
    try:
        yield endpoint
    finally:
        endpoint.stop()
        eventually(lambda: not endpoint.is_running)


def is_listening(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def get(port: int, path: str = "/metrics") -> tuple[int, str, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as reply:
            return reply.status, reply.headers["Content-Type"], reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read().decode()


@pytest.fixture(autouse=True)
def _retry_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "BIND_RETRY_SECONDS", 0.05)


def test_only_the_path_of_the_metrics_is_served() -> None:
    port = free_port()

    with serve(port):
        eventually(lambda: is_listening(port))

        assert get(port) == (200, CONTENT_TYPE_PLAIN_0_0_4, "# HELP inboxd_x Help.\n# TYPE inboxd_x gauge\ninboxd_x 1.0\n")
        assert get(port, "/metrics?debug=1")[0] == 200
        assert get(port, "/")[0] == get(port, "/metrics/../etc/passwd")[0] == 404


def test_a_collector_error_gives_status_500_and_the_next_scrape_may_succeed() -> None:
    port, collector = free_port(), FakeCollector()

    with serve(port, collector):
        eventually(lambda: is_listening(port))
        collector.error = RuntimeError("on purpose")
        first = get(port)
        collector.error = None

        assert (first[0], "on purpose" in first[2]) == (500, False)
        assert get(port)[0] == 200


def test_an_address_in_use_is_tried_again() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with serve(port) as endpoint:
            other.close()
            eventually(lambda: is_listening(port))

            assert get(port)[0] == 200
            assert endpoint.is_running


def test_silent_clients_delay_no_other() -> None:
    port = free_port()

    with serve(port), ExitStack() as stack:
        eventually(lambda: is_listening(port))
        for _ in range(metrics.CLIENTS_MAX - 2):
            stack.enter_context(socket.create_connection(("127.0.0.1", port))).sendall(b"GET /metr")

        assert get(port)[0] == 200


def test_a_client_that_sends_a_byte_now_and_then_is_disconnected_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "REQUEST_SECONDS", 0.3)
    port = free_port()

    with serve(port):
        eventually(lambda: is_listening(port))
        with socket.create_connection(("127.0.0.1", port)) as slow:
            slow.sendall(b"GET /metrics HTTP/1.0\r\n")
            eventually(lambda: is_refused(slow))


def test_clients_beyond_the_limit_are_refused_and_served_once_others_are_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "REQUEST_SECONDS", 0.5)
    port = free_port()

    with serve(port), ExitStack() as stack:
        eventually(lambda: is_listening(port))
        for _ in range(3 * metrics.CLIENTS_MAX):
            stack.enter_context(socket.create_connection(("127.0.0.1", port)))

        eventually(lambda: is_served(port))


def is_refused(client: socket.socket) -> bool:
    """Send one more byte of a request; return whether the server has closed the connection."""
    try:
        client.sendall(b"X")
    except OSError:
        return True
    return False


def is_served(port: int) -> bool:
    try:
        return get(port)[0] == 200
    except OSError:
        return False


def test_clients_that_disconnect_early_do_not_affect_the_next_scrape() -> None:
    port = free_port()

    with serve(port):
        eventually(lambda: is_listening(port))
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", port)) as hasty:
                hasty.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")

        assert get(port)[0] == 200


@pytest.mark.parametrize("listen", ["127.0.0.1:9464", "[::1]:9464", "localhost:9464", "127.8.9.1:80"])
def test_loopback_addresses_are_accepted(listen: str) -> None:
    assert Metrics(listen=listen).listen == listen


@pytest.mark.parametrize("listen", ["0.0.0.0:9464", "[::]:9464", "10.0.0.1:9464", "[2001:db8::1]:80"])
def test_other_addresses_need_remote_true(listen: str) -> None:
    with pytest.raises(ValidationError, match="remote = true"):
        Metrics(listen=listen)

    assert Metrics(listen=listen, remote=True).listen == listen


@pytest.mark.parametrize("listen", ["9464", ":9464", "127.0.0.1", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "host:80"])
def test_an_invalid_address_is_rejected(listen: str) -> None:
    with pytest.raises(ValidationError):
        Metrics(listen=listen)


def test_a_refused_thread_is_logged_and_the_watcher_goes_on_without_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    endpoint = MetricsServer("127.0.0.1:1", FakeCollector())

    with capture_logs() as logs:
        endpoint.start()

    assert [(line["event"], "TasksMax" in line["remedy"]) for line in logs] == [("metrics_unavailable", True)]
    assert not endpoint.is_running
