"""The server of the page: its stop with open streams, its notifications, its unix socket, its refusals at the start."""

import http.client
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from support.live.datagrams import Manager
from support.live.stand import Stand
from support.live.web_stand import WebStand

pytestmark = pytest.mark.live


@contextmanager
def open_stream(stand: WebStand) -> Iterator[http.client.HTTPResponse]:
    """Open the stream of events for a with block, which begins after its first event."""
    with closing(http.client.HTTPConnection(stand.address.removeprefix("http://"), timeout=30)) as connection:
        connection.request("GET", "/events")
        with connection.getresponse() as reply:
            assert reply.headers["content-type"].startswith("text/event-stream")
            assert reply.readline() == b"retry: 3000\n"
            yield reply


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_open_streams_and_the_program_with_code_0(
    web_stand: Callable[..., WebStand], number: signal.Signals
) -> None:
    stand = web_stand()
    stand.web.start()
    with open_stream(stand) as stream:
        stand.web.send(number)

        assert stand.web.wait(4.0) == 0  # less than uvicorn waits for replies in progress
        stream.read()  # to its end: the reply was completed, not cut
    assert "Traceback" not in stand.web.text()
    assert "Cancel" not in stand.web.text()


def test_the_service_manager_is_told_of_readiness_and_of_the_stop(web_stand: Callable[..., WebStand]) -> None:
    stand = web_stand()
    with Manager() as manager:
        stand.web.environment = stand.stand.environment(NOTIFY_SOCKET=manager.address)
        stand.web.spawn()
        manager.wait_for(lambda states: "READY=1" in states)
        stand.web.stop()
        manager.wait_for(lambda states: "STOPPING=1" in states)


def test_the_page_is_served_on_a_unix_socket_whose_file_is_removed_at_the_end(
    make_stand: Callable[..., Stand], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    del tmp_path
    short = tmp_path_factory.mktemp("s")
    path = short / "w"
    stand = WebStand(make_stand(web={"listen": f"unix:{path}"}), 1)
    stand.web.start()

    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect(str(path))
        client.sendall(b"GET / HTTP/1.1\r\nHost: any.example\r\nConnection: close\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 200")

    assert stand.web.stop() == 0
    assert not path.exists()


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"listen": "0.0.0.0:8080"}, "set web.password_file"),
        ({"password_file": "missing"}, "inboxd web --set-password"),
        ({"listen": "unix:relative"}, "is absolute"),
    ],
)
def test_an_address_for_everybody_or_a_missing_password_is_refused_with_the_remedy(
    web_stand: Callable[..., WebStand], keys: dict[str, str], problem: str
) -> None:
    stand = web_stand(**keys)

    stand.web.spawn()

    assert stand.web.wait(30) == 2
    assert problem in stand.web.text()
