"""Which redis.url a server may be started for, and whether somebody is there already."""

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
def test_a_server_can_be_started_for_a_plain_local_url(url: str, address: ServerAddress) -> None:
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
def test_no_server_is_started_for_any_other_url(url: str) -> None:
    assert parse_local_address(url) is None


def test_a_url_is_shown_without_its_password() -> None:
    assert without_password("redis://user:secret@[::1]:6379/0?password=secret") == "redis://[::1]:6379/0"
    assert without_password("unix://:secret@/run/s.sock") == "unix:///run/s.sock"


def test_a_port_where_nobody_listens_is_told_from_one_where_somebody_does() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = ServerAddress(None, "localhost", listener.getsockname()[1])
        before = has_listener(address)

    assert before
    assert not has_listener(address)


def test_a_socket_where_nobody_listens_is_told_from_one_where_somebody_does(tmp_path: Path) -> None:
    address = ServerAddress(tmp_path / "s.sock")
    never = has_listener(address)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(address.socket))
        listener.listen()
        during = has_listener(address)

    assert (never, during) == (False, True)
    assert not has_listener(address)  # its file is still there


def test_what_can_not_be_reached_for_another_reason_counts_as_somebody(tmp_path: Path) -> None:
    assert has_listener(ServerAddress(tmp_path / ("long" * 50)))


def test_a_file_in_the_place_of_the_socket_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s.sock"))

    assert is_blocked_by_file(ServerAddress(tmp_path / "precious"))
    assert not is_blocked_by_file(ServerAddress(tmp_path / "s.sock"))
    assert not is_blocked_by_file(ServerAddress(tmp_path / "nothing"))
    assert not is_blocked_by_file(ServerAddress(None, "localhost", 1))
