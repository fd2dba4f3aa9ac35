"""`inboxd server`: the server of its own in the foreground, as its systemd service runs it."""

import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import redis
from support.repository import REPOSITORY
from support.waiting import eventually

from inboxd.broker.connection import make_client
from inboxd.config.loading import load_settings

pytestmark = pytest.mark.live


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "settings.toml"
    path.write_text('state_dir = "state"\n[inbox.drop]\nroot = "drop"\n')
    return path


def start(file: Path) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "inboxd", "server", "--settings", str(file)]
    return subprocess.Popen(argv, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.fixture
def server(file: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a server, wait until it answers, and stop it at the end."""
    with start(file) as process, make_client(load_settings(file)) as client:

        def answers() -> bool:
            with suppress(redis.RedisError):
                return bool(client.ping())
            assert process.poll() is None
            return False

        eventually(answers)
        yield process
        process.kill()


def test_only_its_user_and_group_reach_it_and_it_listens_on_no_port(server: subprocess.Popen[str], file: Path) -> None:
    folder = file.parent / "state" / "valkey"
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (folder, folder / "valkey.sock", folder / "valkey.conf")}

    with make_client(load_settings(file)) as client:
        assert client.config_get("port") == {"port": "0"} or client.config_get("port") == {b"port": b"0"}
        assert client.info("memory")["maxmemory_policy"] == "noeviction"
    assert modes == {"valkey": 0o750, "valkey.sock": 0o770, "valkey.conf": 0o600}
    assert server.poll() is None


def test_a_second_one_is_refused_and_sigterm_keeps_the_data(server: subprocess.Popen[str], file: Path) -> None:
    with make_client(load_settings(file)) as client:
        client.set("key", "value")

    with start(file) as second:
        assert second.wait(60) == 2
        assert second.stdout
        assert "another server runs on this data" in second.stdout.read()
    server.send_signal(signal.SIGTERM)
    assert server.wait(60) == 0

    with start(file) as third, make_client(load_settings(file)) as client:
        eventually(lambda: _value(client) == b"value")
        third.kill()


def _value(client: redis.Redis) -> object:
    with suppress(redis.RedisError):
        return client.get("key")
    return None


def test_with_a_url_none_is_started(file: Path) -> None:
    file.write_text('redis.url = "redis://db.example:6379/0"\n' + file.read_text())

    with start(file) as process:
        assert process.wait(60) == 2
        assert process.stdout
        assert "names a server, so none is started" in process.stdout.read()
