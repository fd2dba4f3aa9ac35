"""What the box's worker calls: it says what it got, and does what the file's name asks for."""

import time
from pathlib import Path

from tasks import InboxFile

STATE = Path("/var/lib/inboxd")


def obey(file: InboxFile) -> None:
    """Note the call; then hold-…: wait until the file "go" is there; brief-…: take a second."""
    with (STATE / "seen").open("a") as seen:
        seen.write(f"{file.filename} {file.attempt}\n")
    file.stream.read()
    if file.filename.startswith("hold"):
        while not (STATE / "go").exists():
            time.sleep(0.05)
    if file.filename.startswith("brief"):
        time.sleep(1.0)
