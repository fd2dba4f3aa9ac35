"""A real systemd-journald in its own mount namespace, invisible to the rest of the machine.

Needs systemd's package, but no running systemd; and root, or a kernel with unprivileged user namespaces.
"""

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

START_SECONDS = 60.0
POLL_SECONDS = 0.01

_CONFIGURATION = "[Journal]\nStorage=persistent\nRateLimitIntervalSec=0\nReadKMsg=no\nAudit=no\nForwardToSyslog=no\n"
_ROOT_INSIDE = () if os.geteuid() == 0 else ("--user", "--map-root-user")
"""Options by which another user is root in a user namespace, where mounts are permitted."""
_SCRIPT = """
set -eu
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/systemd/journal /var/log/journal
: > /run/systemd/journal/flushed
mount --bind "$FOLDER" /var/log/journal
printf '%s' "$CONFIGURATION" > /run/journald.conf
mount --bind /run/journald.conf /etc/systemd/journald.conf
echo 0123456789abcdef0123456789abcdef > /run/machine-id
mount --bind /run/machine-id /etc/machine-id
exec /lib/systemd/systemd-journald
"""


class Journald:
    """A journald that runs inside ``with``; its journal files below ``folder`` remain afterwards."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)

    def __enter__(self) -> Self:
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "FOLDER": str(self.folder), "CONFIGURATION": _CONFIGURATION}
        self._process = subprocess.Popen(
            ["unshare", *_ROOT_INSIDE, "--mount", "--propagation", "private", "--", "sh", "-c", _SCRIPT],
            env=environment,
            stdin=subprocess.DEVNULL,
        )
        self.address = f"/proc/{self._process.pid}/root/run/systemd/journal/socket"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        deadline = time.monotonic() + START_SECONDS
        while self._socket.connect_ex(self.address):
            assert self._process.poll() is None, f"journald exited with code {self._process.returncode}"
            assert time.monotonic() < deadline, f"journald did not listen within {START_SECONDS} s"
            time.sleep(POLL_SECONDS)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._socket.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, signal.SIGTERM)
        self._process.wait(START_SECONDS)

    def send(self, fields: Mapping[str, bytes]) -> None:
        """Send one entry in the native protocol."""
        self._socket.send(
            b"".join(key.encode() + b"\n" + struct.pack("<Q", len(value)) + value + b"\n" for key, value in fields.items())
        )

    def tell(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Send log lines and wait until all are stored. journald replaces their times by the current time."""
        for line in lines:
            self.send(entry(line))
        self.sync()

    def sync(self) -> None:
        """Wait until all sent entries are in the journal files."""
        mark = os.urandom(8).hex()
        self.send({"MESSAGE": b"mark", "TEST_MARK": mark.encode()})
        deadline = time.monotonic() + START_SECONDS
        while not self._has(mark):
            assert time.monotonic() < deadline, f"journald did not store the entries within {START_SECONDS} s"
            time.sleep(POLL_SECONDS)

    def _has(self, mark: str) -> bool:
        argv = ["journalctl", f"--directory={self.folder}", "--output=cat", "--quiet", f"TEST_MARK={mark}"]
        return bool(subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False).stdout)


def entry(line: Mapping[str, Any]) -> dict[str, bytes]:
    """Return a log line as journal fields: keys in upper case, values other than text as JSON, None left out."""
    hidden = ("timestamp", "level", "event")
    extra = {key: value for key, value in line.items() if key not in hidden and value is not None}
    priority = {"debug": "7", "info": "6", "warning": "4", "error": "3"}[line["level"]]
    fields = {
        "MESSAGE": f"{line['event']} {line.get('file', '')}",
        "PRIORITY": priority,
        "SYSLOG_IDENTIFIER": f"inboxd-{line['program']}",
        "EVENT": line["event"],
    }
    texts = {key.upper(): value if isinstance(value, str) else json.dumps(value) for key, value in extra.items()}
    return {key: text.encode() for key, text in (fields | texts).items()}
