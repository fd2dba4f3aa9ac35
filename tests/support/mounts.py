"""Real FUSE mounts, which can hang and die."""

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

BINDFS = ("bindfs", "-f", "--no-allow-other", "-o", "nonempty")
REMOTE = (sys.executable, str(Path(__file__).with_name("remote_folder.py")))


class FuseMount:
    """A FUSE file system that shows ``source`` at ``point``; it can hang, and die. ``command`` is followed by both."""

    def __init__(self, source: Path, point: Path, command: Sequence[str] = BINDFS) -> None:
        self.source = source
        self.point = point
        source.mkdir(parents=True, exist_ok=True)
        point.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen([*command, str(source), str(point)])
        deadline = time.monotonic() + 10
        while not point.is_mount():
            assert time.monotonic() < deadline
            assert self._process.poll() is None
            time.sleep(0.02)

    def hang(self) -> None:
        """Stop answering: system calls wait for ever."""
        self._process.send_signal(signal.SIGSTOP)

    def answer(self) -> None:
        """Answer again."""
        self._process.send_signal(signal.SIGCONT)

    def die(self) -> None:
        """End without unmounting: system calls fail with ENOTCONN."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """End the file system, and unmount it."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        subprocess.run(["umount", "--lazy", str(self.point)], check=False, capture_output=True)
