"""What the box's worker calls: it says what it got, and does what the file's name asks for."""

import subprocess
import time
from pathlib import Path

from inboxd import InboxFile

STATE = Path("/var/lib/inboxd")
PROGRAM = 'trap "echo QUIT >>told; exit" QUIT; while :; do sleep 0.1; done'
"""Runs until it is told to quit, and notes that."""


def obey(file: InboxFile) -> None:
    """Note the call; then hold-…: start a program, and wait until the file "go" is there; brief-…: take a second."""
    with (STATE / "seen").open("a") as seen:
        seen.write(f"{file.filename} {file.attempt}\n")
    file.stream.read()
    if file.filename.startswith("hold") and not (STATE / "go").exists():
        subprocess.Popen(["/bin/sh", "-c", PROGRAM], cwd=STATE)
        while not (STATE / "go").exists():
            time.sleep(0.05)
    if file.filename.startswith("brief"):
        time.sleep(1.0)
