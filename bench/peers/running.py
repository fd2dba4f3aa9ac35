"""Run a peer: start a fresh server and the peer's processes on new folders, and stop them."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from support.live.stand import server_binary

from bench.measure import processes
from bench.peers.peer import Command, Place

READY_SECONDS = 180.0
STOP_SECONDS = 15.0
PROBE_SECONDS = 1.0
POLL_SECONDS = 0.02
FOLDERS = ("inbox", "claimed", "done", "failed")


class NotRunning(Exception):
    """A peer did not start or has exited; the message has the cause."""


class Server:
    """A fresh Valkey on a unix socket, configured as `inboxd up` does: writes are synced to disk every second."""

    def __init__(self, folder: Path) -> None:
        self._socket_folder = Path(tempfile.mkdtemp(prefix="bench-"))  # socket paths are limited to 108 bytes
        self.socket = self._socket_folder / "v.sock"
        data = folder / "server"
        data.mkdir()
        argv = (
            server_binary(), "--port", "0", "--unixsocket", str(self.socket), "--dir", str(data), "--save", "",
            "--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction",
            "--logfile", str(data / "log"),
        )  # fmt: skip
        self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL)  # noqa: S603 - our own
        deadline = time.monotonic() + READY_SECONDS
        while not self.socket.exists():
            assert time.monotonic() < deadline, f"the server has not started within {READY_SECONDS:.0f} s; see {data / 'log'}"
            time.sleep(POLL_SECONDS)

    @property
    def pid(self) -> int:
        """The server's pid."""
        return self._process.pid

    def stop(self) -> None:
        """Kill the server and remove its socket; its data is removed with the folder."""
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._socket_folder)


class Running:
    """A peer's server, folders and processes; as a context manager, stops them at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "drop"
        for name in FOLDERS:
            (self.root / name).mkdir(parents=True)
        self.server = Server(folder)
        self.place = Place(self.root, self.server.socket)
        self._started: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, commands: Sequence[Command]) -> Self:
        """Start a peer's processes, and wait until a file reaches done/. Raises NotRunning."""
        for command in commands:
            self.spawn(command)
        self._await_ready()
        return self

    def spawn(self, command: Command) -> subprocess.Popen[bytes]:
        """Start a process with its output appended to NAME.log."""
        environment = {**clean_environment(os.environ), **self.place.environment(), **command.environment}
        with (self.folder / f"{command.name}.log").open("ab") as log:
            self._started[command.name] = subprocess.Popen(  # noqa: S603 - our own
                command.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=environment,
                start_new_session=True,
            )
        return self._started[command.name]

    @property
    def pids(self) -> list[int]:
        """The pids of the started processes."""
        return [process.pid for process in self._started.values()]

    def tree(self) -> set[int]:
        """Return the pids of the started processes and their descendants, without the server."""
        return processes.tree(self.pids, processes.table())

    def find(self, text: str) -> list[int]:
        """Return the pids in the tree whose command line contains a text, in ascending order."""
        return sorted(pid for pid in self.tree() if text in processes.command(pid))

    def path(self, folder: str, name: str = "") -> Path:
        """Return a path below inbox/, claimed/, done/ or failed/."""
        return self.root / folder / name

    def check(self) -> None:
        """Raise NotRunning if a process has exited."""
        for name, process in self._started.items():
            if process.poll() is not None:
                raise NotRunning(f"{name} has exited with {process.returncode}: {self.last_log_line(name)}")

    def last_log_line(self, name: str) -> str:
        """Return the last line of a process's log."""
        lines = (self.folder / f"{name}.log").read_text("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else ""

    def stop(self) -> None:
        """Terminate all processes, then kill those that remain and their descendants, and stop the server."""
        for process in self._started.values():
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while any(process.poll() is None for process in self._started.values()) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        mark = f"BENCH_ROOT={self.root}".encode()
        for pid in processes.table():
            if mark in _environ(pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        for process in self._started.values():
            process.wait()
        self.server.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def _await_ready(self) -> None:
        """Drop small files until one reaches done/: most peers ignore files dropped before their watch started."""
        deadline = time.monotonic() + READY_SECONDS
        number = 0
        while not any(self.path("done").iterdir()):
            self.check()
            if time.monotonic() > deadline:
                raise NotRunning(
                    f"no file reached done/ within {READY_SECONDS:.0f} s: {self.last_log_line(next(iter(self._started)))}"
                )
            number += 1
            self.path("inbox", f"probe{number}.bin").write_bytes(b"probe")
            probe_deadline = time.monotonic() + PROBE_SECONDS
            while time.monotonic() < probe_deadline and not any(self.path("done").iterdir()):
                time.sleep(POLL_SECONDS)


def clean_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without the variables of inboxd, Celery, pytest and the benchmarks."""
    return {key: value for key, value in environment.items() if not key.startswith(("INBOXD_", "CELERY", "PYTEST_", "BENCH_"))}


def _environ(pid: int) -> list[bytes]:
    try:
        return (processes.PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return []
