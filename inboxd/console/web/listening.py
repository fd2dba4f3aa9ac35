"""The socket on which the page is served: an address, or a unix socket that only its user and group can open."""

import contextlib
import os
import socket
import stat
from pathlib import Path

from inboxd.config.tables import Web
from inboxd.config.values import parse_address
from inboxd.errors import Finding, SettingsError

BACKLOG = 128
SOCKET_MODE = 0o660


def open_socket(web: Web) -> socket.socket:
    """Return the listening socket. Raises SettingsError if the address can't be used."""
    try:
        return _listen_on_path(Path(web.socket)) if web.socket else _listen_on_address(web.listen)
    except OSError as error:
        remedy = "stop the program that listens there, or change web.listen"
        raise SettingsError([Finding(f"web.listen = {web.listen}", f"can't be used: {error.strerror}", remedy)]) from None


def _listen_on_address(listen: str) -> socket.socket:
    host, port = parse_address(listen)
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _listen_on_path(path: Path) -> socket.socket:
    _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o777 & ~SOCKET_MODE)
    try:
        listener.bind(str(path))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(before)
    return listener


def _remove_stale(path: Path) -> None:
    """Remove the socket of a program that has ended; one that answers is not touched, and the bind fails."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        try:
            client.connect(str(path))
        except ConnectionRefusedError:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
