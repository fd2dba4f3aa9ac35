"""The URLs that an embedded server can serve, and the check whether an address is in use."""

import socket
from pathlib import Path, PurePath

import pytest

from inboxd.broker.connection import without_password
from inboxd.console.up.server_address import ServerAddress, has_listener, is_blocked_by_file, parse_local_address


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("unix:///run/in%20box/s.sock", ServerAddress(PurePath("/run/in box/s.sock"))),
        ("unix:///run/s.sock?db=17", ServerAddress(PurePath("/run/s.sock"), database=17)),
        ("unix://:se%40cret@/run/s.sock", ServerAddress(PurePath("/run/s.sock"), password="se@cret")),
        ("redis://127.0.0.1", ServerAddress(None, "127.0.0.1", 6379)),
        ("redis://localhost:6400/3", ServerAddress(None, "localhost", 6400, database=3)),
        ("redis://:p%2Fw@localhost/", ServerAddress(None, "localhost", 6379, "p/w")),
        ("redis://[::1]:6400?password=pw", ServerAddress(None, "::1", 6400, "pw")),
    ],
)
def test_a_local_url_has_a_server_address(url: str, address: ServerAddress) -> None:
    assert parse_local_address(url) == address


@pytest.mark.parametrize(
    "url",
    [
        "redis://redis.example.com:6379/0",
        "redis://127.0.0.1.example.com",
        "redis://192.168.1.5",
        "redis://0.0.0.0",
        "redis://localhost:0",
        "redis://user:password@localhost",
        "redis://localhost?username=user",
        "redis://localhost/name",
        "rediss://localhost",
        "unix://",
        "unix://host/run/s.sock",
        "memory://",
    ],
)
def test_another_url_has_no_server_address(url: str) -> None:
    assert parse_local_address(url) is None


def test_the_password_is_removed_from_a_url() -> None:
    assert without_password("redis://user:secret@[::1]:6379/0?password=secret") == "redis://[::1]:6379/0"
    assert without_password("unix://:secret@/run/s.sock") == "unix:///run/s.sock"


def test_a_listener_on_a_port_is_detected() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = ServerAddress(None, "localhost", listener.getsockname()[1])
        during = has_listener(address)

    assert during
    assert not has_listener(address)


def test_a_listener_on_a_socket_is_detected(tmp_path: Path) -> None:
    address = ServerAddress(tmp_path / "s.sock")
    before = has_listener(address)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(address.socket))
        listener.listen()
        during = has_listener(address)

    assert (before, during) == (False, True)
    assert not has_listener(address)  # the socket file remains


def test_an_error_other_than_a_refusal_counts_as_a_listener(tmp_path: Path) -> None:
    assert has_listener(ServerAddress(tmp_path / ("long" * 50)))


def test_a_file_in_place_of_the_socket_is_detected(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s.sock"))

    assert is_blocked_by_file(ServerAddress(tmp_path / "precious"))
    assert not is_blocked_by_file(ServerAddress(tmp_path / "s.sock"))
    assert not is_blocked_by_file(ServerAddress(tmp_path / "missing"))
    assert not is_blocked_by_file(ServerAddress(None, "localhost", 1))
