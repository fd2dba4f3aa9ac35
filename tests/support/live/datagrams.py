"""Real datagram sockets in place of systemd's: one receives journal entries, the other sd_notify states."""

import contextlib
import socket
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

DEADLINE_SECONDS = 90.0


class DatagramSocket:
    """A bound unix datagram socket, in a folder with a short path or, if ``abstract``, without a file."""

    def __init__(self, *, abstract: bool = False) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="inboxd-test-")
        path = f"{self._folder.name}/s"
        self.address = "@" + path if abstract else path
        self.open()

    def open(self) -> None:
        """Bind the socket, also again after ``close``."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 * 1024 * 1024)
        self._socket.bind("\0" + self.address[1:] if self.address.startswith("@") else self.address)
        self._socket.settimeout(0)

    def close(self) -> None:
        """Close the socket and remove its file."""
        self._socket.close()
        Path(self.address).unlink(missing_ok=True)

    def receive_all(self) -> list[bytes]:
        """Return all datagrams received since the last call."""
        return list(self._datagrams())

    def _datagrams(self) -> Iterator[bytes]:
        with contextlib.suppress(BlockingIOError):
            while True:
                yield self._socket.recv(16 * 1024 * 1024)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
        self._folder.cleanup()


class JournalSocket(DatagramSocket):
    """Receives entries as journald does."""

    def entries(self) -> list[dict[str, str]]:
        """Return the entries received since the last call."""
        return [_parse_entry(datagram) for datagram in self.receive_all()]


class Manager(DatagramSocket):
    """Receives states as a service manager does, and keeps them in ``states``."""

    def __init__(self, *, abstract: bool = False) -> None:
        super().__init__(abstract=abstract)
        self.states: list[str] = []

    def look(self) -> list[str]:
        """Return all states received so far."""
        self.states += [datagram.decode() for datagram in self.receive_all()]
        return self.states

    def wait_for(self, condition: Callable[[list[str]], object]) -> None:
        """Wait until ``condition(states)`` is true; fail the test if that takes longer than DEADLINE_SECONDS."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not condition(self.look()):
            assert time.monotonic() < deadline, self.states
            time.sleep(0.02)


def _parse_entry(datagram: bytes) -> dict[str, str]:
    """Parse an entry as https://systemd.io/JOURNAL_NATIVE_PROTOCOL specifies; fail on a key that journald would drop."""
    entry: dict[str, str] = {}
    while datagram:
        head, _, rest = datagram.partition(b"\n")
        if b"=" in head:
            key, _, value = head.partition(b"=")
        else:
            (size,), key = struct.unpack_from("<Q", rest), head
            value, end, rest = rest[8 : 8 + size], rest[8 + size : 9 + size], rest[9 + size :]
            assert (len(value), end) == (size, b"\n")
        name = key.decode()
        assert name.isascii(), name
        assert name.replace("_", "A").isalnum(), name
        assert name == name.upper() and name[0].isalpha() and len(name) <= 64, name  # noqa: PT018 - one rule
        assert name not in entry, name
        entry[name] = value.decode()
        datagram = rest
    return entry
