"""Derive the embedded server's address from redis.url, and check whether the address is in use."""

import socket
import stat
from dataclasses import dataclass
from pathlib import Path, PurePath
from urllib.parse import parse_qs, unquote, urlsplit

PORT = 6379
_BINDS = {"127.0.0.1": "127.0.0.1", "localhost": "127.0.0.1 -::1", "::1": "::1"}
"""The ``bind`` option for each loopback host; the minus sign makes an address optional, for hosts without IPv6."""


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """The address of a server on this host: a unix socket, or, if ``socket`` is None, a loopback port."""

    socket: PurePath | None
    host: str = ""
    port: int = 0
    password: str = ""
    database: int = 0
    is_for_group: bool = False
    """Whether the server's group may connect to the socket."""

    @property
    def bind(self) -> str:
        """The interfaces to listen on, in the syntax of the server's configuration."""
        return _BINDS[self.host]


def parse_local_address(url: str) -> ServerAddress | None:
    """Return the address at which the embedded server can serve this URL, or None.

    Such URLs are unix://, and redis:// with a loopback host, both without a user name: the embedded server has one user,
    and no TLS. Raises ValueError for an invalid URL.
    """
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    path = unquote(parts.path)
    password = unquote(parts.password or "") or query.get("password", [""])[-1]
    database = query.get("db", [""])[-1] or (path.strip("/") if parts.scheme == "redis" else "") or "0"
    if parts.username or "username" in query or not (database.isascii() and database.isdecimal()):
        return None
    if parts.scheme == "unix" and path and not parts.hostname:
        return ServerAddress(PurePath(path), password=password, database=int(database))
    port = PORT if parts.port is None else parts.port
    if parts.scheme == "redis" and parts.hostname in _BINDS and port:
        return ServerAddress(None, parts.hostname, port, password, int(database))
    return None


def has_listener(address: ServerAddress, timeout_seconds: float = 1.0) -> bool:
    """Return whether a server accepts connections at this address; errors other than a refusal count as True."""
    try:
        if address.socket is None:
            socket.create_connection((address.host, address.port), timeout_seconds).close()
        else:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                probe.settimeout(timeout_seconds)
                probe.connect(bytes(address.socket))
    except (ConnectionRefusedError, FileNotFoundError):
        return False
    except OSError:
        return True
    return True


def is_blocked_by_file(address: ServerAddress) -> bool:
    """Return whether a file that is not a socket has the socket's path: the server would delete it."""
    if address.socket is None:
        return False
    try:
        return not stat.S_ISSOCK(Path(address.socket).lstat().st_mode)
    except FileNotFoundError:
        return False
    except OSError:
        return True
