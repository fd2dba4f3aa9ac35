"""A peer at work: a fresh server, its processes, folders of its own; and what all that has used."""

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
LOOK_SECONDS = 0.02
FOLDERS = ("inbox", "claimed", "done", "failed")


class NotRunning(Exception):
    """A peer did not come up, or has ended; the text says why."""


class Server:
    """A fresh Valkey on a unix socket, set up as the one that `inboxd up` starts: each write is on disk within a second."""

    def __init__(self, folder: Path) -> None:
        self._socket_folder = Path(tempfile.mkdtemp(prefix="bench-"))  # a socket's path has 108 bytes at most
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
            assert time.monotonic() < deadline, "the server does not come up"
            time.sleep(LOOK_SECONDS)

    @property
    def pid(self) -> int:
        """Its process number."""
        return self._process.pid

    def stop(self) -> None:
        """End it; its data goes with the folder."""
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._socket_folder)


class Running:
    """Processes over a folder; in a ``with``, from the first file that came through until all have ended."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "drop"
        for name in FOLDERS:
            (self.root / name).mkdir(parents=True)
        self.server = Server(folder)
        self.place = Place(self.root, self.server.socket)
        self._started: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, commands: Sequence[Command]) -> Self:
        """Start a peer's processes, and wait until a file comes through. Raises NotRunning."""
        for command in commands:
            self.spawn(command)
        self._await_ready()
        return self

    def spawn(self, command: Command) -> subprocess.Popen[bytes]:
        """Start one process; what it says goes to a log file."""
        environment = {**clean(os.environ), **self.place.environment(), **command.environment}
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
        """The numbers of the processes that were started."""
        return [process.pid for process in self._started.values()]

    def tree(self) -> set[int]:
        """Return the numbers of these and of all that descends from them; the server is not among them."""
        return processes.tree(self.pids, processes.table())

    def find(self, words: str) -> list[int]:
        """Return the processes of the tree whose command line has these words, the oldest first."""
        return sorted(pid for pid in self.tree() if words in processes.command(pid))

    def path(self, folder: str, name: str = "") -> Path:
        """Return a path below inbox/, claimed/, done/ or failed/."""
        return self.root / folder / name

    def check(self) -> None:
        """Raise NotRunning if a process has ended."""
        for name, process in self._started.items():
            if process.poll() is not None:
                raise NotRunning(f"{name} has ended with {process.returncode}: {self.last_words(name)}")

    def last_words(self, name: str) -> str:
        """Return the last line of a process's log."""
        lines = (self.folder / f"{name}.log").read_text("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else ""

    def stop(self) -> None:
        """Ask all processes to end; then make sure that they have, and all that they have started."""
        for process in self._started.values():
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while any(process.poll() is None for process in self._started.values()) and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)
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
        """Drop one small file after the other until one comes through: most peers see no file that was there before."""
        deadline = time.monotonic() + READY_SECONDS
        number = 0
        while not any(self.path("done").iterdir()):
            self.check()
            if time.monotonic() > deadline:
                raise NotRunning(
                    f"no file came through within {READY_SECONDS:.0f} s: {self.last_words(next(iter(self._started)))}"
                )
            number += 1
            self.path("inbox", f"probe{number}.bin").write_bytes(b"is anybody there?")
            again = time.monotonic() + PROBE_SECONDS
            while time.monotonic() < again and not any(self.path("done").iterdir()):
                time.sleep(LOOK_SECONDS)


def clean(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without what is ours or a test's."""
    return {key: value for key, value in environment.items() if not key.startswith(("INBOXD_", "CELERY", "PYTEST_", "BENCH_"))}


def _environ(pid: int) -> list[bytes]:
    try:
        return (processes.PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return []
