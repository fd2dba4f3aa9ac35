"""The endpoint: what it answers, whom it bears, and that it is nobody's trouble."""

import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from pydantic import ValidationError
from support.free_port import free_port
from support.waiting import eventually

from inboxd.config.settings import Metrics
from inboxd.watcher import metrics
from inboxd.watcher.metrics import MetricsServer


class Figures(Collector):
    """One figure, or an error while there is one."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    def collect(self) -> Iterator[Metric]:
        if self.error:
            raise self.error
        yield GaugeMetricFamily("inboxd_x", "Help.", 1)


@contextmanager
def served(port: int, figures: Collector | None = None) -> Iterator[MetricsServer]:
    endpoint = MetricsServer(f"127.0.0.1:{port}", figures or Figures())
    endpoint.start()
    try:
        yield endpoint
    finally:
        endpoint.stop()
        eventually(lambda: not endpoint.running)


def answers(port: int) -> bool:
    with socket.socket() as asked:
        return asked.connect_ex(("127.0.0.1", port)) == 0


def get(port: int, path: str = "/metrics") -> tuple[int, str, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read().decode()


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "BIND_RETRY_SECONDS", 0.05)


def test_the_page_is_served_under_its_path_and_nothing_else_is() -> None:
    port = free_port()

    with served(port):
        eventually(lambda: answers(port))

        assert get(port) == (200, CONTENT_TYPE_PLAIN_0_0_4, "# HELP inboxd_x Help.\n# TYPE inboxd_x gauge\ninboxd_x 1.0\n")
        assert get(port, "/metrics?debug=1")[0] == 200
        assert get(port, "/")[0] == get(port, "/metrics/../etc/passwd")[0] == 404


def test_an_error_is_answered_and_the_next_scrape_may_succeed() -> None:
    port, figures = free_port(), Figures()

    with served(port, figures):
        eventually(lambda: answers(port))
        figures.error = RuntimeError("on purpose")
        first = get(port)
        figures.error = None

        assert (first[0], "on purpose" in first[2]) == (500, False)
        assert get(port)[0] == 200


def test_an_address_that_is_taken_is_tried_again() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with served(port) as endpoint:
            taken.close()
            eventually(lambda: answers(port))

            assert get(port)[0] == 200
            assert endpoint.running


def test_a_client_that_says_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics.Handler, "timeout", 0.2)
    port = free_port()

    with served(port):
        eventually(lambda: answers(port))
        with socket.create_connection(("127.0.0.1", port)) as silent:
            silent.sendall(b"GET /metr")

            assert get(port)[0] == 200


def test_a_client_that_does_not_wait_for_its_answer_is_no_trouble() -> None:
    port = free_port()

    with served(port):
        eventually(lambda: answers(port))
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", port)) as hasty:
                hasty.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")

        assert get(port)[0] == 200


@pytest.mark.parametrize("listen", ["127.0.0.1:9464", "[::1]:9464", "localhost:9464", "127.8.9.1:80"])
def test_addresses_of_the_loopback_are_taken(listen: str) -> None:
    assert Metrics(listen=listen).listen == listen


@pytest.mark.parametrize("listen", ["0.0.0.0:9464", "[::]:9464", "10.0.0.1:9464", "[2001:db8::1]:80"])
def test_addresses_that_others_can_reach_must_be_permitted(listen: str) -> None:
    with pytest.raises(ValidationError, match="remote = true"):
        Metrics(listen=listen)

    assert Metrics(listen=listen, remote=True).listen == listen


@pytest.mark.parametrize("listen", ["9464", ":9464", "127.0.0.1", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "host:80"])
def test_what_is_no_address_is_refused(listen: str) -> None:
    with pytest.raises(ValidationError):
        Metrics(listen=listen)
