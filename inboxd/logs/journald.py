"""The systemd journal in its own language: one datagram for each entry, one field for each key."""

import errno
import json
import logging
import re
import socket
import struct
import sys
import uuid
from collections.abc import Mapping
from functools import lru_cache

SOCKET = "/run/systemd/journal/socket"
VALUE_BYTES_MAX = 64 * 1024
"""A longer value is cut; so is a shorter one, where all of them together are more than a datagram carries."""
TRUNCATED = b" ... (cut)"
KEY_CHARS_MAX = 64
_TOO_LARGE = (errno.EMSGSIZE, errno.ENOBUFS)
_SEND_BUFFER_BYTES = 8 * 1024 * 1024
_EVENT_NAMESPACE = uuid.UUID("5f0d3a2e-8a5b-5f3c-9a53-1d0b0c3e7a10")
_PRIORITIES = {"debug": "7", "info": "6", "warning": "4", "error": "3", "critical": "2"}
_RESERVED_FIELDS = frozenset({"MESSAGE", "MESSAGE_ID", "PRIORITY", "SYSLOG_IDENTIFIER", "EVENT"})


@lru_cache(maxsize=256)
def message_id(event: str) -> str:
    """Return the MESSAGE_ID of a kind of event: 32 hex digits, the same for ever, made from the event's name."""
    return uuid.uuid5(_EVENT_NAMESPACE, event).hex


def to_fields(event: Mapping[str, object], message: str, *, is_known_event: bool) -> dict[str, str]:
    """Return a log line as the journal's fields: ``message`` for people, the rest for machines.

    ``is_kind`` says that the event's name is one of ours, and not the words of a library.
    """
    found = {
        _to_field_name(key): _to_text(value)
        for key, value in event.items()
        if value is not None and key not in ("timestamp", "level")
    }
    found = {key: value for key, value in found.items() if key and key not in _RESERVED_FIELDS}
    name = str(event.get("event", ""))
    found |= {
        "MESSAGE": message,
        "PRIORITY": _PRIORITIES.get(str(event.get("level")), "6"),
        "SYSLOG_IDENTIFIER": f"inboxd-{event.get('program', '')}",
        "EVENT": name,
    }
    if is_known_event:
        found["MESSAGE_ID"] = message_id(name)
    return found


@lru_cache(maxsize=512)
def _to_field_name(key: str) -> str:
    """Spell a key as the journal takes it: it drops other fields without a word. "" if nothing of it is left."""
    return re.sub(r"[^A-Z0-9_]", "_", str(key).upper()).lstrip("_0123456789")[:KEY_CHARS_MAX]


def _to_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=repr)


def encode(entry: Mapping[str, str], value_bytes_max: int = VALUE_BYTES_MAX) -> bytes:
    """Return an entry's datagram: KEY=value lines, and for values of several lines their length and their bytes."""
    lines = []
    for key, text in entry.items():
        value = text.encode("utf-8", "backslashreplace")
        if len(value) > value_bytes_max:
            value = value[:value_bytes_max].decode("utf-8", "ignore").encode() + TRUNCATED
        if b"\n" in value:
            lines.append(key.encode() + b"\n" + struct.pack("<Q", len(value)) + value + b"\n")
        else:
            lines.append(key.encode() + b"=" + value + b"\n")
    return b"".join(lines)


class JournalSocket:
    """The way to the journal: connected on first use, and anew when it was restarted."""

    def __init__(self, address: str = SOCKET) -> None:
        self._address = address
        self._socket: socket.socket | None = None

    def send(self, entry: Mapping[str, str]) -> bool:
        """Send one entry, whole or with long values cut; False if no journal listens. Waits while the journal is behind."""
        for _ in range(2):
            try:
                self._send(entry)
            except OSError:
                self.close()
            else:
                return True
        return False

    def close(self) -> None:
        """Let go of the connection."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None

    def _send(self, entry: Mapping[str, str]) -> None:
        if self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
            self._socket.connect(self._address)
        value_bytes_max = VALUE_BYTES_MAX
        while True:
            try:
                self._socket.send(encode(entry, value_bytes_max))
            except OSError as error:
                if error.errno not in _TOO_LARGE or value_bytes_max == 0:
                    raise
                value_bytes_max //= 2
            else:
                return


class JournalHandler(logging.Handler):
    """For a formatter that sends by itself, and returns what is to be told on stderr instead: nothing, as a rule."""

    def __init__(self, to: JournalSocket) -> None:
        super().__init__()
        self._to = to

    def close(self) -> None:
        """Let go of the journal at the end."""
        self._to.close()
        super().close()

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record."""
        try:
            if left := self.format(record):
                sys.stderr.write(left + "\n")
        except Exception:  # noqa: BLE001 - as in logging's own handlers: a line that can't be told is no reason to fail
            self.handleError(record)
