"""Writes to the systemd journal in its native protocol: a datagram for each entry, a field for each key."""

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
"""Maximum length of a value, which is halved until the whole entry fits into a datagram; longer values are truncated."""
TRUNCATED = b" ... (truncated)"
KEY_CHARS_MAX = 64
_TOO_LARGE = (errno.EMSGSIZE, errno.ENOBUFS)
_SEND_BUFFER_BYTES = 8 * 1024 * 1024
_EVENT_NAMESPACE = uuid.UUID("5f0d3a2e-8a5b-5f3c-9a53-1d0b0c3e7a10")
_PRIORITIES = {"debug": "7", "info": "6", "warning": "4", "error": "3", "critical": "2"}
_RESERVED_FIELDS = frozenset({"MESSAGE", "MESSAGE_ID", "PRIORITY", "SYSLOG_IDENTIFIER", "EVENT"})


@lru_cache(maxsize=256)
def message_id(event: str) -> str:
    """Return an event's MESSAGE_ID: 32 hex digits, derived from the event's name, the same in every release."""
    return uuid.uuid5(_EVENT_NAMESPACE, event).hex


def to_fields(event: Mapping[str, object], message: str, *, is_known_event: bool) -> dict[str, str]:
    """Return a log event as journal fields; ``message`` is the text that people read.

    ``is_known_event`` is False for a library's log message, which gets no MESSAGE_ID.
    """
    fields = {
        _to_field_name(key): _to_text(value)
        for key, value in event.items()
        if value is not None and key not in ("timestamp", "level")
    }
    fields = {key: value for key, value in fields.items() if key and key not in _RESERVED_FIELDS}
    name = str(event.get("event", ""))
    fields |= {
        "MESSAGE": message,
        "PRIORITY": _PRIORITIES.get(str(event.get("level")), "6"),
        "SYSLOG_IDENTIFIER": f"inboxd-{event.get('program', '')}",
        "EVENT": name,
    }
    if is_known_event:
        fields["MESSAGE_ID"] = message_id(name)
    return fields


@lru_cache(maxsize=512)
def _to_field_name(key: str) -> str:
    """Return a key as a valid field name, "" if no character is valid: journald drops invalid fields silently."""
    return re.sub(r"[^A-Z0-9_]", "_", str(key).upper()).lstrip("_0123456789")[:KEY_CHARS_MAX]


def _to_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=repr)


def encode(entry: Mapping[str, str], value_bytes_max: int = VALUE_BYTES_MAX) -> bytes:
    """Return an entry as a datagram: KEY=value for a value of one line, the key, length and bytes for others."""
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
    """A connection to journald: opened on first use, and reopened after journald was restarted."""

    def __init__(self, address: str = SOCKET) -> None:
        self._address = address
        self._socket: socket.socket | None = None

    def send(self, entry: Mapping[str, str]) -> bool:
        """Send one entry, its long values truncated if needed; False if no journal listens. Block while its queue is full."""
        for _ in range(2):
            try:
                self._send(entry)
            except OSError:
                self.close()
            else:
                return True
        return False

    def close(self) -> None:
        """Close the connection."""
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
    """A handler whose formatter sends the record to the journal, and returns a line for stderr only if that failed."""

    def __init__(self, journal: JournalSocket) -> None:
        super().__init__()
        self._journal = journal

    def close(self) -> None:
        """Close the journal's connection."""
        self._journal.close()
        super().close()

    def emit(self, record: logging.LogRecord) -> None:
        """Format one record, which sends it."""
        try:
            if line := self.format(record):
                sys.stderr.write(line + "\n")
        except Exception:  # noqa: BLE001 - as in logging's own handlers: a logging error must not reach the caller
            self.handleError(record)
