"""A server with S3's protocol (moto), as a process of its own, which a test can stop, kill and start again."""

import os
import signal
import socket
import subprocess
import sys
import time
from types import TracebackType
from typing import Any, Self

import fsspec
from support.free_port import free_port
from support.live.stand import START_SECONDS

BUCKET = "files"


class S3Server:
    """The server, with one bucket; after a new start, both are empty."""

    def __init__(self) -> None:
        self.port = free_port()
        self.options: dict[str, Any] = {
            "client_kwargs": {"endpoint_url": f"http://127.0.0.1:{self.port}"},
            "config_kwargs": {"connect_timeout": 2, "read_timeout": 5, "retries": {"max_attempts": 1}},
        }
        self.secrets = {"key": "a-key", "secret": "a-secret"}
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server, and make the bucket."""
        argv = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
        self.process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
        deadline = time.monotonic() + START_SECONDS
        while not self._is_listening():
            assert time.monotonic() < deadline, "the server does not start"
            time.sleep(0.1)
        self._files().call_s3("create_bucket", Bucket=BUCKET)

    def _is_listening(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        """Kill the server."""
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def pause(self) -> None:
        """Let the server answer no more."""
        assert self.process
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it answer again."""
        assert self.process
        self.process.send_signal(signal.SIGCONT)

    def names(self) -> list[str]:
        """Return the paths of all objects, below the bucket."""
        return [path.removeprefix(f"{BUCKET}/") for path in self._files().find(BUCKET)]

    def overwrite(self, name: str, content: bytes) -> None:
        """Replace an object."""
        self._files().pipe_file(f"{BUCKET}/{name}", content)

    def remove(self, name: str) -> None:
        """Remove an object."""
        self._files().rm_file(f"{BUCKET}/{name}")

    def unfinished(self) -> list[Any]:
        """Return the uploads in parts that were neither completed nor given up."""
        return list(self._files().list_multipart_uploads(BUCKET))

    def _files(self) -> Any:  # noqa: ANN401 - a library without types
        return fsspec.filesystem("s3", skip_instance_cache=True, use_listings_cache=False, **self.options, **self.secrets)
