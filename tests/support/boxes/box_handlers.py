"""The handler of the box's worker: it records its calls, and its behaviour depends on the file's name."""

import hashlib
import subprocess
import time
from pathlib import Path

from inboxd import InboxFile, RejectFile

STATE = Path("/var/lib/inboxd")
CHILD_SCRIPT = 'trap "echo QUIT >>quit; exit" QUIT; while :; do sleep 0.1; done'
"""A child process of a handler: it runs until a SIGQUIT, which it records in the file quit."""


def handle(file: InboxFile) -> None:
    """Record the call. For hold*, start a child process and wait until the file "go" exists; for brief*, take a second.

    Reject refuse*.
    """
    with (STATE / "calls").open("a") as calls:
        calls.write(f"{file.relative_path} {file.attempt}\n")
    if file.filename.startswith("digest"):
        _digest(file)
        return
    file.stream.read()
    if file.filename.startswith("refuse"):
        raise RejectFile("only PDF files can be booked")
    if file.filename.startswith("hold") and not (STATE / "go").exists():
        subprocess.Popen(["/bin/sh", "-c", CHILD_SCRIPT], cwd=STATE)
        while not (STATE / "go").exists():
            time.sleep(0.05)
    if file.filename.startswith("brief"):
        time.sleep(1.0)


def _digest(file: InboxFile) -> None:
    """Write the SHA-256 of what is read; in the middle of the first two attempts, wait for ever."""
    digest, unread = hashlib.sha256(), file.size
    for chunk in file.chunks():
        digest.update(chunk)
        unread -= len(chunk)
        if file.attempt <= 2 and unread < file.size / 2:
            (STATE / f"half{file.attempt}").touch()
            time.sleep(3600)
    (STATE / "digest").write_text(f"{file.path} {digest.hexdigest()}")
